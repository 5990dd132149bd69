public import DRCore
public import Logging

/// Looks at a running server with probes, database by database.
public struct PostgresProbes: Verifier {
  /// How to reach the server, as a superuser; the database is where the others are asked for.
  public var settings: PostgresConnectionSettings
  /// Nil: every database that takes connections and is no template.
  public var databases: [String]?
  public var probes: [PostgresProbe]
  /// How long one look (the reading of the largest table, one program) may take.
  public var limit: Duration

  public init(
    _ settings: PostgresConnectionSettings, databases: [String]? = nil, probes: [PostgresProbe],
    limit: Duration = .seconds(3600)
  ) {
    self.settings = settings
    self.databases = databases
    self.probes = probes
    self.limit = limit
  }

  /// Every probe that there is.
  ///
  /// - Parameters:
  ///   - rowCounts: What the tables must hold, as counted on the source; nil: nothing to compare with, which is a notice.
  ///   - tolerance: By how many percent a count may differ.
  public static func all(
    _ settings: PostgresConnectionSettings, databases: [String]? = nil, rowCounts: PostgresRowCounts? = nil,
    tolerance: Double = 0, limit: Duration = .seconds(3600)
  ) -> PostgresProbes {
    PostgresProbes(
      settings, databases: databases,
      probes: [
        .connectivity, .rowCounts(rowCounts, tolerance: tolerance), .foreignKeys, .constraints, .uniqueness, .indexes,
        .sequences, .materializedViews, .collations, .amcheck, .dump,
      ], limit: limit)
  }

  /// One or more findings for each probe in each database. A probe that could not look is a failure that says so; what
  /// it would have found is not known.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` if there is nothing to do; `CancellationError`.
  public func verify(logger: Logger) async throws -> [Finding] {
    guard !probes.isEmpty, databases?.isEmpty != true else {
      throw DRError(.invalidConfiguration, "no probes, or no databases to probe")
    }
    let names: [String]
    do {
      names = if let databases { databases } else { try await Self.databases(of: settings, logger: logger) }
    } catch {
      try Task.checkCancellation()
      return [unseen(PostgresProbe.connectivity.name, settings.database ?? "server", error)]
    }
    var findings: [Finding] = []
    for name in names {
      let database = ProbedDatabase(
        name: name, settings: settings.with(database: name), limit: limit, logger: logger)
      for probe in probes {
        do {
          findings += try await probe.look(database)
        } catch {
          try Task.checkCancellation()
          findings.append(unseen(probe.name, name, error))
        }
      }
    }
    return findings
  }

  private func unseen(_ check: String, _ subject: String, _ error: any Error) -> Finding {
    Finding(
      check, .failure, subject: subject, evidence: "could not be looked at: \(error)",
      advice: "make it possible to look, and look again: nothing is known until then")
  }

  /// The databases of a server that take connections and are no templates.
  ///
  /// - Throws: As ``PostgresConnection/query(_:_:limit:)``.
  static func databases(of settings: PostgresConnectionSettings, logger: Logger) async throws -> [String] {
    try await PostgresConnection.withConnection(settings, logger: logger) {
      try await $0.query("SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1")
    }.compactMap { $0[0] }
  }
}
