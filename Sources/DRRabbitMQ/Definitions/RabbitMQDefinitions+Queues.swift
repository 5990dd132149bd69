import DRCore

extension RabbitMQDefinitions {
  private struct Place: Hashable {
    var vhost: ExactName
    var name: ExactName

    init(_ vhost: String, _ name: String) { (self.vhost, self.name) = (vhost.exact, name.exact) }
  }

  /// Only these queues and what they need: their vhosts, the bindings that lead to them with the exchanges on the way, the exchanges
  /// to which they dead-letter and those of `alternate-exchange`, and the policies that apply to any of these.
  ///
  /// Of users nothing but the permissions of one, so that he may publish to them; no parameters.
  func only(_ selection: RabbitMQQueueSelection, for user: String) -> RabbitMQDefinitions {
    var copy = self
    let queues = self[.queues].filter { item in
      guard let vhost = item.vhost, let name = item["name"]?.string else { return false }
      return selection.contains(
        vhost: vhost, name: name, type: item["arguments"]?.object?["x-queue-type"]?.string ?? "classic",
        durable: item["durable"] == .bool(true))
    }
    let places = Set(queues.compactMap(place))
    let vhosts = Set(places.map(\.vhost))
    // What settings name: by the queues themselves, and by their policies.
    var exchanges: Set<Place> = []
    for queue in queues {
      guard let vhost = queue.vhost else { continue }
      if let name = queue["arguments"]?.object?["x-dead-letter-exchange"]?.string {
        exchanges.insert(Place(vhost, name))
      }
    }
    func applying(_ items: [Item]) -> [Item] {
      items.filter { policy in
        guard let vhost = policy.vhost, let content = Self.policy(policy) else { return false }
        func matches(_ places: Set<Place>) -> Bool {
          places.contains { $0.vhost == vhost.exact && Self.matches($0.name.text, content["pattern"]?.string ?? "") }
        }
        return switch content["apply-to"]?.string ?? "all" {
        case "exchanges": matches(exchanges)
        case "all": matches(places) || matches(exchanges)
        default: matches(places)
        }
      }
    }
    var bindings: Set<Item> = []
    while true {
      let before = (exchanges.count, bindings.count)
      for binding in self[.bindings] where !bindings.contains(binding) {
        guard let vhost = binding.vhost, let destination = binding["destination"]?.string else { continue }
        let place = Place(vhost, destination)
        let isToQueue = binding["destination_type"]?.string == "queue"
        guard isToQueue ? places.contains(place) : exchanges.contains(place) else { continue }
        bindings.insert(binding)
        if let source = binding["source"]?.string, !source.isEmpty {
          exchanges.insert(Place(vhost, source))
        }
      }
      for exchange in self[.exchanges] {
        guard let place = place(exchange), exchanges.contains(place),
          let other = exchange["arguments"]?.object?["alternate-exchange"]?.string
        else { continue }
        exchanges.insert(Place(place.vhost.text, other))
      }
      for policy in applying(self[.policies]) + applying(self[.parameters]) {
        guard let vhost = policy.vhost, let definition = Self.policy(policy)?["definition"]?.object else { continue }
        for setting in ["dead-letter-exchange", "alternate-exchange"] {
          if let name = definition[setting]?.string { exchanges.insert(Place(vhost, name)) }
        }
      }
      if before == (exchanges.count, bindings.count) { break }
    }
    copy.items[.queues] = queues
    copy.items[.bindings] = self[.bindings].filter(bindings.contains)
    copy.items[.exchanges] = self[.exchanges].filter { place($0).map(exchanges.contains) ?? false }
    copy.items[.policies] = applying(self[.policies])
    copy.items[.parameters] = applying(self[.parameters])
    copy.items[.vhosts] = self[.vhosts].filter { $0.vhost.map { vhosts.contains($0.exact) } ?? false }
    copy.items[.permissions] = self[.permissions].filter {
      $0["user"]?.string?.exact == user.exact && ($0.vhost.map { vhosts.contains($0.exact) } ?? false)
    }
    for kind in [Kind.users, .topicPermissions, .globalParameters] { copy.items[kind] = [] }
    return copy
  }

  private func place(_ item: Item) -> Place? {
    guard let vhost = item.vhost, let name = item["name"]?.string else { return nil }
    return Place(vhost, name)
  }

  /// What is in a policy; an operator policy is a parameter.
  private static func policy(_ item: Item) -> [String: JSONValue]? {
    if item.kind == .policies { return item.members }
    return item["component"]?.string == "operator_policy" ? item["value"]?.object : nil
  }

  /// A pattern that is none here may be one there: such a policy is kept.
  static func matches(_ name: String, _ pattern: String) -> Bool {
    guard let expression = try? Regex(pattern) else { return true }
    return name.contains(expression.matchingSemantics(.unicodeScalar))
  }
}
