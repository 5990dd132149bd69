import DRCore
import NIOCore

/// What the broker tells of a publish on its exchange for tracing (the firehose), made into the message that it was.
///
/// Source: RabbitMQ, "Firehose Tracer": the routing key is `publish.<exchange>`; the headers `exchange_name`, `routing_keys`
/// and `properties` tell of the message; the body is the message's own.
enum FirehoseMessage {
  /// Each vhost has one.
  static let exchange = "amq.rabbitmq.trace"
  /// Publishes to the exchange without a name: the default one.
  static let routingKey = "publish."

  /// The message as it was published to a queue; nil if it was to others. Any other message is returned as it is.
  ///
  /// The broker tells of numbers in 32 bits: the property timestamp of a message is right until 2106.
  ///
  /// - Throws: ``DRError`` with `malformedData`.
  static func original(_ traced: ArchivedMessage, of queue: String) throws -> ArchivedMessage? {
    guard traced.exchange == exchange else { return traced }
    guard let headers = try traced.decodedProperties().headers, case .array(let keys) = headers["routing_keys"],
      case .string(let key) = keys.first
    else { throw DRError(.malformedData, "the broker's trace of a publish names no routing key", object: queue) }
    // Those of CC and BCC headers follow the message's own.
    func isQueue(_ key: AMQPValue) -> Bool {
      if case .string(let name) = key { name.exact == queue.exact } else { false }
    }
    guard keys.contains(where: isQueue) else { return nil }
    var message = traced
    message.exchange = ""
    message.routingKey = ByteBuffer(string: key)
    var properties = AMQPProperties()
    if case .table(let table) = headers["properties"] { properties = AMQPProperties(traced: table) }
    message.properties = ByteBuffer()
    properties.encode(into: &message.properties)
    return message
  }
}

extension AMQPProperties {
  fileprivate init(traced table: AMQPTable) {
    func text(_ name: String) -> String? { if case .string(let text) = table[name] { text } else { nil } }
    func small(_ name: String) -> UInt8? { table[name]?.integer.flatMap { UInt8(exactly: $0) } }
    self.init()
    contentType = text("content_type")
    contentEncoding = text("content_encoding")
    if case .table(let headers) = table["headers"] { self.headers = headers }
    deliveryMode = small("delivery_mode")
    priority = small("priority")
    correlationID = text("correlation_id")
    replyTo = text("reply_to")
    expiration = text("expiration")
    messageID = text("message_id")
    timestamp = table["timestamp"]?.integer.map { UInt64(UInt32(truncatingIfNeeded: $0)) }
    type = text("type")
    userID = text("user_id")
    appID = text("app_id")
    clusterID = text("cluster_id")
  }
}
