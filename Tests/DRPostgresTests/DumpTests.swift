import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import DRVerify
import Foundation
import Testing

/// Logical dumps of real servers by the server's own programs, and what comes back from them.
@Suite(.serialized) struct DumpTests {
  private static let schema = """
    CREATE TYPE mood AS ENUM ('calm', 'restless');
    CREATE TABLE agents (id bigserial PRIMARY KEY, name text NOT NULL, mood mood DEFAULT 'calm', at timestamptz DEFAULT now());
    CREATE TABLE runs (agent bigint REFERENCES agents, note text);
    CREATE INDEX runs_agent ON runs (agent);
    CREATE VIEW calm AS SELECT * FROM agents WHERE mood = 'calm';
    CREATE SCHEMA "odd ""schema"; CREATE TABLE "odd ""schema"."Table; DROP" (x bytea);
    INSERT INTO agents (name) SELECT md5(n::text) FROM generate_series(1, 20000) n;
    INSERT INTO runs SELECT n, repeat('x', n % 50) FROM generate_series(1, 5000) n;
    INSERT INTO "odd ""schema"."Table; DROP" SELECT sha256(n::text::bytea) FROM generate_series(1, 100) n;
    """
  private static let tables = ["agents", "runs", "\"odd \"\"schema\".\"Table; DROP\""]

  private func withDatabase(
    _ name: String = "app", _ body: (PostgresSandbox, PostgresDump, Repository, String) async throws -> Void
  ) async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await server.query("CREATE DATABASE \(name)")
      try await server.query(Self.schema, database: name)
      try await BackupFixture.withRepository { repository, folder in
        let dump = PostgresDump(
          component: try Component(.postgres, "test-dump"), server: server.settings, database: name)
        try await body(server, dump, repository, folder)
      }
    }
  }

  private func take(_ dump: PostgresDump, _ repository: Repository) async throws -> BackupManifest {
    try await repository.backUp(dump, cadence: .daily, logger: BackupFixture.logger)
  }

  private func digests(_ server: PostgresSandbox, _ database: String) async throws -> [String?] {
    var all: [String?] = []
    for table in Self.tables {
      all.append(
        try await server.query(
          "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM \(table) t", database: database
        ).single)
    }
    return all
  }

  private func exists(_ database: String, _ server: PostgresSandbox) async throws -> Bool {
    try await server.query("SELECT count(*) FROM pg_database WHERE datname = '\(database)'").single == "1"
  }

  @Test("Every format comes back row for row, whole and in parts, all of one snapshot while others write")
  func formats() async throws {
    try await withDatabase { server, dump, repository, folder in
      var dump = dump
      dump.formats = [.custom, .plain, .directory(jobs: 2)]
      let writer = Task {
        while !Task.isCancelled {
          try await server.query("INSERT INTO agents (name) VALUES ('while it was dumped')", database: "app")
        }
      }
      let manifest = try await take(dump, repository)
      writer.cancel()
      _ = await writer.result
      #expect(manifest.method == .dump && LSN(manifest.recoveryPoint.position) != nil)
      #expect(manifest.artifacts.map(\.name).sorted() == ["app.dump", "app.dump.tar", "app.sql", "globals.sql"])
      let system = try await server.query("SELECT system_identifier FROM pg_control_system()").single
      #expect(manifest.systemIdentifier == system)

      let reader = repository.reader(for: manifest)
      var seen: Set<[String?]> = []
      for (number, (format, jobs)) in [
        (DumpFormat.custom, 1), (.custom, 2), (.plain, 1), (.directory(jobs: 1), 1), (.directory(jobs: 1), 2),
      ].enumerated() {
        var restorer = PostgresDumpRestorer(server: server.settings, database: "back\(number)", format: format)
        restorer.jobs = jobs
        let outcome = try await restorer.restore(from: reader, to: .latest, logger: BackupFixture.logger)
        #expect(outcome.items == 3)
        seen.insert(try await digests(server, "back\(number)"))
        // As many rows as the manifest says: they were counted in the same snapshot.
        let counted = try await PostgresRowCounts.count(
          server.settings, databases: ["back\(number)"], logger: BackupFixture.logger)
        let stated = try #require(manifest.properties["tables"]?.object).mapValues {
          $0.object?["rows"]?.integer.map { Int64($0) }
        }
        #expect(counted.databases["back\(number)"]?.mapValues(Optional.some) == stated)
        #expect(try await server.query("SELECT count(*) FROM calm", database: "back\(number)").single != "0")
      }
      #expect(seen.count == 1)

      // Chosen tables, definitions only; what is in it can be listed.
      var part = PostgresDumpRestorer(server: server.settings, database: "part")
      part.selection = DumpSelection(tables: ["agents"], parts: .schemaOnly)
      part.omitsOwners = true
      // Its type is not among what was chosen: it is there already.
      try await server.query("CREATE DATABASE part")
      try await server.query("CREATE TYPE mood AS ENUM ('calm', 'restless')", database: "part")
      // What killed ones have left of their data goes with the next one; what is in use stays.
      let left = FileManager.default.temporaryDirectory.path + "/dr-dump-test-\(UUID().uuidString)"
      let locks = ["\(left)-killed", "\(left)-in-use"].map { "\($0)/lock" }
      for lock in locks {
        let folder = (lock as NSString).deletingLastPathComponent
        try FileManager.default.createDirectory(atPath: folder + "/dump", withIntermediateDirectories: true)
        #expect(FileManager.default.createFile(atPath: lock, contents: nil))
        #expect(FileManager.default.createFile(atPath: folder + "/dump/1.dat", contents: Data("rows".utf8)))
      }
      let held = open(locks[1], O_RDWR)
      #expect(flock(held, LOCK_EX | LOCK_NB) == 0)
      _ = try await part.restore(from: reader, to: .latest, logger: BackupFixture.logger)
      #expect(!FileManager.default.fileExists(atPath: left + "-killed"))
      #expect(FileManager.default.fileExists(atPath: left + "-in-use/dump/1.dat"))
      close(held)
      try FileManager.default.removeItem(atPath: left + "-in-use")
      #expect(try await server.query("SELECT count(*) FROM agents", database: "part").single == "0")
      #expect(try await PostgresDumpRestorer.list(reader).contains("TABLE DATA public runs"))

      // Stock tools read it.
      let stock = try await runCommand(
        "/bin/bash",
        [
          "-o", "pipefail", "-ec",
          "zstd -dc '\(folder)/repository/\(try manifest.artifact("app.dump").key)' | pg_restore -f -",
        ])
      #expect(stock.status == 0 && String(decoding: stock.output, as: UTF8.self).contains("COPY public.agents"))
    }
  }

  @Test("A dump whose program is killed, or fails, is never committed")
  func killed() async throws {
    let name = "killed_\(UInt32.random(in: 0 ... .max))"
    try await withDatabase(name) { server, dump, repository, _ in
      for format in [DumpFormat.custom, .plain, .directory(jobs: 2)] {
        // It waits for a lock, so that it can be killed in its midst.
        let dump = {
          var copy = dump
          copy.formats = [format]
          copy.includesGlobals = false
          return copy
        }()
        try await PostgresConnection.withConnection(
          server.settings.with(database: name), logger: BackupFixture.logger
        ) { holder in
          try await holder.query("BEGIN; LOCK runs IN ACCESS EXCLUSIVE MODE")
          let task = Task<BackupManifest, any Error> { try await take(dump, repository) }
          try await WALFixture.eventually("pg_dump to wait for the lock") {
            try await server.query("SELECT count(*) FROM pg_locks WHERE NOT granted").single != "0"
          }
          _ = try await runCommand("/usr/bin/pkill", ["-9", "-f", "pg_dump.*--snapshot.*\(name)"])
          let result = await task.result
          #expect(throws: DRError.self, "\(format)") { try result.get() }
          if case .failure(let error as DRError) = result { #expect(error.code == .programFailed, "\(error)") }
        }
      }
      var missing = dump
      missing.selection = DumpSelection(tables: ["nowhere"])
      let none = await #expect(throws: DRError.self) { _ = try await take(missing, repository) }
      #expect(none?.message.contains("no matching tables were found") == true, "\(none?.description ?? "")")
      // A role that may not read everything gets an error, not the part that it may read.
      try await server.query("CREATE ROLE limited LOGIN")
      let limited = {
        var copy = dump
        copy.server.user = "limited"
        return copy
      }()
      let denied = await #expect(throws: DRError.self) { _ = try await take(limited, repository) }
      #expect(denied?.message.contains("permission denied") == true, "\(denied?.description ?? "")")
      #expect(try await repository.catalog().backups.isEmpty)
      #expect(try await repository.tier.listAll(prefix: "").isEmpty)
    }
  }

  @Test("Cancelled, it ends the server's work and leaves nothing")
  func cancelled() async throws {
    try await withDatabase { server, dump, repository, _ in
      try await PostgresConnection.withConnection(
        server.settings.with(database: "app"), logger: BackupFixture.logger
      ) { holder in
        try await holder.query("BEGIN; LOCK runs IN ACCESS EXCLUSIVE MODE")
        let task = Task<BackupManifest, any Error> { try await take(dump, repository) }
        try await WALFixture.eventually("pg_dump to wait for the lock") {
          try await server.query("SELECT count(*) FROM pg_locks WHERE NOT granted").single != "0"
        }
        task.cancel()
        _ = await task.result
        try await WALFixture.eventually("its connections to end", within: .seconds(20)) {
          try await server.query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump'").single
            == "0"
        }
      }
      #expect(try await repository.tier.listAll(prefix: "").isEmpty)
    }
  }

  @Test("Before a restore touches the server, the dump is known to be whole and the database to be empty")
  func refused() async throws {
    try await withDatabase { server, dump, repository, _ in
      let manifest = try await take(dump, repository)
      let artifact = try manifest.artifact("app.dump")
      let damaged = Repository(tier: DamagedTier(repository.tier, damaging: artifact.key, at: artifact.storedSize / 2))
      let restorer = PostgresDumpRestorer(server: server.settings, database: "back")
      let error = await #expect(throws: DRError.self) {
        _ = try await restorer.restore(
          from: damaged.reader(for: manifest), to: .latest, logger: BackupFixture.logger)
      }
      #expect(error?.code == .corruptData)
      #expect(try await !exists("back", server))

      let reader = repository.reader(for: manifest)
      let over = PostgresDumpRestorer(server: server.settings, database: "app")
      let before = try await digests(server, "app")
      let inUse = await #expect(throws: DRError.self) {
        _ = try await over.restore(from: reader, to: .latest, logger: BackupFixture.logger)
      }
      #expect(inUse?.code == .destinationInUse)
      #expect(try await digests(server, "app") == before)
      let time = await #expect(throws: DRError.self) {
        _ = try await restorer.restore(from: reader, to: .time(Date()), logger: BackupFixture.logger)
      }
      #expect(time?.code == .targetUnreachable)
      #expect(try await !exists("back", server))
    }
  }

  @Test("A statement that fails stops the restore, or is counted; in one transaction nothing is left of it")
  func failing() async throws {
    try await withDatabase { server, dump, repository, _ in
      try await server.query("CREATE ROLE owner; ALTER TABLE agents OWNER TO owner", database: "app")
      try await server.query("ALTER TABLE runs OWNER TO owner", database: "app")
      let reader = repository.reader(for: try await take(dump, repository))
      try await server.query("DROP OWNED BY owner CASCADE", database: "app")
      try await server.query("DROP ROLE owner")
      for (isOneTransaction, onError) in [(true, PostgresDumpRestorer.OnError.stop), (false, .stop), (false, .goOn)] {
        var restorer = PostgresDumpRestorer(server: server.settings, database: "back_\(isOneTransaction)_\(onError)")
        restorer.isOneTransaction = isOneTransaction
        restorer.onError = onError
        let error = await #expect(throws: DRError.self) {
          _ = try await restorer.restore(from: reader, to: .latest, logger: BackupFixture.logger)
        }
        #expect(error?.message.contains("role \"owner\" does not exist") == true, "\(error?.description ?? "")")
        if onError == .goOn { #expect(error?.message.contains("statements failed") == true) }
        let agents = try await server.query("SELECT to_regclass('agents')", database: restorer.database).single
        #expect((agents == nil) == isOneTransaction || onError == .stop)
        if onError == .goOn {
          #expect(try await server.query("SELECT count(*) FROM agents", database: restorer.database).single == "20000")
        }
      }
      // With the roles it is whole.
      var whole = PostgresDumpRestorer(server: server.settings, database: "whole")
      whole.restoresGlobals = true
      _ = try await whole.restore(from: reader, to: .latest, logger: BackupFixture.logger)
      let owner = try await server.query(
        "SELECT tableowner FROM pg_tables WHERE tablename = 'agents'", database: "whole"
      ).single
      #expect(owner == "owner")
    }
  }

  @Test(
    "A program that is older than the server is refused; what a program warns of is in the manifest; no password is")
  func warnings() async throws {
    let old = await #expect(throws: DRError.self) { _ = try await ClientProgram.find("pg_dump", server: 99) }
    #expect(old?.code == .unsupportedVersion && old?.advice?.contains("postgresql-client-99") == true)
    let none = await #expect(throws: DRError.self) { _ = try await ClientProgram.find("pg_nothing", server: 15) }
    #expect(none?.code == .programFailed)

    try await withDatabase { server, dump, repository, folder in
      try await server.query(
        """
        CREATE TABLE hen (id int PRIMARY KEY, egg int); CREATE TABLE egg (id int PRIMARY KEY, hen int REFERENCES hen);
        ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg
        """, database: "app")
      var dump = dump
      dump.server.password = "not to be seen"
      dump.selection.parts = .dataOnly
      let manifest = try await take(dump, repository)
      let warnings = manifest.properties["warnings"]?.array?.compactMap(\.string) ?? []
      #expect(warnings.contains { $0.contains("circular foreign-key constraints") }, "\(warnings)")
      #expect(!dump.server.conninfoForPrograms.contains("seen"))
      let found = try await runCommand("/bin/grep", ["-r", "not to be seen", folder])
      #expect(found.status == 1)
    }
  }
}
