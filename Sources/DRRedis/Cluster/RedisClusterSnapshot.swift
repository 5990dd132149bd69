public import DRCore
import Foundation
public import Logging
import NIOCore

/// A snapshot of all shards of a cluster, at one moment.
///
/// Artifacts for each shard: `dump-<n>.rdb`, `changes-<n>.aof` (what it was sent between its data set and the cut, to be
/// loaded after it, as an append-only file), `nodes-<n>.conf` (in the form of the server's own file, so that a node that is
/// restored is who it was), `config-<n>.json` and `acl-<n>.txt` (encrypted, or left out). Restored by ``RedisFileRestorer``,
/// shard by shard, or by ``RedisKeyRestorer`` into any cluster or server.
///
/// Every master sends its data set at its own moment; the stream of each is followed until one cut that is exact across
/// shards: writes are paused for a moment on all, and each says where its stream is. Refused while slots move.
public struct RedisClusterSnapshot: BackupSource {
  public let component: Component
  /// Any node; the others are reached in the same way.
  public var node: RedisConnectionSettings
  /// Pause writes for at most so long to make the cut exact across shards. Nil: no pause, and a write to one shard that was
  /// made after a write to another may be there without it.
  public var writePause: Duration? = .seconds(2)
  /// Where nodes can be reached, if not at the addresses that they announce to each other.
  public var addresses: [String: (host: String, port: Int)] = [:]
  public var saveLimit: Duration = .seconds(3600)
  /// Where what a shard sends waits while the tier is slower, for each shard.
  public var spool = RedisSpool()

  public init(component: Component, node: RedisConnectionSettings) {
    self.component = component
    self.node = node
  }

  public func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
    let masters = try await masters(logger)
    let reached = masters.map { settings(of: $0) }
    let cut = ClusterCut(count: masters.count)
    let shards = try await withThrowingTaskGroup(of: Shard.self) { group in
      for (index, settings) in reached.enumerated() {
        group.addTask {
          try await captureShard(index, settings, writer, cut, logger)
        }
      }
      group.addTask {
        try await cut.waitForAll()
        try await pauseAndCut(reached, cut, logger)
        return Shard(index: -1, position: nil, keys: 0, version: nil, aux: [:])
      }
      var shards: [Shard] = []
      for try await shard in group where shard.index >= 0 { shards.append(shard) }
      return shards.sorted { $0.index < $1.index }
    }
    // Slots that began to move meanwhile, or a failover, would have made the cut worthless.
    let after = try await self.masters(logger)
    guard
      after.map({ [$0.id] + $0.slots.map { "\($0)" } }) == masters.map({ [$0.id] + $0.slots.map { "\($0)" } })
    else {
      throw DRError(
        .sourceFailed, "the cluster changed while it was captured", advice: "take the snapshot again",
        component: component)
    }
    var leftOut: [BackupManifest.Omission] = []
    for (index, settings) in reached.enumerated() {
      let text = try await nodesFile(settings, logger)
      try await writer.write("nodes-\(index).conf", ByteStream(text), expectedLength: Int64(text.readableBytes))
      let facts = try await ServerFacts.ask(settings, logger: logger)
      // The same of all, as a rule.
      for omission in try await facts.write(into: writer, suffix: "-\(index)") where !leftOut.contains(omission) {
        leftOut.append(omission)
      }
    }
    let moment = cut.moment ?? Date()
    let positions = shards.compactMap { shard in shard.position.map { "\(masters[shard.index].id)=\($0)" } }
    return Capture(
      recoveryPoint: RecoveryPoint(time: moment, position: positions.joined(separator: ",")), method: .snapshot,
      serverVersion: shards.first?.version, leftOut: leftOut,
      properties: [
        "mode": "cluster", "exactCut": .bool(writePause != nil), "keys": .integer(shards.reduce(0) { $0 + $1.keys }),
        "shards": .array(
          shards.map { shard in
            let master = masters[shard.index]
            return [
              "id": .string(master.id), "address": .string("\(master.host):\(master.port)"),
              "slots": .array(master.slots.map { .string("\($0.lowerBound)-\($0.upperBound)") }),
              // When the data set was taken: the changes up to the cut come on top.
              "keys": .integer(shard.keys),
              "replicationID": .string(shard.position?.history ?? ""),
              "replicationOffset": .integer(shard.position?.offset ?? 0),
            ]
          }),
      ])
  }

  private struct Shard: Sendable {
    var index: Int
    var position: ReplicationPosition?
    var keys: Int64
    var version: String?
    var aux: [String: String]
  }

  /// The masters, each of which has said itself that none of its slots moves.
  private func masters(_ logger: Logger) async throws -> [RedisClusterNodes.Node] {
    let masters = try await nodes(as: node, logger).masters()
    for master in masters { try await nodes(as: settings(of: master), logger).confirm(master) }
    return masters
  }

  private func nodes(as node: RedisConnectionSettings, _ logger: Logger) async throws -> RedisClusterNodes {
    try await RedisConnection.withConnection(node, logger: logger) {
      try RedisClusterNodes(try await $0.command("CLUSTER", "NODES").text ?? "")
    }
  }

  private func settings(of master: RedisClusterNodes.Node) -> RedisConnectionSettings {
    let place = addresses["\(master.host):\(master.port)"] ?? (master.host, master.port)
    return node.with(host: place.0, port: place.1)
  }

  private func captureShard(
    _ index: Int, _ settings: RedisConnectionSettings, _ writer: any BackupWriter, _ cut: ClusterCut, _ logger: Logger
  ) async throws -> Shard {
    let session = try await ReplicaSession.start(settings, spool: spool, logger: logger)
    do {
      guard case .fullResync(let start) = try await session.next(waiting: settings.timeLimit) else {
        throw DRError(
          .timedOut, "\(settings) did not answer PSYNC within \(settings.timeLimit)",
          advice: "see whether it is loading or saving")
      }
      var snapshot = RedisSnapshot(component: component, server: settings)
      snapshot.saveLimit = saveLimit
      let summary = try await snapshot.store(
        from: session, at: start, settings, as: "dump-\(index).rdb", into: writer)
      // What comes now is kept until it is known how much of it belongs to the snapshot.
      var changes = ByteBuffer()
      cut.arrived()
      while true {
        if let end = cut.offset(index), start.offset + Int64(changes.readableBytes) >= end {
          changes = changes.getSlice(at: changes.readerIndex, length: Int(end - start.offset)) ?? changes
          break
        }
        switch try await session.next(waiting: .milliseconds(20)) {
        case .stream(let bytes):
          changes.writeImmutableBuffer(bytes)
          guard changes.readableBytes <= 1 << 30 else {
            throw DRError(
              .sourceFailed, "over 1 GiB of changes came before the cut", advice: "try again when it is quieter")
          }
        case nil: continue
        default: throw DRError(.malformedData, "something else in the middle of the stream")
        }
      }
      await session.close()
      let end = start.offset + Int64(changes.readableBytes)
      let file = try Self.appendOnlyFile(changes)
      try await writer.write("changes-\(index).aof", ByteStream(file), expectedLength: Int64(file.readableBytes))
      return Shard(
        index: index, position: ReplicationPosition(history: start.history, offset: end), keys: Int64(summary.keys),
        version: summary.aux["redis-ver"], aux: summary.aux)
    } catch {
      await session.close()
      throw error
    }
  }

  /// Writes stop on all shards, and each says where it is.
  private func pauseAndCut(
    _ settings: [RedisConnectionSettings], _ cut: ClusterCut, _ logger: Logger
  ) async throws {
    var connections: [RedisConnection] = []
    defer { for connection in connections { Task { await connection.close() } } }
    for setting in settings { connections.append(try await RedisConnection.connect(setting, logger: logger)) }
    let limit = writePause.map { Int64($0 / .milliseconds(1)) }
    let begin = ContinuousClock.now
    do {
      if let limit {
        for connection in connections { try await connection.command("CLIENT", "PAUSE", "\(limit)", "WRITE") }
      }
      var offsets: [Int64] = []
      for connection in connections {
        let info = RedisInfo(try await connection.command("INFO", "replication").text ?? "")
        guard let offset = info.integer("master_repl_offset") else {
          throw DRError(.sourceFailed, "a master does not say where its stream is")
        }
        offsets.append(offset)
      }
      let paused = begin.duration(to: .now)
      if limit != nil { for connection in connections { try await connection.command("CLIENT", "UNPAUSE") } }
      guard writePause.map({ paused < $0 }) ?? true else {
        throw DRError(
          .timedOut, "asking all shards took \(paused), longer than their writes were paused",
          advice: "pause for longer, or take the snapshot again")
      }
      logger.info("the cut across shards is made", metadata: ["redis.cluster.paused": "\(paused)"])
      cut.make(offsets, at: Date())
    } catch {
      // A pause ends by itself, but must not last longer than needed.
      for connection in connections { _ = try? await connection.send(["CLIENT", "UNPAUSE"]) }
      throw error
    }
  }

  /// Only what changes data.
  private static func appendOnlyFile(_ stream: ByteBuffer) throws -> ByteBuffer {
    var kept = ByteBuffer()
    var scanner = ReplicationCommandScanner()
    try stream.withUnsafeReadableBytes { raw in
      try scanner.scan(raw) { command, size, end in
        if command.changesData { kept.writeBytes(raw[end - size..<end]) }
      }
    }
    guard scanner.isAtBoundary else {
      throw DRError(.malformedData, "the cut lies in the middle of a command", advice: "take the snapshot again")
    }
    return kept
  }

  /// As the server writes it: its view of the nodes, then its epochs.
  private func nodesFile(_ settings: RedisConnectionSettings, _ logger: Logger) async throws -> ByteBuffer {
    try await RedisConnection.withConnection(settings, logger: logger) { connection in
      let nodes = try await connection.command("CLUSTER", "NODES").text ?? ""
      let info = RedisInfo(try await connection.command("CLUSTER", "INFO").text ?? "")
      let epoch = info["cluster_current_epoch"] ?? "0"
      let lines = nodes.split(whereSeparator: \.isNewline).map { "\($0)\n" }.joined()
      return ByteBuffer(string: "\(lines)vars currentEpoch \(epoch) lastVoteEpoch \(epoch)\n")
    }
  }
}

/// Where all shards meet.
private final class ClusterCut: Sendable {
  private struct State {
    var arrived = 0
    var offsets: [Int64] = []
    var moment: Date?
  }

  private let count: Int
  private let state = MutableBox(State())

  init(count: Int) { self.count = count }

  func arrived() { state.withLock { $0.arrived += 1 } }

  func waitForAll() async throws {
    while state.withLock({ $0.arrived }) < count { try await Task.sleep(for: .milliseconds(10)) }
  }

  func make(_ offsets: [Int64], at moment: Date) {
    state.withLock { state in
      state.offsets = offsets
      state.moment = moment
    }
  }

  func offset(_ index: Int) -> Int64? { state.withLock { $0.offsets.isEmpty ? nil : $0.offsets[index] } }
  var moment: Date? { state.withLock { $0.moment } }
}
