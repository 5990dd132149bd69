import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// One table out of a base backup and its WAL, into the server that goes on.
@Suite(.serialized) struct TableRecoveryTests {
  /// A server with a backup, and a moment after which everything went wrong.
  private struct Place {
    let server: PostgresSandbox
    let repository: Repository
    let backup: BackupManifest
    let archive: WALArchive
    let folder: String
    let before: Date

    func recover(
      _ table: String, _ placement: PostgresTableRecovery.Placement, to target: RecoveryTarget? = nil,
      rehearsal: String? = nil
    ) async throws -> PostgresTableRecovery.Report {
      let plain = try await WALFixture.plainFiles(of: archive, in: folder)
      var recovery = PostgresTableRecovery(
        server: server.settings, table: table, placement: placement, restoreCommand: "cp \(plain)/%f %p",
        archive: archive, sandbox: WALFixture.server())
      recovery.rehearsal = rehearsal
      return try await recovery.recover(
        from: repository.reader(for: backup), to: target ?? .time(before), logger: BackupFixture.logger)
    }

    func refusal(
      _ table: String, _ placement: PostgresTableRecovery.Placement, to target: RecoveryTarget? = nil
    ) async throws -> DRError {
      let tables = try await self.tables()
      let error = await #expect(throws: DRError.self) { _ = try await recover(table, placement, to: target) }
      // Whatever it was, nothing was changed.
      #expect(try await self.tables() == tables)
      return try #require(error)
    }

    func tables() async throws -> [String?] {
      try await server.query("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1")
        .map { $0[0] }
    }

    func digest(_ table: String) async throws -> String? {
      try await server.query("SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM \(table) t").single
    }
  }

  private func withPlace(_ body: (Place, _ good: String?) async throws -> Void) async throws {
    try await WALFixture.withServer { server, folder in
      try await server.query(
        """
        CREATE TABLE agents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE, length int
          GENERATED ALWAYS AS (char_length(name)) STORED, CHECK (name <> ''));
        CREATE TABLE runs (id bigserial PRIMARY KEY, agent bigint REFERENCES agents ON DELETE CASCADE);
        CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trigger fired'; END $$;
        CREATE TABLE parts (n int, x text) PARTITION BY RANGE (n);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (500);
        CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (500) TO (1001);
        """)
      let repository = Repository(tier: try await LocalTier(root: folder + "/repository", creating: true))
      let archive = try await WALFixture.archive(of: server, repository.tier)
      let receiver = try RunningReceiver(archive, server)
      var source = try BackupFixture.source(server)
      source.requiredWAL = .archived(archive, within: .seconds(60))
      let backup = try await BackupFixture.backUp(source, to: repository)
      try await server.query(
        """
        INSERT INTO agents (name) SELECT md5(n::text) FROM generate_series(1, 5000) n;
        INSERT INTO runs (agent) SELECT n FROM generate_series(1, 1000) n;
        INSERT INTO parts SELECT n, 'x' FROM generate_series(1, 1000) n
        """)
      let good = try await server.query("SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM agents t").single
      let before = try await WALFixture.moment(server)
      try await server.query("UPDATE agents SET name = name || ' spoiled'")
      try await server.query(
        "CREATE TRIGGER shout BEFORE INSERT OR DELETE ON agents FOR EACH ROW EXECUTE FUNCTION shout()")
      try await receiver.waitUntilDurable(try await WALFixture.position(server))
      try await receiver.stop().get()
      try await body(
        Place(
          server: server, repository: repository, backup: backup, archive: archive, folder: folder, before: before),
        good)
    }
  }

  @Test("Where the sandbox's user cannot run the restore command, that is said before anything is restored")
  func rehearsal() async throws {
    try await withPlace { place, _ in
      let error = await #expect(throws: DRError.self) {
        _ = try await place.recover("agents", .beside(nil), rehearsal: "echo \"$0 cannot read %f\" >&2; exit 126")
      }
      #expect(error?.code == .invalidConfiguration && error?.message.contains("cannot read FFFFFFFE.history") == true)
      // What is merely not there is no obstacle.
      _ = try await place.recover("agents", .beside("again"), rehearsal: "test ! -e %p; exit 1")
    }
  }

  @Test("Beside the table that is there, with indexes and checks; it stays as it is")
  func beside() async throws {
    try await withPlace { place, good in
      let spoiled = try await place.digest("agents")
      let report = try await place.recover("agents", .beside(nil))
      #expect(report.rows == 5000 && report.former == nil && report.table.contains("agents_restored_"))
      #expect(try await place.digest(report.table) == good)
      #expect(try await place.digest("agents") == spoiled)
      let indexes = try await place.server.query(
        "SELECT count(*) FROM pg_index WHERE indrelid = '\(report.table)'::regclass")
      #expect(indexes.single == "2")

      let named = try await place.recover("public.agents", .beside("Agents of yesterday"))
      #expect(named.table == "\"public\".\"Agents of yesterday\"")
      #expect(try await place.digest(named.table) == good)
      #expect(try await place.refusal("agents", .beside("Agents of yesterday")).code == .destinationInUse)
      #expect(try await place.refusal("nobody", .beside(nil)).code == .objectNotFound)
      #expect(try await place.refusal("a.b.c.d(", .beside(nil)).code == .invalidConfiguration)
      #expect(try await place.refusal("agents", .beside(nil), to: .time(.distantFuture)).code == .targetUnreachable)

      // A partitioned one comes back as one table.
      let parts = try await place.recover("parts", .beside(nil))
      #expect(parts.rows == 1000)
      #expect(try await place.digest(parts.table) == place.digest("parts"))
    }
  }

  @Test("In its place, silently for triggers, the former rows kept; not if a foreign key would not hold")
  func inPlace() async throws {
    try await withPlace { place, good in
      let spoiled = try await place.digest("agents")
      let report = try await place.recover("agents", .inPlace)
      #expect(report.rows == 5000 && report.table == "\"public\".\"agents\"")
      #expect(try await place.digest("agents") == good)
      let former = try #require(report.former)
      #expect(try await place.digest(former) == spoiled)
      #expect(try await place.server.query("SELECT count(*) FROM runs").single == "1000")
      #expect(try await place.tables().filter { $0?.contains("_restored_") == true }.isEmpty)

      // The names of the next minutes are taken, as by another recovery in the same second.
      try await place.server.query(
        """
        DO $$ DECLARE stamp text; BEGIN
          FOR n IN 0..300 LOOP
            stamp := to_char((now() + n * interval '1 s') AT TIME ZONE 'UTC', 'YYYYMMDD_HH24MISS');
            EXECUTE format('CREATE TABLE IF NOT EXISTS %I ()', 'agents_before_' || stamp);
            EXECUTE format('CREATE TABLE IF NOT EXISTS %I ()', 'agents_restored_' || stamp);
          END LOOP;
        END $$
        """)
      let again = try await place.recover("agents", .inPlace)
      #expect(try again.rows == 5000 && #require(again.former).hasSuffix("_2\""), "\(again)")
      #expect(try await place.digest(#require(again.former)) == good)

      // A run that refers to an agent that was not there then.
      try await place.server.query("DROP TRIGGER shout ON agents")
      try await place.server.query(
        "WITH a AS (INSERT INTO agents (name) VALUES ('new') RETURNING id) INSERT INTO runs (agent) SELECT id FROM a")
      let orphan = try await place.refusal("agents", .inPlace)
      #expect(
        orphan.message.contains("foreign keys would not hold") && orphan.message.contains("runs_agent_fkey"),
        "\(orphan)")
      #expect(try await place.server.query("SELECT count(*) FROM agents WHERE name = 'new'").single == "1")

      try await place.server.query("ALTER TABLE agents ADD mood text")
      let columns = try await place.refusal("agents", .inPlace)
      #expect(columns.code == .invalidConfiguration && columns.message.contains("mood text"), "\(columns)")
    }
  }

  @Test("A table that was dropped is made again with what belongs to it")
  func dropped() async throws {
    try await withPlace { place, good in
      try await place.server.query("DROP TABLE agents CASCADE")
      let report = try await place.recover("agents", .inPlace)
      #expect(report.rows == 5000 && report.former == nil)
      #expect(try await place.digest("agents") == good)
      // Its identity goes on behind the last one.
      try await place.server.query("INSERT INTO agents (name) VALUES ('next')")
      // (A recovery may skip some: the server logs them ahead.)
      let next = try await place.server.query("SELECT id > 5000 FROM agents WHERE name = 'next'").single
      #expect(next == "t")
    }
  }
}
