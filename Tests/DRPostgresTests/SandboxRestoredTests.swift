import DRCore
import DRPostgres
import DRTestSupport
import Foundation
import Logging
import Testing

private let logger = Logger(label: "test")

@Suite(.serialized) struct SandboxRestoredTests {
  /// A copy of a source that archives, asks for a synchronous standby, subscribes, and has commands at the end of
  /// recovery, all in `postgresql.auto.conf`.
  private func withRestored(
    _ body: (_ folder: String, _ touched: String) async throws -> Void
  ) async throws {
    let parent = "/tmp/drt-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: parent) }
    // Anybody may write here: a command of the source's that was run would leave its mark.
    let touched = "\(parent)/touched"
    try FileManager.default.createDirectory(atPath: touched, withIntermediateDirectories: false)
    try FileManager.default.setAttributes([.posixPermissions: 0o777], ofItemAtPath: touched)

    let options = PostgresSandbox.Options(settings: ["wal_level": "logical", "max_connections": "150"])
    try await PostgresSandbox.withSandbox(options, logger: logger) { source in
      try await source.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
      try await source.query("ALTER SYSTEM SET archive_mode = on")
      try await source.query("ALTER SYSTEM SET archive_command = 'touch \(touched)/archive'")
      try await source.query("ALTER SYSTEM SET recovery_end_command = 'touch \(touched)/end'")
      try await source.query("ALTER SYSTEM SET archive_cleanup_command = 'touch \(touched)/cleanup'")
      try await source.query("ALTER SYSTEM SET external_pid_file = '\(touched)/pid'")
      try await source.query("ALTER SYSTEM SET listen_addresses = '*'")
      try await source.query("ALTER SYSTEM SET logging_collector = on")
      try await source.query("ALTER SYSTEM SET log_directory = '\(touched)'")
      try await source.query("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
      try await source.query("ALTER SYSTEM SET huge_pages = on")
      try await source.query(
        "ALTER SYSTEM SET primary_conninfo = 'host=\(source.settings.host ?? "") port=\(source.settings.port ?? 0)'")
      try await source.query(
        "CREATE SUBSCRIPTION s CONNECTION 'host=192.0.2.1 dbname=x' PUBLICATION p WITH (connect = false)")
      try await source.query("ALTER SUBSCRIPTION s ENABLE")
      let (status, _, error) = try await runCommand(
        "pg_basebackup",
        [
          "-D", "\(parent)/data", "-h", source.settings.host ?? "", "-p", "\(source.settings.port ?? 0)", "-U",
          "postgres",
          "-X", "stream", "-c", "fast",
        ])
      try #require(status == 0, "\(error)")
      // Written after the base backup, so that waiting on it would hang everything else here.
      let auto = "\(parent)/data/postgresql.auto.conf"
      try (String(contentsOfFile: auto, encoding: .utf8) + "synchronous_standby_names = 'nobody'\n")
        .write(toFile: auto, atomically: true, encoding: .utf8)
      try await body("\(parent)/data", touched)
    }
  }

  @Test func aRestoredServerIsHarmlessAndSaysSo() async throws {
    try await withRestored { folder, touched in
      try Data().write(to: URL(filePath: "\(folder)/recovery.signal"))
      let auto = "\(folder)/postgresql.auto.conf"
      try (String(contentsOfFile: auto, encoding: .utf8) + "restore_command = 'false'\n")
        .write(toFile: auto, atomically: true, encoding: .utf8)
      let sandbox = try await PostgresSandbox.start(
        dataFolder: folder, until: .promoted, limit: .seconds(60), logger: logger)
      let home = homeFolder(sandbox)
      try await PostgresSandbox.with(sandbox) { sandbox in
        let findings = try await sandbox.harmlessness(logger: logger)
        #expect(findings.filter { $0.severity > .notice }.isEmpty, "\(findings)")
        #expect(findings.contains { $0.severity == .notice && $0.subject == "subscriptions" })
        #expect(findings.count { $0.severity == .passed } >= 12)
        #expect(try await sandbox.query("SELECT count(*) FROM t").single == "1000")
        #expect(try await sandbox.query("SHOW max_connections").single == "150")
        // A commit does not wait for a standby, and full segments are not archived.
        for _ in 0..<3 {
          try await sandbox.query("INSERT INTO t SELECT generate_series(1, 1000)")
          try await sandbox.query("SELECT pg_switch_wal()")
        }
        try await sandbox.query("CHECKPOINT")
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: touched).isEmpty)
      #expect(!FileManager.default.fileExists(atPath: home))
      #expect(try serverProcesses(marked: home).isEmpty)
      // The caller's folder stays, cleanly as it was killed.
      #expect(FileManager.default.fileExists(atPath: "\(folder)/PG_VERSION"))
    }
  }

  @Test func aServerThatIsNotHarmlessIsNoticed() async throws {
    try await withRestored { folder, touched in
      var options = PostgresSandbox.Options(settings: ["logging_collector": "off", "primary_conninfo": ""])
      options.keepsPreloadLibraries = true
      let auto = "\(folder)/postgresql.auto.conf"
      try String(contentsOfFile: auto, encoding: .utf8).split(separator: "\n")
        .filter { !$0.hasPrefix("synchronous") }.joined(separator: "\n")
        .write(toFile: auto, atomically: true, encoding: .utf8)
      let sandbox = try await PostgresSandbox.start(
        dataFolder: folder, options, isHarmless: false, logger: logger)
      try await PostgresSandbox.with(sandbox) { sandbox in
        let failed = try await sandbox.harmlessness(logger: logger).filter { $0.severity == .failure }
        let subjects = Set(failed.map(\.subject))
        for subject in [
          "archive_mode", "archive_command", "recovery_end_command", "archive_cleanup_command", "primary_conninfo",
          "max_logical_replication_workers", "shared_preload_libraries", "archiver",
        ] {
          #expect(subjects.contains(subject), "\(subject)")
        }
        #expect(!"\(failed)".contains("host="))
      }
      _ = touched
    }
  }

  @Test func aRecoveryThatFailsSaysWhatTheServerSaid() async throws {
    try await withRestored { folder, _ in
      try Data().write(to: URL(filePath: "\(folder)/recovery.signal"))
      let options = PostgresSandbox.Options(settings: [
        "restore_command": "false", "recovery_target_time": "2099-01-01 00:00:00+00",
      ])
      let error = await #expect(throws: DRError.self) {
        try await PostgresSandbox.start(dataFolder: folder, options, until: .promoted, logger: logger)
      }
      #expect(error?.code == .programFailed)
      #expect(error?.message.contains("recovery ended before configured recovery target was reached") == true)
      #expect(!FileManager.default.fileExists(atPath: "\(folder)/postmaster.pid"))
    }
  }

  @Test func aPausedRecoveryIsNotWaitedFor() async throws {
    try await withRestored { folder, _ in
      try Data().write(to: URL(filePath: "\(folder)/recovery.signal"))
      var options = PostgresSandbox.Options(settings: ["restore_command": "false", "recovery_target": "immediate"])
      let error = await #expect(throws: DRError.self) {
        try await PostgresSandbox.start(dataFolder: folder, options, until: .promoted, logger: logger)
      }
      #expect(error?.message.contains("paused") == true)

      // The same folder again, to the end this time; then later, after an answer in the middle of recovery.
      options.settings["recovery_target_action"] = "promote"
      let sandbox = try await PostgresSandbox.start(dataFolder: folder, options, logger: logger)
      try await PostgresSandbox.with(sandbox) { sandbox in
        try await sandbox.waitForPromotion(limit: .seconds(60))
        #expect(try await sandbox.query("SELECT pg_is_in_recovery()").single == "f")
        let error = await #expect(throws: DRError.self) {
          try await PostgresSandbox.start(dataFolder: folder, logger: logger)
        }
        #expect(error?.code == .destinationInUse)
        #expect(try await sandbox.query("SELECT 1").single == "1")
      }
    }
  }

  @Test func aPasswordDoesNotGetIntoTheArgumentList() async throws {
    try await withRestored { folder, _ in
      let options = PostgresSandbox.Options(settings: ["restore_command": "fetch --password=hunter2"])
      let error = await #expect(throws: DRError.self) {
        try await PostgresSandbox.start(dataFolder: folder, options, logger: logger)
      }
      #expect(error?.code == .invalidConfiguration)
      #expect(error.map { "\($0)" }?.contains("hunter2") == false)
    }
  }

  /// Restored into a prepared sandbox as this process's user, with a tablespace beside it.
  @Test func aPreparedSandboxIsRestoredInto() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { source in
      let elsewhere = "\(source.settings.host ?? "")/space"
      try FileManager.default.createDirectory(atPath: elsewhere, withIntermediateDirectories: false)
      try source.user?.own(elsewhere)
      try await source.query("CREATE TABLESPACE space LOCATION '\(elsewhere)'")
      try await source.query("CREATE TABLE t TABLESPACE space AS SELECT generate_series(1, 1000) AS n")

      let sandbox = try await PostgresSandbox.prepare(logger: logger)
      try await PostgresSandbox.with(sandbox) { sandbox in
        let moved = homeFolder(sandbox) + "/space"
        let (status, _, error) = try await runCommand(
          "pg_basebackup",
          [
            "-D", sandbox.dataFolder, "-h", source.settings.host ?? "", "-p", "\(source.settings.port ?? 0)",
            "-U", "postgres", "-X", "stream", "-c", "fast", "-T", "\(elsewhere)=\(moved)",
          ])
        try #require(status == 0, "\(error)")
        try await sandbox.start()
        #expect(try await sandbox.query("SELECT sum(n) FROM t").single == "500500")
        #expect(
          try await sandbox.query("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'space'")
            .single == moved)
        #expect(try await sandbox.harmlessness(logger: logger).allSatisfy { $0.severity == .passed })
      }
      #expect(!FileManager.default.fileExists(atPath: sandbox.dataFolder))
    }
  }

  @Test func aFolderThatTheServersUserMayNotEnterIsNamed() async throws {
    try #require(geteuid() == 0, "this needs two users: run the tests as root")
    try await PostgresSandbox.withSandbox(logger: logger) { source in
      try await source.stop()
      try await withTemporaryFolder { folder in
        let (status, _, _) = try await runCommand("cp", ["-a", source.dataFolder, "\(folder)/data"])
        try #require(status == 0)
        let error = await #expect(throws: DRError.self) {
          try await PostgresSandbox.start(dataFolder: "\(folder)/data", logger: logger)
        }
        #expect(error?.code == .invalidConfiguration)
        #expect(error?.message.contains(folder) == true)
      }
    }
  }
}
