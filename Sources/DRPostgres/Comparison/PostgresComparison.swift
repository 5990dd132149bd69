import DRCore
import Foundation
public import Logging

/// What differs between the tables of two databases, such as production and a restored copy: rows are counted and digested in
/// both, in parts by primary key, and only parts that differ are looked at row by row.
///
/// Each side is read in one snapshot of its own. Nothing is written, and no rows cross to this process but the keys of
/// those that differ. Where no tables are named, large objects are compared too, by their numbers.
///
/// Rows are all that is looked at: not definitions, not what sequences stand at, not privileges.
public struct PostgresComparison: Sendable {
  /// What a comparison found.
  public struct Outcome: Hashable, Sendable, Codable {
    public var tables: [Table]
    /// Nil: tables were named, neither side has any, or they are in ``notCompared``.
    public var largeObjects: LargeObjects?
    /// What holds rows or bytes and was not looked at, in words with its number: `2 unlogged tables`. Empty where tables were named.
    public var notCompared: [String]
    /// Whether all that was compared is the same.
    public var isEqual: Bool { tables.allSatisfy(\.isEqual) && largeObjects?.isEqual ?? true }
  }

  /// How large objects differ.
  public struct LargeObjects: Hashable, Sendable, Codable {
    public var leftCount: Int64
    public var rightCount: Int64
    /// The numbers (OIDs) of those that only one side has, and of those with other bytes: up to ``keysListed`` of each.
    public var onlyLeft: [String]
    public var onlyRight: [String]
    public var changed: [String]
    public var isEqual: Bool
  }

  /// How the rows of one table differ.
  public struct Table: Hashable, Sendable, Codable {
    /// `schema.table`, quoted as SQL needs it.
    public var name: String
    /// How many rows each side has; nil: the table is not there.
    public var leftRows: Int64?
    public var rightRows: Int64?
    /// Primary keys, as text, of rows that only one side has, and of those with other values: up to ``keysListed`` of each. Empty
    /// for a table without a primary key, of which only the whole is compared.
    public var onlyLeft: [String] = []
    public var onlyRight: [String] = []
    public var changed: [String] = []
    /// Whether every row is the same.
    public var isEqual: Bool
  }

  /// How many keys of each kind are listed of a table.
  public static let keysListed = 100

  public var left: PostgresConnectionSettings
  public var right: PostgresConnectionSettings
  /// Nil: every table of either side.
  public var tables: [String]?
  /// About how many rows a part has: so many keys of a part that differs are held in memory.
  public var rowsPerPart: Int
  /// How long the server may work on one statement.
  public var limit: Duration = .seconds(6 * 3600)

  public init(
    left: PostgresConnectionSettings, right: PostgresConnectionSettings, tables: [String]? = nil,
    rowsPerPart: Int = 20_000
  ) {
    self.left = left
    self.right = right
    self.tables = tables
    self.rowsPerPart = max(1, rowsPerPart)
  }

  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`; `objectNotFound` for a table that was named and is on neither side.
  public func compare(logger: Logger) async throws -> Outcome {
    try await onSide(left, logger) { left in
      try await onSide(right, logger) { right in
        let (ours, theirs) = (try await left.countableTables(), try await right.countableTables())
        let names = tables ?? Set(ours).union(theirs).sorted()
        var compared: [Table] = []
        for name in names {
          let sides = (try await ComparedTable(name, left), try await ComparedTable(name, right))
          guard sides.0 != nil || sides.1 != nil else {
            throw DRError(
              .objectNotFound, "no side has a table \(name)", advice: "write it as SCHEMA.TABLE", object: name)
          }
          compared.append(try await compare(name, sides.0, sides.1, left, right))
        }
        guard tables == nil else { return Outcome(tables: compared, notCompared: []) }
        var notCompared = try await Self.passedOver(left, right)
        let objects = (try await ComparedLargeObjects(left), try await ComparedLargeObjects(right))
        let largeObjects = Self.compare(objects.0, objects.1)
        if largeObjects == nil, max(objects.0.count, objects.1.count) > 0 {
          notCompared.append("\(max(objects.0.count, objects.1.count)) large objects, which this user may not read")
        }
        return Outcome(tables: compared, largeObjects: largeObjects, notCompared: notCompared)
      }
    }
  }

  /// Nil: there are none, or they cannot be compared.
  private static func compare(_ left: ComparedLargeObjects, _ right: ComparedLargeObjects) -> LargeObjects? {
    guard let ours = left.contents, let theirs = right.contents, left.count + right.count > 0 else { return nil }
    func listed(_ numbers: some Sequence<String>) -> [String] {
      Array(numbers.sorted { (UInt32($0) ?? 0) < (UInt32($1) ?? 0) }.prefix(keysListed))
    }
    return LargeObjects(
      leftCount: left.count, rightCount: right.count, onlyLeft: listed(ours.keys.filter { theirs[$0] == nil }),
      onlyRight: listed(theirs.keys.filter { ours[$0] == nil }),
      changed: listed(ours.filter { object in theirs[object.key].map { $0 != object.value } ?? false }.keys),
      isEqual: ours == theirs)
  }

  /// What holds rows, or is to hold some, and is not among the tables that are compared.
  private static func passedOver(_ left: PostgresConnection, _ right: PostgresConnection) async throws -> [String] {
    let kinds = [
      (one: "unlogged table", many: "unlogged tables", condition: "relkind IN ('r', 'm') AND relpersistence = 'u'"),
      (one: "foreign table", many: "foreign tables", condition: "relkind = 'f'"),
      (
        one: "materialized view without content", many: "materialized views without content",
        condition: "relkind = 'm' AND relpersistence = 'p' AND NOT relispopulated"
      ),
    ]
    var passedOver: [String] = []
    for kind in kinds {
      var names: Set<String> = []
      for side in [left, right] { names.formUnion(try await side.relations(where: kind.condition)) }
      guard !names.isEmpty else { continue }
      let some = names.sorted().prefix(5).joined(separator: ", ") + (names.count > 5 ? ", …" : "")
      passedOver.append("\(names.count) \(names.count == 1 ? kind.one : kind.many) (\(some))")
    }
    return passedOver
  }

  private func onSide<Result>(
    _ settings: PostgresConnectionSettings, _ logger: Logger, isolation: isolated (any Actor)? = #isolation,
    _ body: (PostgresConnection) async throws -> Result
  ) async throws -> Result {
    var settings = settings
    settings.timeLimit = limit
    return try await PostgresConnection.withConnection(settings, logger: logger) { connection in
      // The same text for the same value; rows that a policy would hide are an error.
      try await connection.query(
        """
        SET row_security = off; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres';
        SET extra_float_digits = 1; SET bytea_output = 'hex'; SET lock_timeout = '60s'
        """)
      try await connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
      return try await body(connection)
    }
  }

  private func compare(
    _ name: String, _ ours: ComparedTable?, _ theirs: ComparedTable?, _ left: PostgresConnection,
    _ right: PostgresConnection
  ) async throws -> Table {
    guard let ours, let theirs else {
      return Table(
        name: name, leftRows: ours == nil ? nil : try await left.countRows(name),
        rightRows: theirs == nil ? nil : try await right.countRows(name), isEqual: false)
    }
    let bounds = try await ours.bounds(left, rowsPerPart)
    let own = try await ours.parts(left, bounds)
    // Columns that only one side has make every row another one.
    let other = try await theirs.parts(right, bounds)
    var table = Table(
      name: name, leftRows: own.values.reduce(0) { $0 + $1.rows }, rightRows: other.values.reduce(0) { $0 + $1.rows },
      isEqual: own == other)
    guard !table.isEqual, ours.key != nil, ours.key == theirs.key else { return table }
    for part in Set(own.keys).union(other.keys).sorted() where own[part] != other[part] {
      let mine = try await ours.rows(left, bounds, part: part)
      let yours = try await theirs.rows(right, bounds, part: part)
      table.onlyLeft += mine.keys.filter { yours[$0] == nil }.sorted()
      table.onlyRight += yours.keys.filter { mine[$0] == nil }.sorted()
      table.changed += mine.filter { row in yours[row.key].map { $0 != row.value } ?? false }.map(\.key).sorted()
      let counts = [table.onlyLeft.count, table.onlyRight.count, table.changed.count]
      if counts.contains(where: { $0 >= Self.keysListed }) { break }
    }
    table.onlyLeft = Array(table.onlyLeft.prefix(Self.keysListed))
    table.onlyRight = Array(table.onlyRight.prefix(Self.keysListed))
    table.changed = Array(table.changed.prefix(Self.keysListed))
    return table
  }
}
