public import DRCore
public import Foundation
public import Logging
import NIOCore

/// The audit trail of a repository: an object for each line, put only if it is absent, so that nothing that was written is ever written over.
///
///     audit/2026/11/db1.00000042.json
///
/// The lines of a host are a chain: each holds the SHA-256 of the one before it, so that one that was removed or changed is found
/// (``read(on:)``). Nobody can see from the trail alone that the last lines of a chain, or all of it, were removed: where that matters, lock the
/// objects of `audit/` (Object Lock), note the newest digests elsewhere, or copy it: ``Replicator`` takes it along to other tiers, beside what was
/// written there (`db1~3f2a91c07be4d518.00000042.json`), and misses lines that went.
///
/// | a crash after | leaves |
/// | --- | --- |
/// | an operation's first line | a line that says `begun`, and none that ends it |
/// | what was done, before its last line | the same |
public struct AuditTrail: Sendable {
  private let opening: @Sendable () async throws -> any StorageTier
  private let opened = MutableBox<(any StorageTier)?>(nil)
  private let by: Operator
  private let now: @Sendable () -> Date
  /// How long a line may take: it never holds up a recovery for longer.
  public var patience = Duration.seconds(20)

  public init(on tier: any StorageTier, by: Operator, now: @escaping @Sendable () -> Date = { Date() }) {
    self.init(by: by, now: now) { tier }
  }

  /// - Parameter opening: Opens the tier when the first line is written, beside the work.
  public init(
    by: Operator, now: @escaping @Sendable () -> Date = { Date() },
    opening: @escaping @Sendable () async throws -> any StorageTier
  ) {
    self.opening = opening
    self.by = by
    self.now = now
  }

  private func tier() async throws -> any StorageTier {
    if let tier = opened.value { return tier }
    let tier = try await opening()
    opened.withLock { $0 = tier }
    return tier
  }

  static let prefix = "audit/"

  /// The host's name, as a key can hold it.
  private var writer: String {
    let plain = by.host.lowercased().map { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") ? $0 : "-" }
    return plain.isEmpty ? "unknown" : String(plain.prefix(63))
  }

  /// Writes one line.
  ///
  /// - Returns: As it was written.
  /// - Throws: What the tier throws; ``DRError`` with `unsupported` by one that cannot put an object only if it is absent.
  @discardableResult
  public func note(
    _ operation: String, of component: Component? = nil, object: String? = nil, _ outcome: AuditRecord.Outcome,
    detail: String? = nil, duration: Double? = nil
  ) async throws -> AuditRecord {
    let tier = try await tier()
    for attempt in 1...50 {
      let moment = now()
      let last = try await AuditTrail.last(of: writer, on: tier, at: moment)
      let record = AuditRecord(
        when: moment, by: by, operation: operation, component: component, object: object, outcome: outcome,
        detail: detail.map { String($0.prefix(1000)) }, duration: duration, writer: writer,
        sequence: last.sequence + 1, previous: last.digests)
      let month = Timestamp.format(record.when).prefix(7).replacing("-", with: "/")
      let key = try AuditTrail.key(String(month), writer, record.sequence)
      do {
        _ = try await tier.put(key, ByteStream(ByteBuffer(bytes: record.line())), PutOptions(onlyIfAbsent: true))
        return record
      } catch let error as DRError where error.code == .objectExists {
        // Another process of this host was faster.
        try await Task.sleep(for: .milliseconds(Int.random(in: 1...(10 * attempt))))
      }
    }
    throw DRError(
      .timedOut, "the audit trail of \(writer) is written by others all the time", advice: "run it again",
      object: AuditTrail.prefix)
  }

  /// Does something, with a line before it and one after it.
  ///
  /// A line that cannot be written is a warning, and nothing else: a restore that is done stays done.
  ///
  /// - Parameters:
  ///   - object: What it is done to, as far as that is known before.
  ///   - level: Of the message about a line that cannot be written.
  ///   - body: Is given the line, to say what came of it.
  /// - Returns: What the body returns.
  /// - Throws: What the body throws.
  public func record<Result>(
    _ operation: String, of component: Component? = nil, object: String? = nil, logger: Logger,
    level: Logger.Level = .warning, isolation: isolated (any Actor)? = #isolation,
    _ body: (AuditLine) async throws -> Result
  ) async throws -> Result {
    let line = AuditLine(object)
    let begun = ContinuousClock.now
    // Beside the work: a tier that stands still holds up nothing.
    let first = Task { await attempt(operation, component, object, .begun, nil, nil, logger, level) }
    // Not cancelled with the work: how it ended belongs into the trail.
    func end(_ outcome: AuditRecord.Outcome, _ detail: String?) async {
      await first.value
      let duration = begun.duration(to: .now) / .seconds(1)
      await Task { await attempt(operation, component, line.object, outcome, detail, duration, logger, level) }.value
    }
    do {
      let result = try await body(line)
      await end(.done, nil)
      return result
    } catch {
      let isCancelled = error is CancellationError || Task.isCancelled
      await end(isCancelled ? .cancelled : .failed, isCancelled ? nil : DRError.text(of: error))
      throw error
    }
  }

  private func attempt(
    _ operation: String, _ component: Component?, _ object: String?, _ outcome: AuditRecord.Outcome, _ detail: String?,
    _ duration: Double?, _ logger: Logger, _ level: Logger.Level
  ) async {
    do {
      _ = try await withTimeLimit(patience, "the line in the audit trail") {
        try await note(operation, of: component, object: object, outcome, detail: detail, duration: duration)
      }
    } catch {
      logger.log(
        level: level, "a line is missing in the audit trail",
        metadata: [
          "operation": "\(operation)", "outcome": "\(outcome.rawValue)", "error": "\(DRError.text(of: error))",
        ])
    }
  }

  private static func key(_ month: String, _ writer: String, _ sequence: Int) throws -> ObjectKey {
    let digits = String(sequence)
    return try ObjectKey(
      "\(prefix)\(month)/\(writer).\(String(repeating: "0", count: max(0, 8 - digits.count)))\(digits).json")
  }

  /// The newest line of a writer; by digest, since two may have been written at the turn of a month.
  private static func last(of writer: String, on tier: any StorageTier, at now: Date) async throws -> (
    sequence: Int, digests: [String]
  ) {
    // While a clock was wrong the chain went on in an earlier month, or in a later one.
    let settled = String(Timestamp.format(now.addingTimeInterval(-62 * 86_400)).prefix(7)).replacing("-", with: "/")
    var newest: (sequence: Int, keys: [ObjectKey]) = (0, [])
    search: for year in try await tier.folders(below: prefix).sorted(by: >) {
      for month in try await tier.folders(below: "\(prefix)\(year)/").sorted(by: >) {
        let objects = try await tier.listAll(prefix: "\(prefix)\(year)/\(month)/\(writer).")
        for object in objects {
          guard let sequence = AuditChain.parts(of: object.key)?.sequence, sequence >= newest.sequence else { continue }
          newest = sequence > newest.sequence ? (sequence, [object.key]) : (sequence, newest.keys + [object.key])
        }
        // One more month: the line before the first of a month may have a twin in the month before.
        if let first = objects.first.flatMap({ AuditChain.parts(of: $0.key)?.sequence }), first < newest.sequence,
          "\(year)/\(month)" <= settled
        {
          break search
        }
      }
    }
    var digests: [String] = []
    for key in newest.keys { digests.append(StreamDigest.hex(try await tier.read(key, limit: 1 << 20))) }
    return (newest.sequence, digests.sorted())
  }

  /// Reads a trail, and checks its chains.
  ///
  /// - Returns: Every line in the order of its time; and what was found: a line that is missing, was changed, or cannot be read is a failure.
  /// - Throws: What the tier throws.
  public static func read(on tier: any StorageTier) async throws -> (records: [AuditRecord], findings: [Finding]) {
    var records: [AuditRecord] = []
    var findings: [Finding] = []
    var chains: [String: [Int: [(key: ObjectKey, record: AuditRecord?, digest: String)]]] = [:]
    // A line that is there as its host wrote it, and as a copy, is one.
    var known: Set<String> = []
    for object in try await tier.listAll(prefix: prefix) {
      guard let (name, sequence) = AuditChain.parts(of: object.key) else {
        findings.append(
          Finding(
            "audit-line", .notice, subject: object.key.rawValue, evidence: "this is no line of the trail",
            advice: "see who put it there"))
        continue
      }
      let content = try await tier.read(object.key, limit: 1 << 20)
      var record = try? JSONDecoder().decode(AuditRecord.self, from: Data(content.readableBytesView))
      if record?.writer != AuditChain.writer(of: name) || record?.sequence != sequence { record = nil }
      let digest = StreamDigest.hex(content)
      if let record {
        if known.insert(digest).inserted { records.append(record) }
      } else {
        findings.append(
          Finding(
            "audit-line", .failure, subject: object.key.rawValue,
            evidence: "the line is not one that was written there",
            advice: "see who could write to the repository"))
      }
      chains[name, default: [:]][sequence, default: []].append((object.key, record, digest))
    }
    for (name, lines) in chains.sorted(by: { $0.key < $1.key }) {
      let broken = breaks(name, lines)
      findings += broken
      if broken.isEmpty {
        let last = lines.keys.max() ?? 0
        findings.append(
          Finding(
            "audit-chain", .passed, subject: name,
            evidence:
              "\(last) lines without a gap; the last is \((lines[last] ?? []).map(\.digest).joined(separator: ", "))"
          ))
      }
    }
    return (records.sorted { ($0.when, $0.writer, $0.sequence) < ($1.when, $1.writer, $1.sequence) }, findings)
  }

  private static func breaks(
    _ writer: String, _ lines: [Int: [(key: ObjectKey, record: AuditRecord?, digest: String)]]
  ) -> [Finding] {
    let last = lines.keys.max() ?? 0
    var findings: [Finding] = []
    // A copy is named for its first line.
    if let id = AuditChain(name: writer, lines: []).originID, let first = lines[1]?.first,
      AuditChain.id(ofFirstLine: first.digest) != id
    {
      findings.append(
        Finding(
          "audit-chain", .failure, subject: first.key.rawValue,
          evidence: "this is not the first line of the chain that was copied",
          advice: "see who could write to the repository"))
    }
    for sequence in 1...max(1, last) {
      guard let here = lines[sequence] else {
        findings.append(
          Finding(
            "audit-chain", .failure, subject: writer, evidence: "line \(sequence) of \(last) is missing",
            advice: "see who could remove from the repository"))
        continue
      }
      guard sequence > 1, let former = lines[sequence - 1] else { continue }
      let digests = Set(former.map(\.digest))
      for line in here {
        guard let record = line.record, Set(record.previous) != digests else { continue }
        // A twin at the turn of a month saw less than all of them.
        guard here.count == 1 || !Set(record.previous).isSubset(of: digests) || record.previous.isEmpty else {
          continue
        }
        findings.append(
          Finding(
            "audit-chain", .failure, subject: line.key.rawValue,
            evidence: "the line before it is not the one that was there when it was written",
            advice: "line \(sequence - 1) of \(writer) was changed, or a twin of it was removed"))
      }
    }
    return findings
  }
}

/// A line of the audit trail while what it tells of goes on.
public final class AuditLine: Sendable {
  private let box: MutableBox<String?>

  init(_ object: String?) { box = MutableBox(object) }

  var object: String? { box.value }

  /// Says what it came to concern: the backup that was made, or restored.
  public func concerns(_ object: String) { box.withLock { $0 = object } }
}
