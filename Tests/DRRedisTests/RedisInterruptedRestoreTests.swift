import DRCore
import DRRedis
import DRStorage
import Foundation
import Testing

/// Restores into a running server that do not come to their end, and clients that write meanwhile.
@Suite(.serialized) struct RedisInterruptedRestoreTests {
  /// Loads for seconds, and answers meanwhile.
  private static let slow = ["key-load-delay": "3000", "loading-process-events-interval-bytes": "1024"]

  private static func withBackup(_ body: (Repository, BackupManifest, String) async throws -> Void) async throws {
    try await RedisFixture.withRepository { repository, _ in
      let (manifest, digest) = try await RedisFixture.withServer { server in
        try await RedisFixture.fill(server, keys: 1000)
        let source = RedisSnapshot(component: try RedisFixture.component(), server: server.settings)
        let manifest = try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        return (manifest, try await RedisFixture.digest(server))
      }
      try await body(repository, manifest, digest)
    }
  }

  private static func isLoading(_ server: RedisSandbox) async throws -> Bool {
    try await RedisFixture.info(server, "persistence")["loading"] == "1"
  }

  /// What a restore said that was interrupted once something was so.
  private static func interrupted(
    _ restorer: RedisOnlineRestorer, _ reader: any BackupReader, once isSo: () async throws -> Bool
  ) async throws -> String {
    let said = MutableBox("")
    var restorer = restorer
    restorer.onInterruption = { text in said.withLock { $0 = text } }
    let running = Task { [restorer] in
      _ = try await restorer.restore(from: reader, to: .latest, logger: RedisFixture.logger)
    }
    try await RedisFixture.eventually("the moment to interrupt it", isSo)
    running.cancel()
    let result = await running.result
    #expect(throws: CancellationError.self) { try result.get() }
    return said.value
  }

  /// Told to stop while the target loads: it is made a master again, and what it holds is said.
  @Test func cancelledWhileItLoads() async throws {
    try await Self.withBackup { repository, manifest, digest in
      try await RedisFixture.withServer(RedisFixture.options(Self.slow)) { server in
        let said = try await Self.interrupted(
          RedisOnlineRestorer(server: server.settings), repository.reader(for: manifest)
        ) { try await Self.isLoading(server) }
        let info = try await RedisFixture.info(server)
        #expect(info["role"] == "master")
        let keys = try await RedisFixture.info(server).keysByDatabase.values.reduce(0, +)
        #expect(said.contains("the target is a master"), "\(said)")
        #expect(said.contains("\(keys) keys") && said.contains("What to do: run the restore again"), "\(said)")
        let setting = try await server.command("CONFIG", "GET", "repl-diskless-load").textPairs
        #expect(setting == ["repl-diskless-load": "disabled"])
        if keys > 0 { #expect(try await RedisFixture.digest(server) == digest) }
      }
    }
  }

  /// Told to stop while the data set is on its way: the old data is there.
  @Test func cancelledWhileItIsSent() async throws {
    try await Self.withBackup { repository, manifest, _ in
      try await RedisFixture.withServer { server in
        try await server.command("SET", "precious", "data")
        let before = try await RedisFixture.digest(server)
        var restorer = RedisOnlineRestorer(server: server.settings)
        restorer.existingData = .discard
        let said = try await Self.interrupted(restorer, StallingReader(repository.reader(for: manifest))) {
          try await RedisFixture.info(server)["master_sync_in_progress"] == "1"
        }
        #expect(said.contains("the target is a master and holds what it held before, 1 keys"), "\(said)")
        #expect(try await RedisFixture.info(server)["role"] == "master")
        #expect(try await RedisFixture.digest(server) == before)
      }
    }
  }

  /// The target ends, or stands still, while it loads: that is noticed in seconds, and said.
  @Test(arguments: [SIGKILL, SIGSTOP])
  func theTargetIsGone(signal: Int32) async throws {
    try await Self.withBackup { repository, manifest, _ in
      try await RedisFixture.withServer(RedisFixture.options(Self.slow)) { server in
        let waiting = MutableBox<[String]>([])
        var restorer = RedisOnlineRestorer(server: server.settings)
        restorer.silenceLimit = .seconds(3)
        restorer.progress = { progress in
          if let what = progress.waitingFor { waiting.withLock { $0.append(what) } }
        }
        let process = try #require(await server.processID)
        let running = Task { [restorer] in
          _ = try await restorer.restore(
            from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
        }
        try await RedisFixture.eventually("the target to load") { try await Self.isLoading(server) }
        // Seen to wait for it.
        try await RedisFixture.eventually("progress") { !waiting.value.isEmpty }
        kill(process, signal)
        let begin = ContinuousClock.now
        let result = await running.result
        let time = begin.duration(to: .now)
        if signal == SIGSTOP { kill(process, SIGCONT) }
        let error = #expect(throws: DRError.self) { try result.get() }
        #expect(time < (signal == SIGKILL ? .seconds(10) : .seconds(25)), "\(time)")
        #expect(error?.message.contains("does not answer any more") == true, "\(String(describing: error))")
        #expect(error?.message.contains("it may hold its former data or the backup's") == true)
        #expect(waiting.value.first?.contains("the target to load the data set") == true, "\(waiting.value)")
      }
    }
  }

  /// What a killed restore leaves is known, and taken over only by who may replace it.
  @Test func whatAKilledRestoreLeaves() async throws {
    try await Self.withBackup { repository, manifest, digest in
      try await RedisFixture.withServer { server in
        try await server.command("SET", "precious", "data")
        let listener = try await RedisListener.listen(host: "127.0.0.1")
        try await server.command("REPLICAOF", "127.0.0.1", "\(listener.port)")
        // As long as somebody listens there, it is somebody's replica.
        func refusal(_ change: (inout RedisOnlineRestorer) -> Void = { _ in }) async throws -> DRError {
          var restorer = RedisOnlineRestorer(server: server.settings)
          change(&restorer)
          let online = restorer
          let error = await #expect(throws: DRError.self) {
            _ = try await online.restore(
              from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
          }
          return try #require(error)
        }
        let followed = try await refusal { $0.existingData = .discard }
        #expect(followed.message.contains("its role is slave"), "\(followed)")
        await listener.close()
        let other = try await refusal {
          $0.existingData = .discard
          $0.announcedAddress = "localhost"
        }
        #expect(other.message.contains("its role is slave"), "\(other)")
        let left = try await refusal()
        #expect(left.code == .destinationInUse && left.message.contains("127.0.0.1:\(listener.port)"), "\(left)")
        #expect(left.message.contains("a restore that was killed leaves that") && left.message.contains("1 keys"))
        #expect(left.advice?.contains("--replace") == true && left.advice?.contains("REPLICAOF NO ONE") == true)
        #expect(try await RedisFixture.info(server)["role"] == "slave")

        var restorer = RedisOnlineRestorer(server: server.settings)
        restorer.existingData = .replace(backUpInto: repository)
        _ = try await restorer.restore(
          from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
        #expect(try await RedisFixture.digest(server) == digest)
        let former = try #require(try await repository.catalog(of: manifest.component).latest(for: manifest.component))
        #expect(former.properties["keys"]?.integer == 1)
      }
    }
  }

  /// A client that counts up until it is refused, and what the server said last.
  private static func counting(_ server: RedisSandbox) -> Task<Int64, Never> {
    Task {
      var last: Int64 = 0
      _ = try? await RedisConnection.withConnection(server.settings, logger: RedisFixture.logger) { connection in
        while !Task.isCancelled {
          guard let value = try await connection.send(["INCR", "counter"]).integer else { return }
          last = value
          try await Task.sleep(for: .milliseconds(1))
        }
      }
      return last
    }
  }

  /// Clients write until their server is replaced: whatever it confirmed is in the backup of what is replaced.
  @Test func writesWaitForTheReplacement() async throws {
    try await Self.withBackup { repository, manifest, digest in
      try await RedisFixture.withServer(RedisFixture.options(["rdb-key-save-delay": "1000"])) { server in
        try await RedisFixture.fill(server, keys: 500)
        let client = Self.counting(server)
        try await RedisFixture.eventually("the client to write") {
          try await server.command("GET", "counter").text.flatMap { Int($0) } ?? 0 > 10
        }
        var restorer = RedisOnlineRestorer(server: server.settings)
        restorer.existingData = .replace(backUpInto: repository)
        _ = try await restorer.restore(
          from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
        let confirmed = await client.value
        #expect(confirmed > 10)
        #expect(try await RedisFixture.digest(server) == digest)
        let former = try #require(try await repository.catalog(of: manifest.component).latest(for: manifest.component))
        _ = try await RedisFixture.restoredDigest(former, repository, to: .immediate) { copy in
          let kept = try await copy.command("GET", "counter").text
          #expect(kept == "\(confirmed)")
        }
      }
    }
  }

  /// Who may not make them wait: a target that was written to since it was backed up is not replaced.
  @Test func writesThatCouldNotWait() async throws {
    try await Self.withBackup { repository, manifest, _ in
      try await RedisFixture.withServer(RedisFixture.options(["rdb-key-save-delay": "1000"])) { server in
        try await RedisFixture.fill(server, keys: 500)
        try await server.command(
          "ACL", "SETUSER", "restorer", "on", ">geheim", "+@all", "-client|pause", "~*", "&*")
        var settings = server.settings
        (settings.user, settings.password) = ("restorer", .value("geheim"))
        var restorer = RedisOnlineRestorer(server: settings)
        restorer.existingData = .replace(backUpInto: repository)
        let client = Self.counting(server)
        try await RedisFixture.eventually("the client to write") {
          try await server.command("GET", "counter").text.flatMap { Int($0) } ?? 0 > 10
        }
        let online = restorer
        let error = await #expect(throws: DRError.self) {
          _ = try await online.restore(
            from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
        }
        #expect(error?.code == .destinationInUse, "\(String(describing: error))")
        #expect(error?.message.contains("written to the target after it was backed up") == true)
        #expect(error?.advice?.contains("+client|pause") == true)
        // Counted, not guessed.
        #expect(error?.message.contains("commands were written") == true, "\(String(describing: error))")
        // It went on all the time.
        let now = try await server.command("GET", "counter").text
        try await RedisFixture.eventually("the client to go on") {
          try await server.command("GET", "counter").text != now
        }
        client.cancel()
        _ = await client.value
        #expect(try await RedisFixture.info(server)["role"] == "master")
        try await RedisFixture.eventually("the server to be quiet") {
          try await RedisFixture.info(server, "persistence")["rdb_bgsave_in_progress"] == "0"
        }
        // Nobody writes: without that right it is replaced all the same, and keys that expire are no writes.
        try await server.command("SET", "expiring", "x", "PX", "300")
        _ = try await online.restore(
          from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
      }
    }
  }

  /// An empty target that is no longer empty when it is told to follow.
  @Test func anEmptyTargetThatIsWrittenTo() async throws {
    try await Self.withBackup { repository, manifest, _ in
      try await RedisFixture.withServer { server in
        guard case .unix(let socket) = server.settings.address else {
          throw DRError(.invalidConfiguration, "the server has no socket")
        }
        let program = server.installation.path("redis-cli")
        var restorer = RedisOnlineRestorer(server: server.settings)
        restorer.onStep = { step in
          guard step == .checked else { return }
          let client = Process()
          client.executableURL = URL(filePath: program)
          client.arguments = ["-s", socket, "SET", "precious", "data"]
          client.standardOutput = FileHandle.nullDevice
          try? client.run()
          client.waitUntilExit()
        }
        let online = restorer
        let error = await #expect(throws: DRError.self) {
          _ = try await online.restore(
            from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
        }
        #expect(error?.code == .destinationInUse, "\(String(describing: error))")
        #expect(error?.message.contains("1 keys were written to it meanwhile") == true)
        let (kept, info) = try await (server.command("GET", "precious").text, RedisFixture.info(server))
        #expect(kept == "data" && info["role"] == "master")
      }
    }
  }

  /// What a target says of its own files is the cause; where it says nothing, what it may be.
  @Test func causesOfABrokenLoad() {
    func cause(_ now: String) -> (cause: String, advice: String) {
      BrokenLoad.cause(now: RedisInfo(now), before: RedisInfo("run_id:a"), size: 4711)
    }
    #expect(cause("run_id:b").cause.contains("was started again"))
    let full = cause("run_id:a\naof_last_write_status:err\nrdb_last_bgsave_status:ok")
    #expect(full.cause.contains("aof_last_write_status:err") && full.advice.contains("free at least 4711 bytes"))
    let unknown = cause("run_id:a\naof_last_write_status:ok\nrdb_last_bgsave_status:ok")
    #expect(unknown.cause.contains("names no cause") && unknown.advice.contains("free at least 4711 bytes"))
  }
}

/// Its second read, after the check, stands still in the middle.
private struct StallingReader: BackupReader {
  let inner: any BackupReader
  let reads = MutableBox(0)

  init(_ inner: any BackupReader) { self.inner = inner }

  var manifest: BackupManifest { inner.manifest }

  func read(_ artifact: BackupManifest.Artifact) async throws -> ByteStream {
    let number = reads.withLock { reads in
      reads += 1
      return reads
    }
    guard number == 2 else { return try await inner.read(artifact) }
    let part = try await inner.read(artifact, range: 0..<artifact.rawSize / 2)
    return ByteStream {
      var iterator = part.makeAsyncIterator()
      if let piece = try await iterator.next() { return piece }
      try await Task.sleep(for: .seconds(60))
      return nil
    }
  }

  func read(_ artifact: BackupManifest.Artifact, range: Range<Int64>) async throws -> ByteStream {
    try await inner.read(artifact, range: range)
  }
}
