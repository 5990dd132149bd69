import DRCore
import DRRabbitMQ
import Testing

/// Facts in, obstacles out: without a broker.
struct PreflightTests {
  private static func queue(_ changes: [String: JSONValue]) throws -> RabbitMQQueue {
    var members: [String: JSONValue] = [
      "vhost": "/", "name": "q", "type": "classic", "durable": true, "state": "running", "messages_ready": 10,
      "messages_unacknowledged": 0, "consumers": 0, "message_bytes_ready": 10_240, "node": "n1@localhost",
      "message_stats": ["publish": 10],
    ]
    members.merge(changes, uniquingKeysWith: { $1 })
    return try #require(RabbitMQQueue(.object(members)))
  }

  private static func obstacles(
    _ changes: [String: JSONValue], ready: Int64 = 10, left: Int64 = 1 << 30, alarm: Bool = false,
    version: String = "3.10.8", known: Int64? = nil
  ) throws -> [DumpRefusal] {
    DumpPreflight.obstacles(
      try queue(changes), ready: ready,
      rooms: ["n1@localhost": NodeRoom(memoryLeft: left, hasAlarm: alarm)], brokerVersion: version,
      knownDeliveryCount: known
    ).map(\.refusal)
  }

  @Test("A queue that a dump cannot harm is not refused")
  func harmless() throws {
    for type in ["classic", "quorum", "stream"] { #expect(try Self.obstacles(["type": .string(type)]).isEmpty) }
    #expect(try Self.obstacles(["consumers": 3]).isEmpty)
    #expect(try Self.obstacles(["arguments": ["x-max-length": 1000]]).isEmpty)
    #expect(try Self.obstacles(["arguments": ["x-max-length": 12, "x-overflow": "reject-publish"]]).isEmpty)
    #expect(try Self.obstacles(["type": "stream", "arguments": ["x-max-length-bytes": 5]], ready: 9_000_000).isEmpty)
  }

  @Test("Each way of harm is refused by its name")
  func harmful() throws {
    #expect(try Self.obstacles(["exclusive": true]) == [.exclusiveQueue])
    #expect(try Self.obstacles(["state": "down"]) == [.state])
    #expect(try Self.obstacles(["consumer_details": [["exclusive": true]], "consumers": 1]) == [.exclusiveConsumer])
    #expect(
      try Self.obstacles(["arguments": ["x-single-active-consumer": true], "consumers": 1]) == [.singleActiveConsumer])
    #expect(try Self.obstacles(["arguments": ["x-single-active-consumer": true]]).isEmpty)
    #expect(try Self.obstacles(["arguments": ["x-max-length": 12]]) == [.maxLength])
    #expect(try Self.obstacles(["effective_policy_definition": ["max-length-bytes": 12_000]]) == [.maxLength])
    #expect(try Self.obstacles([:], alarm: true) == [.alarm])
    let deep: [String: JSONValue] = ["type": "quorum", "message_stats": ["publish": 3_000_000]]
    #expect(try Self.obstacles(deep, ready: 3_000_000, left: 1 << 40) == [.depth])
    #expect(try Self.obstacles([:], ready: 16_000_000, left: 1 << 40) == [.depth])
    let impatient: [String: JSONValue] = ["arguments": ["x-consumer-timeout": 60_000]]
    #expect(try Self.obstacles(impatient, ready: 1_000_000, left: 1 << 40) == [.depth])
    #expect(try Self.obstacles(impatient, ready: 100_000, left: 1 << 40).isEmpty)
    // 600,000 messages of 1 KiB took 4.3 GB of a classic queue's node, 1.3 GB of a quorum queue's.
    let many: [String: JSONValue] = [
      "message_bytes_ready": 614_400_000, "message_stats": ["publish": 600_000],
    ]
    #expect(try Self.obstacles(many, ready: 600_000, left: 5 << 30) == [.memory])
    #expect(try Self.obstacles(many, ready: 600_000, left: 8 << 30).isEmpty)
    #expect(
      try Self.obstacles(many.merging(["type": "quorum"], uniquingKeysWith: { $1 }), ready: 600_000, left: 3 << 30)
        .isEmpty)
  }

  @Test("Headroom under a delivery-limit must be proved by the broker's own counts")
  func deliveryLimit() throws {
    func limited(_ limit: Int64, _ statistics: [String: JSONValue]) -> [String: JSONValue] {
      ["type": "quorum", "arguments": ["x-delivery-limit": .integer(limit)], "message_stats": .object(statistics)]
    }
    #expect(try Self.obstacles(limited(3, ["publish": 10])).isEmpty)
    #expect(try Self.obstacles(limited(3, ["publish": 10, "deliver_get": 10])).isEmpty)
    #expect(
      try Self.obstacles(limited(3, ["publish": 10, "deliver_get": 20, "redeliver": 10])) == [.deliveryLimit])
    #expect(
      try Self.obstacles(limited(3, ["publish": 10, "deliver_get": 20, "redeliver": 10]), known: 2).isEmpty)
    #expect(try Self.obstacles(limited(3, ["publish": 10]), known: 3) == [.deliveryLimit])
    // Counts that began after some messages had come tell nothing of these.
    #expect(try Self.obstacles(limited(3, ["publish": 9])) == [.deliveryLimit])
    #expect(try Self.obstacles(limited(3, [:])) == [.deliveryLimit])
    #expect(try Self.obstacles(limited(0, ["publish": 10])) == [.deliveryLimit])
    // What may be of some seconds ago tells nothing either.
    var stale = try Self.queue(limited(3, ["publish": 10]))
    stale.hasCurrentCounts = false
    let unwatched = DumpPreflight.obstacles(stale, ready: 10, rooms: [:], brokerVersion: "3.10.8").map(\.refusal)
    #expect(unwatched == [.deliveryLimit])
    // From 4.0 on every quorum queue has a limit of 20.
    let returned: [String: JSONValue] = [
      "type": "quorum", "message_stats": ["publish": 10, "deliver_get": 300, "redeliver": 290],
    ]
    #expect(try Self.obstacles(returned).isEmpty)
    #expect(try Self.obstacles(returned, version: "4.0.2") == [.deliveryLimit])
    #expect(try Self.obstacles(["type": "quorum", "message_stats": [:]], ready: 0, version: "4.0.2").isEmpty)
  }

  @Test("A quorum queue that may hold more returned messages than a consumer can is refused: order must be proved")
  func order() throws {
    func refusals(_ statistics: [String: JSONValue], ready: Int64 = 100_000) throws -> [DumpRefusal] {
      try Self.obstacles(
        ["type": "quorum", "message_stats": .object(statistics)], ready: ready, left: 1 << 40)
    }
    #expect(try refusals(["publish": 100_000]).isEmpty)
    #expect(try refusals(["publish": 100_000, "deliver_get": 65_535]).isEmpty)
    #expect(try refusals(["publish": 100_000, "deliver_get": 65_536]) == [.order])
    #expect(try refusals(["publish": 65_535, "deliver_get": 500_000, "redeliver": 9], ready: 65_535).isEmpty)
    // Consumers that are at work, and acknowledge: with, and without a word.
    #expect(try refusals(["publish": 900_000, "deliver_get": 800_000, "ack": 790_000]).isEmpty)
    #expect(try refusals(["publish": 900_000, "deliver_get": 800_000, "deliver_no_ack": 790_000]).isEmpty)
    #expect(try refusals(["publish": 900_000, "deliver_get": 800_000, "ack": 700_000]) == [.order])
    // Returned ten times each, but few.
    #expect(try refusals(["publish": 100_000, "deliver_get": 550_000, "redeliver": 500_000]).isEmpty)
    // Acknowledged after a redelivery: the first delivery may have been before the counts began.
    let older: [String: JSONValue] = [
      "publish": 900_000, "deliver_get": 200_000, "redeliver": 100_000, "ack": 100_000,
    ]
    #expect(try refusals(older) == [.order])
    // Counts that began after some messages had come tell nothing.
    #expect(try refusals(["publish": 99_999]) == [.order])
    #expect(try Self.obstacles(["message_stats": ["publish": 0]], ready: 100_000, left: 1 << 40).isEmpty)
    var stale = try Self.queue(["type": "quorum", "message_stats": ["publish": 100_000]])
    stale.hasCurrentCounts = false
    let unwatched = DumpPreflight.obstacles(stale, ready: 100_000, rooms: [:], brokerVersion: "3.10.8").map(\.refusal)
    #expect(unwatched == [.order])
  }

  @Test("What the broker itself would refuse cannot be overridden")
  func overrides() throws {
    #expect(try DumpRefusal.override("max-length") == .maxLength)
    #expect(try DumpRefusal.override("order") == .order)
    for name in ["exclusive-queue", "state", "no-such-thing"] {
      #expect(throws: DRError.self) { try DumpRefusal.override(name) }
    }
  }
}
