import DRCore
import DRPostgres
import DRTestSupport
import Foundation
import Logging
import Testing

private let logger = Logger(label: "test")

@Suite(.serialized) struct ProbeTests {
  @Test func aHealthyServerPassesEveryProbe() async throws {
    try await withDatabase { sandbox, settings in
      let counts = try await PostgresRowCounts.count(settings, logger: logger)
      #expect(counts.databases["app"]?["public.\"Order\""] == 5000)
      #expect(counts.databases["app"]?["public.part1"] == 900)
      #expect(counts.databases["app"]?["public.cache"] == nil)
      let probes = PostgresProbes.all(settings, rowCounts: counts)
      let findings = try await probes.verify(logger: logger)
      #expect(findings.filter { $0.severity > .notChecked }.isEmpty, "\(findings)")
      // Each probe has looked at something in this database.
      for probe in probes.probes {
        #expect(
          findings.contains { $0.check == probe.name && $0.severity == .passed && $0.subject == "app" }, "\(probe.name)"
        )
      }
      // In an empty database, nothing to look at is no pass.
      let vacuous = ["row-counts", "foreign-keys", "uniqueness", "sequences", "materialized-views", "constraints"]
      for check in vacuous {
        let expected: Finding.Severity = check == "row-counts" ? .notChecked : .notice
        #expect(
          findings.filter { $0.check == check && $0.subject == "postgres" }.map(\.severity) == [expected], "\(check)")
      }
    }
  }

  @Test func aPageThatWasOverwrittenIsSeen() async throws {
    try await withDatabase { sandbox, settings in
      let path = try #require(
        try await sandbox.query("SELECT pg_relation_filepath('\"Order\"')", database: "app").single)
      let indexPath = try #require(
        try await sandbox.query("SELECT pg_relation_filepath('order_number')", database: "app").single)
      try await sandbox.stop()
      for path in [path, indexPath] {
        let file = try FileHandle(forUpdating: URL(filePath: "\(sandbox.dataFolder)/\(path)"))
        try file.seek(toOffset: 8192 * 2 + 5000)
        try file.write(contentsOf: Data(repeating: 0x5a, count: 64))
        try file.close()
      }
      try await sandbox.start()
      let findings = try await PostgresProbes(settings, databases: ["app"], probes: [.amcheck, .dump]).verify(
        logger: logger)
      #expect(findings.map(\.severity) == [.failure, .failure], "\(findings)")
      #expect(findings.map(\.check) == ["amcheck", "dump"])
      #expect(findings.allSatisfy { $0.evidence.contains("pg_") && !$0.evidence.contains("could not be looked at") })
      // Counting reads the table, and it cannot be: nothing is known, which is no pass either.
      let counts = try await PostgresProbes(
        settings, databases: ["app"],
        probes: [.rowCounts(PostgresRowCounts(databases: ["app": ["public.\"Order\"": 5000]]))]
      ).verify(logger: logger)
      #expect(counts.map(\.severity) == [.failure])
    }
  }

  @Test func rowCountsAreComparedWithWhatTheyMustBe() async throws {
    try await withDatabase { sandbox, settings in
      func verify(_ tables: [String: Int64]?, tolerance: Double = 0, database: String = "app") async throws -> [Finding]
      {
        let counts = tables.map { PostgresRowCounts(databases: [database: $0]) }
        return try await PostgresProbes(
          settings, databases: ["app"], probes: [.rowCounts(counts, tolerance: tolerance)]
        ).verify(logger: logger)
      }
      let order = "public.\"Order\""
      #expect(try await verify([order: 5000]).map(\.severity) == [.passed, .notice])
      #expect(try await verify([order: 5001]).first?.severity == .failure)
      #expect(try await verify([order: 5100], tolerance: 2).first?.severity == .passed)
      #expect(try await verify([order: 5200], tolerance: 2).first?.severity == .failure)
      #expect(try await verify([order: 4000], tolerance: 2).first?.severity == .failure)
      let missing = try await verify([order: 5000, "public.gone": 1, "public.gone_empty": 0], tolerance: 99)
      #expect(missing.count { $0.severity == .failure } == 2)
      #expect(!missing.contains { $0.severity == .passed })
      try await sandbox.query("TRUNCATE half", database: "app")
      #expect(try await verify(["public.half": 101], tolerance: 99.9).first?.severity == .failure)
      // No expectation, or one for another database only.
      #expect(try await verify(nil).map(\.severity) == [.notChecked])
      #expect(try await verify([:]).map(\.severity) == [.notChecked])
      #expect(try await verify([order: 5000], database: "other").map(\.severity) == [.notChecked])
      // A tolerance that accepts anything.
      for tolerance in [100, -1, .infinity, .nan] {
        #expect(try await verify([order: 5000], tolerance: tolerance).map(\.severity) == [.failure])
      }
    }
  }

  @Test func aKnownAnswerIsComparedAndNeverShown() async throws {
    try await withDatabase { sandbox, settings in
      let questions: [(String, Finding.Severity)] = [
        ("SELECT 'hunter2'", .passed), ("SELECT 'hunter3'", .failure), ("SELECT NULL", .failure),
        ("SELECT 'hunter2' WHERE false", .failure), ("SELECT 'hunter2' FROM generate_series(1, 2)", .failure),
        ("SELECT nothing", .failure), ("DELETE FROM half RETURNING 'hunter2'", .failure),
      ]
      for (sql, severity) in questions {
        let findings = try await PostgresProbes(
          settings, databases: ["app"], probes: [.answer("canary", in: "app", to: sql, is: "hunter2")]
        ).verify(logger: logger)
        #expect(findings.map(\.severity) == [severity], "\(sql)")
        #expect(!"\(findings)".contains("hunter"))
      }
    }
  }

  @Test func whatCannotBeReachedIsAFailureAndNoPass() async throws {
    try await withDatabase { sandbox, settings in
      let nowhere = try await PostgresProbes.all(settings, databases: ["nowhere"]).verify(logger: logger)
      #expect(nowhere.allSatisfy { $0.severity == .failure })
      #expect(Set(nowhere.map(\.check)).count == PostgresProbes.all(settings).probes.count)
      await #expect(throws: DRError.self) {
        try await PostgresProbes(settings, databases: [], probes: [.connectivity]).verify(logger: logger)
      }
      await #expect(throws: DRError.self) { try await PostgresProbes(settings, probes: []).verify(logger: logger) }
      try await sandbox.stop()
      let gone = try await PostgresProbes.all(settings).verify(logger: logger)
      #expect(gone.map(\.severity) == [.failure])
      #expect(gone.map(\.check) == ["connectivity"])
    }
  }

  /// One server, one fresh database each time: damage is done to a copy.
  private func withDatabase(
    _ body: (PostgresSandbox, PostgresConnectionSettings) async throws -> Void
  ) async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      try await sandbox.query("CREATE DATABASE app")
      try await sandbox.query(probedSchema, database: "app")
      try await body(sandbox, sandbox.settings.with(database: "app"))
    }
  }
}
