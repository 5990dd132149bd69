/// Which of a database's objects: `pg_dump`'s and `pg_restore`'s own patterns and names.
public struct DumpSelection: Hashable, Sendable {
  /// Empty: all.
  public var schemas: [String]
  public var tables: [String]
  /// Left out of a dump; a restore cannot leave out by name.
  public var excludedTables: [String]
  /// Tables whose definition is dumped, and whose rows are not.
  public var excludedData: [String]
  public var parts: Parts

  public enum Parts: Hashable, Sendable {
    case all
    case schemaOnly
    case dataOnly

    var arguments: [String] {
      switch self {
      case .all: []
      case .schemaOnly: ["--schema-only"]
      case .dataOnly: ["--data-only"]
      }
    }
  }

  public init(
    schemas: [String] = [], tables: [String] = [], excludedTables: [String] = [], excludedData: [String] = [],
    parts: Parts = .all
  ) {
    self.schemas = schemas
    self.tables = tables
    self.excludedTables = excludedTables
    self.excludedData = excludedData
    self.parts = parts
  }

  var isEverything: Bool { self == DumpSelection() }

  /// One argument each, so that nothing that looks like an option is taken for one.
  var arguments: [String] {
    var all = schemas.map { "--schema=\($0)" } + tables.map { "--table=\($0)" }
    all += excludedTables.map { "--exclude-table=\($0)" } + excludedData.map { "--exclude-table-data=\($0)" }
    return all + parts.arguments
  }
}
