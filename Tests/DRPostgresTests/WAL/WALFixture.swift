import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Synchronization
import Testing

/// What the tests of WAL share.
enum WALFixture {
  static func component() throws -> Component { try Component(.postgres, "test") }

  /// Segments of 1 MiB, so that a little load fills many.
  static func server(_ settings: [String: String] = [:]) -> PostgresSandbox.Options {
    var options = PostgresSandbox.Options(settings: [
      "max_wal_size": "8MB", "min_wal_size": "2MB", "checkpoint_timeout": "1h",
    ])
    options.settings.merge(settings) { $1 }
    options.walSegmentSize = 1
    return options
  }

  static func withServer<R>(
    _ settings: [String: String] = [:], _ body: (PostgresSandbox, String) async throws -> R
  ) async throws -> R {
    try await withTemporaryFolder { folder in
      chmod(folder, 0o711)
      return try await PostgresSandbox.withSandbox(server(settings), logger: BackupFixture.logger) { server in
        try await server.query(
          "CREATE TABLE ledger (id bigserial PRIMARY KEY, at timestamptz DEFAULT now(), filler text)")
        return try await body(server, folder)
      }
    }
  }

  static func archive(
    of server: PostgresSandbox, _ tier: any StorageTier, encoding: Encoding = Encoding(),
    decoding: Decoding = Decoding()
  ) async throws -> WALArchive {
    try await WALArchive.of(
      server.settings, tier: tier, component: component(), encoding: encoding, decoding: decoding,
      logger: BackupFixture.logger)
  }

  static func options(_ change: (inout WALReceiver.Options) -> Void = { _ in }) -> WALReceiver.Options {
    var options = WALReceiver.Options(slot: "dr_test")
    options.partialInterval = .milliseconds(200)
    options.longestPause = .milliseconds(500)
    options.silenceLimit = .seconds(20)
    change(&options)
    return options
  }

  /// About a megabyte of WAL in several transactions.
  static func write(_ server: PostgresSandbox, megabytes: Int = 1) async throws {
    for _ in 0..<megabytes * 8 {
      try await server.query(
        "INSERT INTO ledger (filler) SELECT repeat(md5(random()::text), 30) FROM generate_series(1, 110)")
    }
  }

  /// An archive as a folder of plain files, which a server's `cp` can read.
  static func plainFiles(of archive: WALArchive, in folder: String) async throws -> String {
    let plain = "\(folder)/plain-\(UUID().uuidString)"
    mkdir(plain, 0o755)
    let inventory = try await archive.inventory()
    let partial = inventory.partials.keys.map { "\($0)" }
    for name in try await archive.names() + partial {
      try Data((try await archive.fetch(name)).readableBytesView).write(to: URL(filePath: "\(plain)/\(name)"))
      chmod("\(plain)/\(name)", 0o644)
    }
    return plain
  }

  /// A moment on a server's clock, between two commits.
  static func moment(_ server: PostgresSandbox) async throws -> Date {
    try await Task.sleep(for: .milliseconds(5))
    let text = try await server.query("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").single
    try await Task.sleep(for: .milliseconds(5))
    return Date(timeIntervalSince1970: try #require(text.flatMap { Double($0) }) / 1_000_000)
  }

  static func position(_ server: PostgresSandbox) async throws -> LSN {
    let text = try await server.query(
      "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END"
    ).single
    return try #require(text.flatMap { LSN($0) })
  }

  /// Asks until the answer is yes. The limit is only there so that nothing hangs.
  static func eventually(
    _ what: String, within limit: Duration = .seconds(60), _ isSo: () async throws -> Bool
  ) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !isSo() {
      guard ContinuousClock.now < deadline else { throw DRError(.timedOut, "waited in vain for: \(what)") }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  /// The full segments that are there, and that they are what the server has.
  ///
  /// - Parameter server: It must still have them all.
  static func expectEqual(
    _ archive: WALArchive, _ server: PostgresSandbox, timeline: UInt32 = 1
  ) async throws -> [WALSegmentName] {
    let inventory = try await archive.inventory()
    let names = inventory.segments.keys.filter { $0.timeline == timeline }.sorted { $0.number < $1.number }
    for name in names {
      let stored = try await archive.fetch("\(name)")
      let file = try Data(contentsOf: URL(fileURLWithPath: "\(server.dataFolder)/pg_wal/\(name)"))
      #expect(stored.readableBytesView.elementsEqual(file), "\(name) differs from the server's")
      #expect(inventory.segments[name] == 1)
      #expect(inventory.partials[name] == nil, "what there was of \(name) before it was full is still there")
      let scan = stored.withUnsafeReadableBytes { WALScanner.scan($0, as: name) }
      #expect(scan.isComplete, "\(name) does not scan to its end")
    }
    for (before, after) in zip(names, names.dropFirst()) {
      #expect(after.number == before.number + 1, "a gap between \(before) and \(after)")
    }
    return names
  }
}

/// A receiver at work, and what it said.
final class RunningReceiver: Sendable {
  private let points = Mutex<[RecoveryPoint]>([])
  private let task: Task<Void, any Error>
  let log = LogRecorder()

  init(_ archive: WALArchive, _ server: PostgresSandbox, _ options: WALReceiver.Options = WALFixture.options()) throws {
    let receiver = try WALReceiver(
      archive: archive, server: server.settings, options: options, logger: BackupFixture.logger)
    let (sink, logger) = (Sink(), log.logger)
    task = Task { try await receiver.follow(logger: logger) { point in sink.take(point) } }
    sink.connect { [weak self] point in self?.points.withLock { $0.append(point) } }
  }

  /// Stands between the task, which starts before there is a `self`, and the points.
  private final class Sink: Sendable {
    private struct State {
      var early: [RecoveryPoint] = []
      var forward: (@Sendable (RecoveryPoint) -> Void)?
    }
    private let state = Mutex(State())

    func take(_ point: RecoveryPoint) {
      state.withLock { state in
        if let forward = state.forward { forward(point) } else { state.early.append(point) }
      }
    }

    func connect(_ forward: @escaping @Sendable (RecoveryPoint) -> Void) {
      state.withLock { state in
        state.early.forEach(forward)
        state.forward = forward
      }
    }
  }

  var all: [RecoveryPoint] { points.withLock { $0 } }

  /// The last position that was said to be durable.
  var durable: LSN { all.last.flatMap { LSN($0.position) } ?? LSN(0) }

  func waitUntilDurable(_ position: LSN) async throws {
    do {
      try await WALFixture.eventually("everything up to \(position) to be durable") { durable >= position }
    } catch let error as DRError {
      throw DRError(error.code, "\(error.message) (now \(durable)); the receiver's log:\n\(log.text.suffix(3000))")
    }
  }

  /// Cancels it, and gives what it threw.
  func stop() async -> Result<Void, any Error> {
    task.cancel()
    return await task.result
  }

  /// Waits for it to end by itself.
  func end(within limit: Duration = .seconds(60)) async throws -> Result<Void, any Error> {
    let ended = MutableBox(false)
    let watcher = Task {
      let result = await task.result
      ended.withLock { $0 = true }
      return result
    }
    try await WALFixture.eventually("the receiver to end", within: limit) { ended.value }
    return await watcher.value
  }

  func cancel() { task.cancel() }
}

/// Keeps what was logged.
final class LogRecorder: Sendable {
  private let lines = Mutex<[String]>([])

  var text: String { lines.withLock { $0.joined(separator: "\n") } }

  func contains(_ part: String) -> Bool { lines.withLock { $0.contains { $0.contains(part) } } }

  var logger: Logger { Logger(label: "test") { _ in Handler(recorder: self) } }

  private struct Handler: LogHandler {
    let recorder: LogRecorder
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      recorder.lines.withLock { $0.append("\(event.level) \(event.message) \(event.metadata ?? [:])") }
    }
  }
}

/// A tier that can be told to fail, to stand still, or to be gone for good, as if the process had been killed.
final class UnreliableTier: StorageTier {
  private struct State {
    var failing = false
    var held = false
    /// How many more changes succeed.
    var changesLeft = Int.max
  }

  private let tier: any StorageTier
  private let state = Mutex(State())

  init(_ tier: any StorageTier) { self.tier = tier }

  var name: String { tier.name }
  var capabilities: TierCapabilities { tier.capabilities }

  func fail(_ failing: Bool) { state.withLock { $0.failing = failing } }
  func hold(_ held: Bool) { state.withLock { $0.held = held } }
  func die(after changes: Int) { state.withLock { $0.changesLeft = changes } }

  private func pass() async throws {
    while state.withLock({ $0.held }) { try await Task.sleep(for: .milliseconds(20)) }
    if state.withLock({ $0.failing }) { throw DRError(.tierUnavailable, "the test's tier is away") }
  }

  /// A change: from the last one that succeeds on, none ends.
  private func change() async throws {
    try await pass()
    let isDead = state.withLock { state in
      if state.changesLeft > 0 { state.changesLeft -= 1 } else { return true }
      return false
    }
    while isDead { try await Task.sleep(for: .milliseconds(20)) }
  }

  func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    try await change()
    return try await tier.put(key, body, options)
  }

  func delete(_ key: ObjectKey) async throws {
    try await change()
    try await tier.delete(key)
  }

  func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    try await pass()
    return try await tier.get(key, range: range)
  }

  func head(_ key: ObjectKey) async throws -> ObjectInfo? {
    try await pass()
    return try await tier.head(key)
  }

  func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    try await pass()
    return try await tier.list(prefix: prefix, after: after, limit: limit)
  }

  func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    try await tier.removeAbandonedUploads(olderThan: date)
  }
}
