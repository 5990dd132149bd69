import DRCore
import DRPostgres
import DRSandbox
import DRStorage
import DRTestSupport
import ExampleSupport
import Foundation
import Logging
import Synchronization
import Testing

/// `dr-postgres receive-wal` as a process that is killed with `kill -9` at random moments while a server is under load.
///
/// `DR_RECEIVER_KILLS=200` makes a long run of it, `DR_RECEIVER_SEED` another one.
@Suite(.serialized) struct ReceiverKillTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  private static func setting(_ name: String, default value: UInt64) -> UInt64 {
    ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) } ?? value
  }

  @Test(
    "Killed at any moment, it has acknowledged only what is durable, leaves no gap, and what it acknowledged comes back"
  )
  func killed() async throws {
    let kills = Int(Self.setting("DR_RECEIVER_KILLS", default: 12))
    var random = TestData.Random(seed: Self.setting("DR_RECEIVER_SEED", default: 1))
    try await withTemporaryFolder { folder in
      chmod(folder, 0o711)
      let settings = RepositoryConfiguration(
        repository: folder + "/repository", component: try Component(.postgres, "test"))
      try JSONEncoder().encode(settings).write(to: URL(filePath: folder + "/dr.json"))
      let repository = Repository(tier: try await settings.tier(creating: true))
      var options = PostgresSandbox.Options(settings: ["max_wal_size": "64MB", "checkpoint_timeout": "1h"])
      options.walSegmentSize = 1
      try await PostgresSandbox.withSandbox(options, logger: Self.logger) { server in
        // Keeps the server's own WAL, to compare with.
        try await server.query(
          """
          SELECT pg_create_physical_replication_slot('keeper', true);
          CREATE TABLE ledger (id bigserial PRIMARY KEY, filler text)
          """)
        let archive = try await WALArchive.of(
          server.settings, tier: repository.tier, component: settings.component, logger: Self.logger)
        let receiver = ReceiverProcess(folder: folder, server: server.settings)
        let start = try await receiver.prepare()
        try receiver.start()
        let backup = try await repository.backUp(
          PostgresBaseBackup(
            component: settings.component, server: server.settings,
            requiredWAL: .archived(archive, within: .seconds(60))),
          cadence: .daily, logger: Self.logger)
        let load = Load(server.settings, connections: 3)

        var acknowledged = LSN(0)
        for _ in 0..<kills {
          if !receiver.isRunning { try receiver.start() }
          try await Task.sleep(for: .milliseconds(.random(in: 30...1500, using: &random)))
          let before = try await acknowledgedPosition(server)
          receiver.kill()
          // What the server was told last, also by what was on its way.
          acknowledged = max(before, try await settledPosition(server), acknowledged)
          try await expectDurable(archive, from: start, through: acknowledged)
        }

        // It goes on where the archive ends, and what it stored is what the server wrote.
        try receiver.start()
        let position = try await server.query("SELECT pg_current_wal_flush_lsn()").single.flatMap { LSN($0) }
        let now = try #require(position)
        try await eventually("the archive to catch up") { try await acknowledgedPosition(server) >= now }
        try await expectDurable(archive, from: start, through: now)
        try await compare(archive, with: server)

        // The end: receiver and server at once.
        try await Task.sleep(for: .milliseconds(.random(in: 100...700, using: &random)))
        let last = max(now, try await acknowledgedPosition(server))
        receiver.kill()
        try await server.kill()
        let commits = await load.stop()
        try await expectDurable(archive, from: start, through: last)
        let durable = commits.filter { $0.end <= last }
        try #require(durable.count > 100 && durable.count <= commits.count, "\(durable.count) of \(commits.count)")

        let place = folder + "/restored"
        let recovery = RecoverySettings(
          restoreCommand: "\(try install(in: folder)) fetch --config \(folder)/dr.json %f %p")
        _ = try await PostgresRestorer(
          dataFolder: place, recovery: recovery, archive: archive, owner: server.user?.name
        ).restore(from: repository.reader(for: backup), to: .latest, logger: Self.logger)
        if let user = server.user { try user.own(settings.repository) }
        chmod(folder + "/dr.json", 0o644)
        let restored = try await PostgresSandbox.start(
          dataFolder: place, options, until: .promoted, limit: .seconds(120), logger: Self.logger)
        try await PostgresSandbox.with(restored) { restored in
          let rows = try await restored.query("SELECT id FROM ledger")
          let there = Set(rows.compactMap { $0[0].flatMap { Int64($0) } })
          let missing = durable.filter { !there.contains($0.id) }
          #expect(missing.isEmpty, "\(missing.count) of \(durable.count) acknowledged commits are lost")
          print(
            "receiver killed \(kills) times: \(durable.count) of \(commits.count) commits acknowledged as durable, "
              + "\(missing.count) of them lost; \(commits.filter { there.contains($0.id) }.count) came back")
        }
      }
    }
  }

  // MARK: What the server was told

  /// How far the server takes the log for safe.
  private func acknowledgedPosition(_ server: PostgresSandbox) async throws -> LSN {
    let text = try await server.query(
      """
      SELECT greatest(
        (SELECT max(flush_lsn) FROM pg_stat_replication WHERE application_name <> 'keeper'),
        (SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'dr_kill'))
      """
    ).single
    return text.flatMap { LSN($0) } ?? LSN(0)
  }

  /// The same once the connection of the killed process is gone.
  private func settledPosition(_ server: PostgresSandbox) async throws -> LSN {
    try await eventually("the server to see that the receiver is gone") {
      try await server.query("SELECT active FROM pg_replication_slots WHERE slot_name = 'dr_kill'").single == "f"
    }
    return try await acknowledgedPosition(server)
  }

  // MARK: What is stored

  private func expectDurable(_ archive: WALArchive, from start: LSN, through end: LSN) async throws {
    try await archive.waitUntilHolds(
      from: start, through: end, timeline: 1, systemIdentifier: archive.systemIdentifier, within: .zero,
      logger: Self.logger)
  }

  /// Every full segment, byte for byte.
  private func compare(_ archive: WALArchive, with server: PostgresSandbox) async throws {
    let names = try await archive.names()
    #expect(names.count > 3)
    for name in names {
      let stored = try await archive.fetch(name)
      let file = try Data(contentsOf: URL(filePath: "\(server.dataFolder)/pg_wal/\(name)"))
      #expect(stored.readableBytesView.elementsEqual(file), "\(name) differs from the server's")
    }
    let inventory = try await archive.inventory()
    #expect(inventory.segments.values.allSatisfy { $0 == 1 }, "two contents under one name")
  }

  private func install(in folder: String) throws -> String {
    let path = folder + "/dr-wal"
    try FileManager.default.copyItem(atPath: ReceiverProcess.built("dr-wal"), toPath: path)
    chmod(path, 0o755)
    return path
  }
}

/// Commits that a client saw confirmed, with a position at or behind the end of each.
private final class Load: Sendable {
  struct Commit: Sendable {
    var id: Int64
    var end: LSN
  }

  private let tasks: [Task<[Commit], Never>]

  init(_ server: PostgresConnectionSettings, connections: Int) {
    let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
    tasks = (0..<connections).map { _ in
      Task {
        var commits: [Commit] = []
        do {
          let connection = try await PostgresConnection.connect(server, logger: logger)
          while !Task.isCancelled {
            let id = try await connection.query(
              "INSERT INTO ledger (filler) VALUES (repeat(md5(random()::text), 20)) RETURNING id"
            ).single
            let end = try await connection.query("SELECT pg_current_wal_insert_lsn()").single
            guard let id = id.flatMap({ Int64($0) }), let end = end.flatMap({ LSN($0) }) else { break }
            commits.append(Commit(id: id, end: end))
          }
          await connection.close()
        } catch {}
        return commits
      }
    }
  }

  /// Ends it, also when the server has died.
  func stop() async -> [Commit] {
    for task in tasks { task.cancel() }
    var all: [Commit] = []
    for task in tasks { all += await task.value }
    return all
  }
}
