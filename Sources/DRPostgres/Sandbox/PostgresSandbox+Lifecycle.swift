import DRCore
import DRSandbox
import Foundation

extension PostgresSandbox {
  /// Starts the server, after ``prepare(_:logger:)`` and a restore, a ``kill()`` or a ``stop(_:)``.
  ///
  /// - Parameters:
  ///   - readiness: When to return.
  ///   - limit: How long that may take; nil: the options' limit.
  /// - Throws: ``DRError``: `destinationInUse` if a server runs on the data folder; `programFailed` if this one does not
  ///   start or its recovery fails, with the end of its log; `timedOut`.
  public func start(until readiness: Readiness = .answering, limit: Duration? = nil) async throws {
    let limit = limit ?? options.startLimit
    let deadline = ContinuousClock.now + limit
    if let file = PostmasterFile(dataFolder: dataFolder), file.isAlive {
      throw DRError(
        .destinationInUse, "a server may be running on the data folder: process \(file.processID)",
        advice: "stop it; if that process is no server, remove postmaster.pid", object: dataFolder)
    }
    try handOver()
    let configuration = SandboxConfiguration(
      majorVersion: installation.majorVersion, runFolder: home.runFolder, name: home.name, port: settings.port ?? 5432,
      options: options, isHarmless: isHarmless, isDurable: options.isDurable || !ownsDataFolder,
      minimums: try await minimums())
    try configuration.check()
    try write(configuration.file, "postgresql.conf")
    try write(configuration.hostBasedAuthentication, "pg_hba.conf")
    try write("", "pg_ident.conf")
    process = try await ServerProcess.start(
      installation.path("postgres"), ["-D", dataFolder] + configuration.arguments, as: user,
      environment: options.environment, logFile: "\(home.path)/server.log")
    do {
      try await wait(until: readiness, deadline: deadline, limit: limit)
      try await setPassword()
    } catch {
      // Not a cancellable step: a server that did not become what was asked for must not go on.
      try killServer()
      throw error
    }
  }

  /// Waits until recovery has ended and the server takes writes.
  ///
  /// - Throws: As ``start(until:limit:)``.
  public func waitForPromotion(limit: Duration) async throws {
    try await wait(until: .promoted, deadline: .now + limit, limit: limit)
    try await setPassword()
  }

  /// Kills every process of the server at once, as a power cut would, and leaves the data folder as it is then.
  ///
  /// - Throws: ``DRError`` with `timedOut` if a process survives that.
  public func kill() async throws {
    try killServer()
    if let process, !(await process.waitForEnd(limit: .seconds(10))) {
      throw DRError(.timedOut, "the killed server's end was not reported", object: dataFolder)
    }
    process = nil
  }

  /// Stops the server in good order. A server that does not stop within the options' limit is killed.
  ///
  /// - Throws: ``DRError`` with `timedOut` if it had to be killed.
  public func stop(_ mode: StopMode = .fast) async throws {
    guard let process else { return }
    if process.howItEnded == nil {
      _ = Foundation.kill(process.processID, mode == .fast ? SIGINT : SIGQUIT)
    }
    let ended = await process.waitForEnd(limit: options.startLimit)
    // Also after a good end: an immediate stop can leave a process for a moment.
    try await kill()
    if !ended {
      throw DRError(
        .timedOut, "the server did not stop within \(options.startLimit) and was killed", object: dataFolder)
    }
  }

  /// Ends the server and removes everything that is the sandbox's. A caller's data folder stays. May be called again.
  ///
  /// - Throws: ``DRError`` if a process or a file cannot be removed.
  public func remove() async throws {
    try await kill()
    try home.remove()
  }

  /// The last lines of the server's log.
  public var logTail: String {
    let log = (try? Data(contentsOf: URL(filePath: "\(home.path)/server.log"))) ?? Data()
    return String(decoding: log.suffix(16 << 10), as: UTF8.self).split(separator: "\n").suffix(12)
      .joined(separator: "\n")
  }

  func initialize() async throws {
    var arguments = [
      "-D", dataFolder, "-U", options.superuser, "--encoding=UTF8", "--locale=C", "--auth-local=trust",
      "--auth-host=reject", "--no-sync", "--wal-segsize=\(options.walSegmentSize)",
    ]
    if options.dataChecksums {
      arguments.append("--data-checksums")
    } else if installation.majorVersion >= 18 {
      arguments.append("--no-data-checksums")
    }
    let result = try await runProgram(
      installation.path("initdb"), arguments, as: user, limit: options.startLimit)
    guard result.status == 0 else {
      throw DRError(
        .programFailed, "initdb failed: \(result.error.trimmingCharacters(in: .whitespacesAndNewlines))",
        object: dataFolder)
    }
  }

  private func killServer() throws {
    try PostgresSandbox.killServer(
      SandboxHome.Remains(name: home.name, runFolder: home.runFolder, dataFolder: dataFolder), started: process)
  }

  /// Makes the data folder what the server insists on: its user's, and nobody else's.
  private func handOver() throws {
    guard FileManager.default.fileExists(atPath: "\(dataFolder)/PG_VERSION") else {
      throw DRError(.invalidConfiguration, "this is no PostgreSQL data folder", object: dataFolder)
    }
    if let user {
      if let obstacle = user.obstacle(onTheWayTo: dataFolder) {
        throw DRError(
          .invalidConfiguration, "the server's user \(user.name) may not enter \(obstacle)",
          advice: "use a data folder elsewhere, or let that user enter", object: dataFolder)
      }
      try user.own(dataFolder)
      for folder in tablespaces() {
        // Only what this process has just restored: a tablespace of somebody else's is not to be taken.
        var status = stat()
        if stat(folder, &status) == 0, status.st_uid == geteuid() { try user.own(folder) }
      }
    }
    guard chmod(dataFolder, 0o700) == 0 else {
      throw DRError(.notWritable, "the mode cannot be set: \(lastError())", object: dataFolder)
    }
  }

  /// Where tablespaces are, and where recovery will link them to.
  private func tablespaces() -> [String] {
    let links = (try? FileManager.default.contentsOfDirectory(atPath: "\(dataFolder)/pg_tblspc")) ?? []
    let linked = links.compactMap {
      try? FileManager.default.destinationOfSymbolicLink(atPath: "\(dataFolder)/pg_tblspc/\($0)")
    }
    let map = (try? String(contentsOfFile: "\(dataFolder)/tablespace_map", encoding: .utf8)) ?? ""
    let mapped = map.split(separator: "\n").compactMap { line in
      line.firstIndex(of: " ").map { String(line[line.index(after: $0)...]) }
    }
    return (linked + mapped).filter { $0.hasPrefix("/") }
  }

  private func minimums() async throws -> [String: Int] {
    guard isHarmless || !ownsDataFolder else { return [:] }
    var minimums = try await ControlData.read(dataFolder, with: installation).minimums
    let slots = (try? FileManager.default.contentsOfDirectory(atPath: "\(dataFolder)/pg_replslot")) ?? []
    minimums["max_replication_slots"] = max(10, slots.count)
    return minimums
  }

  private func write(_ text: String, _ name: String) throws {
    let path = "\(home.runFolder)/\(name)"
    guard
      FileManager.default.createFile(
        atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600])
    else { throw DRError(.notWritable, "cannot be written", object: path) }
    try user?.own(path)
  }

  // MARK: Waiting

  private func wait(until readiness: Readiness, deadline: ContinuousClock.Instant, limit: Duration) async throws {
    var lastAnswer = "none"
    while true {
      if let process, let end = process.howItEnded {
        throw DRError(.programFailed, "the server ended (\(end)). Its log ends:\n\(logTail)", object: dataFolder)
      }
      switch try await ask() {
      case .up where readiness == .answering, .promoted: return
      case .up: lastAnswer = "in recovery"
      case .paused where readiness == .promoted:
        throw DRError(
          .programFailed, "recovery is paused and will not end by itself. The server's log ends:\n\(logTail)",
          advice: "set recovery_target_action to promote; if the log speaks of insufficient settings, raise them",
          object: dataFolder)
      case .paused: return
      case .notYet(let why): lastAnswer = why
      }
      guard ContinuousClock.now < deadline else {
        throw DRError(
          .timedOut,
          "the server was not ready within \(limit); its last answer: \(lastAnswer). Its log ends:\n\(logTail)",
          object: dataFolder)
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  private enum Answer {
    case up, paused, promoted
    case notYet(String)
  }

  private func ask() async throws -> Answer {
    var settings = settings.with(database: "template1")
    settings.connectTimeout = .seconds(5)
    settings.timeLimit = .seconds(10)
    do {
      let row = try await PostgresConnection.withConnection(settings, logger: logger) {
        try await $0.query(
          "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END")
      }.first
      if row?[0] == "f" { return .promoted }
      return row?[1] == "t" ? .paused : .up
    } catch let error as DRError {
      // 57P03: starting up, or not consistent yet; 53300: all taken for now; 57P01: promotion ends connections;
      // none: no socket yet.
      guard error.code == .timedOut || [nil, "57P03", "53300", "57P01"].contains(error.sqlState) else { throw error }
      return .notYet(error.message)
    }
  }
}

extension PostgresSandbox {
  static let kind = SandboxHome.Kind(prefix: "drpg-") { try killServer($0) }

  /// Kills every process of a sandbox's server and removes the shared memory that this leaves. `initdb` runs servers too.
  private static func killServer(_ home: SandboxHome.Remains, started: ServerProcess? = nil) throws {
    // A caller's data folder may have been started by somebody else since.
    let isOwn = home.dataFolder.hasPrefix((home.runFolder as NSString).deletingLastPathComponent + "/")
    let file = PostmasterFile(dataFolder: home.dataFolder)
      .flatMap { isOwn || $0.socketFolder == home.runFolder ? $0 : nil }
    try ServerProcess.killAll(
      ["postgres", "initdb"], marked: home.name, first: file?.processID, started: started)
    file?.removeSharedMemory()
  }

  /// The version that a data folder belongs to.
  static func majorVersion(ofDataFolder folder: String) throws -> Int {
    guard let text = try? String(contentsOfFile: "\(folder)/PG_VERSION", encoding: .utf8),
      let version = Int(text.trimmingCharacters(in: .whitespacesAndNewlines))
    else { throw DRError(.invalidConfiguration, "this is no PostgreSQL data folder", object: folder) }
    return version
  }
}
