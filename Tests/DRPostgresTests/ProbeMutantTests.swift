import DRCore
import DRPostgres
import DRTestSupport
import Foundation
import Logging
import Testing

private let logger = Logger(label: "test")

/// The suite that the probes satisfy on real servers, and that no mutant of them does.
@Suite(.serialized) struct ProbeMutantTests {
  /// What was found on one damaged server.
  private struct Seen: Sendable {
    var damage: ProbeDamage
    var findings: [Finding]
    /// By mutant: what it found, and whether its question was asked at all.
    var mutants: [String: (findings: [Finding], isAsked: Bool)] = [:]

    /// Whether it is noticed as it must be.
    func isNoticed(_ findings: [Finding]) -> Bool {
      findings.contains { finding in
        finding.severity >= damage.severity && "\(finding)".contains(damage.subject)
          && !finding.evidence.contains("could not be looked at")
      }
    }
  }

  /// Every damage, looked at once by its probe and by the mutants of that, each on a fresh copy of one database.
  private static let seen = Task { () -> (healthy: [Finding], damaged: [Seen]) in
    try await withTemporaryFolder { folder in
      try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
        try await sandbox.query("CREATE DATABASE pristine")
        try await sandbox.query(probedSchema, database: "pristine")
        try await sandbox.query("CREATE DATABASE app TEMPLATE pristine")
        return try await RewrittenQuestions.with(sandbox, in: folder) { questions in
          let settings = questions.settings.with(database: "app")
          func recorded() async throws -> PostgresBaseline {
            try await PostgresBaseline.take(settings, queries: ProbedProbes.queries, logger: logger)
          }
          func look(_ name: String, _ baseline: PostgresBaseline) async throws -> [Finding] {
            guard let probe = ProbedProbes.named(name, baseline) else { return [] }
            return try await PostgresProbes(settings, databases: ["app"], probes: [probe]).verify(logger: logger)
          }
          let baseline = try await recorded()
          let healthy = try await PostgresProbes(
            settings, databases: ["app"], probes: ProbedProbes.all(baseline)
          ).verify(logger: logger)
          // A mutant of what is recorded records otherwise, too.
          var baselines: [String: PostgresBaseline] = [:]
          for mutant in ProbeMutant.withBlindOnes {
            guard let rewriting = mutant.rewriting, ["tables", "column-types", "timestamps"].contains(mutant.probe)
            else {
              continue
            }
            baselines[mutant.testDescription] = try await questions.asking(rewriting) { try await recorded() }.0
          }
          var damaged: [Seen] = []
          for damage in ProbeDamage.all {
            try await sandbox.query("DROP DATABASE app WITH (FORCE)")
            try await sandbox.query("CREATE DATABASE app TEMPLATE pristine")
            try await apply(damage.kind, sandbox)
            var seen = Seen(damage: damage, findings: try await look(damage.probe, baseline))
            for mutant in ProbeMutant.withBlindOnes where mutant.probe == damage.probe {
              let (found, count) = try await questions.asking(mutant.rewriting) {
                try await look(damage.probe, baselines[mutant.testDescription] ?? baseline)
              }
              seen.mutants[mutant.testDescription] = (mutant.findings(found), mutant.rewriting == nil || count > 0)
            }
            damaged.append(seen)
            if case .standby = damage.kind {
              try await sandbox.stop()
              try FileManager.default.removeItem(atPath: "\(sandbox.dataFolder)/standby.signal")
              try await sandbox.start()
            }
          }
          return (healthy, damaged)
        }
      }
    }
  }

  private static func apply(_ kind: ProbeDamage.Kind, _ sandbox: PostgresSandbox) async throws {
    switch kind {
    case .sql(let sql):
      _ = try await PostgresConnection.withConnection(sandbox.settings.with(database: "app"), logger: logger) {
        try await $0.query("SET allow_system_table_mods = on; \(sql)")
      }
    case .pages(let relations):
      var paths: [String] = []
      for relation in relations {
        let answer = try await sandbox.query(
          "SELECT pg_relation_filepath('\(relation)')", database: "app")
        paths.append(try #require(answer.single))
      }
      try await sandbox.stop()
      for path in paths {
        let file = try FileHandle(forUpdating: URL(filePath: "\(sandbox.dataFolder)/\(path)"))
        try file.seek(toOffset: 8192 * 2 + 5000)
        try file.write(contentsOf: Data(repeating: 0x5a, count: 64))
        try file.close()
      }
      try await sandbox.start()
    case .standby:
      try await sandbox.stop()
      let signal = "\(sandbox.dataFolder)/standby.signal"
      try Data().write(to: URL(filePath: signal))
      try sandbox.user?.own(signal)
      try await sandbox.start()
    }
  }

  @Test("On a healthy database every probe looks at something, and finds nothing")
  func healthy() async throws {
    let findings = try await Self.seen.value.healthy
    let bad = findings.filter { $0.severity > .notice }
    #expect(bad.isEmpty, "\(bad)")
    let passed = Set(findings.filter { $0.severity == .passed }.map(\.check))
    #expect(passed.isSuperset(of: Set(ProbeDamage.all.map(\.probe))), "\(passed)")
  }

  @Test("Each damage is noticed by the probe that is for it")
  func original() async throws {
    for seen in try await Self.seen.value.damaged {
      #expect(seen.isNoticed(seen.findings), "\(seen.damage.name): \(seen.findings)")
    }
  }

  @Test("A probe in which one thing is wrong is found out", arguments: ProbeMutant.withBlindOnes)
  func foundOut(mutant: ProbeMutant) async throws {
    let name = mutant.testDescription
    let all = try await Self.seen.value.damaged.filter { $0.damage.probe == mutant.probe }
    #expect(all.contains { $0.mutants[name]?.isAsked ?? false }, "its question is never asked: it mutates nothing")
    let missed = all.filter { !$0.isNoticed($0.mutants[name]?.findings ?? []) }
    #expect(!missed.isEmpty, "nobody noticed \(name)")
  }

  @Test("Each probe has damages, and mutants beside the one that sees nothing")
  func complete() async throws {
    let nothing = #"{"taken": "2026-01-01T00:00:00.000000Z", "rows": {}, "columns": {}, "newest": {}, "queries": []}"#
    let baseline = try JSONDecoder().decode(PostgresBaseline.self, from: Data(nothing.utf8))
    let probes = Set(ProbedProbes.all(baseline).map(\.name))
    #expect(Set(ProbeDamage.all.map(\.probe)) == probes)
    #expect(Set(ProbeMutant.all.map(\.probe)) == probes)
    let names = ProbeMutant.withBlindOnes.map(\.testDescription)
    #expect(Set(names).count == names.count && names.count >= 55, "\(names.count)")
    // Those of a restore test are all among them.
    let used = PostgresProbes.all(PostgresConnectionSettings()).probes.map(\.name)
    #expect(probes.isSuperset(of: used))
  }
}
