import DRCore
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

/// The audit trail: nothing is lost when many write, and nothing is removed unseen.
struct AuditTrailTests {
  private static let quiet = Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() })
  private static let someone = Operator(name: "ada", host: "DB1.example", program: "dr-test", version: "1")

  @Test("What is done leaves a line before and one after it, however it ends")
  func outcomes() async throws {
    let tier = InMemoryTier()
    let trail = AuditTrail(on: tier, by: Self.someone)
    let component = try Component(parsing: "postgres/app")
    let result = try await trail.record("backup", of: component, object: "b0", logger: Self.quiet) { line in
      line.concerns("b1")
      return 42
    }
    #expect(result == 42)
    await #expect(throws: DRError.self) {
      try await trail.record("restore", of: component, logger: Self.quiet) { _ in
        throw DRError(.noSpace, "the disk is full")
      }
    }
    let cancelled = Task {
      try await trail.record("prune", logger: Self.quiet) { _ in try await Task.sleep(for: .seconds(60)) }
    }
    cancelled.cancel()
    _ = await cancelled.result
    let (records, findings) = try await AuditTrail.read(on: tier)
    #expect(
      records.map { "\($0.operation) \($0.outcome.rawValue)" } == [
        "backup begun", "backup done", "restore begun", "restore failed", "prune begun", "prune cancelled",
      ])
    #expect(
      records[0].object == "b0" && records[1].object == "b1" && records[0].component == component
        && records[0].by == Self.someone)
    #expect(records[3].detail?.contains("the disk is full") == true && records[1].duration != nil)
    #expect(findings.map(\.severity) == [.passed] && findings.first?.subject == "db1-example", "\(findings)")
  }

  @Test("Many processes of a host write one chain without a gap")
  func many() async throws {
    try await withTemporaryFolder { folder in
      let tier = try await LocalTier(root: folder + "/r", creating: true)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<4 {
          group.addTask {
            for _ in 0..<5 { try await AuditTrail(on: tier, by: Self.someone).note("verify", .done) }
          }
        }
        try await group.waitForAll()
      }
      let (records, findings) = try await AuditTrail.read(on: tier)
      #expect(records.map(\.sequence).sorted() == Array(1...20) && findings.map(\.severity) == [.passed], "\(findings)")
    }
  }

  @Test(
    "A line that was removed or changed is found; other writers' chains are whole; a new month goes on with the chain")
  func tampering() async throws {
    let month = MutableBox(11)
    func fill() async throws -> InMemoryTier {
      let tier = InMemoryTier()
      for number in 0..<6 {
        month.withLock { $0 = 10 + number / 3 }
        let trail = AuditTrail(on: tier, by: Self.someone) {
          Timestamp.parse("2026-\(month.value)-15T00:00:00Z") ?? .distantPast
        }
        try await trail.note("backup", .done)
        try await AuditTrail(on: tier, by: Operator(name: "eve", host: "db2", program: "p")).note("backup", .done)
      }
      return tier
    }
    func failures(_ tier: InMemoryTier) async throws -> [String] {
      try await AuditTrail.read(on: tier).findings.filter { $0.severity == .failure }.map(\.evidence)
    }
    func key(_ sequence: Int) throws -> ObjectKey {
      try ObjectKey("audit/2026/\(sequence <= 3 ? 10 : 11)/db1-example.0000000\(sequence).json")
    }
    #expect(try await failures(fill()).isEmpty)
    for sequence in 1...5 {
      let tier = try await fill()
      try await tier.delete(key(sequence))
      let found = try await failures(tier)
      #expect(found == ["line \(sequence) of 6 is missing"], "\(found)")
    }
    for sequence in 1...5 {
      let tier = try await fill()
      let text = String(buffer: try await tier.read(key(sequence))).replacing("ada", with: "bob")
      _ = try await tier.put(key(sequence), ByteStream(ByteBuffer(string: text)), PutOptions())
      let found = try await failures(tier)
      #expect(found.count == 1 && found[0].contains("not the one that was there"), "\(found)")
    }
    let tier = try await fill()
    _ = try await tier.put(key(2), ByteStream(ByteBuffer(string: "{}")), PutOptions())
    #expect(try await failures(tier).count == 2)
  }

  @Test("A clock that goes back over the turn of a month, and comes right again, breaks no chain")
  func clock() async throws {
    let tier = InMemoryTier()
    let months = [
      "2026-11", "2026-11", "2026-11", "2026-10", "2026-10", "2026-10", "2026-11", "2027-05", "2027-05", "2026-12",
    ]
    for (index, month) in months.enumerated() {
      let trail = AuditTrail(on: tier, by: Self.someone) { Timestamp.parse("\(month)-15T00:00:00Z") ?? .distantPast }
      let record = try await trail.note("backup", .done)
      #expect(record.sequence == index + 1, "\(month)")
    }
    let (records, findings) = try await AuditTrail.read(on: tier)
    #expect(records.count == months.count && findings.map(\.severity) == [.passed], "\(findings)")
  }

  @Test("A tier that refuses or stands still fails nothing, and holds nothing up for long")
  func away() async throws {
    let warnings = MutableBox<[String]>([])
    let logger = Logger(label: "tests") { _ in NotedLog(lines: warnings) }
    let readOnly = AuditTrail(on: ReadOnlyTier(InMemoryTier()), by: Self.someone)
    let restored = try await readOnly.record("restore", logger: logger) { _ in "restored" }
    #expect(restored == "restored")
    let said = warnings.value.filter { $0.contains("a line is missing") }
    #expect(said.count == 2 && warnings.value.count == 2)
    var slow = AuditTrail(on: StandingTier(), by: Self.someone)
    slow.patience = .milliseconds(100)
    let begun = ContinuousClock.now
    let late = try await slow.record("restore", logger: logger) { _ in "restored" }
    #expect(late == "restored")
    #expect(begun.duration(to: .now) < .seconds(5) && warnings.value.count == 4)
  }
}

private struct NotedLog: LogHandler {
  let lines: MutableBox<[String]>
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.info

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) { lines.withLock { $0.append("\(event.message)") } }
}

/// Answers nothing.
private struct StandingTier: StorageTier {
  var name: String { "standing" }
  var capabilities: TierCapabilities { [.conditionalPut] }
  private func stand() async throws -> Never {
    try await Task.sleep(for: .seconds(600))
    throw DRError(.timedOut, "it stands still")
  }

  func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo { try await stand() }
  func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream { try await stand() }
  func head(_ key: ObjectKey) async throws -> ObjectInfo? { try await stand() }
  func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage { try await stand() }
  func delete(_ key: ObjectKey) async throws { try await stand() }
  func removeAbandonedUploads(olderThan date: Date) async throws -> Int { try await stand() }
}
