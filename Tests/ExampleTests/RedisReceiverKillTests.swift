import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import ExampleSupport
import Foundation
import Logging
import NIOCore
import Testing

/// `dr-redis receive` as a process that is killed with `kill -9` at random moments while a server is under load.
///
/// `DR_RECEIVER_KILLS=200` makes a long run of it, `DR_RECEIVER_SEED` another one.
@Suite(.serialized) struct RedisReceiverKillTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
  private static let connections = 3

  private static func setting(_ name: String, default value: UInt64) -> UInt64 {
    ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) } ?? value
  }

  @Test(
    "Killed at any moment, it has acknowledged only what is durable, leaves no gap, and what WAIT confirmed comes back")
  func killed() async throws {
    let kills = Int(Self.setting("DR_RECEIVER_KILLS", default: 12))
    var random = TestData.Random(seed: Self.setting("DR_RECEIVER_SEED", default: 1))
    try await withTemporaryFolder { folder in
      let settings = RepositoryConfiguration(
        repository: folder + "/repository", component: try Component(.redis, "test"))
      try JSONEncoder().encode(settings).write(to: URL(filePath: folder + "/dr.json"))
      let repository = Repository(tier: try await settings.tier(creating: true))
      let archive = RedisLogArchive(tier: repository.tier, component: settings.component)
      let options = RedisSandbox.Options(settings: ["repl-backlog-size": "256mb", "repl-diskless-sync-delay": "0"])
      try await RedisSandbox.withSandbox(options, logger: Self.logger) { server in
        var receivers = [try Self.start(folder, server, 0)]
        try await Self.eventually("the snapshot") { receivers[0].said.contains("committed") }
        let backup = try #require(
          try await repository.catalog(of: settings.component).latest(for: settings.component))
        let load = ConfirmedLoad(server.settings, connections: Self.connections)

        var acknowledged: Int64 = 0
        for round in 1...kills {
          try await Task.sleep(for: .milliseconds(.random(in: 30...1500, using: &random)))
          acknowledged = max(acknowledged, try await Self.acknowledged(server))
          try await Self.kill(receivers[round - 1])
          let reach = try #require(try await archive.reach(of: backup))
          #expect(reach >= acknowledged, "kill \(round)")
          // Nor does it say that more was durable than is.
          let wrong = try await RedisLogCheck(archive: archive, backups: [backup], readsAll: false)
            .verify(logger: Self.logger).filter { $0.severity == .failure }
          #expect(wrong.isEmpty, "kill \(round): \(wrong)")
          receivers.append(try Self.start(folder, server, round))
        }
        // It goes on where the log ends.
        let now = try await Self.position(server)
        try await Self.eventually("the log to catch up") { try await Self.acknowledged(server) >= now }
        try await Task.sleep(for: .milliseconds(.random(in: 100...1500, using: &random)))

        // The end: receiver and server at once.
        try await Self.kill(receivers[kills])
        try await server.kill()
        let writers = await load.stop()
        #expect(receivers.allSatisfy { !$0.said.contains("GAP") })
        let confirmed = writers.reduce(0) { $0 + $1.confirmed }
        try #require(writers.allSatisfy { $0.confirmed > 0 } && confirmed > 100, "\(writers)")

        try await RedisSandbox.withSandbox(logger: Self.logger) { restored in
          _ = try await RedisOnlineRestorer(server: restored.settings, archive: archive).restore(
            from: repository.reader(for: backup), to: .latest, logger: Self.logger)
          let there = try await Self.ledger(restored)
          for (writer, came) in zip(writers, there) {
            #expect(came >= writer.confirmed && came <= writer.written, "\(came) came back of \(writer)")
          }
          print(
            "receiver killed \(kills) times: \(confirmed) of \(writers.reduce(0) { $0 + $1.written }) transactions "
              + "confirmed by WAIT, \(zip(writers, there).count { $1 < $0.confirmed }) writers lost one; "
              + "\(there.reduce(0, +)) came back")
        }
      }
    }
  }

  @Test("One that stood still gives no moment to what waited for it, and refuses one in that time")
  func stoodStill() async throws {
    try await withTemporaryFolder { folder in
      let settings = RepositoryConfiguration(
        repository: folder + "/repository", component: try Component(.redis, "test"))
      try JSONEncoder().encode(settings).write(to: URL(filePath: folder + "/dr.json"))
      let repository = Repository(tier: try await settings.tier(creating: true))
      let archive = RedisLogArchive(tier: repository.tier, component: settings.component)
      let options = RedisSandbox.Options(settings: ["repl-diskless-sync-delay": "0"])
      try await RedisSandbox.withSandbox(options, logger: Self.logger) { server in
        let receiver = try Self.start(folder, server, 0)
        try await Self.eventually("the snapshot") { receiver.said.contains("committed") }
        let backup = try #require(
          try await repository.catalog(of: settings.component).latest(for: settings.component))
        func write(_ value: String) async throws -> Int64 {
          try await server.command("SET", "a", value)
          return try await Self.position(server)
        }
        func wait(for position: Int64) async throws {
          try await Self.eventually("offset \(position)") { try await Self.acknowledged(server) >= position }
        }
        let first = try await write("1")
        try await wait(for: first)
        let before = Date()
        // Its last tick is after that.
        try await Task.sleep(for: .milliseconds(1300))
        receiver.signal(SIGSTOP)
        try await Task.sleep(for: .milliseconds(300))
        let second = try await write("2")
        let within = Date()
        try await Task.sleep(for: .milliseconds(3200))
        receiver.signal(SIGCONT)
        try await wait(for: second)
        try await Task.sleep(for: .milliseconds(300))
        let third = try await write("3")
        try await wait(for: third)
        let after = Date()
        // The log goes beyond that moment.
        try await wait(for: try await write("4"))
        try await Self.kill(receiver)

        let earlier = try await RedisReplay.find(backup, to: .time(before), in: archive)
        let later = try await RedisReplay.find(backup, to: .time(after), in: archive)
        #expect(earlier?.end.offset == first && later?.end.offset == third)
        let error = await #expect(throws: DRError.self) {
          _ = try await RedisReplay.find(backup, to: .time(within), in: archive)
        }
        #expect(error?.code == .targetUnreachable && error?.message.contains("has no times between") == true)
        #expect(error?.advice?.contains("from \(first) to \(second) ") == true, "\(String(describing: error))")
      }
    }
  }

  private static func start(_ folder: String, _ server: RedisSandbox, _ round: Int) throws -> ChildProcess {
    guard case .unix(let socket) = server.settings.address else {
      throw DRError(.invalidConfiguration, "the server has no socket")
    }
    return try ChildProcess(
      ChildProcess.program("dr-redis"),
      [
        "receive", "--config", folder + "/dr.json", "--server", "unix://\(socket)", "--partial-interval", "0.1",
        "--lease-seconds", "1",
      ], output: "\(folder)/receiver-\(round).log")
  }

  private static func kill(_ receiver: ChildProcess) async throws {
    receiver.signal(SIGKILL)
    let status = try await receiver.wait()
    // It ran until then: it had not ended by itself.
    #expect(status == 128 + SIGKILL, "\(receiver.said)")
  }

  // MARK: What the server says

  private static func replication(_ server: RedisSandbox) async throws -> RedisInfo {
    RedisInfo(try await server.command("INFO", "replication").text ?? "")
  }

  private static func position(_ server: RedisSandbox) async throws -> Int64 {
    try #require(try await replication(server).integer("master_repl_offset"))
  }

  /// How far the server takes the changes for safe: what the newest of its replicas has said.
  private static func acknowledged(_ server: RedisSandbox) async throws -> Int64 {
    let info = try await replication(server)
    return (0..<(info.integer("connected_slaves") ?? 0)).compactMap { info.parts("slave\($0)")["offset"] }
      .compactMap { Int64($0) }.max() ?? 0
  }

  /// How many transactions of each writer are there: all up to that number, and each whole.
  private static func ledger(_ server: RedisSandbox) async throws -> [Int] {
    var counts: [Int] = []
    for writer in 0..<connections {
      let entries = try await server.command("XRANGE", "ledger:\(writer)", "-", "+").elements ?? []
      let sequences = entries.compactMap { $0.elements?.last?.textPairs["sequence"].flatMap { Int($0) } }
      #expect(sequences == Array(1...max(1, sequences.count)), "writer \(writer) has a hole")
      #expect(try await server.command("GET", "last:\(writer)").integer == sequences.last.map { Int64($0) })
      counts.append(sequences.count)
    }
    return counts
  }

  private static func eventually(_ what: String, _ isSo: () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(60)
    while try await !isSo() {
      guard ContinuousClock.now < deadline else { throw DRError(.timedOut, "waited in vain for: \(what)") }
      try await Task.sleep(for: .milliseconds(20))
    }
  }
}

/// Transactions of which the server says, now and then, that a replica has all of them.
private final class ConfirmedLoad: Sendable {
  struct Writer: Sendable {
    /// Sent; of the last it is not known whether it was done.
    var written = 0
    /// Confirmed by `WAIT`: through this one, all are said to be safe.
    var confirmed = 0
  }

  private let tasks: [Task<Writer, Never>]

  init(_ server: RedisConnectionSettings, connections: Int) {
    let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
    tasks = (0..<connections).map { number in
      Task {
        var writer = Writer()
        do {
          try await RedisConnection.withConnection(server, logger: logger) { connection in
            while !Task.isCancelled {
              for _ in 0..<10 { try await ConfirmedLoad.write(&writer, number, connection) }
              let through = writer.written
              if try await connection.command("WAIT", "1", "1500").integer ?? 0 > 0 { writer.confirmed = through }
            }
          }
        } catch {}
        return writer
      }
    }
  }

  private static func write(_ writer: inout Writer, _ number: Int, _ connection: RedisConnection) async throws {
    writer.written += 1
    let words = [
      ["MULTI"], ["XADD", "ledger:\(number)", "*", "sequence", "\(writer.written)"],
      ["SET", "last:\(number)", "\(writer.written)"], ["EXEC"],
    ]
    var commands = ByteBuffer()
    for command in words { commands.writeRESPCommand(command) }
    try await connection.write(commands)
    for reply in try await connection.replies(words.count) {
      if case .error(let error) = reply { throw error }
    }
  }

  /// Ends it, also when the server has died.
  func stop() async -> [Writer] {
    for task in tasks { task.cancel() }
    var all: [Writer] = []
    for task in tasks { all.append(await task.value) }
    return all
  }
}
