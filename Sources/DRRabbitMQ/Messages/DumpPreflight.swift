import DRCore
import Foundation

/// Why a queue's messages are not dumped: each is a way in which a dump would harm it, or could not be whole. The name
/// overrides it, where it can be overridden.
public struct DumpRefusal: RawRepresentable, Hashable, Sendable, Codable, CustomStringConvertible {
  public let rawValue: String
  public init(rawValue: String) { self.rawValue = rawValue }
  public var description: String { rawValue }

  /// Returning the messages could raise one's delivery count over the queue's limit: the broker would drop it.
  public static let deliveryLimit = DumpRefusal(rawValue: "delivery-limit")
  /// So many messages were returned before that a dump which is cut short would put the first behind the others.
  public static let order = DumpRefusal(rawValue: "order")
  /// The broker would load more than its memory has room for.
  public static let memory = DumpRefusal(rawValue: "memory")
  /// More messages than can be held at once in their order.
  public static let depth = DumpRefusal(rawValue: "depth")
  /// Held messages do not count for max-length: publishers would push the oldest out when they come back.
  public static let maxLength = DumpRefusal(rawValue: "max-length")
  /// A consumer has the queue to itself.
  public static let exclusiveConsumer = DumpRefusal(rawValue: "exclusive-consumer")
  /// The dump would wait behind the active consumer, and become it when that one leaves.
  public static let singleActiveConsumer = DumpRefusal(rawValue: "single-active-consumer")
  /// Another connection owns the queue.
  public static let exclusiveQueue = DumpRefusal(rawValue: "exclusive-queue")
  /// The queue does not run.
  public static let state = DumpRefusal(rawValue: "state")
  /// A node is short of memory or disk.
  public static let alarm = DumpRefusal(rawValue: "alarm")

  /// What the broker itself would refuse cannot be overridden.
  package var canBeOverridden: Bool {
    ![Self.exclusiveQueue, .exclusiveConsumer, .state].contains(self)
  }

  package static let all: [DumpRefusal] = [
    deliveryLimit, order, memory, depth, maxLength, exclusiveConsumer, singleActiveConsumer, exclusiveQueue, state,
    alarm,
  ]

  /// - Throws: ``DRError`` with `invalidConfiguration` for a name that is none, or that cannot be overridden.
  public static func override(_ name: String) throws -> DumpRefusal {
    guard let refusal = all.first(where: { $0.rawValue == name && $0.canBeOverridden }) else {
      throw DRError(
        .invalidConfiguration, "'\(name.prefix(40))' is no refusal that can be overridden",
        advice: "use " + all.filter(\.canBeOverridden).map(\.rawValue).joined(separator: ", "))
    }
    return refusal
  }
}

/// What a preflight found against a dump.
package struct DumpObstacle: Hashable, Sendable {
  package var refusal: DumpRefusal
  package var evidence: String
  package var advice: String
}

/// What the memory of the node that holds a queue has room for.
package struct NodeRoom: Hashable, Sendable {
  package var memoryLeft: Int64?
  package var hasAlarm: Bool

  package init(memoryLeft: Int64?, hasAlarm: Bool) {
    self.memoryLeft = memoryLeft
    self.hasAlarm = hasAlarm
  }

  package static func read(_ api: ManagementAPI) async throws -> [String: NodeRoom] {
    var rooms: [String: NodeRoom] = [:]
    for node in try await api.get("nodes").array ?? [] {
      guard let members = node.object, let name = members["name"]?.string else { continue }
      var left: Int64?
      if let limit = members["mem_limit"]?.integer, let used = members["mem_used"]?.integer { left = limit - used }
      rooms[name] = NodeRoom(
        memoryLeft: left,
        hasAlarm: members["mem_alarm"] == .bool(true) || members["disk_free_alarm"] == .bool(true))
    }
    return rooms
  }
}

/// Whether a queue can be dumped without harm. Pure: facts in, obstacles out.
package enum DumpPreflight {
  /// The largest prefetch of one consumer, and how many consumers keep the order.
  package static let prefetch = 65_535
  package static let consumers = 32
  /// Messages a second of the slowest queue that was measured: a lazy classic one.
  private static let slowest: Int64 = 17_000
  /// What that gives within half of the broker's default `consumer_timeout`.
  package static let longestClassic: Int64 = 15_000_000

  /// - Parameters:
  ///   - ready: As the queue itself says, now; the management API lags.
  ///   - knownDeliveryCount: The highest count of any message, where the caller knows it from the last dump.
  package static func obstacles(
    _ queue: RabbitMQQueue, ready: Int64, rooms: [String: NodeRoom], brokerVersion: String,
    knownDeliveryCount: Int64? = nil
  ) -> [DumpObstacle] {
    var obstacles: [DumpObstacle] = []
    func add(_ refusal: DumpRefusal, _ evidence: String, _ advice: String) {
      obstacles.append(DumpObstacle(refusal: refusal, evidence: evidence, advice: advice))
    }
    if rooms.values.contains(where: \.hasAlarm) {
      add(.alarm, "a node has a memory or disk alarm", "see that it ends first: a dump needs memory")
    }
    if queue.exclusive {
      add(.exclusiveQueue, "it belongs to one connection, and goes with it", "leave it out")
    }
    // A stream is read without taking anything.
    guard queue.kind != .stream else { return obstacles }
    if !["running", "idle", "unknown"].contains(queue.state) {
      add(.state, "its state is '\(queue.state)'", "bring its node back, or find a new leader for it")
    }
    if queue.hasExclusiveConsumer {
      add(.exclusiveConsumer, "a consumer has it to itself", "stop that consumer for the time of the dump, or tap it")
    }
    if queue.isSingleActiveConsumer, queue.consumers > 0 {
      add(
        .singleActiveConsumer, "it has a single active consumer, and \(queue.consumers) consumers",
        "stop them for the time of the dump, or tap it")
    }
    if ready > Int64(prefetch * consumers), queue.kind == .quorum {
      add(
        .depth, "\(ready) messages, and \(prefetch * consumers) can be held in their order",
        "let consumers drain it, or tap it")
    }
    if ready > longestClassic, queue.kind == .classic {
      add(
        .depth,
        "\(ready) messages, which may take longer to read than the broker lets a consumer hold them (30 minutes)",
        "let consumers drain it, or tap it")
    }
    // From 3.12 on a queue can have one of its own; the broker's own cannot be asked for.
    if let timeout = queue.limit("consumer-timeout"), ready / slowest > timeout / 2000 {
      add(
        .depth,
        "\(ready) messages may take longer to read than its consumer-timeout of \(timeout) ms lets them be held",
        "raise that, let consumers drain it, or tap it")
    }
    memory(queue, ready, rooms, add)
    length(queue, ready, add)
    order(queue, ready, add)
    if ready > 0, let limit = queue.deliveryLimit(brokerVersion: brokerVersion) {
      let bound = knownDeliveryCount ?? deliveryBound(queue, ready)
      let seen =
        bound.map { "a message may have been returned \($0) times" }
        ?? "how often messages were returned cannot be known"
      if (bound ?? .max) > limit - 1 {
        add(
          .deliveryLimit, "its delivery-limit is \(limit), \(seen), and a dump returns each once more",
          queue.hasCurrentCounts ? "raise the limit, let consumers drain it, or tap it" : unwatched)
      }
    }
    return obstacles
  }

  /// Whether a dump that is cut short would change the order, if all messages had been returned before.
  package static func mayLoseOrder(_ queue: RabbitMQQueue, ready: Int64) -> Bool {
    queue.kind == .quorum && ready > Int64(prefetch)
  }

  private static let unwatched =
    "let the user configure, write and read '^dr[.]probe[.]' and write to amq.default, so that its counts can be watched; or "
    + "tap it"

  /// A quorum queue gives what was returned before anything else, and puts what it takes back behind what was returned before
  /// (`rabbit_fifo.erl`: `returns`). So a dump keeps the order only if it holds all of that at once, whenever it ends: what its
  /// first consumer is given in one go.
  private static func order(_ queue: RabbitMQQueue, _ ready: Int64, _ add: (DumpRefusal, String, String) -> Void) {
    guard mayLoseOrder(queue, ready: ready) else { return }
    let bound = returnedBound(queue, ready)
    guard (bound ?? .max) > Int64(prefetch) else { return }
    let seen =
      bound.map { "as many as \($0) may have been returned before" } ?? "how many were returned before cannot be known"
    add(
      .order,
      "of \(ready) messages \(seen), and a dump that is cut short would put the first \(prefetch) of these behind the others",
      queue.hasCurrentCounts
        ? "let consumers drain it, tap it, or override where a dump will not be cut short or the order does not matter"
        : unwatched)
  }

  /// How many messages that were returned can be in a queue at most, by the broker's own counts; nil: they tell nothing.
  ///
  /// Each was delivered and is neither acknowledged nor gone at its delivery. A redelivery is of a message that was delivered
  /// before, and what was acknowledged after a redelivery may have been delivered first before the counts began: so the
  /// larger of the two numbers, not their sum, is what certainly does not count.
  package static func returnedBound(_ queue: RabbitMQQueue, _ ready: Int64) -> Int64? {
    guard queue.hasCurrentCounts, queue.publishes >= ready + queue.unacknowledged else { return nil }
    return min(ready, max(0, queue.deliveries - max(queue.acknowledgements, queue.redeliveries)))
  }

  /// How often any message can have been returned at most, by the broker's own counts; nil: they tell nothing.
  ///
  /// A message that was returned c times was delivered c times, all but the first as a redelivery. Counts start anew when a
  /// node does: only if as many messages came in since as are there now do they speak of all of these.
  package static func deliveryBound(_ queue: RabbitMQQueue, _ ready: Int64) -> Int64? {
    guard queue.hasCurrentCounts, queue.publishes >= ready + queue.unacknowledged else { return nil }
    return queue.deliveries == 0 ? 0 : min(queue.deliveries, queue.redeliveries + 1)
  }

  /// Held messages make the broker load them. Measured with 600,000 of 1 KiB on 3.10: 4.3 GB for a classic queue, 1.3 GB
  /// for a quorum queue.
  package static func memoryNeeded(_ kind: RabbitMQQueue.Kind, messages: Int64, bytes: Int64) -> Int64 {
    kind == .classic ? bytes + messages * 6300 : bytes + messages * 1200
  }

  private static func memory(
    _ queue: RabbitMQQueue, _ ready: Int64, _ rooms: [String: NodeRoom],
    _ add: (DumpRefusal, String, String) -> Void
  ) {
    guard let left = queue.node.flatMap({ rooms[$0]?.memoryLeft }) ?? rooms.values.compactMap(\.memoryLeft).min()
    else { return }
    let needed = memoryNeeded(queue.kind, messages: ready, bytes: queue.readyBytes)
    guard needed > left / 10 * 7 else { return }
    add(
      .memory,
      "\(ready) messages of \(queue.readyBytes) bytes would take about \(needed >> 20) MiB in the broker, and "
        + "\(max(0, left) >> 20) MiB are left under its watermark",
      "raise vm_memory_high_watermark, let consumers drain it, or tap it")
  }

  private static func length(_ queue: RabbitMQQueue, _ ready: Int64, _ add: (DumpRefusal, String, String) -> Void) {
    guard !queue.refusesWhenFull else { return }
    if let most = queue.limit("max-length"), ready > most / 2 {
      add(
        .maxLength, "\(ready) of at most \(most) messages are there, and what publishers add would push the oldest out",
        "stop the publishers for the time of the dump and override, or tap it")
    } else if let most = queue.limit("max-length-bytes"), queue.readyBytes > most / 2 {
      add(
        .maxLength,
        "\(queue.readyBytes) of at most \(most) bytes are there, and what publishers add would push the oldest out",
        "stop the publishers for the time of the dump and override, or tap it")
    }
  }
}
