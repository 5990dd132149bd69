import DRCore
import DRPostgres
import Foundation

/// A database with something for each probe to look at.
let probedSchema = """
  CREATE DOMAIN positive AS int CHECK (VALUE > 0);
  CREATE TABLE customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL CHECK (name <> ''),
    size positive DEFAULT 1, email text);
  CREATE UNIQUE INDEX customer_email ON customer (lower(email)) WHERE email IS NOT NULL;
  CREATE TABLE "Order" (id bigserial PRIMARY KEY, customer int REFERENCES customer, number int,
    amount numeric(12, 2) CHECK (amount >= 0), updated_at timestamptz NOT NULL DEFAULT now());
  CREATE TABLE pair (a int, b int, PRIMARY KEY (a, b));
  CREATE TABLE half (a int, b int, FOREIGN KEY (a, b) REFERENCES pair MATCH FULL);
  CREATE TABLE part (id int PRIMARY KEY, customer int REFERENCES customer) PARTITION BY RANGE (id);
  CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (1000);
  CREATE SEQUENCE countdown INCREMENT -1 MAXVALUE 1000 START 1000;
  CREATE TABLE down (id int PRIMARY KEY DEFAULT nextval('countdown'), code text);
  CREATE UNIQUE INDEX down_code ON down (code);
  INSERT INTO customer (name, email) SELECT 'c' || n, CASE WHEN n % 2 = 0 THEN 'C' || n END FROM generate_series(1, 1000) n;
  INSERT INTO "Order" (customer, number, amount) SELECT 1 + n % 1000, n, n FROM generate_series(1, 5000) n;
  CREATE INDEX order_number ON "Order" (number);
  INSERT INTO pair SELECT n, n FROM generate_series(1, 100) n;
  INSERT INTO half SELECT n, n FROM generate_series(1, 100) n;
  INSERT INTO half VALUES (NULL, NULL);
  INSERT INTO part SELECT n, 1 + n FROM generate_series(1, 900) n;
  INSERT INTO down (code) SELECT 'code ' || n FROM generate_series(1, 100) n;
  CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(amount) FROM "Order" GROUP BY 1;
  CREATE VIEW names AS SELECT name FROM customer;
  CREATE COLLATION words (provider = icu, locale = 'en');
  CREATE INDEX customer_words ON customer (name COLLATE words);
  CREATE UNLOGGED TABLE cache AS SELECT generate_series(1, 10) AS n, 1 AS x;
  CREATE TABLE canary AS SELECT 'hunter2' AS value;
  CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42';
  CREATE SCHEMA lost; CREATE TABLE lost.t ();
  SELECT lo_from_bytea(0, 'large');
  """

/// Every probe, made of what was recorded when all was well.
enum ProbedProbes {
  static func all(_ baseline: PostgresBaseline) -> [PostgresProbe] {
    [
      .connectivity, .rowCounts(baseline.rowCounts), .foreignKeys, .constraints, .uniqueness, .indexes, .sequences,
      .materializedViews, .collations, .amcheck, .dump, .tables(baseline), .columnTypes(baseline),
      .timestamps(baseline, restored: baseline.taken), .queries(baseline, slower: 100),
      .answer("canary", in: "app", to: "SELECT value FROM canary", is: "hunter2"),
    ]
  }

  static func named(_ name: String, _ baseline: PostgresBaseline) -> PostgresProbe? {
    all(baseline).first { $0.name == name }
  }

  static let queries = [PostgresBaseline.Query(name: "answer", database: "app", sql: "SELECT answer()")]
}

/// What is wrong with a restored database, and the probe that must see it.
struct ProbeDamage: Sendable {
  enum Kind: Sendable {
    /// What the server lets a superuser do behind its back.
    case sql(String)
    /// Bytes in the midst of a page of these relations.
    case pages([String])
    /// The server follows another, or waits for one.
    case standby
  }

  var name: String
  var probe: String
  var kind: Kind
  /// In what the finding says.
  var subject: String
  var severity = Finding.Severity.failure

  init(
    _ name: String, _ probe: String, _ sql: String, sees subject: String, as severity: Finding.Severity = .failure
  ) {
    self.init(name, probe, .sql(sql), sees: subject, as: severity)
  }

  init(_ name: String, _ probe: String, _ kind: Kind, sees subject: String, as severity: Finding.Severity = .failure) {
    self.name = name
    self.probe = probe
    self.kind = kind
    self.subject = subject
    self.severity = severity
  }

  /// `replica` leaves foreign keys unlooked at.
  private static let behind = "SET session_replication_role = replica; "

  static let all: [ProbeDamage] = [
    ProbeDamage("a server in recovery", "connectivity", .standby, sees: "recovery", as: .warning),

    ProbeDamage("a row that is lost", "row-counts", "DELETE FROM part WHERE id = 7", sees: "part1"),
    ProbeDamage("a row too many", "row-counts", "INSERT INTO half VALUES (NULL, NULL)", sees: "half"),
    ProbeDamage("a table that is lost", "row-counts", "DROP TABLE half", sees: "the table is missing"),
    ProbeDamage("a table that is empty", "row-counts", "TRUNCATE canary", sees: "0 rows where 1"),

    ProbeDamage(
      "a row that refers to nothing", "foreign-keys", behind + "UPDATE \"Order\" SET customer = 99999 WHERE id = 7",
      sees: "Order"),
    ProbeDamage("a parent that is gone", "foreign-keys", behind + "DELETE FROM pair WHERE a = 50", sees: "half"),
    ProbeDamage(
      "a key that is half NULL", "foreign-keys",
      behind + "ALTER TABLE half DISABLE TRIGGER ALL; UPDATE half SET b = NULL WHERE a = 3", sees: "half"),
    ProbeDamage(
      "a partition's row that refers to nothing", "foreign-keys",
      behind + "UPDATE part SET customer = 99999 WHERE id = 7", sees: "part"),
    ProbeDamage(
      "a key that was never validated", "foreign-keys",
      "ALTER TABLE down ADD CONSTRAINT later FOREIGN KEY (id) REFERENCES customer NOT VALID", sees: "later",
      as: .warning
    ),

    ProbeDamage(
      "a row that breaks a CHECK", "constraints",
      """
      UPDATE pg_constraint SET contype = 'x' WHERE conname = 'Order_amount_check';
      UPDATE pg_class SET relchecks = 0 WHERE relname = 'Order';
      UPDATE "Order" SET amount = -1 WHERE id IN (3, 4);
      UPDATE pg_constraint SET contype = 'c' WHERE conname = 'Order_amount_check';
      UPDATE pg_class SET relchecks = 1 WHERE relname = 'Order'
      """, sees: "2 rows"),
    ProbeDamage(
      "a NULL that must not be", "constraints",
      """
      UPDATE pg_attribute SET attnotnull = false WHERE attrelid = 'customer'::regclass AND attname = 'name';
      UPDATE customer SET name = NULL WHERE id = 5;
      UPDATE pg_attribute SET attnotnull = true WHERE attrelid = 'customer'::regclass AND attname = 'name'
      """, sees: "NOT NULL"),
    ProbeDamage(
      "a value that breaks a domain's rule", "constraints",
      """
      ALTER DOMAIN positive DROP CONSTRAINT positive_check; UPDATE customer SET size = -3 WHERE id = 5;
      ALTER DOMAIN positive ADD CONSTRAINT positive_check CHECK (VALUE > 0) NOT VALID
      """, sees: "positive"),
    ProbeDamage(
      "a constraint that was never validated", "constraints",
      "ALTER TABLE customer ADD CONSTRAINT later CHECK (id > 0) NOT VALID", sees: "later", as: .warning),

    ProbeDamage(
      "duplicates under a partial unique index over an expression", "uniqueness",
      """
      UPDATE pg_index SET indisunique = false, indisready = false WHERE indexrelid = 'customer_email'::regclass;
      INSERT INTO customer (name, email) VALUES ('twin', 'c2');
      UPDATE pg_index SET indisunique = true, indisready = true WHERE indexrelid = 'customer_email'::regclass
      """, sees: "customer_email"),
    ProbeDamage(
      "three of a kind under a unique index", "uniqueness",
      """
      UPDATE pg_index SET indisunique = false, indisready = false WHERE indexrelid = 'down_code'::regclass;
      INSERT INTO down (code) VALUES ('code 1'), ('code 1');
      UPDATE pg_index SET indisunique = true, indisready = true WHERE indexrelid = 'down_code'::regclass
      """, sees: "2 rows too many"),

    ProbeDamage(
      "an invalid index", "indexes",
      "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'order_number'::regclass", sees: "order_number"),
    ProbeDamage(
      "an index that takes no rows", "indexes",
      "UPDATE pg_index SET indisready = false WHERE indexrelid = 'order_number'::regclass", sees: "order_number"),
    ProbeDamage(
      "a partition without its part of an index", "indexes", "CREATE INDEX part_customer ON ONLY part (customer)",
      sees: "part_customer", as: .warning),

    ProbeDamage(
      "a sequence that is behind", "sequences", "SELECT setval('\"Order_id_seq\"', 4999)", sees: "Order_id_seq"),
    ProbeDamage(
      "a sequence that gives its last number again", "sequences", "SELECT setval('\"Order_id_seq\"', 5000, false)",
      sees: "Order_id_seq"),
    ProbeDamage(
      "an identity that starts anew", "sequences", "ALTER TABLE customer ALTER COLUMN id RESTART",
      sees: "customer_id_seq"),
    ProbeDamage(
      "a sequence that counts down, and nobody owns", "sequences", "SELECT setval('countdown', 950)", sees: "countdown"),

    ProbeDamage(
      "a view without data", "materialized-views", "REFRESH MATERIALIZED VIEW totals WITH NO DATA", sees: "totals"),

    ProbeDamage(
      "a collation of another version", "collations",
      "UPDATE pg_collation SET collversion = '1.2' WHERE collname = 'words'", sees: "words"),
    ProbeDamage(
      "a database whose collation has another version", "collations",
      "UPDATE pg_database SET datcollversion = '0.1' WHERE datname = 'app'", sees: "the default"),

    ProbeDamage(
      "a row that an index does not have", "amcheck",
      """
      UPDATE pg_index SET indisready = false WHERE indexrelid = 'order_number'::regclass;
      INSERT INTO "Order" (customer, number, amount) VALUES (1, 777777, 1);
      UPDATE pg_index SET indisready = true WHERE indexrelid = 'order_number'::regclass
      """, sees: "order_number"),
    ProbeDamage("an index's page that was written over", "amcheck", .pages(["order_number"]), sees: "pg_amcheck"),

    ProbeDamage(
      "a column whose type is gone", "dump", "DELETE FROM pg_namespace WHERE nspname = 'lost'", sees: "pg_dump"),
    ProbeDamage("a table's page that was written over", "dump", .pages(["\"Order\""]), sees: "pg_dump"),

    ProbeDamage("a table that is gone", "tables", "DROP TABLE half", sees: "public.half"),
    ProbeDamage("a view that is gone", "tables", "DROP VIEW names", sees: "public.names"),

    ProbeDamage(
      "a column of another precision", "column-types",
      "DROP MATERIALIZED VIEW totals; ALTER TABLE \"Order\" ALTER COLUMN amount TYPE numeric(12, 4)",
      sees: "numeric(12,4)"),
    ProbeDamage(
      "a column that may be NULL", "column-types", "ALTER TABLE customer ALTER COLUMN name DROP NOT NULL",
      sees: "name text"),
    ProbeDamage("a column more", "column-types", "ALTER TABLE pair ADD COLUMN c int", sees: "c integer"),
    ProbeDamage(
      "columns in another order", "column-types",
      """
      UPDATE pg_attribute SET attnum = 99 WHERE attrelid = 'cache'::regclass AND attname = 'n';
      UPDATE pg_attribute SET attnum = 1 WHERE attrelid = 'cache'::regclass AND attname = 'x';
      UPDATE pg_attribute SET attnum = 2 WHERE attrelid = 'cache'::regclass AND attname = 'n'
      """, sees: "another order"),

    ProbeDamage(
      "the last change that is missing", "timestamps",
      "UPDATE \"Order\" SET updated_at = updated_at - interval '1 min'",
      sees: "updated_at"),
    ProbeDamage(
      "a change of tomorrow", "timestamps", "UPDATE \"Order\" SET updated_at = now() + interval '1 day' WHERE id = 7",
      sees: "updated_at"),

    ProbeDamage("a query that fails", "queries", "DROP FUNCTION answer()", sees: "42883"),
    ProbeDamage(
      "a query that is slow", "queries",
      """
      CREATE OR REPLACE FUNCTION answer() RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.4); RETURN 42; END'
      """, sees: "query-timings"),

    ProbeDamage("another answer", "canary", "UPDATE canary SET value = 'hunter3'", sees: "not the known answer"),
    ProbeDamage("no answer", "canary", "DELETE FROM canary", sees: "not the known answer"),
  ]
}
