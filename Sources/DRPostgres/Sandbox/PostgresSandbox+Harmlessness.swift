public import DRCore
public import Logging

extension PostgresSandbox {
  /// Asks the running server whether it can reach or change anything outside, and says what it answered.
  ///
  /// - Throws: ``DRError`` if the server could not be asked.
  public func harmlessness(logger: Logger) async throws -> [Finding] {
    let answers = try await PostgresConnection.withConnection(settings, logger: logger) { connection in
      var findings: [Finding] = []
      let names = [
        "archive_mode", "archive_command", "archive_library", "archive_cleanup_command", "recovery_end_command",
        "primary_conninfo", "synchronous_standby_names", "listen_addresses", "max_logical_replication_workers",
        "shared_preload_libraries", "session_preload_libraries", "local_preload_libraries",
      ]
      let answer = try await connection.query(
        "SELECT name, setting FROM pg_settings WHERE name = ANY (string_to_array($1, ','))",
        [names.joined(separator: ",")])
      let values = Dictionary(
        answer.map { ($0["name"] ?? "", $0["setting"] ?? "") }, uniquingKeysWith: { first, _ in first })

      func expect(_ check: String, _ settings: [String], _ good: (String) -> Bool, _ advice: String) {
        for setting in settings {
          // archive_library is not there before 15, nor must it be.
          guard let value = values[setting] else { continue }
          let shown = setting == "primary_conninfo" && !value.isEmpty ? "set" : "'\(value)'"
          findings.append(
            Finding(
              check, good(value) ? .passed : .failure, subject: setting, evidence: "the server says \(shown)",
              advice: good(value) ? nil : advice))
        }
      }
      let start = "start it through PostgresSandbox.start with isHarmless"
      expect("sandbox-archives-nothing", ["archive_mode"], { $0 == "off" }, start)
      expect("sandbox-archives-nothing", ["archive_library"], \.isEmpty, start)
      // With archiving off the server shows this in place of what is set.
      expect("sandbox-archives-nothing", ["archive_command"], { $0.isEmpty || $0 == "(disabled)" }, start)
      expect(
        "sandbox-runs-no-commands", ["archive_cleanup_command", "recovery_end_command"], \.isEmpty, start)
      expect("sandbox-follows-nobody", ["primary_conninfo", "synchronous_standby_names"], \.isEmpty, start)
      expect(
        "sandbox-listens-to-nobody", ["listen_addresses"], { $0.isEmpty || $0 == "127.0.0.1" }, start)
      expect("sandbox-subscribes-to-nothing", ["max_logical_replication_workers"], { $0 == "0" }, start)
      expect(
        "sandbox-preloads-nothing",
        ["shared_preload_libraries", "session_preload_libraries", "local_preload_libraries"], \.isEmpty,
        "do not set keepsPreloadLibraries")

      let subscriptions = try await connection.query("SELECT count(*) FROM pg_subscription WHERE subenabled").single
      if let subscriptions, subscriptions != "0" {
        findings.append(
          Finding(
            "sandbox-subscribes-to-nothing", .notice, subject: "subscriptions",
            evidence: "\(subscriptions) enabled; the server may run no worker for them",
            advice: "disable them before this data goes into service, if the source still lives"))
      }
      findings += try await Self.processes(connection)
      return findings
    }
    return answers + (try await waysOut(logger))
  }

  /// Servers that the data itself knows: nothing asks them by itself, but a query may.
  private nonisolated func waysOut(_ logger: Logger) async throws -> [Finding] {
    var ways: [String] = []
    for name in try await PostgresProbes.databases(of: settings, logger: logger) {
      ways += try await PostgresConnection.withConnection(settings.with(database: name), logger: logger) { connection in
        try await connection.query(
          """
          SELECT 'foreign server ' || srvname FROM pg_foreign_server
          UNION ALL SELECT 'extension ' || extname FROM pg_extension WHERE extname IN ('dblink', 'http', 'plsh') ORDER BY 1
          """
        ).compactMap { row in row[0].map { "\(name): \($0)" } }
      }
    }
    return [
      Finding(
        "sandbox-reaches-nobody", ways.isEmpty ? .passed : .warning, subject: "databases",
        evidence: ways.isEmpty
          ? "no foreign server, no dblink and no other way out is defined" : ways.prefix(8).joined(separator: ", "),
        advice: ways.isEmpty ? nil : "run no query in it that asks them: they are those of the source")
    ]
  }

  /// Every process that is none of the server's own kinds is one that acts by itself.
  private static func processes(_ connection: PostgresConnection) async throws -> [Finding] {
    let known = [
      "client backend", "parallel worker", "autovacuum launcher", "autovacuum worker", "logical replication launcher",
      "background writer", "checkpointer", "walwriter", "startup", "walsender", "walsummarizer", "standalone backend",
      "io worker",
    ]
    let others = try await connection.query(
      """
      SELECT backend_type, count(*) FROM pg_stat_activity
      WHERE backend_type <> ALL (string_to_array($1, ',')) GROUP BY 1 ORDER BY 1
      """, [known.joined(separator: ",")])
    guard !others.isEmpty else {
      return [
        Finding(
          "sandbox-acts-on-nothing", .passed, subject: "processes",
          evidence: "no archiver, no WAL receiver, no subscription and no other background worker runs")
      ]
    }
    return others.map { row in
      Finding(
        "sandbox-acts-on-nothing", .failure, subject: row[0] ?? "process", evidence: "\(row[1] ?? "some") running",
        advice: "a harmless server has none of these: start it through PostgresSandbox.start with isHarmless")
    }
  }
}
