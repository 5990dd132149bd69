public import DRCore
public import DRStorage
import Foundation
package import NIOCore

/// The change log of taps: `rabbitmq/messages/<cluster>/<queue>/<queue>-<number>-<until>-<sha256>.zst[.age]`.
///
/// A segment is an archive of messages (``MessageArchive``), whose header says which queue it is of, and which segment came
/// before it. Numbers go up by one from 1, and a note beside them says how far they go, so that a missing segment is seen
/// wherever it was (``TapSequence``).
public struct RabbitMQTapLog: Sendable {
  package let store: ChangeLogStore
  private let encoding: Encoding
  private let decoding: Decoding

  /// - Parameter cluster: What manifests call the system's identifier.
  /// - Throws: ``DRError`` with `invalidKey`.
  public init(
    tier: any StorageTier, component: Component, layout: RepositoryLayout = .byKind, cluster: String,
    encoding: Encoding = Encoding(), decoding: Decoding = Decoding()
  ) throws {
    store = try ChangeLogStore(
      tier: tier, component: component, layout: layout, log: "messages",
      systemIdentifier: TapSequence.folder(of: cluster),
      group: { $0.hasPrefix(TapSequence.Head.prefix) ? nil : String($0.prefix(16)) })
    self.encoding = encoding
    self.decoding = decoding
  }

  /// 16 hexadecimal digits: a queue's name may hold anything.
  package static func key(vhost: String, queue: String) -> String { TapSequence.key(vhost: vhost, queue: queue) }

  /// A segment that is stored.
  package struct Stored: Sendable {
    package var segment: TapSequence.Segment
    package var info: SegmentInfo
    package var number: Int { segment.number }
  }

  /// A queue's segments in the order of their numbers.
  package func stored(_ key: String) async throws -> [Stored] {
    try await store.segments(startingWith: key).filter { !$0.isPartial }.compactMap { info in
      TapSequence.Segment(info.name).map { Stored(segment: $0, info: info) }
    }.sorted { ($0.number, $0.info.key) < ($1.number, $1.info.key) }
  }

  /// Stores the next segment. When this returns, it is durable.
  ///
  /// - Parameter previousUntil: When the last message of the segment before came; nil: not known.
  /// - Returns: Its digest.
  /// - Throws: As the store's `put`; `segmentConflict` if another tap has stored one of this number.
  @discardableResult
  package func put(
    _ key: String, _ number: Int, previousUntil: Int64? = nil, _ archive: ByteBuffer
  ) async throws -> String {
    let name = TapSequence.Segment(key: key, number: number, previousUntil: previousUntil).name
    _ = try await store.put(name, archive, encoding: encoding)
    let digest = StreamDigest.hex(archive)
    if let other = try await stored(key).first(where: { $0.number == number && $0.info.sha256 != digest }) {
      throw DRError(
        .segmentConflict, "another tap has stored a segment of this number",
        advice: "see that only one tap of a queue writes to a repository", object: other.info.key.rawValue)
    }
    return digest
  }

  package func get(_ stored: Stored) async throws -> ByteBuffer {
    try await store.get(stored.info, decoding: decoding)
  }

  // MARK: Notes

  /// When the tap's queue was made, each time.
  package func beginnings(_ key: String) async throws -> [TapSequence.Beginning] {
    try await store.segments(startingWith: TapSequence.Head.prefix + key).compactMap {
      TapSequence.Beginning($0.name)
    }.sorted { ($0.bound, $0.number) < ($1.bound, $1.number) }
  }

  /// Notes that the tap's queue was made, unless that is noted.
  ///
  /// - Parameters:
  ///   - made: By what it is known again.
  ///   - depth: How many messages the tapped queue holds.
  /// - Returns: The note, if it is new.
  func begin(
    _ key: String, made: Int64, depth: () async throws -> Int64?
  ) async throws -> TapSequence.Beginning? {
    guard try await !beginnings(key).contains(where: { $0.made == made }) else { return nil }
    let (stored, head, state) = (try await stored(key), try await head(key), try await state(of: key))
    let last = max(stored.last?.number ?? 0, head?.number ?? 0, state?.acknowledged ?? 0)
    let end = max(head?.through ?? 0, head?.until ?? 0, state?.through ?? 0, state?.until ?? 0)
    let bound = Date().milliseconds
    let beginning = TapSequence.Beginning(
      key: key, number: last + 1, end: min(end, bound), made: made, bound: bound, depth: try await depth())
    try await store.putPartial(beginning.name, ByteBuffer(string: beginning.name), encoding: plain)
    return beginning
  }

  /// Nil: there is none.
  package func head(_ key: String) async throws -> TapSequence.Head? {
    try await store.segments(startingWith: TapSequence.Head.prefix + key).compactMap { TapSequence.Head($0.name) }
      .max { ($0.number, $0.through) < ($1.number, $1.through) }
  }

  /// Notes how far the segments go, in place of earlier notes.
  func put(_ head: TapSequence.Head) async throws {
    try await store.putPartial(head.name, ByteBuffer(string: head.name), encoding: plain)
    for note in try await store.segments(startingWith: TapSequence.Head.prefix + head.key) {
      guard let earlier = TapSequence.Head(note.name), earlier != head,
        (earlier.number, earlier.through) <= (head.number, head.through)
      else { continue }
      try await store.deletePartial(note.name)
    }
  }

  /// What a tap that is started again must know. Of no use to who has no access to the messages, and so not encrypted: a
  /// host that has public keys only can go on.
  package struct State: Codable, Hashable, Sendable {
    /// Segments up to this number were acknowledged, and the broker has seen it: they do not come again.
    package var acknowledged: Int
    /// The segment that is stored next, if it is.
    package var pending: Pending?
    /// When the last message of the last of these segments came, in milliseconds since 1970.
    package var until: Int64?
    /// Everything that had come by then is in these segments.
    package var through: Int64?

    package struct Pending: Codable, Hashable, Sendable {
      package var number: Int
      package var messages: Int
      /// As ``RepetitionDigest`` makes it.
      package var sha256: String

      package init(number: Int, messages: Int, sha256: String) {
        self.number = number
        self.messages = messages
        self.sha256 = sha256
      }
    }

    package init(acknowledged: Int, pending: Pending? = nil, until: Int64? = nil, through: Int64? = nil) {
      self.acknowledged = acknowledged
      self.pending = pending
      self.until = until
      self.through = through
    }
  }

  private static func noteName(_ key: String) -> String { "\(key)-000000000000" }

  private var plain: Encoding {
    var plain = encoding
    plain.recipients = []
    return plain
  }

  package func note(_ state: State, of key: String) async throws {
    try await store.putPartial(
      Self.noteName(key), ByteBuffer(bytes: try JSONEncoder().encode(state)), encoding: plain)
  }

  /// Nil: nothing was ever stored.
  package func state(of key: String) async throws -> State? {
    let stored: ByteBuffer
    do {
      stored = try await store.getPartial(Self.noteName(key), decoding: decoding)
    } catch let error as DRError where error.code == .objectNotFound {
      return nil
    }
    do {
      return try JSONDecoder().decode(State.self, from: Data(stored.readableBytesView))
    } catch {
      throw DRError(.malformedData, "the tap's note of its state is damaged", object: Self.noteName(key), cause: error)
    }
  }

  /// How many segments are stored of a queue.
  ///
  /// - Throws: As the tier's `list`.
  public func segments(vhost: String, queue: String) async throws -> Int {
    Set(try await stored(Self.key(vhost: vhost, queue: queue)).map(\.number)).count
  }

  /// What is stored of a queue, and how far it should go by the notes beside it.
  package func sequence(_ key: String) async throws -> (TapSequence, [Stored]) {
    // Before the segments of which it speaks. The tap's state is no such note: a copy may have a newer one than its segments.
    let noted = try await head(key)
    let beginnings = try await beginnings(key)
    let stored = try await stored(key)
    let sequence = TapSequence(
      key: key, segments: stored.map(\.segment), stored: noted?.number ?? 0, hasHead: noted != nil,
      beginnings: beginnings)
    return (sequence, stored)
  }
}
