import ArgumentParser
import DRCore
import DRRedis
import DRStorage
import ExampleSupport
import Foundation

/// Restores some keys, or all, beside what a running server holds.
struct RestoreKeys: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Restores keys one by one into a running server or cluster, beside what it holds.",
    discussion: "A key that is there already is left as it is, unless --replace. Exit code 1: a key failed.")

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var server: ServerArguments

  @Argument(help: "Patterns as KEYS takes them; every key unless said.")
  var patterns: [String] = []

  @Option(help: "The backup; the newest unless said.")
  var backup: String?

  @Option(name: .customLong("type"), help: "A type as TYPE says it. May be given several times.")
  var types: [String] = []

  @Option(name: .customLong("database"), help: "A database of the backup. May be given several times.")
  var databases: [Int] = []

  @Option(help: "Give names that start with OLD another start: OLD=NEW.")
  var rename: String?

  @Option(name: .customLong("move-database"), help: "Restore keys of a database into another: FROM=TO.")
  var moves: [String] = []

  @Flag(help: "Put the backup's value in the place of one that is there.")
  var replace = false

  @Flag(help: "Restore the function libraries too.")
  var functions = false

  @Option(parsing: .unconditional, help: "The most bytes of a value.")
  var valueLimit = 32 << 20

  @Flag(help: "Do not read the whole backup before the first key is restored.")
  var unchecked = false

  func validate() throws {
    try allow("--value-limit", valueLimit, 1...1_000_000_000_000)
    _ = try usage { try selection() }
  }

  func run() async throws {
    try await repository.audited("restore", object: "keys") { _ in
      let settings = try repository.settings()
      let source = try await settings.restoreSource()
      let manifest = try await source.backup { try await settings.redisBackup(backup, in: $0, for: .immediate) }
      var restorer = RedisKeyRestorer(
        server: try await server.connection(self.repository.logger), selection: try selection())
      restorer.replacesExisting = replace
      restorer.functions = functions ? (replace ? .replace : .add) : .leave
      restorer.valueLimit = valueLimit
      restorer.checksFirst = !unchecked
      restorer.progress = ProgressBar("restore").handler
      let report = try await restorer.restoreKeys(
        from: try await source.reader(for: manifest, logger: self.repository.logger), logger: self.repository.logger)
      let rate = Double(report.selected) / max(report.sending / .seconds(1), 1e-9)
      print(
        "\(manifest.id): \(report.restored) of \(report.selected) keys restored, \(report.existing) were there, "
          + "\(report.expired) had expired, \(report.failed) failed"
          + (report.functions > 0 ? ", \(report.functions) function libraries" : "") + "; "
          + "\(Format.bytes(report.bytes)) in \(Format.duration(report.duration)), \(Int(rate)) keys/s once checked")
      warn(of: report.changesLeftOut)
      for failure in report.failures { print("failed: \(failure.key): \(failure.why)") }
      if report.failed > 0 { throw ExitCode(1) }
    }
  }

  private func warn(of changes: [Int]) {
    let shards = changes.enumerated().filter { $0.element > 0 }.map { "\($0.element) of shard \($0.offset)" }
    guard !shards.isEmpty else { return }
    FileHandle.standardError.write(
      Data(
        ("warning: each key is as it was when its shard's data set was taken; changes between that and the moment that all "
          + "shards share are not in the keys: \(shards.joined(separator: ", ")). restore-file --shard brings them\n")
          .utf8))
  }

  private func selection() throws -> RedisKeySelection {
    var selection = RedisKeySelection(patterns: patterns, types: Set(types), databases: Set(databases))
    if let rename { selection.renamedPrefix = try pair(rename) }
    for move in moves {
      let (from, to) = try pair(move)
      guard let from = Int(from), let to = Int(to), from >= 0, to >= 0 else { throw refuse(move) }
      selection.movedDatabases[from] = to
    }
    return selection
  }

  private func pair(_ text: String) throws -> (String, String) {
    guard let equals = text.firstIndex(of: "=") else { throw refuse(text) }
    return (String(text[..<equals]), String(text[text.index(after: equals)...]))
  }

  private func refuse(_ text: String) -> DRError {
    DRError(.invalidConfiguration, "'\(text.prefix(100))' is not FROM=TO")
  }
}
