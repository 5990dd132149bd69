import DRCore
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

/// The audit trail and the reports of runs go along to other tiers, and nothing there is ever removed or written over.
struct RecordReplicationTests {
  private static func trail(_ host: String, on tier: any StorageTier, _ when: Date? = nil) -> AuditTrail {
    let moment = when ?? Timestamp.parse("2026-12-10T00:00:00Z") ?? .distantPast
    return AuditTrail(on: tier, by: Operator(name: "ada", host: host, program: "dr-test"), now: { moment })
  }

  /// Five lines of one host and three of another, over the turn of a month, and three reports.
  private static func fill(_ tier: any StorageTier) async throws {
    let turn = Timestamp.parse("2026-11-30T23:59:59Z") ?? .distantPast
    for number in 0..<5 {
      try await trail("db1", on: tier, turn.addingTimeInterval(Double(number) - 2)).note(
        "backup", object: "b\(number)", .done)
    }
    for _ in 0..<3 { try await trail("db2", on: tier, turn).note("verify", .done) }
    for number in 1...3 { try await report(number, on: tier) }
  }

  /// What replication knows of reports are their names alone.
  private static func report(_ number: Int, on tier: any StorageTier, _ text: String = "report", ending: String? = nil)
    async throws
  {
    for each in ending.map({ [$0] }) ?? ["json", "html", "md", "dsse.json"] {
      try await tier.put("reports/0000000\(number).\(each)", "\(text) \(number) as \(each)")
    }
  }

  @discardableResult
  private static func replicate(
    _ near: any StorageTier, _ far: any StorageTier, _ change: (inout Replicator.Settings) -> Void = { _ in }
  ) async throws -> ReplicationOutcome {
    var settings = Replicator.Settings()
    change(&settings)
    return try await Replicator(
      from: Repository(tier: near), to: Repository(tier: far), settings: settings
    ).run(logger: quiet)
  }

  private static func content(_ tier: any StorageTier, _ prefix: String) async throws -> [String: String] {
    var all: [String: String] = [:]
    for key in try await tier.keys(prefix) { all[key] = try await tier.text(key) }
    return all
  }

  private static func failures(_ tier: any StorageTier) async throws -> [Finding] {
    try await AuditTrail.read(on: tier).findings.filter { $0.severity == .failure }
  }

  @Test(
    "Lines of all hosts and every report are there afterwards, beside what the same host wrote there; again, nothing is copied"
  )
  func copied() async throws {
    try await withLocalTier { near, _ in
      try await withLocalTier { far, _ in
        try await Self.fill(near)
        // The host that replicates writes its own trail there.
        try await Self.trail("db1", on: far).note("replicate", .begun)
        let first = try await Self.replicate(near, far)
        #expect(first.records == 8 + 12 && first.recordFindings.isEmpty && first.failures.isEmpty, "\(first)")
        try await Self.trail("db1", on: far).note("replicate", .done)
        let (records, findings) = try await AuditTrail.read(on: far)
        #expect(findings.allSatisfy { $0.severity == .passed } && findings.count == 3, "\(findings)")
        #expect(records.count == 10 && Set(records.compactMap(\.object)) == ["b0", "b1", "b2", "b3", "b4"])
        #expect(try await Self.content(far, "reports/") == Self.content(near, "reports/"))
        let again = try await Self.replicate(near, far)
        #expect(again.records == 0 && again.recordFindings.isEmpty && again.failures.isEmpty, "\(again)")
        // What comes later comes too, and a signature that was put behind.
        try await Self.trail("db1", on: near).note("backup", object: "b5", .done)
        try await near.delete(ObjectKey("reports/00000003.dsse.json"))
        try await far.delete(ObjectKey("reports/00000003.dsse.json"))
        #expect(try await Self.replicate(near, far).records == 1)
        try await Self.report(3, on: near, ending: "dsse.json")
        try await Self.report(4, on: near)
        let later = try await Self.replicate(near, far) { $0.readsBackAll = true }
        #expect(later.records == 5 && later.recordFindings.isEmpty, "\(later)")
        #expect(try await Self.failures(far).isEmpty)
      }
    }
  }

  @Test("A copy of a copy has the name of the first, whichever way it came")
  func copyOfACopy() async throws {
    let (near, far, third) = (InMemoryTier(name: "near"), InMemoryTier(name: "far"), InMemoryTier(name: "third"))
    try await Self.fill(near)
    try await Self.trail("db1", on: far).note("replicate", .done)
    try await Self.replicate(near, far)
    #expect(try await Self.replicate(far, third).records == 9 + 12)
    let direct = try await Self.replicate(near, third)
    #expect(direct.records == 0 && direct.recordFindings.isEmpty, "\(direct)")
    #expect(try await Self.failures(third).isEmpty)
    // A chain that lags where it came from a copy is no loss.
    try await Self.trail("db1", on: near).note("backup", .done)
    try await Self.replicate(near, third)
    let lagging = try await Self.replicate(far, third)
    #expect(lagging.records == 0 && lagging.recordFindings.isEmpty, "\(lagging)")
  }

  @Test("After the repository was lost its history is read from the copy, comes back, and goes on")
  func lost() async throws {
    let (near, far, new) = (InMemoryTier(name: "near"), InMemoryTier(name: "far"), InMemoryTier(name: "new"))
    try await Self.fill(near)
    try await Self.replicate(near, far)
    try await Self.trail("db1", on: far).note("restore", .done)
    try await Self.trail("db1", on: new).note("init", .done)
    try await Self.replicate(far, new)
    let (records, findings) = try await AuditTrail.read(on: new)
    #expect(records.count == 8 + 1 + 1 && findings.allSatisfy { $0.severity == .passed }, "\(findings)")
    try await Self.trail("db1", on: new).note("backup", .done)
    for _ in 0..<2 {
      let on = try await Self.replicate(new, far)
      #expect(on.recordFindings.isEmpty && on.failures.isEmpty, "\(on)")
      let back = try await Self.replicate(far, new)
      #expect(back.recordFindings.isEmpty && back.records == 0, "\(back)")
    }
    #expect(try await AuditTrail.read(on: far).records.count == 11)
    #expect(try await Self.failures(far).isEmpty)
    #expect(try await Self.failures(new).isEmpty)
  }

  @Test("Lines that are gone at the source are missed, and come back from the copy; nothing is removed from that")
  func truncated() async throws {
    let (near, far) = (InMemoryTier(name: "near"), InMemoryTier(name: "far"))
    try await Self.fill(near)
    try await Self.replicate(near, far)
    let before = try await Self.content(far, "")
    for number in [4, 5] { try await near.delete(ObjectKey("audit/2026/12/db1.0000000\(number).json")) }
    try await near.delete(ObjectKey("reports/00000003.json"))
    // From the trail alone nobody sees it.
    #expect(try await Self.failures(near).isEmpty)
    let seen = try await Self.replicate(near, far)
    let failures = seen.recordFindings.filter { $0.severity == .failure }
    #expect(
      failures.count == 2 && failures.allSatisfy { $0.evidence.hasSuffix("is on far, and not on near") }, "\(seen)")
    #expect(seen.recordFindings.contains { $0.check == "report-copied" && $0.severity == .warning })
    #expect(try await Self.content(far, "") == before)
    let back = try await Self.replicate(far, near)
    #expect(back.records == 3 && back.recordFindings.isEmpty, "\(back)")
    #expect(try await Self.replicate(near, far).recordFindings.isEmpty)
  }

  @Test("What is there and differs is a finding, and stays; a report that was added there stops what is behind it")
  func differing() async throws {
    let (near, far) = (InMemoryTier(name: "near"), InMemoryTier(name: "far"))
    try await Self.fill(near)
    try await Self.replicate(near, far)
    func changed(_ key: String, from: String, to: String) async throws -> [Finding] {
      let text = try await far.text(key)
      try await far.put(key, text.replacing(from, with: to))
      let outcome = try await Self.replicate(near, far) { $0.readsBackAll = true }
      #expect(outcome.records == 0)
      #expect(try await far.text(key) != text, "it was written over")
      try await far.put(key, text)
      return outcome.recordFindings
    }
    let lines = try await far.keys("audit/").filter { $0.contains("db1~") }
    for line in lines {
      let longer = try await changed(line, from: "ada", to: "somebody")
      #expect(longer.map(\.subject) == [line] && longer.map(\.severity) == [.failure], "\(longer)")
      let same = try await changed(line, from: "ada", to: "eve")
      #expect(same.map(\.subject) == [line], "\(same)")
    }
    let report = try await changed("reports/00000002.html", from: "report", to: "rebort")
    #expect(report.map(\.subject) == ["reports/00000002.html"], "\(report)")
    // The last line of a chain is read each time.
    let last = try #require(lines.last)
    try await far.put(last, try await far.text(last).replacing("ada", with: "eve"))
    #expect(try await Self.replicate(near, far).recordFindings.map(\.subject) == [last])

    try await Self.report(4, on: far, "of the copy")
    try await Self.report(4, on: near)
    try await Self.report(5, on: near)
    let forked = try await Self.replicate(near, far)
    #expect(forked.recordFindings.map(\.subject).contains("reports/00000004.json") && forked.records == 0, "\(forked)")
    #expect(try await far.keys("reports/00000005").isEmpty)
    #expect(try await far.text("reports/00000004.json").hasPrefix("of the copy"))
  }

  @Test("Two hosts write, and two replicate, all at the same time: nothing is missing, and nothing differs")
  func concurrent() async throws {
    try await withLocalTier { near, _ in
      try await withLocalTier { far, _ in
        try await Self.fill(near)
        try await withThrowingTaskGroup(of: Void.self) { group in
          for host in ["db1", "db2"] {
            group.addTask {
              for _ in 0..<20 {
                try await Self.trail(host, on: near).note("backup", .done)
                try await Self.trail(host, on: far).note("prune", .done)
              }
            }
            group.addTask {
              for _ in 0..<5 {
                let outcome = try await Self.replicate(near, far)
                #expect(outcome.recordFindings.isEmpty && outcome.failures.isEmpty, "\(outcome)")
              }
            }
          }
          try await group.waitForAll()
        }
        try await Self.replicate(near, far)
        let (records, findings) = try await AuditTrail.read(on: far)
        #expect(records.count == 8 + 80 && findings.allSatisfy { $0.severity == .passed }, "\(findings)")
      }
    }
  }

  @Test("Interrupted at each write, the next run brings the rest, and the trail was never without a line in its midst")
  func interrupted() async throws {
    for fault in [Fault.before, .after] {
      for write in 0..<20 {
        let (near, far) = (InMemoryTier(name: "near"), InMemoryTier(name: "far"))
        try await Self.fill(near)
        let count = MutableBox(0)
        let dying = FaultInjectingTier(far) { call in
          guard call.kind == .put else { return nil }
          return count.withLock { count in
            defer { count += 1 }
            return count == write ? fault : nil
          }
        }
        let outcome = try await Self.replicate(near, dying) { $0.concurrency = 1 }
        #expect(outcome.failures.count == 1, "\(write): \(outcome)")
        #expect(try await Self.failures(far).isEmpty, "\(write)")
        #expect(try await Self.replicate(near, far).failures.isEmpty)
        let whole = try await AuditTrail.read(on: far)
        #expect(whole.records.count == 8 && whole.findings.allSatisfy { $0.severity == .passed })
        #expect(try await Self.content(far, "reports/") == Self.content(near, "reports/"))
      }
    }
  }

  private typealias Fault = FaultInjectingTier.Fault

  @Test("A line that was put in the place of a copied chain's first one is found")
  func forged() async throws {
    let (near, far) = (InMemoryTier(name: "near"), InMemoryTier(name: "far"))
    try await Self.trail("db1", on: near).note("backup", .done)
    try await Self.replicate(near, far)
    let key = try #require(try await far.keys("audit/").first)
    try await far.put(key, try await far.text(key).replacing("ada", with: "eve"))
    let found = try await Self.failures(far)
    #expect(found.map(\.evidence) == ["this is not the first line of the chain that was copied"], "\(found)")
  }

  @Test("On a bucket with Object Lock every line and report is locked, and the next run leaves them as they are")
  func locked() async throws {
    try await S3TestServer.shared(.ceph).withTier(objectLock: true) { far in
      let near = InMemoryTier(name: "near")
      try await Self.fill(near)
      for expected in [20, 0] {
        let outcome = try await Self.replicate(near, far) { $0.lock = .init(.governance, days: 1) }
        #expect(outcome.records == expected && outcome.recordFindings.isEmpty && outcome.failures.isEmpty, "\(outcome)")
      }
      for key in try await far.keys("audit/") + far.keys("reports/") {
        let info = try await far.head(ObjectKey(key))
        #expect(info?.lock?.mode == .governance, "\(key)")
        #expect(await code { try await far.delete(ObjectKey(key)) } == .objectLocked)
      }
      let versions = try await far.versions(prefix: "audit/")
      #expect(versions.count == 8, "each was written once: \(versions.count)")
      #expect(try await AuditTrail.read(on: far).records.count == 8)
    }
  }
}
