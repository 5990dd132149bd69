package import DRCore

/// Which settings a broker's policies give a queue, from the policies themselves.
///
/// What the management API says of a queue's own policy (`effective_policy_definition`) is of some seconds ago, and a queue or policy that
/// is younger has none there: a dump that does not know of a delivery-limit returns messages until the broker drops them. Policies are said as they are.
///
/// Of the policies that match a queue the one with the highest priority holds, and of the operator policies likewise; of two numbers
/// the smaller one, of two texts the operator's. Source: `rabbit_policy.erl`, `match/2` and `merge_operator_definitions/2`. Where two
/// have the same priority, either may hold: each setting of both is taken for one that does.
package struct QueuePolicies: Sendable {
  package struct Policy: Sendable {
    package var vhost: String
    package var pattern: String
    /// `all`, `queues`, `classic_queues`, `quorum_queues`, `streams`; `exchanges` are no queues.
    package var appliesTo: String
    package var priority: Int64
    package var settings: [String: JSONValue]

    package init(
      vhost: String, pattern: String, appliesTo: String, priority: Int64, settings: [String: JSONValue]
    ) {
      self.vhost = vhost
      self.pattern = pattern
      self.appliesTo = appliesTo
      self.priority = priority
      self.settings = settings
    }

    init?(_ value: JSONValue) {
      guard let members = value.object, let vhost = members["vhost"]?.string, let pattern = members["pattern"]?.string
      else { return nil }
      self.init(
        vhost: vhost, pattern: pattern, appliesTo: members["apply-to"]?.string ?? "all",
        priority: members["priority"]?.integer ?? 0, settings: members["definition"]?.object ?? [:])
    }

    func applies(to queue: RabbitMQQueue) -> Bool {
      guard vhost.exact == queue.vhost.exact else { return false }
      let kinds: [String] =
        switch queue.kind {
        case .classic: ["all", "queues", "classic_queues"]
        case .quorum: ["all", "queues", "quorum_queues"]
        case .stream: ["all", "queues", "streams"]
        }
      return kinds.contains(appliesTo) && RabbitMQDefinitions.matches(queue.name, pattern)
    }
  }

  private let policies: [Policy]
  private let operators: [Policy]

  package init(policies: [Policy], operators: [Policy]) {
    self.policies = policies
    self.operators = operators
  }

  package static func read(_ api: ManagementAPI) async throws -> QueuePolicies {
    QueuePolicies(
      policies: (try await api.get("policies").array ?? []).compactMap(Policy.init),
      operators: (try await api.get("operator-policies").array ?? []).compactMap(Policy.init))
  }

  /// The queue with what these policies give it now beside what the broker said of it.
  package func applied(to queue: RabbitMQQueue) -> RabbitMQQueue {
    var queue = queue
    let now = Self.smaller(settings(of: operators, for: queue), settings(of: policies, for: queue))
    // What it said may hold still: a change takes a moment to reach the queue.
    queue.policy = Self.smaller(now, queue.policy)
    // A queue that is taken for one that refuses, and drops, loses messages: so that must be said now.
    queue.policy["overflow"] = now["overflow"]
    return queue
  }

  private func settings(of policies: [Policy], for queue: RabbitMQQueue) -> [String: JSONValue] {
    let matching = policies.filter { $0.applies(to: queue) }
    let highest = matching.map(\.priority).max()
    let holding = matching.filter { $0.priority == highest }
    var settings = holding.reduce(into: [:]) { $0 = Self.smaller($0, $1.settings) }
    // Where one of them refuses what is too much and another does not, either may hold.
    if holding.contains(where: { $0.settings["overflow"] != settings["overflow"] }) { settings["overflow"] = nil }
    return settings
  }

  /// Both; of two numbers the smaller, else the first.
  private static func smaller(_ first: [String: JSONValue], _ second: [String: JSONValue]) -> [String: JSONValue] {
    first.merging(second) { first, second in
      guard let one = first.integer, let other = second.integer else { return first }
      // Without a limit is no small limit.
      if one < 0 || other < 0 { return .integer(max(one, other)) }
      return .integer(min(one, other))
    }
  }
}
