import DRCore
package import DRSandbox
import Foundation
public import Logging

/// A throw-away PostgreSQL server: on a socket in a folder of its own, as an unprivileged user, gone without a trace.
///
/// It is made new, or started over a restored data folder. Over a restored one it is harmless: it archives nothing,
/// runs no command of its source's but `restore_command`, follows nobody, listens to nobody, and it can be asked
/// (``harmlessness(logger:)``). If this process dies, the next one that makes a sandbox removes what it left.
///
/// Call ``remove()`` at the end, or use ``withSandbox(_:logger:isolation:_:)``.
public actor PostgresSandbox {
  /// The data folder: the caller's, or one in the sandbox's own folder.
  public nonisolated let dataFolder: String
  /// How to reach the server by its socket, as a superuser.
  public nonisolated let settings: PostgresConnectionSettings
  package nonisolated let installation: PostgresInstallation
  /// The user that the server runs as, if it is not this process's own.
  package nonisolated let user: ServerUser?

  nonisolated let home: SandboxHome
  nonisolated let options: Options
  nonisolated let isHarmless: Bool
  nonisolated let ownsDataFolder: Bool
  nonisolated let logger: Logger
  private nonisolated let executor = BlockingExecutor(label: "postgres.sandbox")
  var process: ServerProcess?
  private var password: String?

  public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private init(
    home: SandboxHome, dataFolder: String?, installation: PostgresInstallation, user: ServerUser?, options: Options,
    isHarmless: Bool, port: UInt16, logger: Logger
  ) {
    self.home = home
    self.dataFolder = dataFolder ?? home.ownDataFolder
    self.installation = installation
    self.user = user
    self.options = options
    self.isHarmless = isHarmless
    ownsDataFolder = dataFolder == nil
    self.logger = logger
    settings = PostgresConnectionSettings(
      host: home.runFolder, port: port, user: options.superuser, database: "postgres", sslMode: .disable)
  }

  // MARK: Making one

  /// Makes a new cluster and starts it: checksums, UTF-8, locale C, WAL for replicas.
  ///
  /// It stands for a source: what the options' settings say of archiving is done.
  ///
  /// - Throws: ``DRError``: `programFailed` if there is no server or it does not start, with the end of its log.
  public static func create(_ options: Options = Options(), logger: Logger) async throws -> PostgresSandbox {
    let sandbox = try await make(options, dataFolder: nil, isHarmless: false, logger: logger)
    return try await sandbox.orRemoved {
      try await sandbox.initialize()
      try await sandbox.start()
    }
  }

  /// Makes a sandbox with an empty data folder to restore into; ``start(until:limit:)`` starts the server over what was
  /// restored.
  ///
  /// - Throws: ``DRError``: `programFailed` if there is no server, `invalidConfiguration`, `notWritable`.
  public static func prepare(_ options: Options = Options(), logger: Logger) async throws -> PostgresSandbox {
    try await make(options, dataFolder: nil, isHarmless: true, logger: logger)
  }

  /// Starts a server over an existing data folder, in place. The folder stays when the sandbox is removed; as root, it is
  /// given to the server's user.
  ///
  /// - Parameters:
  ///   - isHarmless: False starts it with its own settings of archiving and replication, as a standby needs.
  ///   - readiness: When to return.
  ///   - limit: How long that may take; nil: the options' limit.
  /// - Throws: ``DRError``: `destinationInUse` if a server runs on it; `programFailed` if it does not start or its
  ///   recovery fails, with the end of its log; `timedOut`.
  public static func start(
    dataFolder: String, _ options: Options = Options(), isHarmless: Bool = true,
    until readiness: Readiness = .answering,
    limit: Duration? = nil, logger: Logger
  ) async throws -> PostgresSandbox {
    guard dataFolder.hasPrefix("/") else {
      throw DRError(.invalidConfiguration, "the data folder must be an absolute path", object: dataFolder)
    }
    let sandbox = try await make(options, dataFolder: dataFolder, isHarmless: isHarmless, logger: logger)
    return try await sandbox.orRemoved { try await sandbox.start(until: readiness, limit: limit) }
  }

  /// Makes a new cluster, runs the body, and removes everything whatever happens.
  ///
  /// - Throws: What ``create(_:logger:)`` throws, or the body.
  public static func withSandbox<Result>(
    _ options: Options = Options(), logger: Logger, isolation: isolated (any Actor)? = #isolation,
    _ body: (PostgresSandbox) async throws -> Result
  ) async throws -> Result {
    try await with(create(options, logger: logger), body)
  }

  /// Runs the body with a sandbox, and removes the sandbox whatever happens.
  ///
  /// - Throws: What the body throws; else what kept something from being removed.
  public static func with<Result>(
    _ sandbox: PostgresSandbox, isolation: isolated (any Actor)? = #isolation,
    _ body: (PostgresSandbox) async throws -> Result
  ) async throws -> Result {
    let result: Result
    do {
      result = try await body(sandbox)
    } catch {
      await sandbox.removeAfterFailure()
      throw error
    }
    // Not a child task: cancellation must not skip it.
    try await Task { try await sandbox.remove() }.value
    return result
  }

  /// Ends the servers and removes the folders of sandboxes whose processes have died. Done whenever one is made.
  ///
  /// - Parameter parentFolder: Where sandboxes are made, as in ``Options/parentFolder``.
  /// - Returns: The folders that were removed.
  /// - Throws: ``DRError`` with `invalidConfiguration` if sandboxes cannot be there.
  @discardableResult
  public static func removeAbandoned(in parentFolder: String? = nil, logger: Logger) async throws -> [String] {
    let parent = try SandboxHome.parent(parentFolder, user: .needed("postgres"))
    return try await BlockingExecutor(label: "postgres.sandbox.abandoned").run {
      SandboxHome.removeAbandoned(kind, under: parent, logger: logger)
    }
  }

  private static func make(
    _ options: Options, dataFolder: String?, isHarmless: Bool, logger: Logger
  ) async throws -> PostgresSandbox {
    let user = try ServerUser.needed("postgres")
    let parent = try SandboxHome.parent(options.parentFolder, user: user)
    try await removeAbandoned(in: parent, logger: logger)
    let version = try options.majorVersion ?? dataFolder.map { try majorVersion(ofDataFolder: $0) }
    let installation = try await PostgresInstallation.find(majorVersion: version)
    let port = try freePort()
    let home = try await BlockingExecutor(label: "postgres.sandbox.home").run {
      try SandboxHome(kind, under: parent, dataFolder: dataFolder, user: user)
    }
    return PostgresSandbox(
      home: home, dataFolder: dataFolder, installation: installation, user: user, options: options,
      isHarmless: isHarmless, port: port, logger: logger)
  }

  // MARK: Using it

  /// How to reach the server over TCP with a password; nil unless it listens and takes writes.
  public var loopbackSettings: PostgresConnectionSettings? {
    guard let password else { return nil }
    var settings = settings
    settings.host = "127.0.0.1"
    settings.password = password
    return settings
  }

  /// Runs one command on a connection of its own.
  ///
  /// - Throws: As ``PostgresConnection/query(_:_:limit:)``.
  @discardableResult
  package nonisolated func query(
    _ sql: String, _ parameters: [String?] = [], database: String = "postgres", limit: Duration? = nil
  ) async throws -> PostgresRows {
    try await PostgresConnection.withConnection(settings.with(database: database), logger: logger) {
      try await $0.query(sql, parameters, limit: limit)
    }
  }

  /// The number of the server's first process, while it runs.
  public var processID: Int32? { process.flatMap { $0.howItEnded == nil ? $0.processID : nil } }

  /// A password that only lives as long as the sandbox.
  func setPassword() async throws {
    guard options.listensOnLoopback, password == nil else { return }
    guard try await query("SELECT pg_is_in_recovery()").single == "f" else { return }
    let chosen = (0..<4).map { _ in String(UInt64.random(in: .min ... .max), radix: 36) }.joined()
    let role = options.superuser.replacing("\"", with: "\"\"")
    try await query("ALTER ROLE \"\(role)\" PASSWORD '\(chosen)'")
    password = chosen
  }

  private nonisolated func orRemoved(_ work: @Sendable () async throws -> Void) async throws -> PostgresSandbox {
    do {
      try await work()
      return self
    } catch {
      await removeAfterFailure()
      throw error
    }
  }

  /// What failed before is what the caller must hear of; that something was left is for the log.
  private nonisolated func removeAfterFailure() async {
    do {
      try await Task { try await remove() }.value
    } catch {
      logger.info("a sandbox could not be removed", metadata: ["sandbox.folder": "\(home.path)", "error": "\(error)"])
    }
  }
}
