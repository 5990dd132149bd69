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
    do {
      return try message(traced, to: queue, told: try traced.rawProperties().headers ?? [])
    } catch let error as AMQPFormatError {
      throw DRError(.malformedData, "the broker's trace of a publish is no AMQP: \(error)", object: queue)
    }
  }

  private static func message(
    _ traced: ArchivedMessage, to queue: String, told headers: [RawProperties.Field]
  ) throws -> ArchivedMessage? {
    func header(_ name: String, _ type: Character) -> ByteBuffer? {
      headers.first { $0.isNamed(name) && $0.type == type.asciiValue }?.content
    }
    var keys: [RawProperties.Field] = []
    if let array = header("routing_keys", "A") { keys = try RawProperties.fields(ofArray: array) }
    guard let key = keys.first, key.type == UInt8(ascii: "S") else {
      throw DRError(.malformedData, "the broker's trace of a publish names no routing key", object: queue)
    }
    // Those of CC and BCC headers follow the message's own.
    let name = ByteBuffer(string: queue)
    guard keys.contains(where: { $0.type == UInt8(ascii: "S") && $0.content == name }) else { return nil }
    var message = traced
    message.exchange = ""
    message.routingKey = key.content
    var properties = RawProperties()
    if let table = header("properties", "F") {
      properties = try RawProperties(traced: try RawProperties.fields(ofTable: table))
    }
    message.properties = ByteBuffer()
    properties.encode(into: &message.properties)
    return message
  }
}

extension RawProperties {
  fileprivate init(traced table: [Field]) throws(AMQPFormatError) {
    self.init()
    func field(_ name: String, _ type: Character) -> ByteBuffer? {
      table.first { $0.isNamed(name) && $0.type == type.asciiValue }?.content
    }
    func integer(_ name: String) throws(AMQPFormatError) -> Int64? {
      guard let field = table.first(where: { $0.isNamed(name) }) else { return nil }
      var encoded = ByteBuffer()
      field.encodeValue(into: &encoded)
      return try AMQPValue(decoding: &encoded).integer
    }
    let names: [Text: String] = [
      .contentType: "content_type", .contentEncoding: "content_encoding", .correlationID: "correlation_id",
      .replyTo: "reply_to", .expiration: "expiration", .messageID: "message_id", .type: "type", .userID: "user_id",
      .appID: "app_id", .clusterID: "cluster_id",
    ]
    for (text, name) in names { texts[text] = field(name, "S") }
    if let headers = field("headers", "F") { self.headers = try Self.fields(ofTable: headers) }
    if let mode = try integer("delivery_mode") { deliveryMode = UInt8(exactly: mode) }
    if let priority = try integer("priority") { self.priority = UInt8(exactly: priority) }
    if let seconds = try integer("timestamp") { timestamp = UInt64(UInt32(truncatingIfNeeded: seconds)) }
  }
}
