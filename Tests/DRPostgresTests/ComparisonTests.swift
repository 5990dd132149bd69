import DRCore
import DRPostgres
import DRTestSupport
import Foundation
import Testing

/// What differs between two databases, told row by row.
@Suite struct ComparisonTests {
  @Test("Rows that are missing, new or changed are named; what is the same, in whatever order and collation, is equal")
  func compare() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      for (database, collation) in [("ours", "C"), ("theirs", "C.UTF-8")] {
        try await server.query(
          "CREATE DATABASE \(database) TEMPLATE template0 LC_COLLATE '\(collation)' LC_CTYPE '\(collation)'")
        let order = database == "ours" ? "n" : "n DESC"
        let columns =
          database == "ours"
          ? "id int PRIMARY KEY, x text, at timestamptz" : "at timestamptz, x text, id int PRIMARY KEY"
        try await server.query(
          """
          CREATE TABLE numbers (\(columns));
          INSERT INTO numbers (id, x, at) SELECT n, md5(n::text), to_timestamp(n) FROM generate_series(1, 5000) n ORDER BY \(order);
          CREATE TABLE words (word varchar(40), n int, v float8, PRIMARY KEY (word, n));
          INSERT INTO words SELECT CASE n % 3 WHEN 0 THEN 'Ä' WHEN 1 THEN 'a' ELSE 'B' END || n / 2, n, sqrt(n)
            FROM generate_series(1, 3000) n ORDER BY \(order);
          CREATE TABLE keyless (x text);
          INSERT INTO keyless SELECT n::text FROM generate_series(1, 500) n ORDER BY \(order);
          CREATE TABLE empty (id uuid PRIMARY KEY);
          CREATE TABLE only_\(database) (id int PRIMARY KEY);
          """, database: database)
      }
      var comparison = PostgresComparison(
        left: server.settings.with(database: "ours"), right: server.settings.with(database: "theirs"), rowsPerPart: 700)
      let outcome = try await comparison.compare(logger: BackupFixture.logger)
      #expect(outcome.notCompared.isEmpty && outcome.largeObjects == nil && !outcome.isEqual)
      var compared = outcome.tables
      #expect(
        compared.filter(\.isEqual).map(\.name) == ["public.empty", "public.keyless", "public.numbers", "public.words"])
      #expect(compared.first { $0.name == "public.only_ours" }?.rightRows == nil)
      #expect(compared.first { $0.name == "public.only_theirs" }?.leftRows == nil)

      try await server.query(
        """
        DELETE FROM numbers WHERE id IN (1, 2500, 5000); INSERT INTO numbers (id, x) VALUES (0, 'new'), (7777, 'new');
        UPDATE numbers SET at = at + interval '1 microsecond' WHERE id = 1234; UPDATE words SET v = v + 1 WHERE n = 3;
        UPDATE keyless SET x = 'other' WHERE x = '250'
        """, database: "theirs")
      comparison.tables = ["public.numbers", "public.words", "public.keyless"]
      compared = try await comparison.compare(logger: BackupFixture.logger).tables
      let numbers = compared[0]
      #expect(numbers.leftRows == 5000 && numbers.rightRows == 4999)
      #expect(
        numbers.onlyLeft.sorted() == ["(1)", "(2500)", "(5000)"] && numbers.onlyRight.sorted() == ["(0)", "(7777)"])
      #expect(numbers.changed == ["(1234)"])
      #expect(compared[1].changed == ["(Ä1,3)"] && compared[1].onlyLeft.isEmpty && compared[1].onlyRight.isEmpty)
      #expect(!compared[2].isEqual && compared[2].leftRows == 500 && compared[2].changed.isEmpty)

      comparison.tables = ["nowhere"]
      let unknown = comparison
      let error = await #expect(throws: DRError.self) { _ = try await unknown.compare(logger: BackupFixture.logger) }
      #expect(error?.code == .objectNotFound)
    }
  }

  @Test("Large objects are compared by number, byte for byte; what is not compared is counted and said")
  func largeObjectsAndRest() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      for database in ["ours", "theirs"] {
        try await server.query("CREATE DATABASE \(database) TEMPLATE template0")
        try await server.query(
          """
          CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (1);
          CREATE UNLOGGED TABLE cache (id int PRIMARY KEY); INSERT INTO cache VALUES (1);
          CREATE MATERIALIZED VIEW later AS SELECT 1 AS one WITH NO DATA;
          SELECT lo_from_bytea(70001, 'same'); SELECT lo_from_bytea(70002, '');
          SELECT lo_from_bytea(70003, convert_to(repeat('0123456789abcdef', 1 << 20), 'UTF8'));
          SELECT lo_from_bytea(70004, convert_to(repeat('0123456789abcdef', 3 << 19), 'UTF8'));
          """, database: database)
      }
      var comparison = PostgresComparison(
        left: server.settings.with(database: "ours"), right: server.settings.with(database: "theirs"))
      var outcome = try await comparison.compare(logger: BackupFixture.logger)
      #expect(outcome.isEqual && outcome.largeObjects?.leftCount == 4 && outcome.largeObjects?.rightCount == 4)
      #expect(
        outcome.notCompared == [
          "1 unlogged table (public.cache)", "1 materialized view without content (public.later)",
        ])

      // A byte in the second piece of one, a byte more of another, one that is gone, one that is new.
      try await server.query(
        """
        CREATE UNLOGGED TABLE "More" (id int);
        SELECT lo_put(70003, 16777215, 'X'); SELECT lo_put(70004, 25165824, 'X');
        SELECT lo_unlink(70001); SELECT lo_from_bytea(80000, 'new');
        """, database: "theirs")
      outcome = try await comparison.compare(logger: BackupFixture.logger)
      #expect(!outcome.isEqual && outcome.tables.allSatisfy(\.isEqual))
      #expect(outcome.largeObjects?.onlyLeft == ["70001"] && outcome.largeObjects?.onlyRight == ["80000"])
      #expect(outcome.largeObjects?.changed == ["70003", "70004"])
      #expect(outcome.notCompared.first == #"2 unlogged tables (public."More", public.cache)"#)

      // Who may not read them is told how many there are.
      try await server.query("CREATE ROLE reader LOGIN")
      for database in ["ours", "theirs"] {
        try await server.query("GRANT SELECT ON kept TO reader", database: database)
      }
      comparison.left.user = "reader"
      outcome = try await comparison.compare(logger: BackupFixture.logger)
      #expect(outcome.isEqual && outcome.largeObjects == nil)
      #expect(outcome.notCompared.last == "4 large objects, which this user may not read")

      comparison.tables = ["public.kept"]
      outcome = try await comparison.compare(logger: BackupFixture.logger)
      #expect(outcome.tables.count == 1 && outcome.notCompared.isEmpty && outcome.largeObjects == nil)
    }
  }
}
