import DRCore
import NIOCore

/// What a repository keeps of what was done: its audit trail, and the reports of its runs. Both only grow: nothing that is on the other tier is
/// removed or written over, and what differs there is a finding.
extension Replicator {
  private static let limit = 64 << 20

  func copyRecords(_ outcome: inout ReplicationOutcome) async throws {
    try await copyTrail(&outcome)
    try await copyReports(&outcome)
  }

  // MARK: The audit trail

  private func copyTrail(_ outcome: inout ReplicationOutcome) async throws {
    // The other tier first: a line that is there by then was listed at the source, too, while the trail only grows.
    let there = try await AuditChain.all(on: target.tier)
    let chains = try await AuditChain.all(on: source.tier)
    var own: [String: String] = [:]
    for chain in there where chain.originID == nil {
      if let id = try await chain.id(on: target.tier) { own[id] = chain.name }
    }
    for chain in chains {
      guard let id = try await chain.id(on: source.tier) else {
        outcome.recordFindings.append(
          Finding(
            "audit-copied", .failure, subject: chain.name,
            evidence: "its first line is not on \(source.tier.name): it was not copied",
            advice: "see who could remove from the repository"))
        continue
      }
      // What was written on the other tier itself goes back to where it was.
      let name = own[id] ?? "\(chain.writer)~\(id)"
      try await copy(chain, as: name, to: there.first { $0.name == name }, &outcome)
    }
  }

  private func copy(
    _ chain: AuditChain, as name: String, to there: AuditChain?, _ outcome: inout ReplicationOutcome
  ) async throws {
    let present = Dictionary((there?.lines ?? []).map { ($0.key, $0) }) { first, _ in first }
    var missing: [Record] = []
    var common: [Record] = []
    var known: Set<ObjectKey> = []
    for line in chain.lines {
      let record = Record(from: line.key, to: try AuditChain.key(of: line, in: name), size: line.size)
      known.insert(record.to)
      if let copy = present[record.to] {
        if copy.size == line.size { common.append(record) } else { outcome.recordFindings.append(differs(record)) }
      } else {
        missing.append(record)
      }
    }
    // The last one says whether it is the same chain: each line holds the digest of the one before.
    for record in settings.readsBackAll ? common : common.suffix(1) where try await !isSame(record) {
      outcome.recordFindings.append(differs(record))
    }
    // Of a copy of a chain, the other tier may have more, by way of others.
    if chain.originID == nil {
      for line in present.values.sorted(by: { $0.key < $1.key }) where !known.contains(line.key) {
        outcome.recordFindings.append(
          Finding(
            "audit-copied", .failure, subject: line.key.rawValue,
            evidence:
              "line \(line.sequence) of \(chain.name) is on \(target.tier.name), and not on \(source.tier.name)",
            advice: "see who could remove from the repository"))
      }
    }
    try await copy(missing, &outcome)
  }

  // MARK: Reports

  private func copyReports(_ outcome: inout ReplicationOutcome) async throws {
    let there = try await reports(on: target.tier)
    let here = try await reports(on: source.tier)
    for number in there.keys.sorted() where here[number]?["json"] == nil && there[number]?["json"] != nil {
      outcome.recordFindings.append(
        Finding(
          "report-copied", .warning, subject: there[number]?["json"]?.key.rawValue ?? "",
          evidence: "the report is on \(target.tier.name), and not on \(source.tier.name)",
          advice: "see whether a recovery was recorded there, or who could remove from the repository"))
    }
    func record(_ object: ObjectInfo) -> Record { Record(from: object.key, to: object.key, size: object.size) }
    // Each holds the digest of the one before: where one is another, none behind it belongs there.
    let common = here.keys.filter { here[$0]?["json"] != nil && there[$0]?["json"] != nil }.sorted()
    var fork: Int?
    for number in common.reversed() {
      guard let object = here[number]?["json"] else { continue }
      if object.size == there[number]?["json"]?.size, try await isSame(record(object)) {
        if !settings.readsBackAll { break }
      } else {
        fork = number
        outcome.recordFindings.append(differs(record(object)))
      }
    }
    for (number, files) in here.sorted(by: { $0.key < $1.key }) {
      if let fork, number >= fork { break }
      // The signature last: with it, all that it signs is there.
      let ordered = files.sorted { ReportOrder.rank($0.key) < ReportOrder.rank($1.key) }
      for (ending, object) in ordered where files["json"] != nil {
        guard let copy = there[number]?[ending] else {
          guard try await self.copy([record(object)], &outcome) else { return }
          continue
        }
        guard ending != "json" else { continue }
        var areSame = copy.size == object.size
        if areSame, settings.readsBackAll { areSame = try await isSame(record(object)) }
        if !areSame { outcome.recordFindings.append(differs(record(object))) }
      }
    }
  }

  private enum ReportOrder {
    static func rank(_ ending: String) -> Int {
      switch ending {
      case "json": 0
      case "dsse.json": 2
      default: 1
      }
    }
  }

  /// By number, then by ending.
  private func reports(on tier: any StorageTier) async throws -> [Int: [String: ObjectInfo]] {
    var reports: [Int: [String: ObjectInfo]] = [:]
    for object in try await tier.listAll(prefix: RepositoryLayout.reports) {
      guard let name = object.key.rest(after: RepositoryLayout.reports), let point = name.firstIndex(of: "."),
        let number = Int(name[..<point]), number > 0
      else { continue }
      reports[number, default: [:]][String(name[name.index(after: point)...])] = object
    }
    return reports
  }

  // MARK: Objects

  private struct Record: Sendable {
    var from: ObjectKey
    var to: ObjectKey
    var size: Int64
  }

  private func differs(_ record: Record) -> Finding {
    Finding(
      record.to.rawValue.hasPrefix(AuditTrail.prefix) ? "audit-copied" : "report-copied", .failure,
      subject: record.to.rawValue,
      evidence: "what is on \(target.tier.name) is not what is on \(source.tier.name): it was left as it is",
      advice: "compare the two, and see who could write to either")
  }

  private func isSame(_ record: Record) async throws -> Bool {
    try await source.tier.read(record.from, limit: Self.limit) == target.tier.read(record.to, limit: Self.limit)
  }

  /// In their order, so many at a time.
  ///
  /// - Returns: Whether all were. What comes behind one that was not waits for the next run.
  @discardableResult
  private func copy(_ records: [Record], _ outcome: inout ReplicationOutcome) async throws -> Bool {
    var rest = records[...]
    while !rest.isEmpty {
      let batch = Array(rest.prefix(settings.concurrency))
      rest = rest.dropFirst(batch.count)
      let results = try await concurrently(batch, limit: settings.concurrency) { record in
        try await failure { try await put(record) }
      }
      for (record, error) in zip(batch, results) {
        if let error {
          outcome.failures[record.from] = error
        } else {
          outcome.records += 1
          outcome.bytes += record.size
        }
      }
      if results.contains(where: { $0 != nil }) { return false }
    }
    return true
  }

  private func put(_ record: Record) async throws {
    let content = try await source.tier.read(record.from, limit: Self.limit)
    do {
      _ = try await target.tier.put(
        record.to, ByteStream(content),
        PutOptions(
          onlyIfAbsent: target.tier.capabilities.contains(.conditionalPut),
          expectedLength: Int64(content.readableBytes), lock: lock))
    } catch let error as DRError where error.code == .objectExists {
      // Another replication, or an attempt whose answer was lost.
    }
    guard try await target.tier.read(record.to, limit: Self.limit) == content else {
      throw DRError(
        .corruptData, "what is on \(target.tier.name) is another one", advice: "compare the two repositories",
        object: record.to.rawValue)
    }
  }
}
