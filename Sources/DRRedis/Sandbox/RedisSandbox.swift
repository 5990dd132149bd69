public import DRCore
package import DRSandbox
import Foundation
public import Logging

/// A throw-away Redis server, or a cluster of them: on a socket in a folder of its own, as an unprivileged user, gone
/// without a trace.
///
/// It is made new, or started over a restored data folder. It follows nobody, loads no module, and takes nothing from the
/// configuration of the server that its data came from. If this process dies, the next one that makes a sandbox removes what
/// it left.
///
/// Call ``remove()`` at the end, or use ``withSandbox(_:logger:isolation:_:)``.
public actor RedisSandbox {
  public nonisolated let nodes: [Node]
  package nonisolated let installation: RedisInstallation
  /// The user that the server runs as, if it is not this process's own.
  package nonisolated let user: ServerUser?

  nonisolated let home: SandboxHome
  nonisolated let options: Options
  nonisolated let ownsDataFolder: Bool
  nonisolated let logger: Logger
  private nonisolated let executor = BlockingExecutor(label: "redis.sandbox")
  private var processes: [Int: ServerProcess] = [:]

  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  /// How to reach the server, or the first one of a cluster.
  public nonisolated var settings: RedisConnectionSettings { nodes[0].settings }
  /// The data folder of the server, or of the first one of a cluster.
  public nonisolated var dataFolder: String { nodes[0].dataFolder }

  static let kind = SandboxHome.Kind(prefix: "drrd-") {
    try ServerProcess.killAll(RedisInstallation.programs, marked: $0.name)
  }

  private init(
    home: SandboxHome, nodes: [Node], ownsDataFolder: Bool, installation: RedisInstallation,
    user: ServerUser?,
    options: Options, logger: Logger
  ) {
    self.home = home
    self.nodes = nodes
    self.ownsDataFolder = ownsDataFolder
    self.installation = installation
    self.user = user
    self.options = options
    self.logger = logger
  }

  // MARK: Making one

  /// Makes a new server with no data and starts it.
  ///
  /// - Throws: ``DRError``: `programFailed` if there is no server or it does not start, with the end of its log.
  public static func create(_ options: Options = Options(), logger: Logger) async throws
    -> RedisSandbox
  {
    let sandbox = try await prepare(options, logger: logger)
    do {
      try await sandbox.start()
      return sandbox
    } catch {
      await sandbox.removeAfterFailure()
      throw error
    }
  }

  /// Makes a sandbox with an empty data folder to restore into; ``start(limit:)`` starts the server over what was restored.
  ///
  /// - Parameter dataFolder: Start over this folder, in place; it stays when the sandbox is removed. As root, it is given to
  ///   the server's user.
  /// - Throws: ``DRError``: `programFailed` if there is no server, `invalidConfiguration`, `notWritable`.
  public static func prepare(
    _ options: Options = Options(), dataFolder: String? = nil, logger: Logger
  ) async throws -> RedisSandbox {
    guard dataFolder == nil || options.clusterNodes == 0 else {
      throw DRError(.invalidConfiguration, "a cluster is not started over one data folder")
    }
    if let dataFolder, !dataFolder.hasPrefix("/") {
      throw DRError(
        .invalidConfiguration, "the data folder must be an absolute path", object: dataFolder)
    }
    let user = try ServerUser.needed("redis")
    let parent = try SandboxHome.parent(options.parentFolder, user: user)
    try await removeAbandoned(in: parent, logger: logger)
    let installation = try await RedisInstallation.find()
    let home = try await BlockingExecutor(label: "redis.sandbox.home").run {
      try SandboxHome(kind, under: parent, dataFolder: dataFolder, user: user)
    }
    do {
      let count = max(1, options.clusterNodes)
      let listens = options.listensOnLoopback || options.tls || options.clusterNodes > 0
      let nodes = try (0..<count).map { index in
        let folder =
          count == 1 ? dataFolder ?? home.ownDataFolder : "\(home.ownDataFolder)/node-\(index)"
        let port = listens ? Int(try freePort()) : nil
        var settings = RedisConnectionSettings(socket: "\(home.runFolder)/redis-\(index).sock")
        if options.tls, let port {
          settings.address = .tcp(host: "127.0.0.1", port: port)
          settings.tls = RedisConnectionSettings.TLS(
            authorityFile: "\(home.runFolder)/ca.crt",
            certificateFile: "\(home.runFolder)/client.crt",
            keyFile: "\(home.runFolder)/client.key")
        } else if options.clusterNodes > 0, let port {
          settings.address = .tcp(host: "127.0.0.1", port: port)
        }
        // Kept over a restart: the others know it by that.
        let busPort = options.clusterNodes > 0 ? Int(try freePort()) : nil
        return Node(dataFolder: folder, settings: settings, port: port, busPort: busPort, runFolder: home.runFolder)
      }
      let sandbox = RedisSandbox(
        home: home, nodes: nodes, ownsDataFolder: dataFolder == nil, installation: installation,
        user: user,
        options: options, logger: logger)
      try await sandbox.makeFolders()
      if options.tls { try await sandbox.makeCertificates() }
      return sandbox
    } catch {
      try? home.remove()
      throw error
    }
  }

  /// Makes a new server, runs the body, and removes everything whatever happens.
  ///
  /// - Throws: What ``create(_:logger:)`` throws, or the body.
  public static func withSandbox<Result>(
    _ options: Options = Options(), logger: Logger, isolation: isolated (any Actor)? = #isolation,
    _ body: (RedisSandbox) async throws -> Result
  ) async throws -> Result {
    try await with(create(options, logger: logger), body)
  }

  /// Runs the body with a sandbox, and removes the sandbox whatever happens.
  ///
  /// - Throws: What the body throws; else what kept something from being removed.
  public static func with<Result>(
    _ sandbox: RedisSandbox, isolation: isolated (any Actor)? = #isolation,
    _ body: (RedisSandbox) async throws -> Result
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
  /// - Returns: The folders that were removed.
  /// - Throws: ``DRError`` with `invalidConfiguration` if sandboxes cannot be there.
  @discardableResult
  public static func removeAbandoned(in parentFolder: String? = nil, logger: Logger) async throws
    -> [String]
  {
    let parent = try SandboxHome.parent(parentFolder, user: .needed("redis"))
    return try await BlockingExecutor(label: "redis.sandbox.abandoned").run {
      SandboxHome.removeAbandoned(kind, under: parent, logger: logger)
    }
  }

  // MARK: Using it

  /// Starts the server, also after ``kill()`` or ``stop(saving:)``, and waits until its data is loaded.
  ///
  /// - Parameter limit: How long that may take; nil: the options' limit.
  /// - Throws: ``DRError``: `programFailed` if it does not start, with the end of its log; `timedOut`.
  public func start(limit: Duration? = nil) async throws {
    let limit = limit ?? options.startLimit
    do {
      for index in nodes.indices { try await start(index, limit: limit) }
      if options.clusterNodes > 0 { try await formCluster(limit: limit) }
    } catch {
      try? killServers()
      throw error
    }
  }

  /// Runs one command on a connection of its own.
  ///
  /// - Throws: ``DRError``: `sourceFailed`, also for an error reply; `timedOut`.
  @discardableResult
  package nonisolated func command(_ arguments: String..., node: Int = 0, database: Int = 0)
    async throws -> RESPValue
  {
    var settings = nodes[node].settings
    settings.database = database
    return try await RedisConnection.withConnection(settings, logger: logger) {
      try await $0.command(arguments)
    }
  }

  /// The number of the server's process, while it runs.
  public var processID: Int32? {
    processes[0].flatMap { $0.howItEnded == nil ? $0.processID : nil }
  }

  /// How the server ended, if it did.
  package var howItEnded: String? { processes[0]?.howItEnded }

  /// Kills every process of the servers at once, as a power cut would, and leaves the data folders as they are then.
  ///
  /// - Throws: ``DRError`` with `timedOut` if a process survives that.
  public func kill() async throws {
    try killServers()
    for process in processes.values where !(await process.waitForEnd(limit: .seconds(10))) {
      throw DRError(.timedOut, "the killed server's end was not reported", object: dataFolder)
    }
    processes = [:]
  }

  /// Stops the servers in good order. One that does not stop within the options' limit is killed.
  ///
  /// - Parameter saving: Write an RDB file first.
  /// - Throws: ``DRError`` with `timedOut` if one had to be killed.
  public func stop(saving: Bool = false) async throws {
    var late = false
    for (index, process) in processes where process.howItEnded == nil {
      let connection = try await RedisConnection.connect(nodes[index].settings, logger: logger)
      // It answers only if it refuses.
      if case .error(let error) = try? await connection.send([
        "SHUTDOWN", saving ? "SAVE" : "NOSAVE",
      ]) {
        throw DRError(
          .programFailed, "the server refuses to stop", object: nodes[index].dataFolder,
          cause: error)
      }
      await connection.close()
      if !(await process.waitForEnd(limit: options.startLimit)) { late = true }
    }
    try await kill()
    if late {
      throw DRError(
        .timedOut, "the server did not stop within \(options.startLimit) and was killed")
    }
  }

  /// Ends the servers and removes everything that is the sandbox's. A caller's data folder stays. May be called again.
  ///
  /// - Throws: ``DRError`` if a process or a file cannot be removed.
  public func remove() async throws {
    try await kill()
    try home.remove()
  }

  /// The last lines of the log of the server.
  public var logTail: String { logTail(0) }

  /// Asks the server whether it could do harm: whom it follows, who follows it, what it loaded, where it listens.
  ///
  /// - Throws: ``DRError``: as a connection.
  public nonisolated func harmlessness(logger: Logger) async throws -> [Finding] {
    var findings: [Finding] = []
    for node in nodes {
      try await RedisConnection.withConnection(node.settings, logger: logger) { connection in
        let info = RedisInfo(try await connection.command("INFO", "replication").text ?? "")
        let modules = try await connection.command("MODULE", "LIST").elements ?? []
        let bind = try await connection.command("CONFIG", "GET", "bind").textPairs["bind"] ?? ""
        func add(_ check: String, _ good: Bool, _ evidence: String) {
          findings.append(
            Finding(
              "harmless-\(check)", good ? .passed : .failure, subject: "\(node.settings)",
              evidence: evidence,
              advice: good ? nil : "end this server"))
        }
        add(
          "role", info["role"] == "master",
          "role \(info["role"] ?? "unknown"), follows \(info["master_host"] ?? "nobody")")
        add(
          "replicas", info["connected_slaves"] == "0",
          "\(info["connected_slaves"] ?? "?") replicas follow it")
        add("modules", modules.isEmpty, "\(modules.count) modules")
        add(
          "address", node.port == nil || bind == "127.0.0.1",
          node.port == nil ? "only a socket" : "bound to \(bind)")
      }
    }
    return findings
  }

  // MARK: Inside

  private func makeFolders() throws {
    guard nodes.count > 1 else { return }
    for node in nodes {
      try FileManager.default.createDirectory(
        atPath: node.dataFolder, withIntermediateDirectories: false,
        attributes: [.posixPermissions: 0o700])
      try user?.own(node.dataFolder)
    }
  }

  private func start(_ index: Int, limit: Duration) async throws {
    let node = nodes[index]
    if let process = processes[index], process.howItEnded == nil { return }
    if let user {
      if let obstacle = user.obstacle(onTheWayTo: node.dataFolder + "/x") {
        throw DRError(
          .invalidConfiguration, "the server's user \(user.name) may not enter \(obstacle)",
          advice: "use a data folder elsewhere, or let that user enter", object: node.dataFolder)
      }
      try user.own(node.dataFolder)
    }
    let file = "\(node.runFolder)/redis-\(index).conf"
    guard
      FileManager.default.createFile(
        atPath: file, contents: Data(try configuration(index).utf8),
        attributes: [.posixPermissions: 0o600])
    else { throw DRError(.notWritable, "cannot be written", object: file) }
    try user?.own(file)
    let process = try await ServerProcess.start(
      installation.server, [file], as: user, environment: [:],
      logFile: "\(home.path)/server-\(index).log")
    processes[index] = process
    try await waitUntilLoaded(index, process, limit: limit)
  }

  private func configuration(_ index: Int) throws -> String {
    let node = nodes[index]
    var settings: [(String, String)] = [
      ("dir", node.dataFolder), ("unixsocket", "\(node.runFolder)/redis-\(index).sock"),
      ("unixsocketperm", "700"),
      ("daemonize", "no"), ("logfile", "\"\""), ("bind", "127.0.0.1"), ("protected-mode", "yes"),
      // In the title of the server and of its children: by it they are found.
      ("proc-title-template", "\"{title} \(home.name)\""), ("save", "\"\""),
      ("appendonly", options.appendOnly ? "yes" : "no"), ("port", "0"),
    ]
    if let port = node.port {
      if options.tls {
        settings += [
          ("tls-port", "\(port)"), ("tls-ca-cert-file", "\(node.runFolder)/ca.crt"),
          ("tls-cert-file", "\(node.runFolder)/server.crt"),
          ("tls-key-file", "\(node.runFolder)/server.key"),
          ("tls-replication", "yes"),
        ]
      } else {
        settings.append(("port", "\(port)"))
      }
    }
    if options.clusterNodes > 0 {
      settings += [
        ("cluster-enabled", "yes"), ("cluster-config-file", "nodes.conf"),
        ("cluster-node-timeout", "5000"),
        ("cluster-port", "\(node.busPort ?? 0)"),
      ]
    }
    settings += options.settings.sorted { $0.key < $1.key }.map {
      ($0.key, $0.value.isEmpty ? "\"\"" : $0.value)
    }
    for (name, value) in settings {
      guard !value.contains(where: \.isNewline),
        name.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "-" })
      else {
        throw DRError(
          .invalidConfiguration,
          "'\(name.prefix(40))' is no setting, or its value has more than one line")
      }
    }
    return settings.map { "\($0) \($1)\n" }.joined()
  }

  private func waitUntilLoaded(_ index: Int, _ process: ServerProcess, limit: Duration) async throws {
    let deadline = ContinuousClock.now + limit
    var settings = nodes[index].settings
    settings.connectTimeout = .seconds(5)
    var lastAnswer = "none"
    while true {
      if let end = process.howItEnded {
        throw DRError(
          .programFailed, "the server ended (\(end)). Its log ends:\n\(logTail(index))",
          object: nodes[index].dataFolder)
      }
      do {
        let answer = try await RedisConnection.withConnection(settings, logger: logger) {
          try await $0.send(["PING"])
        }
        if answer == .simple("PONG") { return }
        // A server whose default user has a password is up.
        if case .error(let error) = answer {
          if error.kind == "NOAUTH" || error.kind == "NOPERM" { return }
          lastAnswer = error.kind
        }
      } catch let error as DRError where error.redisError == nil {
        // No socket yet.
        lastAnswer = error.message
      }
      guard ContinuousClock.now < deadline else {
        throw DRError(
          .timedOut,
          "the server was not ready within \(limit); its last answer: \(lastAnswer). Its log ends:\n\(logTail(index))",
          object: nodes[index].dataFolder)
      }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  private func formCluster(limit: Duration) async throws {
    let known = try await command("CLUSTER", "INFO").text ?? ""
    if !known.contains("cluster_slots_assigned:16384") {
      let count = nodes.count
      for index in nodes.indices {
        let (first, last) = (index * 16384 / count, (index + 1) * 16384 / count - 1)
        try await command("CLUSTER", "ADDSLOTSRANGE", "\(first)", "\(last)", node: index)
        try await command("CLUSTER", "SET-CONFIG-EPOCH", "\(index + 1)", node: index)
      }
      for index in nodes.indices.dropFirst() {
        let bus =
          try await command("CONFIG", "GET", "cluster-port", node: index).textPairs["cluster-port"]
          ?? ""
        try await command("CLUSTER", "MEET", "127.0.0.1", "\(nodes[index].port ?? 0)", bus)
      }
    }
    let deadline = ContinuousClock.now + limit
    for index in nodes.indices {
      while true {
        let info = try await command("CLUSTER", "INFO", node: index).text ?? ""
        if info.contains("cluster_state:ok"), info.contains("cluster_known_nodes:\(nodes.count)") {
          break
        }
        guard ContinuousClock.now < deadline else {
          throw DRError(.timedOut, "the cluster was not whole within \(limit): \(info)")
        }
        try await Task.sleep(for: .milliseconds(50))
      }
    }
  }

  /// An authority of its own, and one certificate each for the server and for its clients.
  private func makeCertificates() async throws {
    let folder = home.runFolder
    func openssl(_ arguments: [String]) async throws {
      let result = try await runProgram(
        "/usr/bin/env", ["openssl"] + arguments, limit: .seconds(60))
      guard result.status == 0 else {
        throw DRError(
          .programFailed, "openssl failed: \(result.error)",
          advice: "apt-get install openssl, or brew install openssl")
      }
    }
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout"]
    try await openssl(
      ["req", "-x509", "-days", "2"] + key + [
        "\(folder)/ca.key", "-out", "\(folder)/ca.crt", "-subj", "/CN=sandbox",
      ])
    for name in ["server", "client"] {
      try await openssl(
        ["req"] + key + [
          "\(folder)/\(name).key", "-out", "\(folder)/\(name).csr", "-subj", "/CN=\(name)",
        ])
      let extensions = "\(folder)/\(name).ext"
      try "subjectAltName=IP:127.0.0.1,DNS:localhost".write(
        toFile: extensions, atomically: true, encoding: .utf8)
      try await openssl([
        "x509", "-req", "-days", "2", "-in", "\(folder)/\(name).csr", "-CA", "\(folder)/ca.crt",
        "-CAkey",
        "\(folder)/ca.key", "-CAcreateserial", "-extfile", extensions, "-out",
        "\(folder)/\(name).crt",
      ])
    }
    try user?.own(folder)
  }

  private func killServers() throws {
    for process in processes.values where process.howItEnded == nil {
      _ = Foundation.kill(process.processID, SIGKILL)
    }
    try ServerProcess.killAll(RedisInstallation.programs, marked: home.name, started: processes[0])
  }

  private func logTail(_ index: Int) -> String {
    let log = (try? Data(contentsOf: URL(filePath: "\(home.path)/server-\(index).log"))) ?? Data()
    return String(decoding: log.suffix(16 << 10), as: UTF8.self).split(separator: "\n").suffix(12)
      .joined(separator: "\n")
  }

  /// What failed before is what the caller must hear of; that something was left is for the log.
  private nonisolated func removeAfterFailure() async {
    do {
      try await Task { try await remove() }.value
    } catch {
      logger.info(
        "a sandbox could not be removed",
        metadata: ["sandbox.folder": "\(home.path)", "error": "\(error)"])
    }
  }
}
