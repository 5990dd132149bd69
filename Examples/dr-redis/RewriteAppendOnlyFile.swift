import ArgumentParser
import DRCore
import DRRedis
import ExampleSupport

/// One of the plan's jobs on the server's own files, for a schedule.
struct RewriteAppendOnlyFile: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rewrite-aof", abstract: "Has the server rewrite its append-only file, and waits for the result.")

  @OptionGroup var server: ServerArguments

  @Option(help: "Not needed: it works on the server alone. Taken so that every command can be called alike.")
  var config: String?

  @Option(parsing: .unconditional, help: "Seconds that it may take.")
  var limit = 3600.0

  func validate() throws {
    try allow("--limit", limit, 1...604_800)
  }

  func run() async throws {
    try await reporting {
      let logger = ProgramLog.make("dr-redis", verbose: false)
      let settings = try await server.connection(logger)
      let start = ContinuousClock.now
      try await RedisMaintenance.rewriteAppendOnlyFile(
        settings, limit: .seconds(limit), logger: logger)
      print("\(settings): rewritten in \(Format.duration(start.duration(to: .now)))")
    }
  }
}
