import DRCore
import Foundation
package import NIOCore

/// An archive as JSON lines, for people and their tools: the header, then one line for each message, then the end.
///
/// Headers name their types, `{"attempts": {"int32": 3}}`, for JSON has fewer than AMQP. A body that is UTF-8 is `body`,
/// any other `bodyBase64`.
package enum MessageJSON {
  package static func line(_ event: MessageArchiveReader.Event) throws -> ByteBuffer {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let data =
      switch event {
      case .header(let header): try encoder.encode(["queue": header])
      case .message(let message): try encoder.encode(object(message))
      case .end(let summary): try encoder.encode(["end": summary])
      }
    var buffer = ByteBuffer(bytes: data)
    buffer.writeInteger(UInt8(ascii: "\n"))
    return buffer
  }

  private static func object(_ message: ArchivedMessage) throws -> [String: JSONValue] {
    var line: [String: JSONValue] = [
      "number": .integer(Int64(clamping: message.number)), "exchange": .string(message.exchange),
      "routingKey": .string(String(buffer: message.routingKey)), "redelivered": .bool(message.redelivered),
      "properties": .object(properties(try message.decodedProperties())),
    ]
    if let text = String(validating: message.body.readableBytesView, as: UTF8.self) {
      line["body"] = .string(text)
    } else {
      line["bodyBase64"] = .string(Data(message.body.readableBytesView).base64EncodedString())
    }
    return line
  }

  private static func properties(_ properties: AMQPProperties) -> [String: JSONValue] {
    var object: [String: JSONValue] = [:]
    func set(_ name: String, _ text: String?) { if let text { object[name] = .string(text) } }
    set("contentType", properties.contentType)
    set("contentEncoding", properties.contentEncoding)
    set("correlationId", properties.correlationID)
    set("replyTo", properties.replyTo)
    set("expiration", properties.expiration)
    set("messageId", properties.messageID)
    set("type", properties.type)
    set("userId", properties.userID)
    set("appId", properties.appID)
    set("clusterId", properties.clusterID)
    if let mode = properties.deliveryMode { object["deliveryMode"] = .integer(Int64(mode)) }
    if let priority = properties.priority { object["priority"] = .integer(Int64(priority)) }
    if let seconds = properties.timestamp { object["timestamp"] = number(seconds) }
    if let headers = properties.headers { object["headers"] = table(headers) }
    return object
  }

  private static func table(_ table: AMQPTable) -> JSONValue {
    .object(Dictionary(table.entries.map { ($0.name, value($0.value)) }, uniquingKeysWith: { $1 }))
  }

  private static func value(_ value: AMQPValue) -> JSONValue {
    switch value {
    case .bool(let bool): ["bool": .bool(bool)]
    case .int8(let number): ["int8": .integer(Int64(number))]
    case .uint8(let number): ["uint8": .integer(Int64(number))]
    case .int16(let number): ["int16": .integer(Int64(number))]
    case .uint16(let number): ["uint16": .integer(Int64(number))]
    case .int32(let number): ["int32": .integer(Int64(number))]
    case .uint32(let number): ["uint32": .integer(Int64(number))]
    case .int64(let number): ["int64": .integer(number)]
    case .uint64(let number): ["uint64": self.number(number)]
    case .float(let number): ["float": real(Double(number))]
    case .double(let number): ["double": real(number)]
    case .decimal(let number, let scale):
      ["decimal": ["value": .integer(Int64(number)), "scale": .integer(Int64(scale))]]
    case .string(let text): ["string": .string(text)]
    case .bytes(let bytes): ["bytes": .string(Data(bytes).base64EncodedString())]
    case .timestamp(let seconds): ["timestamp": number(seconds)]
    case .array(let values): ["array": .array(values.map(Self.value))]
    case .table(let table): ["table": Self.table(table)]
    case .void: ["void": .null]
    }
  }

  /// JSON's numbers end earlier than these.
  private static func number(_ value: UInt64) -> JSONValue {
    Int64(exactly: value).map { .integer($0) } ?? .string("\(value)")
  }

  private static func real(_ value: Double) -> JSONValue {
    value.isFinite ? .number(value) : .string("\(value)")
  }
}
