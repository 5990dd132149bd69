import DRCore
import DRStorage

/// What a manifest says of a tap that was there when the backup was taken: so that its loss is seen even where nothing of its log is
/// left.
struct TapRecord: Hashable, Sendable {
  var vhost: String
  var queue: String
  /// Its queue on the broker.
  var tap: String
  /// The number of the last segment that was stored by then; 0: none.
  var segments: Int

  var key: String { TapSequence.key(vhost: vhost, queue: queue) }

  var json: JSONValue {
    ["vhost": .string(vhost), "queue": .string(queue), "tap": .string(tap), "segments": .integer(Int64(segments))]
  }

  static func all(of manifest: BackupManifest) -> [TapRecord] {
    (manifest.properties["taps"]?.array ?? []).compactMap { value in
      guard let members = value.object, let vhost = members["vhost"]?.string, let queue = members["queue"]?.string
      else { return nil }
      return TapRecord(
        vhost: vhost, queue: queue, tap: members["tap"]?.string ?? "",
        segments: Int(members["segments"]?.integer ?? 0))
    }
  }

  /// Those of the broker's queues that are taps of this component into this repository, and leave notes of their own.
  static func all(
    of queues: [RabbitMQQueue], _ component: Component, _ tier: any StorageTier, _ cluster: String
  ) async throws -> [TapRecord] {
    let owner = RabbitMQTap.owner(component, tier)
    let log = try RabbitMQTapLog(tier: tier, component: component, cluster: cluster)
    var records: [TapRecord] = []
    for tap in queues where tap.name.hasPrefix(RabbitMQTap.queuePrefix) {
      guard tap.arguments[RabbitMQTap.ownerArgument]?.string == owner, tap.arguments[RabbitMQTap.madeArgument] != nil,
        let queue = tap.arguments[RabbitMQTap.queueArgument]?.string
      else { continue }
      let key = TapSequence.key(vhost: tap.vhost, queue: queue)
      // One that was made this moment has yet to note it.
      guard try await !log.beginnings(key).isEmpty else { continue }
      let last = try await log.stored(key).last?.number ?? 0
      records.append(TapRecord(vhost: tap.vhost, queue: queue, tap: tap.name, segments: last))
    }
    return records
  }

  func lost(_ manifest: BackupManifest) -> Finding {
    Finding(
      "tap-segments", .failure, subject: "\(vhost)/\(queue)",
      evidence: "backup \(manifest.id) says that a tap was there, with \(segments) segments: "
        + "nothing of its log is there now",
      advice: TapSequence.repair)
  }
}
