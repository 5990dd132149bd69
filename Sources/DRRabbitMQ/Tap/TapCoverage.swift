import DRCore

/// What a tap sees of one queue, and what it does not.
public struct TapCoverage: Hashable, Sendable, CustomStringConvertible {
  public var vhost: String
  public var queue: String
  /// The tap's own queue; nil: the queue cannot be tapped.
  public var tap: String?
  /// The exchanges through which messages are captured.
  public var exchanges: [String]
  /// Whether what is published to the default exchange is heard too, by the broker's firehose.
  public var hearsDefaultExchange: Bool
  /// What is not captured, and why.
  public var notCovered: [String]

  public var title: String { "\(vhost)/\(queue)" }
  /// What its segments are called.
  var key: String { RabbitMQTapLog.key(vhost: vhost, queue: queue) }

  public var description: String {
    let ways = exchanges + (hearsDefaultExchange ? ["the firehose (default exchange, at most once)"] : [])
    return "\(title): " + (tap == nil ? "nothing is captured" : "captured through \(ways.joined(separator: ", "))")
      + notCovered.map { "; not captured: \($0)" }.joined()
  }

  /// What a tap's own queue loses by its policies, which are meant for others; nil: nothing.
  static func losing(_ tap: RabbitMQQueue) -> String? {
    let names = ["max-length", "max-length-bytes", "message-ttl", "expires"]
    let limits = (names + (tap.kind == .quorum ? ["delivery-limit"] : [])).compactMap { name in
      tap.policy[name]?.integer.map { "\(name) \($0)" }
    }
    guard !limits.isEmpty else { return nil }
    return "what policies let the tap's own queue lose while nobody reads it (\(limits.joined(separator: ", ")))"
  }

  /// Exchanges that hand each message to one of their queues: a tap would take messages away from the others.
  static let stealing: Set = ["x-consistent-hash", "x-random", "x-modulus-hash", "x-local-random"]
}

/// A binding of a queue, as the management API gives it.
struct TapBinding: Hashable, Sendable {
  var source: String
  var routingKey: String
  var arguments: JSONValue
  /// What the management API calls it, to remove it by.
  var key: String?

  static let firehose = TapBinding(
    source: FirehoseMessage.exchange, routingKey: FirehoseMessage.routingKey, arguments: .object([:]))

  init(source: String, routingKey: String, arguments: JSONValue) {
    self.source = source
    self.routingKey = routingKey
    self.arguments = arguments
  }

  init?(_ value: JSONValue) {
    guard let members = value.object, let source = members["source"]?.string else { return nil }
    self.init(
      source: source, routingKey: members["routing_key"]?.string ?? "", arguments: members["arguments"] ?? .object([:]))
    key = members["properties_key"]?.string
  }

  static func == (left: TapBinding, right: TapBinding) -> Bool {
    left.source.exact == right.source.exact && left.routingKey.exact == right.routingKey.exact
      && left.arguments.isExactly(right.arguments)
  }

  func hash(into hasher: inout Hasher) {
    hasher.combine(source.exact)
    hasher.combine(routingKey.exact)
  }
}
