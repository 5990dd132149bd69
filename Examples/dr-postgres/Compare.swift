import ArgumentParser
import DRCore
import DRPostgres
import ExampleSupport

/// Compares the rows of two databases.
struct Compare: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compares the rows of two databases, such as production and a restored copy.",
    discussion: "Exits 1 if anything differs. Parts that differ are told row by row, by primary key.")

  @OptionGroup var server: ServerArguments

  @Option(help: "The other database: a libpq connection string without a password.")
  var with: String

  @Option(help: "Only these tables, as SCHEMA.TABLE. May be given several times.")
  var table: [String] = []

  @Flag(name: .shortAndLong, help: "Log what happens inside.")
  var verbose = false

  func validate() throws { _ = try usage { try ServerArguments.connection(with) } }

  func run() async throws {
    try await reporting {
      let comparison = PostgresComparison(
        left: try server.connection(), right: try ServerArguments.connection(with), tables: table.isEmpty ? nil : table)
      let tables = try await comparison.compare(logger: ProgramLog.make("dr-postgres", verbose: verbose))
      for table in tables { print(Self.line(table)) }
      let different = tables.count { !$0.isEqual }
      print("\(tables.count) tables compared, \(different) differ")
      if different > 0 { throw ExitCode(1) }
    }
  }

  private static func line(_ table: PostgresComparison.Table) -> String {
    guard !table.isEqual else { return "equal    \(table.name): \(table.leftRows ?? 0) rows" }
    func count(_ rows: Int64?) -> String { rows.map { "\($0) rows" } ?? "not there" }
    var line = "DIFFERS  \(table.name): \(count(table.leftRows)) here, \(count(table.rightRows)) there"
    for (what, keys) in [("only here", table.onlyLeft), ("only there", table.onlyRight), ("changed", table.changed)]
    where !keys.isEmpty {
      let more = keys.count >= PostgresComparison.keysListed ? " at least" : ""
      line += "; \(what)\(more) \(keys.count): \(keys.prefix(5).joined(separator: " "))\(keys.count > 5 ? " …" : "")"
    }
    return line
  }
}
