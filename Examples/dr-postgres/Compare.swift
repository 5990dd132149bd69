import ArgumentParser
import DRCore
import DRPostgres
import ExampleSupport
import Foundation

/// Compares the rows of two databases.
struct Compare: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compares the rows of two databases, such as production and a restored copy.",
    discussion: """
      Exits 1 if anything differs. Parts that differ are told row by row, by primary key. Large objects are compared by their numbers, unless \
      tables are named. What was not compared is said; definitions, sequences and privileges never are.
      """)

  @OptionGroup var server: ServerArguments

  @Option(help: "The other database: a libpq connection string without a password.")
  var with: String

  @Option(help: "Only these tables, as SCHEMA.TABLE. May be given several times.")
  var table: [String] = []

  @Flag(help: "Print what was found as JSON.")
  var json = false

  @Flag(name: .shortAndLong, help: "Log what happens inside.")
  var verbose = false

  func validate() throws { _ = try usage { try ServerArguments.connection(with) } }

  func run() async throws {
    try await reporting {
      let comparison = PostgresComparison(
        left: try server.connection(), right: try ServerArguments.connection(with), tables: table.isEmpty ? nil : table)
      let outcome = try await comparison.compare(logger: ProgramLog.make("dr-postgres", verbose: verbose))
      if json { try Self.printJSON(outcome) } else { Self.say(outcome) }
      if !outcome.isEqual { throw ExitCode(1) }
    }
  }

  private static func printJSON(_ outcome: PostgresComparison.Outcome) throws {
    print(try JSONOutput.text(outcome))
  }

  private static func say(_ outcome: PostgresComparison.Outcome) {
    for table in outcome.tables { print(line(table)) }
    if let objects = outcome.largeObjects { print(line(objects)) }
    print("\(outcome.tables.count) tables compared, \(outcome.tables.count { !$0.isEqual }) differ")
    if !outcome.notCompared.isEmpty { print("not compared: \(outcome.notCompared.joined(separator: ", "))") }
  }

  private static func line(_ table: PostgresComparison.Table) -> String {
    guard !table.isEqual else { return "equal    \(table.name): \(table.leftRows ?? 0) rows" }
    func count(_ rows: Int64?) -> String { rows.map { "\($0) rows" } ?? "not there" }
    let line = "DIFFERS  \(table.name): \(count(table.leftRows)) here, \(count(table.rightRows)) there"
    return line + differences(table.onlyLeft, table.onlyRight, table.changed)
  }

  private static func line(_ objects: PostgresComparison.LargeObjects) -> String {
    guard !objects.isEqual else { return "equal    large objects: \(objects.leftCount)" }
    return "DIFFERS  large objects: \(objects.leftCount) here, \(objects.rightCount) there"
      + differences(objects.onlyLeft, objects.onlyRight, objects.changed)
  }

  private static func differences(_ onlyLeft: [String], _ onlyRight: [String], _ changed: [String]) -> String {
    var text = ""
    for (what, keys) in [("only here", onlyLeft), ("only there", onlyRight), ("changed", changed)]
    where !keys.isEmpty {
      let more = keys.count >= PostgresComparison.keysListed ? " at least" : ""
      text += "; \(what)\(more) \(keys.count): \(keys.prefix(5).joined(separator: " "))\(keys.count > 5 ? " …" : "")"
    }
    return text
  }
}
