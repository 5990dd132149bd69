import ArgumentParser
import DRCore
import DRPostgres
import DRRedis
import ExampleSupport
import Foundation

/// What was recorded of servers, in one file, to be compared with what is restored.
struct RecordedBaseline: Codable {
  var postgres: PostgresBaseline?
  var redis: RedisSamples?

  private enum CodingKeys: String, CodingKey, CaseIterable { case postgres, redis }

  init() {}

  init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    postgres = try fields.decodeIfPresent(PostgresBaseline.self, forKey: .postgres)
    redis = try fields.decodeIfPresent(RedisSamples.self, forKey: .redis)
  }

  /// - Throws: ``DRError`` with `invalidConfiguration`.
  init(file: String) throws {
    do {
      self = try JSONDecoder().decode(RecordedBaseline.self, from: Data(contentsOf: URL(fileURLWithPath: file)))
    } catch let error as DecodingError {
      throw DRError(.invalidConfiguration, "the baseline is not right: \(error.reason)", object: file)
    } catch {
      throw DRError(.invalidConfiguration, "the baseline cannot be read", object: file, cause: error)
    }
  }
}

/// Records what servers hold.
struct Baseline: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Records what servers hold, right before a backup, to be compared with what is restored of it.",
    discussion: """
      Numbers of rows, columns and types, newest moments of change, and how long queries take; of Redis digests of known keys. No row and no \
      value is in it. It reads all of every table. As JSON on standard output.
      """)

  @Option(help: "PostgreSQL: a libpq connection string. Passwords belong into ~/.pgpass, PGPASSFILE or PGPASSWORD.")
  var postgres: String?

  @Option(name: .customLong("query"), help: "A query that the platform lives on, to be timed: NAME@DATABASE=SQL.")
  var queries: [String] = []

  @Option(help: "Redis: redis://host:port, or unix:///path. A password is read from REDISCLI_AUTH.")
  var redis: String?

  func validate() throws {
    guard postgres != nil || redis != nil else { throw ValidationError("name a server: --postgres or --redis") }
    _ = try parsedQueries()
    _ = try usage { try connection() }
    _ = try usage { try redis.map { try RedisConnectionSettings(url: $0) } }
  }

  func run() async throws {
    try await reporting {
      let logger = ProgramLog.make("dr-verify", verbose: false)
      var baseline = RecordedBaseline()
      if let connection = try connection() {
        baseline.postgres = try await PostgresBaseline.take(connection, queries: try parsedQueries(), logger: logger)
      }
      if let redis {
        var settings = try RedisConnectionSettings(url: redis)
        if ProcessInfo.processInfo.environment["REDISCLI_AUTH"] != nil {
          settings.password = .environment("REDISCLI_AUTH")
        }
        baseline.redis = try await RedisSamples.take(settings, logger: logger)
      }
      print(try JSONOutput.text(baseline))
    }
  }

  private func connection() throws -> PostgresConnectionSettings? {
    guard let postgres else { return nil }
    let settings = try PostgresConnectionSettings(conninfo: postgres)
    guard settings.password == nil, settings.otherParameters["sslpassword"] == nil else {
      throw DRError(
        .invalidConfiguration, "a password in an argument list can be read by everybody on this host",
        advice: "put it into ~/.pgpass, PGPASSFILE or PGPASSWORD")
    }
    return settings
  }

  private func parsedQueries() throws -> [PostgresBaseline.Query] {
    try queries.map { text in
      guard let equal = text.firstIndex(of: "="), let at = text[..<equal].firstIndex(of: "@") else {
        throw ValidationError("'\(text.prefix(80))' is not NAME@DATABASE=SQL")
      }
      return PostgresBaseline.Query(
        name: String(text[..<at]), database: String(text[text.index(after: at)..<equal]),
        sql: String(text[text.index(after: equal)...]))
    }
  }
}
