/// A table's name in two parts.
struct TableName: Hashable, Sendable {
  let schema: String
  let name: String

  /// Quoted as SQL needs it.
  var sql: String { "\(schema.quotedIdentifier).\(name.quotedIdentifier)" }

  /// As a pattern of `pg_dump` that matches this one only.
  var pattern: String { sql }
}

extension String {
  var quotedIdentifier: String { "\"" + replacing("\"", with: "\"\"") + "\"" }

  /// Cut so that PostgreSQL, which keeps 63 bytes of a name, keeps all of the suffix.
  func suffixed(_ suffix: String) -> String {
    var start = self
    while (start + suffix).utf8.count > 63 { start.removeLast() }
    return start + suffix
  }
}
