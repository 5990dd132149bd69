import DRCore
import Logging

extension RabbitMQDefinitionsRestorer {
  /// Removes what is only on the broker, for an exact restore.
  func remove(
    _ extras: [RabbitMQDefinitionsDiff.Entry], _ present: RabbitMQDefinitions, _ api: ManagementAPI, _ logger: Logger
  ) async throws {
    // Before anything is removed.
    try await refuseFull(extras, present, api, logger)
    let gone = Set(extras.filter { $0.kind == .vhosts }.map(\.name.exact))
    for kind in RabbitMQDefinitions.Kind.allCases.reversed() {
      let names = Set(extras.filter { $0.kind == kind }.map(\.name.exact))
      for item in present[kind] where names.contains(item.name.exact) {
        if kind == .users, item["name"]?.string?.exact == broker.user.exact { continue }
        // A vhost goes with everything in it, once its queues were seen to be empty.
        if kind != .queues, kind != .vhosts, let vhost = item.vhost, gone.contains(vhost.exact) { continue }
        for path in try await paths(of: item, api) { try await api.delete(path) }
      }
    }
  }

  /// The broker removes a quorum queue or a stream with all that is in it, whatever it is asked.
  private func refuseFull(
    _ extras: [RabbitMQDefinitionsDiff.Entry], _ present: RabbitMQDefinitions, _ api: ManagementAPI, _ logger: Logger
  ) async throws {
    let names = Set(extras.filter { $0.kind == .queues }.map(\.name.exact))
    for item in present[.queues] where names.contains(item.name.exact) {
      guard let vhost = item.vhost, let name = item["name"]?.string else { continue }
      let queue = try await RabbitMQQueue.find(vhost, name, api)
      let depth = try await AMQPConnection.withConnection(broker, vhost: vhost, logger: logger) {
        try await $0.depth(of: name, queue.kind)
      }
      // How many messages a stream has, the broker says some seconds late.
      let holds =
        queue.kind == .stream ? try await QueueDump.lastOffset(queue, broker, logger) != nil : depth.ready > 0
      guard !holds, queue.unacknowledged == 0 else {
        throw DRError(
          .destinationInUse, "the queue \(item.name) is not in the backup and holds messages",
          advice: "save or purge them first: an exact restore removes only empty queues")
      }
    }
  }

  private func paths(of item: RabbitMQDefinitions.Item, _ api: ManagementAPI) async throws -> [String] {
    func part(_ member: String) -> String { ManagementAPI.escape(item[member]?.string ?? "") }
    switch item.kind {
    case .vhosts: return ["vhosts/\(part("name"))"]
    case .users: return ["users/\(part("name"))"]
    case .permissions: return ["permissions/\(part("vhost"))/\(part("user"))"]
    case .topicPermissions: return ["topic-permissions/\(part("vhost"))/\(part("user"))/\(part("exchange"))"]
    case .globalParameters: return ["global-parameters/\(part("name"))"]
    case .parameters:
      switch item["component"]?.string {
      case "operator_policy": return ["operator-policies/\(part("vhost"))/\(part("name"))"]
      case "vhost-limits":
        return (item["value"]?.object?.keys.sorted() ?? []).map { "vhost-limits/\(part("vhost"))/\($0)" }
      default: return ["parameters/\(part("component"))/\(part("vhost"))/\(part("name"))"]
      }
    case .policies: return ["policies/\(part("vhost"))/\(part("name"))"]
    case .exchanges: return ["exchanges/\(part("vhost"))/\(part("name"))"]
    case .queues: return ["queues/\(part("vhost"))/\(part("name"))"]
    case .bindings:
      let side = item["destination_type"] == "exchange" ? "e" : "q"
      let place = "bindings/\(part("vhost"))/e/\(part("source"))/\(side)/\(part("destination"))"
      return (try await api.find(place)?.array ?? []).compactMap { binding in
        func isSame(_ member: String) -> Bool {
          (binding.object?[member] ?? .null).isExactly(item[member] ?? .null)
        }
        guard isSame("routing_key"), isSame("arguments"), let key = binding.object?["properties_key"]?.string
        else { return nil }
        return "\(place)/\(ManagementAPI.escape(key))"
      }
    }
  }
}
