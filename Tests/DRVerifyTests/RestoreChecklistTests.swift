import DRCore
import DRVerify
import Testing

/// The plan's fifteen points, and the clock of a restore test.
@Suite struct RestoreChecklistTests {
  private static func checklist(_ kind: Component.Kind, _ findings: [Finding]) throws -> [Finding] {
    RestoreChecklist.findings([(component: try Component(kind, "app"), findings: findings)])
  }

  @Test("There are fifteen findings whatever was seen; of nothing, each is not checked and says why")
  func nothing() {
    let list = RestoreChecklist.findings([])
    #expect(list.count == 15)
    #expect(list.allSatisfy { $0.severity == .notChecked && !$0.evidence.isEmpty })
    #expect(list.map(\.subject).first == "1. Database connectivity successful")
    #expect(list.map(\.subject).last == "15. Monitoring and alerting working")
  }

  @Test("A point is the worst of its checks, and of its own system alone")
  func worst() throws {
    let connected = Finding("connectivity", .passed, subject: "app", evidence: "version 15 answers")
    let list = try Self.checklist(
      .postgres,
      [
        connected, Finding("amcheck", .passed, subject: "app", evidence: "whole"),
        Finding("dump", .failure, subject: "app", evidence: "it ended early"),
        Finding("row-counts", .notChecked, subject: "app", evidence: "5 tables, and no counts to compare them with"),
        Finding("foreign-keys", .couldNotVerify, subject: "app", evidence: "no answer"),
        Finding("uniqueness", .passed, subject: "app", evidence: "3 looked at"),
        Finding("indexes", .notice, subject: "app", evidence: "there are none"),
      ])
    let severities = list.map(\.severity)
    #expect(severities[0] == .passed && severities[7] == .failure && severities[4] == .couldNotVerify)
    #expect(severities[3] == .passed)
    #expect(severities[2] == .notChecked && list[2].evidence == "5 tables, and no counts to compare them with")
    #expect(list[7].evidence.contains("it ended early") && list[7].advice != nil)
    // A cache that answers is no database.
    let cache = try Self.checklist(.redis, [connected])
    #expect(cache[0].severity == .notChecked && cache[12].severity == .passed)
  }

  @Test("A restore that takes longer than it may fails; what does not count is not counted")
  func time() async throws {
    for (limit, severity) in [(Duration.seconds(60), Finding.Severity.passed), (.milliseconds(20), .failure)] {
      var phases = RestorePhases(limit: limit)
      try await phases.measure("restore") { try await Task.sleep(for: .milliseconds(40)) }
      try await phases.measure("probes", counts: false) { try await Task.sleep(for: .milliseconds(400)) }
      #expect(phases.recoveryTime < .milliseconds(400))
      let findings = phases.findings("restore")
      #expect(findings.map(\.check) == ["phase", "phase", "restore-time"])
      #expect(findings.last?.severity == severity, "\(findings)")
    }
  }
}
