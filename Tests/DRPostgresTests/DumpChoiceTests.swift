import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import Foundation
import Logging
import Testing

/// Parts of a dump: what was asked for, with all that belongs to it, or a refusal.
struct DumpChoiceTests {
  private static let schema = """
    CREATE TYPE mood AS ENUM ('calm', 'restless');
    CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name = upper(NEW.name); RETURN NEW; END $$;
    CREATE TABLE agents (id serial PRIMARY KEY, name text UNIQUE, mood mood DEFAULT 'calm');
    COMMENT ON TABLE agents IS 'who acts';
    INSERT INTO agents (name) SELECT md5(n::text) FROM generate_series(1, 20000) n;
    CREATE TRIGGER shouting BEFORE INSERT ON agents FOR EACH ROW EXECUTE FUNCTION shout();
    CREATE TABLE runs (agent int REFERENCES agents, what text);
    CREATE INDEX runs_agent ON runs (agent);
    INSERT INTO runs SELECT n, 'run' FROM generate_series(1, 500) n;
    CREATE TABLE "agents old" (x int); INSERT INTO "agents old" VALUES (1);
    CREATE TABLE parted (id int GENERATED ALWAYS AS IDENTITY, day int) PARTITION BY RANGE (day);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
    CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (300);
    CREATE INDEX parted_day ON parted (day);
    INSERT INTO parted (day) SELECT generate_series(0, 299);
    CREATE SCHEMA "We ird"; CREATE TABLE "We ird"."Tab.le" (x int); INSERT INTO "We ird"."Tab.le" VALUES (7);
    CREATE VIEW "We ird".seen AS SELECT * FROM agents;
    CREATE TABLE parent (id int); CREATE TABLE child (more text) INHERITS (parent); INSERT INTO child VALUES (1, 'a');
    """

  private struct Place {
    var server: PostgresSandbox
    var reader: any BackupReader

    func restore(
      _ database: String, tables: [String] = [], schemas: [String] = [], format: DumpFormat = .custom,
      _ change: (inout PostgresDumpRestorer) -> Void = { _ in }
    ) async throws -> RestoreOutcome {
      var restorer = PostgresDumpRestorer(server: server.settings, database: database, format: format)
      restorer.selection = DumpSelection(schemas: schemas, tables: tables)
      change(&restorer)
      return try await restorer.restore(from: reader, to: .latest, logger: BackupFixture.logger)
    }

    func ask(_ sql: String, _ database: String) async throws -> String? {
      try await server.query(sql, database: database).single
    }

    func exists(_ database: String) async throws -> Bool {
      try await ask("SELECT count(*) FROM pg_database WHERE datname = '\(database)'", "postgres") == "1"
    }
  }

  private func withDump(_ body: (Place) async throws -> Void) async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await server.query("CREATE DATABASE app")
      try await server.query(Self.schema, database: "app")
      try await BackupFixture.withRepository { repository, _ in
        var dump = PostgresDump(
          component: try Component(.postgres, "test-dump"), server: server.settings, database: "app")
        dump.formats = [.custom, .directory(jobs: 1)]
        let manifest = try await repository.backUp(dump, cadence: .daily, logger: BackupFixture.logger)
        try await body(Place(server: server, reader: repository.reader(for: manifest)))
      }
    }
  }

  @Test("A table that the dump has not is refused, before the database is made, in each format")
  func unknown() async throws {
    try await withDump { place in
      for format in [DumpFormat.custom, .directory(jobs: 1)] {
        for tables in [["nosuch"], ["other.agents"], ["\"Agents\""], ["agents", "nosuch"], ["agent"], ["old"]] {
          let error = await #expect(throws: DRError.self) {
            _ = try await place.restore("none", tables: tables, format: format)
          }
          #expect(error?.code == .objectNotFound && error?.advice?.contains("public.agents") == true, "\(tables)")
        }
        let schema = await #expect(throws: DRError.self) {
          _ = try await place.restore("none", schemas: ["nosuch"], format: format)
        }
        #expect(schema?.code == .objectNotFound)
        let name = await #expect(throws: DRError.self) {
          _ = try await place.restore("none", tables: ["a.b.c"], format: format)
        }
        #expect(name?.code == .invalidConfiguration)
      }
      let isMade = try await place.exists("none")
      #expect(!isMade)
    }
  }

  @Test("A table comes with all that belongs to it and, into a new database, with what it needs; nothing else comes")
  func table() async throws {
    try await withDump { place in
      for (number, (name, format, jobs)) in [
        ("agents", DumpFormat.custom, 1), ("public.agents", .directory(jobs: 1), 2), ("AGENTS", .custom, 2),
      ].enumerated() {
        let database = "one\(number)"
        let outcome = try await place.restore(database, tables: [name], format: format) { $0.jobs = jobs }
        #expect(outcome.items == 1)
        #expect(try await place.ask("SELECT count(*) FROM agents", database) == "20000")
        let made = try await place.ask(
          "INSERT INTO agents (name) VALUES ('new') RETURNING id || name || mood", database)
        #expect(made == "20001NEWcalm", "the default, the trigger and the type")
        let constraints = try await place.ask(
          "SELECT string_agg(contype::text, '' ORDER BY contype) FROM pg_constraint WHERE conrelid = 'agents'::regclass",
          database)
        #expect(constraints == "pu")
        #expect(try await place.ask("SELECT obj_description('agents'::regclass)", database) == "who acts")
        let others = try await place.ask(
          "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'v', 'p') AND relnamespace = 'public'::regnamespace",
          database)
        #expect(others == "1")
      }
      // Beside what is there already: the type is, and the table was dropped.
      try await place.server.query("DROP TABLE agents", database: "one0")
      _ = try await place.restore("one0", tables: ["agents"]) { $0.allowsData = true }
      #expect(try await place.ask("SELECT count(*) FROM agents", "one0") == "20000")
    }
  }

  @Test("A partitioned table brings its partitions, a child its parent's definition, and quoted names are found")
  func kinds() async throws {
    try await withDump { place in
      #expect(try await place.restore("parts", tables: ["parted"]).items == 2)
      #expect(try await place.ask("SELECT count(*) FROM parted", "parts") == "300")
      #expect(try await place.ask("SELECT count(*) FROM parted_2", "parts") == "200")
      #expect(try await place.ask("INSERT INTO parted (day) VALUES (5) RETURNING id", "parts") == "301")
      #expect(
        try await place.ask("SELECT indisvalid FROM pg_index WHERE indexrelid = 'parted_day'::regclass", "parts") == "t"
      )
      // One partition alone is a table like others.
      _ = try await place.restore("part", tables: ["parted_1"])
      #expect(try await place.ask("SELECT count(*) FROM parted_1", "part") == "100")
      #expect(try await place.ask("SELECT to_regclass('parted')", "part") == nil)
      _ = try await place.restore("heir", tables: ["child"])
      #expect(try await place.ask("SELECT more FROM child", "heir") == "a")
      _ = try await place.restore("odd", tables: ["\"We ird\".\"Tab.le\"", "\"agents old\""])
      #expect(try await place.ask("SELECT x FROM \"We ird\".\"Tab.le\"", "odd") == "7")
      #expect(try await place.ask("SELECT x FROM \"agents old\"", "odd") == "1")
      #expect(try await place.ask("SELECT to_regclass('agents')", "odd") == nil)
      _ = try await place.restore("whole", schemas: ["public"])
      #expect(try await place.ask("SELECT count(*) FROM runs", "whole") == "500")
      #expect(try await place.ask("SELECT to_regnamespace('\"We ird\"')", "whole") == nil)
    }
  }

  @Test("A foreign key comes with both of its tables, and is left out with one")
  func foreignKeys() async throws {
    try await withDump { place in
      let keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'"
      _ = try await place.restore("alone", tables: ["runs"])
      #expect(try await place.ask("SELECT count(*) FROM runs", "alone") == "500")
      #expect(try await place.ask(keys, "alone") == "0")
      #expect(try await place.ask("SELECT to_regclass('runs_agent')", "alone") == "runs_agent")
      #expect(try await place.ask("SELECT to_regclass('agents')", "alone") == nil)
      _ = try await place.restore("both", tables: ["runs", "agents"])
      #expect(try await place.ask(keys, "both") == "1")
    }
  }

  @Test("Rows alone are not put through triggers unless that is said; disabled, they come back as they were")
  func triggers() async throws {
    try await withDump { place in
      _ = try await place.restore("live", tables: ["agents"])
      try await place.server.query("TRUNCATE agents", database: "live")
      func rows(_ triggers: PostgresDumpRestorer.Triggers?) async throws {
        _ = try await place.restore("live", tables: ["agents"]) {
          $0.selection.parts = .dataOnly
          $0.allowsData = true
          $0.triggers = triggers
        }
      }
      let refused = await #expect(throws: DRError.self) { try await rows(nil) }
      #expect(refused?.code == .destinationInUse && refused?.message.contains("shouting on public.agents") == true)
      #expect(try await place.ask("SELECT count(*) FROM agents", "live") == "0")
      let changed = "SELECT count(*) FROM agents WHERE name <> lower(name)"
      try await rows(.disable)
      #expect(try await place.ask("SELECT count(*) FROM agents", "live") == "20000")
      #expect(try await place.ask(changed, "live") == "0")
      try await place.server.query("TRUNCATE agents", database: "live")
      try await rows(.fire)
      #expect(try await place.ask(changed, "live") != "0")
    }
  }

  @Test("Hashes of passwords are kept only in a backup that is encrypted")
  func passwordHashes() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await server.query("CREATE ROLE reader LOGIN PASSWORD 'hunter2'")
      try await BackupFixture.withRepository { repository, _ in
        let dump = PostgresDump(
          component: try Component(.postgres, "test-dump"), server: server.settings, database: "postgres")
        let identity = AgeIdentity.generate()
        for isEncrypted in [false, true] {
          let encoding = Encoding(recipients: isEncrypted ? [try #require(identity.recipient)] : [])
          let manifest = try await repository.backUp(
            dump, cadence: .daily, encoding: encoding, logger: BackupFixture.logger)
          let reader = repository.reader(for: manifest, decoding: Decoding(identities: [identity]))
          var text = ""
          for try await buffer in try await reader.read(try manifest.artifact("globals.sql")) {
            text += String(buffer: buffer)
          }
          #expect(text.contains("CREATE ROLE reader") && text.contains("SCRAM-SHA-256") == isEncrypted)
          #expect(manifest.leftOut.contains { $0.what == "passwords of roles" } == !isEncrypted)
        }
      }
    }
  }
}
