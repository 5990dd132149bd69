package import NIOCore

/// One value of the Redis protocol, versions 2 and 3.
///
/// Source of the format: Redis documentation, "Redis serialization protocol specification". Attributes are read and
/// dropped; the streamed types, which no server sends, are refused.
package indirect enum RESPValue: Hashable, Sendable {
  case null
  case simple(String)
  case error(RedisError)
  case integer(Int64)
  case bulk(ByteBuffer)
  case array([RESPValue])
  case double(Double)
  case boolean(Bool)
  /// Digits, as they came.
  case bigNumber(String)
  /// Pairs in the order that they came in.
  case map([RESPPair])
  case set([RESPValue])
  /// Out of band: never the answer to a command.
  case push([RESPValue])

  /// The text of a simple or a bulk string (also a verbatim one).
  package var text: String? {
    switch self {
    case .simple(let text): text
    case .bulk(let bytes): String(buffer: bytes)
    default: nil
    }
  }

  /// A number, also where it came as text.
  package var integer: Int64? {
    switch self {
    case .integer(let number): number
    case .bulk, .simple: text.flatMap { Int64($0) }
    default: nil
    }
  }

  /// The elements of an array, a set or a push; of a map, keys and values in turn, as protocol 2 gives them.
  package var elements: [RESPValue]? {
    switch self {
    case .array(let values), .set(let values), .push(let values): values
    case .map(let pairs): pairs.flatMap { [$0.key, $0.value] }
    default: nil
    }
  }

  /// Whether it is the simple string `OK`.
  package var isOK: Bool { self == .simple("OK") }

  /// Pairs of texts: a map, or the flat array that stands for one in protocol 2.
  package var textPairs: [String: String] {
    let flat = elements ?? []
    var pairs: [String: String] = [:]
    var index = 0
    while index + 1 < flat.count {
      if let key = flat[index].text { pairs[key] = flat[index + 1].text ?? flat[index + 1].integer.map { "\($0)" } }
      index += 2
    }
    return pairs
  }
}

/// One entry of a map.
package struct RESPPair: Hashable, Sendable {
  package var key: RESPValue
  package var value: RESPValue

  package init(key: RESPValue, value: RESPValue) {
    self.key = key
    self.value = value
  }
}

/// What a server said in an error reply: `NOPERM this user has no permissions …`.
public struct RedisError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The first word, in capitals: `ERR`, `NOAUTH`, `WRONGTYPE`, `MOVED` …
  public var kind: String
  /// What follows it. It may quote a key or an argument.
  public var message: String

  package init(_ text: String) {
    let word = text.prefix { $0 != " " }
    let isKind = !word.isEmpty && word.utf8.allSatisfy { (65...90).contains($0) || (48...57).contains($0) }
    kind = isKind ? String(word) : "ERR"
    message = isKind ? String(text.dropFirst(word.count + 1)) : text
  }

  public var description: String { "\(kind) \(message)" }
}
