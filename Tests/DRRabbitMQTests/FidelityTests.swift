import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Values of all 18 field types, nested ones among them.
let everyFieldType: AMQPTable = [
  "bool": .bool(true), "int8": .int8(-8), "uint8": .uint8(200), "int16": .int16(-1600), "uint16": .uint16(60_000),
  "int32": .int32(-320_000), "uint32": .uint32(4_000_000_000), "int64": .int64(.min), "uint64": .uint64(.max - 7),
  "float": .float(1.5), "double": .double(-2.25), "decimal": .decimal(12_345, scale: 2),
  "string": .string("grüße"), "bytes": .bytes([0, 255, 10]), "timestamp": .timestamp(1_700_000_000),
  "array": .array([.int32(1), .string("two"), .array([.bool(false)]), .void]),
  "table": .table(["inner": .table(["deep": .decimal(1, scale: 0)]), "x": .double(0.5)]), "void": .void,
]

func everyProperty(user: String) -> AMQPProperties {
  var properties = AMQPProperties()
  properties.contentType = "application/json"
  properties.contentEncoding = "gzip"
  properties.headers = everyFieldType
  properties.deliveryMode = 2
  properties.priority = 3
  properties.correlationID = "c-1"
  properties.replyTo = "answers"
  properties.expiration = "86400000"
  properties.messageID = "m-1"
  properties.timestamp = 1_700_000_001
  properties.type = "order"
  properties.userID = user
  properties.appID = "shop"
  properties.clusterID = "cluster"
  return properties
}

/// How a broker gives headers back that it has read and written anew: unsigned 64-bit numbers as signed ones of the same
/// bits, all others as they were, in any order.
///
/// Seen on the wire with RabbitMQ 3.10, by a plain client too: a classic queue never does so; a stream and the firehose always;
/// a quorum queue from the second delivery on, and at the first with messages of few properties.
private func rewritten(_ table: AMQPTable?) -> Set<AMQPTable.Entry> {
  Set(
    (table?.entries ?? []).map { entry in
      if case .uint64(let value) = entry.value { return .init(entry.name, .int64(Int64(bitPattern: value))) }
      return entry
    })
}

/// Expects the properties of a message whose headers the broker has written anew.
func expectRewritten(_ message: ArchivedMessage, _ original: AMQPProperties) throws {
  var (got, expected) = (try message.decodedProperties(), original)
  #expect(Set(got.headers?.entries ?? []) == rewritten(expected.headers))
  #expect(got.headers?.entries.count == expected.headers?.entries.count)
  got.headers = nil
  expected.headers = nil
  #expect(got == expected)
}

extension RabbitMQTests {
  @Test("All 18 field types and 14 properties survive a dump and a restore", arguments: ["classic", "quorum"])
  func everyTypeSurvives(type: String) async throws {
    try await TestBroker.with { broker in
      try await broker.declare("typed", type)
      try await broker.declare("other", type)
      try await broker.connected { connection in
        try await connection.declareExchange("things", type: "topic", durable: true, autoDelete: false)
        try await connection.bind(queue: "typed", to: "things", routingKey: "a.*")
      }
      let properties = everyProperty(user: broker.settings.user)
      var empty = AMQPProperties()
      empty.deliveryMode = 1
      let large = ByteBuffer(repeating: 0xA5, count: 3 << 20)
      let sent = [
        TestBroker.message(properties, ByteBuffer(bytes: [0, 1, 2, 255])), TestBroker.message(empty, ByteBuffer()),
        TestBroker.message(properties, large),
      ]
      try await broker.publish(sent, to: "a.b", exchange: "things")

      func check(_ messages: [ArchivedMessage], exchange: String, isRewritten: Bool) throws {
        #expect(messages.count == 3)
        for (message, original) in zip(messages, sent) {
          #expect(message.body == original.body)
          #expect(message.exchange == exchange)
          #expect(String(buffer: message.routingKey) == "a.b")
          let expected = try original.decodedProperties()
          guard isRewritten else {
            // The very bytes.
            #expect(message.properties == original.properties)
            continue
          }
          var kept = message
          var properties = try message.decodedProperties()
          // Returned messages of a quorum queue say how often.
          properties.headers?.entries.removeAll { $0.name == "x-delivery-count" }
          if properties.headers?.entries.isEmpty == true { properties.headers = nil }
          kept.properties = ByteBuffer()
          properties.encode(into: &kept.properties)
          try expectRewritten(kept, expected)
        }
      }
      let isQuorum = type == "quorum"
      try check(try await broker.dump("typed"), exchange: "things", isRewritten: false)
      try check(try await broker.dump("typed"), exchange: "things", isRewritten: isQuorum)
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(
          broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["ty*"])), to: repository)
        var restorer = broker.restorer()
        restorer.renames["\(broker.vhost)/typed"] = "other"
        _ = try await restorer.restore(
          from: repository.reader(for: manifest), to: .latest, logger: TestBroker.logger)
      }
      let restored = try await broker.dump("other")
      try check(restored, exchange: try #require(restored.first?.exchange), isRewritten: isQuorum)
      #expect(try await broker.depth("typed") == 3)
    }
  }

  @Test("A stream keeps every plain field type and drops arrays and tables: a restore into one refuses these")
  func streamTypes() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("typed", "stream")
      try await broker.declare("source")
      let plain = AMQPTable(
        everyFieldType.entries.filter { field in
          switch field.value {
          case .array, .table, .decimal: false
          default: true
          }
        })
      var properties = everyProperty(user: broker.settings.user)
      // A decimal ends the publisher's channel.
      properties.headers = AMQPTable(everyFieldType.entries.filter { $0.name != "decimal" })
      try await broker.publish([TestBroker.message(properties, ByteBuffer(string: "0"))], to: "typed")
      let dumped = try await broker.dump("typed")
      var message = try #require(dumped.first)
      var got = try message.decodedProperties()
      #expect(got.headers?["x-stream-offset"] == .int64(0))
      got.headers?.entries.removeAll { $0.name == "x-stream-offset" }
      message.properties = ByteBuffer()
      got.encode(into: &message.properties)
      properties.headers = plain
      properties.clusterID = nil
      try expectRewritten(message, properties)

      for (number, name) in ["array", "table", "decimal"].enumerated() {
        var lossy = AMQPProperties()
        lossy.headers = AMQPTable([.init(name, try #require(everyFieldType[name]))])
        try await broker.publish([TestBroker.message(lossy, ByteBuffer(string: "\(number)"))], to: "source")
      }
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(
          broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["source"])), to: repository)
        var restorer = broker.restorer()
        restorer.renames["\(broker.vhost)/source"] = "typed"
        restorer.overrides = [.notEmpty, .type]
        await expectError {
          try await restorer.restore(from: repository.reader(for: manifest), to: .latest, logger: TestBroker.logger)
        } matching: { error in
          "\(error)".contains("message 0 has the header 'array', which a stream does not keep")
        }
        #expect(try await broker.dump("typed").count == 1)
      }
    }
  }

  @Test("A stream keeps what it can hold, by offsets, and goes on from one")
  func streams() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("events", "stream")
      try await broker.declare("again", "stream")
      #expect(try await broker.dump("events").isEmpty)
      try await broker.publish(
        TestBroker.numbered(0..<3000) { number, properties in
          properties.headers = ["n": .int32(Int32(number)), "who": .string("ä")]
          properties.timestamp = UInt64(1_700_000_000 + number)
        }, to: "events")
      try await TestBroker.withRepository { repository, _ in
        let first = try await TestBroker.backUp(
          broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["events"])), to: repository)
        let record = try #require(RabbitMQQueueRecord.all(of: first).first)
        #expect(record.summary.messages == 3000)
        #expect(record.summary.firstOffset == 0 && record.summary.lastOffset == 2999)
        #expect(record.summary.firstTimestamp == 1_700_000_000 && record.summary.lastTimestamp == 1_700_002_999)
        try await broker.publish(TestBroker.numbered(3000..<3100), to: "events")
        var source = try broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["events"]))
        source.since = first
        let second = try await TestBroker.backUp(source, to: repository)
        let next = try #require(RabbitMQQueueRecord.all(of: second).first)
        #expect(next.summary.messages == 100 && next.summary.firstOffset == 3000)

        #expect(second.parent == first.id)
        var restorer = broker.restorer()
        restorer.renames["\(broker.vhost)/events"] = "again"
        let outcome = try await restorer.restore(
          from: repository.reader(for: second), to: .latest, logger: TestBroker.logger)
        #expect(outcome.items == 3100)
      }
      let messages = try await broker.dump("again")
      #expect(messages.map(\.text) == (0..<3100).map(String.init))
      // The offset that they had is not published again: a stream would give two.
      let offsets = try messages.suffix(100).map { message in
        try message.decodedProperties().headers?.entries.filter { $0.name == "x-stream-offset" }.map(\.value)
      }
      let expected: [[AMQPValue]?] = (Int64(3000)..<3100).map { [.int64($0)] }
      #expect(offsets == expected)
      let properties = try messages[17].decodedProperties()
      #expect(properties.headers?["n"] == .int32(17) && properties.headers?["who"] == .string("ä"))
      #expect(properties.messageID == "m-17")
    }
  }

  @Test("A dump of a stream ends no earlier than what was confirmed before it began, in chunks of any size")
  func endOfStream() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("events", "stream")
      var count = 0
      for round in 0..<50 {
        // Small windows make many small chunks; large ones, chunks of more than a consumer is given at once.
        let (messages, window) = [(1, 1), (40, 3), (700, 100), (6000, 6000)][round % 4]
        try await broker.publish(TestBroker.numbered(count..<(count + messages)), to: "events", window: window)
        count += messages
        let texts = try await broker.dump("events", fromOffset: Int64(max(0, count - 5))).map(\.text)
        #expect(texts == (max(0, count - 5)..<count).map(String.init), "round \(round)")
      }
      // While somebody publishes.
      let confirmed = MutableBox(count)
      let start = count
      let publisher = Task {
        for batch in 0..<300 {
          let first = start + batch * 20
          try await broker.publish(TestBroker.numbered(first..<(first + 20)), to: "events", window: 5)
          confirmed.withLock { $0 = first + 20 }
        }
      }
      var rounds = 0
      while confirmed.value < start + 300 * 20, rounds < 50 {
        let before = confirmed.value
        let numbers = try await broker.dump("events", fromOffset: Int64(before - 5)).compactMap { Int($0.text) }
        #expect(numbers.count >= 5 && numbers == Array((before - 5)..<(before - 5 + numbers.count)))
        rounds += 1
      }
      try await publisher.value
      #expect(rounds > 5)
    }
  }

  @Test("A priority queue comes back in the order in which it was given out")
  func priorities() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("urgent", "classic", ["x-max-priority": .int32(5)])
      try await broker.publish(
        TestBroker.numbered(0..<60) { number, properties in properties.priority = UInt8(number % 6) }, to: "urgent")
      let before = try await broker.dump("urgent").map(\.text)
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        try await broker.api.delete("queues/\(broker.vhost)/urgent/contents")
        try await TestBroker.eventually("the queue is empty") { try await broker.depth("urgent") == 0 }
        var restorer = broker.restorer()
        restorer.overrides = [.notEmpty]
        _ = try await restorer.restore(from: repository.reader(for: manifest), to: .latest, logger: TestBroker.logger)
      }
      let after = try await broker.dump("urgent")
      #expect(after.map(\.text) == before)
      #expect(try after.map { try $0.decodedProperties().priority } == before.map { UInt8((Int($0) ?? 0) % 6) })
    }
  }
}
