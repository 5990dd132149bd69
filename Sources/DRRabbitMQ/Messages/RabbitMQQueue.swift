package import DRCore

/// A queue of a broker, as it says itself.
package struct RabbitMQQueue: Hashable, Sendable {
  package enum Kind: String, Sendable, Codable {
    case classic, quorum, stream
  }

  package var vhost: String
  package var name: String
  package var kind: Kind
  package var durable: Bool
  package var exclusive: Bool
  package var autoDelete: Bool
  package var arguments: [String: JSONValue]
  /// What policies add to the arguments, operator policies among them.
  package var policy: [String: JSONValue]
  package var state: String
  package var ready: Int64
  package var unacknowledged: Int64
  package var consumers: Int64
  package var hasExclusiveConsumer: Bool
  /// Bytes of bodies that are ready.
  package var readyBytes: Int64
  /// Since the broker's statistics began: messages that came in; deliveries; deliveries of what had been returned.
  package var publishes: Int64
  package var deliveries: Int64
  package var redeliveries: Int64
  /// Messages that are gone by an acknowledgement, or by a delivery that needs none.
  package var acknowledgements: Int64
  /// Whether these counts are known to be of now, and not of some seconds ago.
  package var hasCurrentCounts = true
  /// The node that holds it.
  package var node: String?

  package var title: String { "\(vhost)/\(name)" }
  /// What tells it from others: of `a/b/c` the title does not say where the vhost ends.
  package var identity: ExactName { Self.identity(vhost: vhost, name: name) }
  package static func identity(vhost: String, name: String) -> ExactName { "\(vhost)\u{0}\(name)".exact }

  /// Reads what the management API says of a queue; nil for a queue of a type that is not known.
  package init?(_ value: JSONValue) {
    guard let members = value.object, let vhost = members["vhost"]?.string, let name = members["name"]?.string,
      let kind = Kind(rawValue: members["type"]?.string ?? "classic")
    else { return nil }
    func flag(_ name: String) -> Bool { members[name] == .bool(true) }
    func number(_ name: String) -> Int64 { members[name]?.integer ?? 0 }
    let statistics = members["message_stats"]?.object ?? [:]
    self.vhost = vhost
    self.name = name
    self.kind = kind
    durable = flag("durable")
    exclusive = flag("exclusive") || members["owner_pid_details"]?.object?.isEmpty == false
    autoDelete = flag("auto_delete")
    arguments = members["arguments"]?.object ?? [:]
    policy = members["effective_policy_definition"]?.object ?? [:]
    state = members["state"]?.string ?? "unknown"
    ready = number("messages_ready")
    unacknowledged = number("messages_unacknowledged")
    consumers = number("consumers")
    hasExclusiveConsumer = (members["consumer_details"]?.array ?? []).contains {
      $0.object?["exclusive"] == .bool(true)
    }
    readyBytes = number("message_bytes_ready")
    publishes = statistics["publish"]?.integer ?? 0
    deliveries = statistics["deliver_get"]?.integer ?? 0
    redeliveries = statistics["redeliver"]?.integer ?? 0
    acknowledgements = ["ack", "deliver_no_ack", "get_no_ack"].reduce(0) { $0 + (statistics[$1]?.integer ?? 0) }
    node = members["node"]?.string
  }

  /// A setting that is an argument (`x-max-length`) or a policy's (`max-length`): the smaller of two numbers holds, and of a number and
  /// a negative one, which is no limit, the number.
  package func limit(_ name: String) -> Int64? {
    let limits = [arguments["x-\(name)"]?.integer, policy[name]?.integer].compactMap { $0 }
    return limits.filter { $0 >= 0 }.min() ?? limits.max()
  }

  package func setting(_ name: String) -> String? { arguments["x-\(name)"]?.string ?? policy[name]?.string }

  /// Whether it refuses what it has no room for, and so drops nothing.
  ///
  /// Of a classic queue the argument goes before the policy. Of a quorum queue the policy does, and it knows no
  /// `reject-publish-dlx`: then it drops its oldest messages. Source: `rabbit_amqqueue_process.erl`, `res_arg/2`;
  /// `rabbit_quorum_queue.erl`, `ra_machine_config/1` and `overflow/3`.
  package var refusesWhenFull: Bool {
    let (argument, policy) = (arguments["x-overflow"]?.string, policy["overflow"]?.string)
    return switch kind {
    case .classic: ["reject-publish", "reject-publish-dlx"].contains(argument ?? policy)
    case .quorum: (policy ?? argument) == "reject-publish"
    case .stream: false
    }
  }

  package var isSingleActiveConsumer: Bool { arguments["x-single-active-consumer"] == .bool(true) }

  /// How often a message may be returned before the broker drops or dead-letters it; nil: for ever.
  package func deliveryLimit(brokerVersion: String) -> Int64? {
    guard kind == .quorum else { return nil }
    if let limit = limit("delivery-limit") { return limit < 0 ? nil : limit }
    // Source: RabbitMQ 4.0 release notes: a default of 20.
    return (brokerVersion.split(separator: ".").first.flatMap { Int($0) } ?? 0) >= 4 ? 20 : nil
  }

  /// - Throws: ``DRError``, with 404 under it if there is no such queue.
  package static func find(_ vhost: String, _ name: String, _ api: ManagementAPI) async throws -> RabbitMQQueue {
    if [vhost, name].contains(where: ManagementAPI.isUnspeakable) {
      let all = (try await api.get("queues").array ?? []).compactMap(RabbitMQQueue.init)
      if let queue = all.first(where: { $0.vhost.exact == vhost.exact && $0.name.exact == name.exact }) { return queue }
      throw DRError(
        RabbitMQError(code: 404, text: "not found"), from: api.settings, doing: "looking for a queue",
        object: "\(vhost)/\(name)")
    }
    let path = "queues/\(ManagementAPI.escape(vhost))/\(ManagementAPI.escape(name))"
    guard let queue = RabbitMQQueue(try await api.get(path)) else {
      throw DRError(.sourceFailed, "the queue is of a type that this version does not know", object: "\(vhost)/\(name)")
    }
    return queue
  }
}

/// Which queues.
public struct RabbitMQQueueSelection: Sendable, Hashable {
  /// Nil: all.
  public var vhosts: [String]?
  /// Names, with `*` for any text; nil: all.
  public var patterns: [String]?
  /// `classic`, `quorum`, `stream`; nil: all.
  public var types: [String]?
  /// Also those that do not survive a restart of the broker.
  public var includesTransient: Bool

  public init(
    vhosts: [String]? = nil, patterns: [String]? = nil, types: [String]? = nil, includesTransient: Bool = false
  ) {
    self.vhosts = vhosts
    self.patterns = patterns
    self.types = types
    self.includesTransient = includesTransient
  }

  /// The names and patterns that were given and of which there is no queue.
  package func unmatched(by queues: [(vhost: String, name: String, type: String, durable: Bool)]) -> [String] {
    (patterns ?? []).filter { pattern in
      var one = self
      one.patterns = [pattern]
      one.includesTransient = true
      return !queues.contains { one.contains(vhost: $0.vhost, name: $0.name, type: $0.type, durable: $0.durable) }
    }
  }

  package func contains(vhost: String, name: String, type: String, durable: Bool) -> Bool {
    (vhosts.map { $0.containsExactly(vhost) } ?? true) && (types.map { $0.contains(type) } ?? true)
      && (includesTransient || durable)
      && (patterns.map { patterns in
        let name = Array(name.utf8)
        return name.withUnsafeBytes { name in patterns.contains { Glob($0.utf8, .starsOnly).matches(name) } }
      } ?? true)
  }
}
