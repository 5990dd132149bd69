import DRCore
import Logging
import NIOCore

/// Brings each key to the server that it belongs to: the one server, or the master of its slot.
///
/// `@unchecked Sendable`: one task uses it.
final class KeySender: @unchecked Sendable {
  /// Bytes of commands that are sent together.
  private static let batchSize = 256 << 10

  private struct Target {
    let lane: KeyLane
    var batch = KeyLane.Batch()
    /// The database that the connection is in, once all that was written before has been done.
    var database: Int
  }

  /// Bytes of names and values that were sent.
  private(set) var bytes: Int64 = 0
  private var targets: [Target]
  /// By slot, the number of its target; empty: there is one server.
  private let route: [UInt16]

  private init(_ lanes: [KeyLane], database: Int, route: [UInt16]) {
    targets = lanes.map { Target(lane: $0, database: database) }
    self.route = route
  }

  /// Connects to the server, or to every master of its cluster.
  ///
  /// - Throws: ``DRError``: as a connection; `sourceFailed` if the cluster is not whole or its slots move.
  static func connect(_ server: RedisConnectionSettings, logger: Logger) async throws -> KeySender {
    let first = try await RedisConnection.connect(server, logger: logger)
    do {
      guard case .bulk(let text) = try await first.send(["CLUSTER", "NODES"]) else {
        return KeySender([KeyLane(first)], database: server.database, route: [])
      }
      let masters = try wholeCluster(String(buffer: text))
      await first.close()
      var route = [UInt16](repeating: 0, count: HashSlot.count)
      var lanes: [KeyLane] = []
      do {
        for (index, master) in masters.enumerated() {
          for slot in master.slots.joined() { route[slot] = UInt16(index) }
          // A node that was not told its own address has an empty one.
          let address = master.host.isEmpty ? server : server.with(host: master.host, port: master.port)
          lanes.append(KeyLane(try await RedisConnection.connect(address, logger: logger)))
        }
      } catch {
        for lane in lanes { await lane.stop() }
        throw error
      }
      return KeySender(lanes, database: 0, route: route)
    } catch {
      await first.close()
      throw error
    }
  }

  private static func wholeCluster(_ text: String) throws -> [RedisClusterNodes.Node] {
    do {
      return try RedisClusterNodes(text).masters()
    } catch let error as DRError {
      throw DRError(.sourceFailed, "the cluster takes no keys now", advice: error.advice, cause: error)
    }
  }

  func send(
    _ entry: RDBEntry, _ value: ByteBuffer, as name: ByteBuffer, database: Int, replacing: Bool
  ) async throws {
    let index = route.isEmpty ? 0 : Int(route[HashSlot.of(name)])
    append(entry, value, name, database, replacing, index)
    if targets[index].batch.commands.readableBytes >= KeySender.batchSize { try await flush(index) }
  }

  private func append(
    _ entry: RDBEntry, _ value: ByteBuffer, _ name: ByteBuffer, _ database: Int, _ replacing: Bool, _ index: Int
  ) {
    if targets[index].database != database {
      targets[index].batch.commands.writeRESPCommand(["SELECT", "\(database)"])
      targets[index].batch.keys.append(nil)
      targets[index].database = database
    }
    RestoreCommand.write(
      entry, value: value, as: name, replacing: replacing, into: &targets[index].batch.commands)
    targets[index].batch.keys.append(name)
    bytes += Int64(name.readableBytes + value.readableBytes)
  }

  private func flush(_ index: Int) async throws {
    guard !targets[index].batch.keys.isEmpty else { return }
    let batch = targets[index].batch
    targets[index].batch = KeyLane.Batch()
    targets[index].batch.commands.reserveCapacity(KeySender.batchSize + 4096)
    targets[index].batch.keys.reserveCapacity(batch.keys.count)
    try await targets[index].lane.send(batch)
  }

  /// Sends what is left and waits for all answers.
  func finish() async throws -> KeyLane.Outcome {
    for index in targets.indices { try await flush(index) }
    var all = KeyLane.Outcome()
    for target in targets {
      let outcome = try await target.lane.finish()
      all.restored += outcome.restored
      all.existing += outcome.existing
      all.failed += outcome.failed
      all.failures += outcome.failures
    }
    return all
  }

  /// Restores function libraries on every server, after ``finish()``.
  func restore(functions payload: ByteBuffer, replacing: Bool) async throws {
    for target in targets {
      var command = ByteBuffer()
      command.writeRESPCommand(
        [ByteBuffer(string: "FUNCTION"), ByteBuffer(string: "RESTORE"), payload]
          + [ByteBuffer(string: replacing ? "REPLACE" : "APPEND")])
      try await target.lane.connection.write(command)
      guard case .error(let error) = try await target.lane.connection.reply() else { continue }
      throw DRError(
        .sourceFailed, "the server at \(target.lane.connection.settings) refused the functions",
        advice: "leave the functions out, or have those that are there replaced (--replace)", cause: error)
    }
  }

  func stop() async {
    for target in targets { await target.lane.stop() }
  }
}
