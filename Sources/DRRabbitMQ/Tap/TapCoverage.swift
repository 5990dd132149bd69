import DRCore

/// What a tap sees of one queue, and what it does not.
public struct TapCoverage: Hashable, Sendable, CustomStringConvertible {
  public var vhost: String
  public var queue: String
  /// The tap's own queue; nil: the queue cannot be tapped.
  public var tap: String?
  /// The exchanges through which messages are captured.
  public var exchanges: [String]
  /// What is not captured, and why.
  public var notCovered: [String]

  public var title: String { "\(vhost)/\(queue)" }

  public var description: String {
    "\(title): " + (tap == nil ? "not captured" : "captured through \(exchanges.joined(separator: ", "))")
      + notCovered.map { "; \($0)" }.joined()
  }

  /// Exchanges that hand each message to one of their queues: a tap would take messages away from the others.
  static let stealing: Set = ["x-consistent-hash", "x-random", "x-modulus-hash", "x-local-random"]
}

/// A binding of a queue, as the management API gives it.
struct TapBinding: Hashable, Sendable {
  var source: String
  var routingKey: String
  var arguments: JSONValue

  init?(_ value: JSONValue) {
    guard let members = value.object, let source = members["source"]?.string else { return nil }
    self.source = source
    routingKey = members["routing_key"]?.string ?? ""
    arguments = members["arguments"] ?? .object([:])
  }
}
