package import DRCore
import NIOCore

import struct Foundation.Date

/// What the names of a RabbitMQ tap's objects say, so that what is missing is seen without a key.
///
///     <queue>-<number>-<until>          a segment. Until: when the last message of the one before it came
///     <queue>-<number>                  a segment of an earlier version
///     head-<queue>-<number>-<until>-<through>   a note: everything through a moment is in segments up to this number
///     head-<queue>-<number>-<end>-<made>-<bound>-<depth>   a note: the tap began, or began anew, with this number (``Beginning``)
///
/// A queue is 16 hexadecimal digits of its name's digest; numbers have 12 digits and begin with 1; moments are milliseconds since
/// 1970, of 13 digits, 0 where they are not known.
package struct TapSequence: Sendable {
  package struct Segment: Hashable, Sendable {
    package var key: String
    package var number: Int
    /// Nil: not known.
    package var previousUntil: Int64?
    /// Whether its name has no place for that: a tap of that version left no ``Head``.
    package var isOfEarlierVersion = false

    package init(key: String, number: Int, previousUntil: Int64?) {
      self.key = key
      self.number = number
      self.previousUntil = previousUntil
    }

    package var name: String {
      "\(key)-\(TapSequence.digits(number, 12))-\(TapSequence.digits(Int(previousUntil ?? 0), 13))"
    }

    /// Nil for what is no segment; note 0 of a queue is none.
    package init?(_ name: String) {
      let parts = name.split(separator: "-", omittingEmptySubsequences: false)
      guard (2...3).contains(parts.count), parts[0].utf8.count == 16, parts[1].utf8.count == 12,
        let number = Int(parts[1]), number > 0
      else { return nil }
      var until: Int64?
      if parts.count == 3 {
        guard parts[2].utf8.count == 13, let moment = Int64(parts[2]) else { return nil }
        until = moment == 0 ? nil : moment
      }
      self.init(key: String(parts[0]), number: number, previousUntil: until)
      isOfEarlierVersion = parts.count == 2
    }
  }

  /// A tap's queue was made on the broker: what was published before that is not in the segments that follow.
  ///
  /// It stays for as long as the log does. That an earlier version reads no head in it is meant.
  package struct Beginning: Hashable, Sendable {
    package var key: String
    /// Of the first segment that follows.
    package var number: Int
    /// Through which moment the segments before have all; 0: there was nothing, or it is not known.
    package var end: Int64
    /// When the queue was made: by this the tap knows its own note again.
    package var made: Int64
    /// Since when it gets copies.
    package var bound: Int64
    /// How many messages the tapped queue held then, at most; nil: not known.
    package var depth: Int64?

    package init(key: String, number: Int, end: Int64, made: Int64, bound: Int64, depth: Int64?) {
      self.key = key
      self.number = number
      self.end = end
      self.made = made
      self.bound = bound
      self.depth = depth
    }

    private static let unknown = "unknown"

    package var name: String {
      let moments = [end, made, bound].map { TapSequence.digits(Int($0), 13) }.joined(separator: "-")
      return
        "\(Head.prefix)\(key)-\(TapSequence.digits(number, 12))-\(moments)-\(depth.map { "\($0)" } ?? Self.unknown)"
    }

    package init?(_ name: String) {
      let parts = name.split(separator: "-", omittingEmptySubsequences: false)
      guard parts.count == 7, "\(parts[0])-" == Head.prefix, parts[1].utf8.count == 16, let number = Int(parts[2]),
        let end = Int64(parts[3]), let made = Int64(parts[4]), let bound = Int64(parts[5]), number > 0, end >= 0,
        made >= 0, bound >= 0
      else { return nil }
      let depth = Int64(parts[6])
      guard depth.map({ $0 >= 0 }) ?? (parts[6] == Self.unknown) else { return nil }
      self.init(key: String(parts[1]), number: number, end: end, made: made, bound: bound, depth: depth)
    }

    /// Whether there were segments before it, which it does not go on from.
    package var isAnew: Bool { number > 1 || end > 0 }
  }

  package struct Head: Hashable, Sendable {
    package var key: String
    package var number: Int
    /// When the last message of that segment came; 0: not known.
    package var until: Int64
    /// 0: not known.
    package var through: Int64

    package init(key: String, number: Int, until: Int64, through: Int64) {
      self.key = key
      self.number = number
      self.until = until
      self.through = through
    }

    package static let prefix = "head-"

    package var name: String {
      "\(Self.prefix)\(key)-\(TapSequence.digits(number, 12))-\(TapSequence.digits(Int(until), 13))"
        + "-\(TapSequence.digits(Int(through), 13))"
    }

    package init?(_ name: String) {
      let parts = name.split(separator: "-", omittingEmptySubsequences: false)
      guard parts.count == 5, "\(parts[0])-" == Self.prefix, parts[1].utf8.count == 16, let number = Int(parts[2]),
        let until = Int64(parts[3]), let through = Int64(parts[4]), number >= 0, until >= 0, through >= 0
      else { return nil }
      self.init(key: String(parts[1]), number: number, until: until, through: through)
    }
  }

  private static func digits(_ value: Int, _ count: Int) -> String {
    let digits = "\(max(0, value))"
    return String(repeating: "0", count: max(0, count - digits.count)) + digits
  }

  /// The folder of a cluster: its name may hold what a folder's name may not.
  package static func folder(of cluster: String) -> String {
    String(
      cluster.unicodeScalars.map {
        $0.isASCII && ($0.properties.isAlphabetic || "0123456789-_@.".unicodeScalars.contains($0)) ? Character($0) : "_"
      })
  }

  /// 16 hexadecimal digits: a queue's name may hold anything.
  ///
  /// Of `vhost/queue`; where the vhost has a slash in it, so that the border is not to be seen, of its length as well.
  package static func key(vhost: String, queue: String) -> String {
    let isPlain = vhost == "/" || !vhost.utf8.contains(UInt8(ascii: "/"))
    let name = isPlain ? "\(vhost)/\(queue)" : "\u{0}\(vhost.utf8.count):\(vhost)/\(queue)"
    return String(StreamDigest.hex(ByteBuffer(string: name)).prefix(16))
  }

  // MARK: What is missing

  /// Of one queue.
  package var key: String
  /// In the order of their numbers; one that is stored with two contents is there twice.
  package var segments: [Segment]
  /// Up to which number segments are known to have been stored; 0: nothing is known.
  package var stored: Int
  /// Whether there is a note that says how far it goes.
  package var hasHead: Bool
  /// In their order.
  package var beginnings: [Beginning]

  package init(
    key: String, segments: [Segment], stored: Int, hasHead: Bool = true, beginnings: [Beginning] = []
  ) {
    self.key = key
    self.hasHead = hasHead
    self.beginnings = beginnings.sorted { ($0.bound, $0.number) < ($1.bound, $1.number) }
    self.segments = segments.sorted { $0.number < $1.number }
    self.stored = stored
  }

  /// Those of a folder, by their queues.
  package static func all(_ names: [String]) -> [TapSequence] {
    let segments = Dictionary(grouping: names.compactMap { Segment($0) }, by: \.key)
    let heads = Dictionary(grouping: names.compactMap { Head($0) }, by: \.key)
    let beginnings = Dictionary(grouping: names.compactMap { Beginning($0) }, by: \.key)
    return Set(segments.keys).union(heads.keys).union(beginnings.keys).sorted().map { key in
      TapSequence(
        key: key, segments: segments[key] ?? [], stored: heads[key]?.map(\.number).max() ?? 0,
        hasHead: heads[key] != nil, beginnings: beginnings[key] ?? [])
    }
  }

  /// The numbers of segments that were stored and are not there, as far as anything that came since a moment may be in them.
  ///
  /// Retention removes the first ones: those whose messages came before the oldest backup.
  ///
  /// - Parameter moment: Milliseconds since 1970; nil: of any time.
  package func missing(since moment: Int64?) -> [ClosedRange<Int>] {
    var missing: [ClosedRange<Int>] = []
    var last = 0
    for segment in segments where segment.number > last {
      if segment.number > last + 1 {
        let isNeeded =
          if let moment {
            // Without a time nothing tells a removed first one of an earlier version from a lost one.
            segment.previousUntil.map { $0 >= moment } ?? (last > 0)
          } else { true }
        if isNeeded { missing.append(last + 1...segment.number - 1) }
      }
      last = segment.number
    }
    if stored > last { missing.append(last + 1...stored) }
    return missing
  }

  /// Numbers under which there are two contents: two taps wrote one log.
  package var contested: [Int] {
    zip(segments, segments.dropFirst()).filter { $0.number == $1.number }.map(\.0.number)
  }

  package static func describe(_ missing: ClosedRange<Int>) -> String {
    missing.count == 1 ? "segment \(missing.lowerBound)" : "segments \(missing.lowerBound) to \(missing.upperBound)"
  }

  package static let repair =
    "bring them back from a copy (dr-repository replicate); else take a backup now: the tap goes on from that one"

  package static let headCheck = "tap-head"

  /// Of what the tap had no copies, because it was made anew: what a backup that was begun at a moment needs of it.
  ///
  /// - Parameter limit: The moment to which it is to be restored, in milliseconds since 1970; nil: to the latest.
  package func gaps(after backup: Int64, through limit: Int64?, title: String) -> [Finding] {
    func text(_ moment: Int64) -> String { Timestamp.format(Date(timeIntervalSince1970: Double(moment) / 1000)) }
    return beginnings.filter { $0.isAnew && $0.bound > backup && $0.end < limit ?? .max }.map {
      Finding(
        "tap-gap", .failure, subject: title,
        evidence: "the tap was made anew at \(text($0.bound)): what was published "
          + ($0.end > 0 ? "from \(text($0.end)) until then" : "before") + " is not in it",
        advice: "take a backup now, which covers it; a restore goes to a moment before it, or from a backup after it")
    }
  }

  package func findings(since moment: Int64?, title: String) -> [Finding] {
    let headless =
      hasHead || segments.allSatisfy(\.isOfEarlierVersion)
      ? []
      : [
        Finding(
          Self.headCheck, .failure, subject: title,
          evidence: "the note that says how far the tap went is missing: whether its last segments are, nothing tells",
          advice: "run the tap, which writes it anew, and take a backup")
      ]
    return headless
      + missing(since: moment).map { range in
        Finding(
          "tap-segments", .failure, subject: title,
          evidence:
            "\(Self.describe(range)) of the tap, which had been stored, \(range.count == 1 ? "is" : "are") missing",
          advice: Self.repair)
      }
      + contested.map { number in
        Finding(
          "tap-conflict", .warning, subject: title,
          evidence: "segment \(number) of the tap is stored with different contents: two taps wrote one log",
          advice: "nothing is lost: a restore takes the one that the next goes on from, or both, and says so")
      }
  }

  /// What is missing in the folder of a cluster, by the names that are in it.
  static func findings(_ folder: String, _ names: [String], _ backups: [BackupManifest]) -> [Finding] {
    all(names).flatMap { sequence in
      let title = title(of: sequence.key, in: backups) ?? "\(folder)/\(sequence.key)"
      return sequence.findings(since: since(backups), title: title) + sequence.gaps(before: backups, title: title)
    }
  }

  /// Those that no later backup covers.
  package func gaps(before backups: [BackupManifest], title: String) -> [Finding] {
    let newest = backups.filter { Self.title(of: key, in: [$0]) != nil }.map {
      Self.milliseconds($0.recoveryPoint.time)
    }
    return newest.max().map { gaps(after: $0, through: nil, title: title) } ?? []
  }

  private static func milliseconds(_ date: Date) -> Int64 { Int64((date.timeIntervalSince1970 * 1000).rounded(.down)) }

  /// The moment from which on a tap is needed; nil: there is no backup, and retention removes nothing.
  package static func since(_ backups: [BackupManifest]) -> Int64? {
    backups.map { min($0.started, $0.recoveryPoint.time) }.min().map { Int64($0.timeIntervalSince1970 * 1000) }
  }

  /// The queue, by the names that backups hold.
  package static func title(of key: String, in backups: [BackupManifest]) -> String? {
    for backup in backups.reversed() {
      for queue in backup.properties["queues"]?.array ?? [] {
        guard let vhost = queue.object?["vhost"]?.string, let name = queue.object?["name"]?.string,
          Self.key(vhost: vhost, queue: name) == key
        else { continue }
        return "\(vhost)/\(name)"
      }
    }
    return nil
  }
}
