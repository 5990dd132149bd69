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
      var compared = try await comparison.compare(logger: BackupFixture.logger)
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
      compared = try await comparison.compare(logger: BackupFixture.logger)
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
}
