import DRCore
import Testing

/// A probe in which one thing is wrong: what it asks, or what it makes of an answer.
struct ProbeMutant: Sendable, CustomTestStringConvertible {
  enum Change: Sendable {
    /// Its question is another one.
    case question(RewrittenQuestions.Rewriting)
    /// It takes findings that say this for all well; empty: every one.
    case overlooks(String)
  }

  var name: String
  var probe: String
  var change: Change

  var testDescription: String { "\(probe): \(name)" }

  private init(_ name: String, _ probe: String, _ from: String, _ to: String) {
    (self.name, self.probe, change) = (name, probe, .question(.init(from: from, to: to)))
  }

  private init(_ name: String, _ probe: String, overlooks text: String) {
    (self.name, self.probe, change) = (name, probe, .overlooks(text))
  }

  /// What it finds where the true one finds these.
  func findings(_ findings: [Finding]) -> [Finding] {
    guard case .overlooks(let text) = change else { return findings }
    return findings.map { finding in
      guard finding.severity >= .warning, text.isEmpty || "\(finding)".contains(text) else { return finding }
      return Finding(finding.check, .passed, subject: finding.subject, evidence: finding.evidence)
    }
  }

  var rewriting: RewrittenQuestions.Rewriting? {
    if case .question(let rewriting) = change { rewriting } else { nil }
  }

  /// One that sees nothing at all.
  static func blind(_ probe: String) -> ProbeMutant { ProbeMutant("sees nothing", probe, overlooks: "") }

  /// All of them, and of each probe one that sees nothing.
  static let withBlindOnes = all + Set(ProbeDamage.all.map(\.probe)).sorted().map(blind)

  static let all: [ProbeMutant] = [
    ProbeMutant("takes a standby for a primary", "connectivity", "pg_is_in_recovery()", "false"),

    ProbeMutant("does not miss a table", "row-counts", overlooks: "the table is missing"),
    ProbeMutant("takes an empty table for a full one", "row-counts", overlooks: "0 rows where"),
    ProbeMutant("tolerates a row less", "row-counts", overlooks: "899 rows where 900"),
    ProbeMutant("tolerates a row more", "row-counts", overlooks: "102 rows where 101"),

    ProbeMutant("looks at keys of one column", "foreign-keys", "c.conparentid = 0", "cardinality(c.conkey) = 1"),
    ProbeMutant(
      "leaves partitioned tables out", "foreign-keys", "c.conparentid = 0", "c.conparentid = 0 AND r.relkind = 'r'"),
    ProbeMutant(
      "takes MATCH FULL for simple", "foreign-keys", "WHEN 'f' THEN ' OR ' ELSE ' AND ' END",
      "WHEN 'x' THEN ' OR ' ELSE ' AND ' END"),
    ProbeMutant("counts no row", "foreign-keys", "IS NULL AND (", "IS NULL AND false AND ("),
    ProbeMutant("takes every key for validated", "foreign-keys", "c.convalidated", "true AS convalidated"),

    ProbeMutant("leaves NOT NULL out", "constraints", "num_nulls(", "0 * num_nulls("),
    ProbeMutant("leaves CHECK out", "constraints", ") IS FALSE", ") IS NULL"),
    ProbeMutant("leaves domains out", "constraints", "d.typtype = 'd'", "d.typtype = 'x'"),
    ProbeMutant("takes every constraint for validated", "constraints", "convalidated", "true AS convalidated"),

    ProbeMutant("leaves partial indexes out", "uniqueness", "NOT indisexclusion", "indpred IS NULL"),
    ProbeMutant("leaves plain indexes out", "uniqueness", "NOT indisexclusion", "indexprs IS NOT NULL"),
    ProbeMutant("tolerates twins", "uniqueness", "HAVING count(*) > 1", "HAVING count(*) > 2"),
    ProbeMutant("counts a group once", "uniqueness", "sum(rows - 1)", "sum(1)"),

    ProbeMutant("takes an invalid index for good", "indexes", "(indisvalid AND", "("),
    ProbeMutant("takes one that takes no rows for good", "indexes", "AND indisready AND", "AND"),
    ProbeMutant("leaves partitioned ones out", "indexes", "WHERE NOT (", "WHERE c.relkind = 'i' AND NOT ("),

    ProbeMutant("is off by one", "sequences", "extreme >= next", "extreme > next"),
    ProbeMutant("leaves identities out", "sequences", "deptype IN ('a', 'i')", "deptype IN ('a')"),
    ProbeMutant(
      "leaves out what nobody owns", "sequences", "WHERE classid = 'pg_attrdef'",
      "WHERE false AND classid = 'pg_attrdef'"),
    ProbeMutant("takes the last number for given", "sequences", "CASE WHEN is_called", "CASE WHEN true OR is_called"),
    ProbeMutant(
      "leaves out what counts down", "sequences", "WHERE atttypid IN", "WHERE seqincrement > 0 AND atttypid IN"),

    ProbeMutant(
      "looks at filled views only", "materialized-views", "relkind = 'm'", "relkind = 'm' AND relispopulated"),

    ProbeMutant("leaves named ones out", "collations", "collprovider <> 'd'", "collprovider = 'd'"),
    ProbeMutant("leaves that of the database out", "collations", "100 = ANY", "99 = ANY"),

    ProbeMutant("compares no index with its table", "amcheck", "heapallindexed := true", "heapallindexed := false"),
    ProbeMutant("looks at no index", "amcheck", overlooks: "btree index"),

    ProbeMutant("reads no row", "dump", "COPY public.\"Order\"", "COPY public.pair (a, b) TO stdout; --"),
    ProbeMutant("takes a lost schema for nothing", "dump", overlooks: "schema with OID"),

    ProbeMutant("does not miss a table", "tables", overlooks: "public.half"),
    ProbeMutant("does not miss a view", "tables", "'v', 'm', 'f'", "'m', 'f'"),

    ProbeMutant(
      "leaves the precision out", "column-types", "format_type(atttypid, atttypmod)", "format_type(atttypid, NULL)"),
    ProbeMutant("leaves NOT NULL out", "column-types", "CASE WHEN attnotnull", "CASE WHEN false"),
    ProbeMutant("leaves the order out", "column-types", "ORDER BY 1, attnum", "ORDER BY 1, 2"),
    ProbeMutant("tolerates a column more", "column-types", overlooks: "c integer"),

    ProbeMutant("looks at the oldest change", "timestamps", "SELECT max(", "SELECT min("),
    ProbeMutant("tolerates the future", "timestamps", "interval '1 hour'", "interval '100 days'"),

    ProbeMutant("asks something else", "queries", "SELECT answer()", "SELECT 42"),
    ProbeMutant("has all the time", "queries", overlooks: "query-timings"),

    ProbeMutant("knows the answer itself", "canary", "SELECT value FROM canary", "SELECT 'hunter2'"),
  ]
}
