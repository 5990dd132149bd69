import DRCore
package import DRSandbox
import Foundation
public import Logging

/// A throw-away RabbitMQ broker, one node or a cluster: on loopback, with a port mapper of its own, as an unprivileged
/// user, gone without a trace.
///
/// It is harmless: it listens on loopback only and has no plugin that connects outwards (shovels, federation). If this
/// process dies, the next one that makes a sandbox removes what it left.
///
/// Call ``remove()`` at the end, or use ``withSandbox(_:logger:isolation:_:)``.
public actor RabbitMQSandbox {
  public struct Options: Sendable {
    /// How many nodes; more than one form a cluster.
    public var nodes = 1
    /// Beside the management plugin.
    public var plugins: [String] = []
    /// The feature flags that are on when a node is made; nil: all that it knows.
    public var featureFlags: [String]?
    /// Lines of `rabbitmq.conf`.
    public var configuration: [String: String] = [:]
    /// Bytes of memory over which a node stops publishers.
    public var memoryLimit: Int64 = 2 << 30
    /// Listen with TLS too, with `ca.pem`, `server.pem` and `server.key` of this folder.
    public var certificates: String?
    /// Where the sandbox's folder is made; nil: the system's temporary folder.
    public var parentFolder: String?
    public var startLimit: Duration = .seconds(120)

    public init() {}
  }

  /// How to reach the nodes, as an administrator.
  public nonisolated let nodes: [RabbitMQSettings]
  /// How to reach the first node.
  public nonisolated var settings: RabbitMQSettings { nodes[0] }
  /// The first node with TLS on both ways, where there are certificates.
  public nonisolated let tlsSettings: RabbitMQSettings?

  /// What it has on disk.
  package nonisolated var folder: String { home.path }

  nonisolated let options: Options
  nonisolated let home: SandboxHome
  nonisolated let user: ServerUser?
  nonisolated let installation: RabbitMQInstallation
  nonisolated let layout: SandboxLayout
  private nonisolated let executor = BlockingExecutor(label: "rabbitmq.sandbox")
  private nonisolated let logger: Logger
  private var processes: [Int: ServerProcess] = [:]
  private var mapper: ServerProcess?

  public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private init(
    _ options: Options, home: SandboxHome, user: ServerUser?, installation: RabbitMQInstallation,
    layout: SandboxLayout, logger: Logger
  ) {
    self.options = options
    self.home = home
    self.user = user
    self.installation = installation
    self.layout = layout
    self.logger = logger
    nodes = layout.nodes.map { node in
      RabbitMQSettings(
        host: "127.0.0.1", port: node.port, managementPort: node.managementPort, user: SandboxLayout.user,
        password: layout.password)
    }
    tlsSettings = options.certificates.map { folder in
      let tls = RabbitMQSettings.TLS(rootCertificates: "\(folder)/ca.pem")
      return RabbitMQSettings(
        host: "localhost", port: layout.nodes[0].tlsPort, managementPort: layout.nodes[0].managementTLSPort,
        user: SandboxLayout.user, password: layout.password, tls: tls, managementTLS: tls)
    }
  }

  // MARK: Making one

  /// Makes a broker and starts it.
  ///
  /// - Throws: ``DRError``: `programFailed` if there is no server or it does not start, with the end of its log.
  public static func create(_ options: Options = Options(), logger: Logger) async throws -> RabbitMQSandbox {
    guard (1...7).contains(options.nodes) else {
      throw DRError(.invalidConfiguration, "a sandbox has 1 to 7 nodes")
    }
    let user = try ServerUser.needed("rabbitmq")
    let parent = try SandboxHome.parent(options.parentFolder, user: user)
    try await removeAbandoned(in: parent, logger: logger)
    let installation = try RabbitMQInstallation.find()
    let home = try await BlockingExecutor(label: "rabbitmq.sandbox.home").run {
      try SandboxHome(kind, under: parent, user: user)
    }
    let layout = try SandboxLayout(home: home, nodes: options.nodes)
    let sandbox = RabbitMQSandbox(
      options, home: home, user: user, installation: installation, layout: layout, logger: logger)
    do {
      try await sandbox.prepare()
      try await sandbox.start()
      return sandbox
    } catch {
      await Task { try? await sandbox.remove() }.value
      throw error
    }
  }

  /// Makes a broker, runs the body, and removes everything whatever happens.
  public static func withSandbox<Result>(
    _ options: Options = Options(), logger: Logger, isolation: isolated (any Actor)? = #isolation,
    _ body: (RabbitMQSandbox) async throws -> Result
  ) async throws -> Result {
    let sandbox = try await create(options, logger: logger)
    let result: Result
    do {
      result = try await body(sandbox)
    } catch {
      await Task { try? await sandbox.remove() }.value
      throw error
    }
    // Not a child task: cancellation must not skip it.
    try await Task { try await sandbox.remove() }.value
    return result
  }

  /// Ends the servers and removes the folders of sandboxes whose processes have died. Done whenever one is made.
  ///
  /// - Returns: The folders that were removed.
  @discardableResult
  public static func removeAbandoned(in parentFolder: String? = nil, logger: Logger) async throws -> [String] {
    let parent = try SandboxHome.parent(parentFolder, user: .needed("rabbitmq"))
    return try await BlockingExecutor(label: "rabbitmq.sandbox.abandoned").run {
      SandboxHome.removeAbandoned(kind, under: parent, logger: logger)
    }
  }

  private static let kind = SandboxHome.Kind(prefix: "drmq-") { try endServers(marked: $0.name) }

  private static func endServers(marked mark: String, started: ServerProcess? = nil) throws {
    try ServerProcess.killAll(
      ["beam.smp", "epmd", "erl_child_setup", "inet_gethost", "erlexec"], marked: mark, started: started)
  }

  private func prepare() throws {
    try layout.write(options, epmd: installation.epmd)
    try user?.own(home.runFolder)
    try user?.own(home.ownDataFolder)
  }

  // MARK: Life

  /// Starts the nodes, after ``kill()`` or ``stop()``, over what is there.
  ///
  /// - Throws: ``DRError``: `programFailed` with the end of a log; `timedOut`.
  public func start() async throws {
    if mapper == nil || mapper?.howItEnded != nil {
      mapper = try await ServerProcess.start(
        layout.epmd, ["-address", "127.0.0.1", "-port", "\(layout.mapperPort)"], as: user, environment: [:],
        logFile: "\(home.path)/epmd.log")
    }
    for index in layout.nodes.indices where processes[index] == nil { try await launch(index) }
    for index in layout.nodes.indices { try await waitUntilReady(index) }
  }

  /// Starts one node again.
  public func start(node index: Int) async throws {
    guard processes[index] == nil else { return }
    try await launch(index)
    try await waitUntilReady(index)
  }

  private func launch(_ index: Int) async throws {
    processes[index] = try await ServerProcess.start(
      "\(installation.scripts)/rabbitmq-server", [], as: user, environment: environment(index),
      logFile: "\(home.path)/node\(index + 1).log")
  }

  private func environment(_ index: Int) -> [String: String] {
    var environment = layout.environment(index)
    if let flags = options.featureFlags { environment["RABBITMQ_FEATURE_FLAGS"] = flags.joined(separator: ",") }
    return environment
  }

  private func waitUntilReady(_ index: Int) async throws {
    let deadline = ContinuousClock.now + options.startLimit
    var settings = nodes[index]
    settings.connectTimeout = .seconds(5)
    settings.timeLimit = .seconds(10)
    var last: (any Error)?
    while true {
      if let end = processes[index]?.howItEnded {
        throw DRError(.programFailed, "the node ended (\(end)). Its log ends:\n\(logTail(index))", object: home.path)
      }
      do {
        try await AMQPConnection.withConnection(settings, vhost: "/", logger: logger) { _ in }
        let running = (try await ManagementAPI(settings).get("nodes").array ?? []).filter {
          $0.object?["running"] == .bool(true)
        }
        if running.count >= processes.count, try await hasBooted(index) { return }
        last = nil
      } catch let error as DRError {
        last = error
      }
      guard ContinuousClock.now < deadline else {
        throw DRError(
          .timedOut, "the node was not ready within \(options.startLimit). Its log ends:\n\(logTail(index))",
          object: home.path, cause: last)
      }
      try await Task.sleep(for: .milliseconds(100))
    }
  }

  /// Whether a node of a cluster says that it has booted: it listens, and counts as running, a moment before.
  ///
  /// A vhost that is made in that moment is not started on this node (`rabbit_vhost_sup_sup.erl`, `start_on_all_nodes`). The
  /// broker waits 45 seconds for it, answers 500, and keeps the half of a vhost: what asks again is told that all is well.
  private func hasBooted(_ index: Int) async throws -> Bool {
    guard layout.nodes.count > 1 else { return true }
    let asked = try await run("rabbitmqctl", ["eval", "rabbit:is_booted(node())."], node: index)
    return asked.status == 0 && asked.output.contains("true")
  }

  /// The last lines of a node's log.
  public func logTail(_ index: Int = 0) -> String {
    let logs = ["\(home.path)/node\(index + 1).log", "\(layout.folder(index))/log/rabbit.log"]
    return logs.flatMap { path in
      String(decoding: ((try? Data(contentsOf: URL(filePath: path))) ?? Data()).suffix(8 << 10), as: UTF8.self)
        .split(separator: "\n").suffix(8)
    }.joined(separator: "\n")
  }

  /// Kills every process at once, as a power cut would, and leaves the data as it is then.
  ///
  /// What the broker has confirmed is there after the next ``start()``, but for quorum queues that were declared within the
  /// last second: RabbitMQ notes their names only half a second later, and without its note a queue does not come back.
  ///
  /// - Throws: ``DRError`` with `timedOut` if a process survives that.
  public func kill() async throws {
    for process in Array(processes.values) + [mapper].compactMap({ $0 }) where process.howItEnded == nil {
      try Self.endServers(marked: home.name, started: process)
    }
    try Self.endServers(marked: home.name)
    for process in Array(processes.values) + [mapper].compactMap({ $0 }) {
      guard await process.waitForEnd(limit: .seconds(10)) else {
        throw DRError(.timedOut, "the killed broker's end was not reported", object: home.path)
      }
    }
    processes = [:]
    mapper = nil
  }

  /// Kills one node.
  public func kill(node index: Int) async throws {
    guard let process = processes[index] else { return }
    _ = Foundation.kill(process.processID, SIGKILL)
    guard await process.waitForEnd(limit: .seconds(10)) else {
      throw DRError(.timedOut, "the killed node's end was not reported", object: home.path)
    }
    processes[index] = nil
  }

  /// Stops one node where it is, as a machine does that hangs: its connections stay, and nothing answers.
  package func suspend(node index: Int) { signal(index, SIGSTOP) }

  /// Lets a node go on.
  package func resume(node index: Int) { signal(index, SIGCONT) }

  private func signal(_ index: Int, _ number: Int32) {
    guard let process = processes[index], process.howItEnded == nil else { return }
    _ = Foundation.kill(process.processID, number)
  }

  /// Removes everything that the nodes hold, as a lost disk would. Only while they are not running.
  ///
  /// - Throws: ``DRError`` with `destinationInUse` while they run.
  public func wipe() throws {
    guard processes.isEmpty else {
      throw DRError(.destinationInUse, "the broker runs", advice: "kill it first", object: home.path)
    }
    try FileManager.default.removeItem(atPath: home.ownDataFolder)
    try FileManager.default.createDirectory(
      atPath: home.ownDataFolder, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
    try prepare()
  }

  /// Stops the nodes in good order. One that does not stop is killed.
  public func stop() async throws {
    for process in processes.values where process.howItEnded == nil {
      _ = Foundation.kill(process.processID, SIGTERM)
    }
    for process in processes.values { _ = await process.waitForEnd(limit: options.startLimit) }
    try await kill()
  }

  /// Ends the broker and removes everything that is the sandbox's. May be called again.
  public func remove() async throws {
    try await kill()
    try home.remove()
  }

  /// The numbers of the nodes' processes.
  public var processIDs: [Int32] { processes.values.filter { $0.howItEnded == nil }.map(\.processID) }

  /// Runs one of the server's own tools (`rabbitmqctl`, `rabbitmq-queues`, …) against a node.
  package nonisolated func run(
    _ tool: String, _ arguments: [String], node index: Int = 0, limit: Duration = .seconds(60)
  ) async throws -> ProgramResult {
    try await runProgram(
      "\(installation.scripts)/\(tool)", arguments, as: user, environment: layout.environment(index), limit: limit)
  }
}
