import DRCore
import DRRabbitMQ
import Foundation
import Logging
import NIOCore

/// What was published: the broker confirmed each of these.
struct PublishedMessage: Hashable, Codable, Sendable {
  var queue: String
  var sequence: Int
  /// Milliseconds since 1970, on the publisher's clock.
  var published: Int64
}

/// Publishers that send one message after another to each queue of the drill, and wait for each confirm, until they are
/// told to stop or the broker dies.
final class RabbitMQLedger: Sendable {
  static let vhost = "platform"
  static let exchange = "agents"

  /// Kind of queue and its arguments, by name.
  static let queues: [(name: String, arguments: [String: JSONValue])] = [
    ("tasks", [:]), ("events", ["x-queue-type": "quorum"]), ("audit", ["x-queue-type": "stream"]),
    ("urgent", ["x-max-priority": 5]),
    ("short", ["x-message-ttl": 86_400_000, "x-dead-letter-exchange": "agents", "x-dead-letter-routing-key": "dead"]),
    ("dead", [:]), ("work", [:]),
  ]
  /// The queues that publishers write to and nobody drains.
  static let kept = ["tasks", "events", "audit", "urgent", "short"]
  /// The queue that a consumer drains.
  static let drained = "work"

  private let entries = MutableBox<[PublishedMessage]>([])
  private let gate = Gate()
  private let tasks: MutableBox<[Task<Void, any Error>]> = MutableBox([])

  init(_ broker: RabbitMQSettings, logger: Logger) {
    let (entries, gate) = (entries, gate)
    let publishers = (Self.kept + [Self.drained]).map { queue in
      Task {
        let connection = try await AMQPConnection.connect(broker, vhost: Self.vhost, logger: logger)
        try await connection.selectConfirms()
        var window = PublishWindow(limit: 10)
        for sequence in 0... {
          try Task.checkCancellation()
          let published = MutableBox<Int64>(0)
          let current = MutableBox(window)
          try await gate.pass {
            let now = Int64(Date().timeIntervalSince1970 * 1000)
            published.withLock { $0 = now }
            var window = current.value
            try await connection.publish(
              [Self.message(queue, sequence, now)], as: Republishing(exchange: Self.exchange, routingKey: queue),
              window: &window
            ) { _ in }
            try await connection.settle(&window) { _ in }
            let settled = window
            current.withLock { $0 = settled }
          }
          window = current.value
          guard window.failures.isEmpty else { throw DRError(.sourceFailed, "the broker refused a ledger message") }
          let entry = PublishedMessage(queue: queue, sequence: sequence, published: published.value)
          entries.withLock { $0.append(entry) }
          try await Task.sleep(for: .milliseconds(5))
        }
      }
    }
    let consumer = Task {
      let connection = try await AMQPConnection.connect(broker, vhost: Self.vhost, logger: logger)
      try await connection.setPrefetch(10)
      try await connection.consume(Self.drained, tag: "app")
      var reading = try AMQPConnection.Reading.discarding()
      reading.acknowledgeEach = 1
      while true {
        try Task.checkCancellation()
        _ = try await connection.take(&reading, idle: .milliseconds(200), perConsumer: reading.ofConsumer + 10)
        _ = reading.archive.take(replacing: ByteBuffer())
      }
    }
    tasks.withLock { $0 = publishers + [consumer] }
  }

  var known: [PublishedMessage] { entries.value }

  func betweenChanges(_ body: @escaping @Sendable () async throws -> Void) async throws {
    try await gate.whileClosed(body)
  }

  func stop() async {
    for task in tasks.value { task.cancel() }
    for task in tasks.value { _ = try? await task.value }
  }

  /// The message of a number: the same each time, so that what comes back can be held against it.
  static func message(_ queue: String, _ sequence: Int, _ published: Int64) -> ArchivedMessage {
    var properties = AMQPProperties()
    properties.contentType = "application/json"
    properties.contentEncoding = "identity"
    properties.deliveryMode = 2
    properties.priority = queue == "urgent" ? 3 : 0
    properties.correlationID = "c-\(sequence)"
    properties.replyTo = "answers"
    properties.messageID = "\(queue)-\(sequence)"
    properties.timestamp = UInt64(published / 1000)
    properties.type = "ledger"
    properties.appID = "dr-drill"
    if queue != "audit" {
      // A stream keeps no cluster-id.
      properties.clusterID = "drill"
      properties.expiration = "86400000"
    }
    properties.headers = headers(queue, sequence, published)
    var encoded = ByteBuffer()
    properties.encode(into: &encoded)
    return ArchivedMessage(
      number: UInt64(sequence), redelivered: false, exchange: exchange, routingKey: ByteBuffer(string: queue),
      properties: encoded, body: ByteBuffer(string: "{\"queue\":\"\(queue)\",\"sequence\":\(sequence)}"))
  }

  private static func headers(_ queue: String, _ sequence: Int, _ published: Int64) -> AMQPTable {
    var table: AMQPTable = [
      "timestamp_in_ms": .int64(published), "bool": .bool(sequence % 2 == 0), "int8": .int8(-8), "uint8": .uint8(200),
      "int16": .int16(-1600), "uint16": .uint16(60_000), "int32": .int32(Int32(sequence)),
      "uint32": .uint32(4_000_000_000), "int64": .int64(.min), "uint64": .uint64(.max - UInt64(sequence)),
      "float": .float(1.5), "double": .double(-2.25), "string": .string("grüße"), "bytes": .bytes([0, 255]),
      "time": .timestamp(1_700_000_000), "void": .void,
    ]
    // A stream keeps no arrays and tables, and a decimal ends the publisher's channel.
    if queue != "audit" {
      table.entries += [
        .init("decimal", .decimal(12_345, scale: 2)), .init("array", .array([.int32(1), .string("two")])),
        .init("table", .table(["inner": .double(0.5)])),
      ]
    }
    return table
  }

  /// Whether a message is the one that was published, with equal body and properties.
  static func isEqual(_ message: ArchivedMessage, _ entry: PublishedMessage) throws -> Bool {
    let wanted = Self.message(entry.queue, entry.sequence, entry.published)
    guard message.body == wanted.body, message.routingKey == wanted.routingKey else { return false }
    var (mine, theirs) = (try message.decodedProperties(), try wanted.decodedProperties())
    // The broker's own notes.
    mine.headers?.entries.removeAll { ["x-delivery-count", "x-stream-offset"].contains($0.name) }
    // A stream writes headers anew, and unsigned 64-bit numbers as signed ones of the same bits.
    if entry.queue == "audit" {
      let fields = theirs.headers?.entries ?? []
      theirs.headers?.entries = fields.map { field in
        if case .uint64(let value) = field.value { return .init(field.name, .int64(Int64(bitPattern: value))) }
        return field
      }
    }
    guard Set(mine.headers?.entries ?? []) == Set(theirs.headers?.entries ?? []) else { return false }
    mine.headers = nil
    theirs.headers = nil
    return mine == theirs
  }

  /// Reads a queue without taking anything.
  static func read(_ broker: RabbitMQSettings, _ queue: String, logger: Logger) async throws -> [ArchivedMessage] {
    let found = try await RabbitMQQueue.find(vhost, queue, ManagementAPI(broker))
    let dump = try await QueueDump.begin(found, broker: broker, brokerVersion: nil, logger: logger)
    var messages: [ArchivedMessage] = []
    try await MessageArchiveReader.read(dump.stream, object: queue) { event in
      if case .message(let message) = event { messages.append(message) }
    }
    return messages
  }
}
