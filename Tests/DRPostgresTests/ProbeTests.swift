import DRCore
import DRPostgres
import DRTestSupport
import Foundation
import Logging
import Testing

private let logger = Logger(label: "test")

/// A database with something for each probe to look at.
private let schema = """
  CREATE DOMAIN positive AS int CHECK (VALUE > 0);
  CREATE TABLE customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL CHECK (name <> ''),
    size positive DEFAULT 1, email text);
  CREATE UNIQUE INDEX customer_email ON customer (lower(email)) WHERE email IS NOT NULL;
  CREATE TABLE "Order" (id bigserial PRIMARY KEY, customer int REFERENCES customer, number int,
    amount numeric CHECK (amount >= 0));
  CREATE TABLE pair (a int, b int, PRIMARY KEY (a, b));
  CREATE TABLE half (a int, b int, FOREIGN KEY (a, b) REFERENCES pair MATCH FULL);
  CREATE TABLE part (id int PRIMARY KEY, customer int REFERENCES customer) PARTITION BY RANGE (id);
  CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (1000);
  INSERT INTO customer (name, email) SELECT 'c' || n, CASE WHEN n % 2 = 0 THEN 'C' || n END FROM generate_series(1, 1000) n;
  INSERT INTO "Order" (customer, number, amount) SELECT 1 + n % 1000, n, n FROM generate_series(1, 5000) n;
  CREATE INDEX order_number ON "Order" (number);
  INSERT INTO pair SELECT n, n FROM generate_series(1, 100) n;
  INSERT INTO half SELECT n, n FROM generate_series(1, 100) n;
  INSERT INTO half VALUES (NULL, NULL);
  INSERT INTO part SELECT n, 1 + n FROM generate_series(1, 900) n;
  CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(amount) FROM "Order" GROUP BY 1;
  CREATE COLLATION words (provider = icu, locale = 'en');
  CREATE INDEX customer_words ON customer (name COLLATE words);
  CREATE UNLOGGED TABLE cache AS SELECT generate_series(1, 10) AS n;
  SELECT lo_from_bytea(0, 'large');
  """

/// One damage, and the probe that must see it.
struct Damage: Sendable, CustomTestStringConvertible {
  var name: String
  var probe: PostgresProbe
  var sql: String
  var subject: String
  var testDescription: String { name }
}

@Suite(.serialized) struct ProbeTests {
  /// What the server lets a superuser do behind its back. `replica` leaves foreign keys unlooked at.
  static let damages: [Damage] = [
    Damage(
      name: "a row that refers to nothing", probe: .foreignKeys,
      sql: "SET session_replication_role = replica; UPDATE \"Order\" SET customer = 99999 WHERE id = 7",
      subject: "Order"),
    Damage(
      name: "a parent that is gone", probe: .foreignKeys,
      sql: "SET session_replication_role = replica; DELETE FROM pair WHERE a = 50", subject: "half"),
    Damage(
      name: "a key that is half NULL", probe: .foreignKeys,
      sql:
        "SET session_replication_role = replica; ALTER TABLE half DISABLE TRIGGER ALL; UPDATE half SET b = NULL WHERE a = 3",
      subject: "half"),
    Damage(
      name: "a partition's row that refers to nothing", probe: .foreignKeys,
      sql: "SET session_replication_role = replica; UPDATE part SET customer = 99999 WHERE id = 7", subject: "part"),
    Damage(
      name: "a row that breaks a CHECK", probe: .constraints,
      sql: """
        UPDATE pg_constraint SET contype = 'x' WHERE conname = 'Order_amount_check';
        UPDATE pg_class SET relchecks = 0 WHERE relname = 'Order';
        UPDATE "Order" SET amount = -1 WHERE id IN (3, 4);
        UPDATE pg_constraint SET contype = 'c' WHERE conname = 'Order_amount_check';
        UPDATE pg_class SET relchecks = 1 WHERE relname = 'Order'
        """, subject: "2 rows"),
    Damage(
      name: "a NULL that must not be", probe: .constraints,
      sql: """
        UPDATE pg_attribute SET attnotnull = false WHERE attrelid = 'customer'::regclass AND attname = 'name';
        UPDATE customer SET name = NULL WHERE id = 5;
        UPDATE pg_attribute SET attnotnull = true WHERE attrelid = 'customer'::regclass AND attname = 'name'
        """, subject: "NOT NULL"),
    Damage(
      name: "a value that breaks a domain's rule", probe: .constraints,
      sql: """
        ALTER DOMAIN positive DROP CONSTRAINT positive_check; UPDATE customer SET size = -3 WHERE id = 5;
        ALTER DOMAIN positive ADD CONSTRAINT positive_check CHECK (VALUE > 0) NOT VALID
        """, subject: "positive"),
    Damage(
      name: "a constraint that was never validated", probe: .constraints,
      sql: "ALTER TABLE customer ADD CONSTRAINT later CHECK (id > 0) NOT VALID", subject: "later"),
    Damage(
      name: "duplicates under a unique index", probe: .uniqueness,
      sql: """
        UPDATE pg_index SET indisunique = false, indisready = false WHERE indexrelid = 'customer_email'::regclass;
        INSERT INTO customer (name, email) VALUES ('twin', 'c2');
        UPDATE pg_index SET indisunique = true, indisready = true WHERE indexrelid = 'customer_email'::regclass
        """, subject: "customer_email"),
    Damage(
      name: "an invalid index", probe: .indexes,
      sql: "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'order_number'::regclass", subject: "order_number"
    ),
    Damage(
      name: "a sequence that is behind", probe: .sequences, sql: "SELECT setval('\"Order_id_seq\"', 4999)",
      subject: "Order_id_seq"),
    Damage(
      name: "an identity that starts anew", probe: .sequences,
      sql: "ALTER TABLE customer ALTER COLUMN id RESTART", subject: "customer_id_seq"),
    Damage(
      name: "a view without data", probe: .materializedViews, sql: "REFRESH MATERIALIZED VIEW totals WITH NO DATA",
      subject: "totals"),
    Damage(
      name: "a collation of another version", probe: .collations,
      sql: "UPDATE pg_collation SET collversion = '1.2' WHERE collname = 'words'", subject: "words"),
    Damage(
      name: "a row that an index does not have", probe: .amcheck,
      sql: """
        UPDATE pg_index SET indisready = false WHERE indexrelid = 'order_number'::regclass;
        INSERT INTO "Order" (customer, number, amount) VALUES (1, 777777, 1);
        UPDATE pg_index SET indisready = true WHERE indexrelid = 'order_number'::regclass
        """, subject: "order_number"),
    Damage(
      name: "a column whose type is gone", probe: .dump,
      sql: "DELETE FROM pg_namespace WHERE nspname = 'lost'", subject: "pg_dump"),
  ]

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

  @Test(arguments: damages)
  func eachDamageIsSeenByItsProbe(damage: Damage) async throws {
    try await withDatabase { sandbox, settings in
      if damage.name.contains("type is gone") { try await sandbox.query("CREATE SCHEMA lost", database: "app") }
      if damage.name.contains("type is gone") { try await sandbox.query("CREATE TABLE lost.t ()", database: "app") }
      let probe = PostgresProbes(settings, databases: ["app"], probes: [damage.probe])
      let before = try await probe.verify(logger: logger)
      #expect(before.allSatisfy { $0.severity <= .notice }, "\(before)")
      _ = try await PostgresConnection.withConnection(settings, logger: logger) { connection in
        try await connection.query("SET allow_system_table_mods = on; SET enable_indexscan = on; \(damage.sql)")
      }
      let after = try await probe.verify(logger: logger)
      let seen = after.filter { $0.severity >= .warning }
      #expect(!seen.isEmpty)
      #expect(seen.allSatisfy { !$0.evidence.contains("could not be looked at") }, "\(seen)")
      #expect(seen.contains { "\($0)".contains(damage.subject) }, "\(seen)")
      let onlyWarned = damage.name.contains("never validated")
      #expect(seen.contains { $0.severity == .failure } != onlyWarned, "\(seen)")
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
      try await sandbox.query(schema, database: "app")
      try await body(sandbox, sandbox.settings.with(database: "app"))
    }
  }
}
