import DRCore
import Foundation
package import NIOCore

/// An archive as JSON lines, for people and their tools: the header, then one line for each message, then the end.
///
///     {"queue": {"vhost": "/", "queue": "orders", "type": "quorum", …}}
///     {"number": 0, "exchange": "shop", "routingKey": "order.new", "redelivered": false, "properties": {…}, "body": "…"}
///     {"end": {"messages": 1, …}}
///
/// Headers name their types, `{"attempts": {"int32": 3}}`, for JSON has fewer than AMQP. A body that is UTF-8 is `body`,
/// any other `bodyBase64`.
///
/// Nothing is lost where AMQP can say more than JSON: a text that is no UTF-8 (a property, the routing key, a header's name, a header of
/// the type string) is `{"base64": "…"}` in place of the text. A table in which a name is there twice, or is no UTF-8, is a list of pairs
/// in the message's order: `[["a", {"int32": 1}], ["a", {"int32": 2}]]`. Properties of which a header is nested more than 64
/// deep, or that are no AMQP, are `propertiesBase64` in place of `properties`: as AMQP encodes them.
package enum MessageJSON {
  /// A broker sets no limit; who reads JSON does.
  private static let deepest = 64

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
      "routingKey": text(message.routingKey), "redelivered": .bool(message.redelivered),
    ]
    do {
      line["properties"] = .object(try properties(RawProperties(decoding: message.properties)))
    } catch {
      line["propertiesBase64"] = .string(base64(message.properties))
    }
    if let text = string(message.body) {
      line["body"] = .string(text)
    } else {
      line["bodyBase64"] = .string(base64(message.body))
    }
    return line
  }

  private static func string(_ bytes: ByteBuffer) -> String? {
    String(validating: bytes.readableBytesView, as: UTF8.self)
  }

  private static func base64(_ bytes: ByteBuffer) -> String { Data(bytes.readableBytesView).base64EncodedString() }

  private static func text(_ bytes: ByteBuffer) -> JSONValue {
    string(bytes).map { .string($0) } ?? ["base64": .string(base64(bytes))]
  }

  private static func name(_ text: RawProperties.Text) -> String {
    switch text {
    case .contentType: "contentType"
    case .contentEncoding: "contentEncoding"
    case .correlationID: "correlationId"
    case .replyTo: "replyTo"
    case .expiration: "expiration"
    case .messageID: "messageId"
    case .type: "type"
    case .userID: "userId"
    case .appID: "appId"
    case .clusterID: "clusterId"
    }
  }

  private static func properties(_ properties: RawProperties) throws(AMQPFormatError) -> [String: JSONValue] {
    var object: [String: JSONValue] = [:]
    for (kind, bytes) in properties.texts { object[name(kind)] = text(bytes) }
    if let mode = properties.deliveryMode { object["deliveryMode"] = .integer(Int64(mode)) }
    if let priority = properties.priority { object["priority"] = .integer(Int64(priority)) }
    if let seconds = properties.timestamp { object["timestamp"] = number(seconds) }
    if let headers = properties.headers { object["headers"] = try table(headers, depth: 0) }
    return object
  }

  private static func table(_ fields: [RawProperties.Field], depth: Int) throws(AMQPFormatError) -> JSONValue {
    var pairs: [(name: ByteBuffer, value: JSONValue)] = []
    for field in fields { pairs.append((field.name, try value(field, depth: depth))) }
    var object: [String: JSONValue] = [:]
    for pair in pairs {
      // Names that are equal after Unicode normalisation are one key to Swift.
      guard let name = string(pair.name), object.updateValue(pair.value, forKey: name) == nil else {
        return .array(pairs.map { [text($0.name), $0.value] })
      }
    }
    return .object(object)
  }

  private static func value(_ field: RawProperties.Field, depth: Int) throws(AMQPFormatError) -> JSONValue {
    guard depth < deepest else { throw AMQPFormatError(what: "fields are nested more than \(deepest) deep") }
    switch field.type {
    case UInt8(ascii: "S"): return ["string": text(field.content)]
    case UInt8(ascii: "x"): return ["bytes": .string(base64(field.content))]
    case UInt8(ascii: "A"):
      var values: [JSONValue] = []
      for element in try RawProperties.fields(ofArray: field.content) {
        values.append(try value(element, depth: depth + 1))
      }
      return ["array": .array(values)]
    case UInt8(ascii: "F"):
      return ["table": try table(RawProperties.fields(ofTable: field.content), depth: depth + 1)]
    default:
      var encoded = ByteBuffer()
      field.encodeValue(into: &encoded)
      return scalar(try AMQPValue(decoding: &encoded))
    }
  }

  /// What holds no other value and no text.
  private static func scalar(_ value: AMQPValue) -> JSONValue {
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
    case .timestamp(let seconds): ["timestamp": number(seconds)]
    case .void, .string, .bytes, .array, .table: ["void": .null]
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
