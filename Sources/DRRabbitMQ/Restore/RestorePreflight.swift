import DRCore

/// Why messages are not restored into a queue. The name overrides it, where it can be overridden.
public struct RestoreRefusal: RawRepresentable, Hashable, Sendable, Codable, CustomStringConvertible {
  public let rawValue: String
  public init(rawValue: String) { self.rawValue = rawValue }
  public var description: String { rawValue }

  /// The queue holds messages.
  public static let notEmpty = RestoreRefusal(rawValue: "not-empty")
  /// Consumers would take messages while others are still on their way.
  public static let consumers = RestoreRefusal(rawValue: "consumers")
  /// The queue drops its oldest messages before it would hold all.
  public static let maxLength = RestoreRefusal(rawValue: "max-length")
  /// The queue is of another type than the one that was dumped.
  public static let type = RestoreRefusal(rawValue: "type")
  /// Messages of the stream's kind lose headers: a stream keeps no arrays and tables, and a decimal ends the channel.
  public static let streamHeaders = RestoreRefusal(rawValue: "stream-headers")

  /// Segments of the tap are missing, or it was made anew.
  public static let tapGap = RestoreRefusal(rawValue: "tap-gap")

  /// Of a queue for which a tap is to be gone on with, no tap has stored anything.
  public static let noTap = RestoreRefusal(rawValue: "no-tap")

  /// The queue holds less than what the journal says that a killed restore has brought.
  public static let journalMismatch = RestoreRefusal(rawValue: "journal-mismatch")

  static let all: [RestoreRefusal] = [
    notEmpty, consumers, maxLength, type, streamHeaders, tapGap, noTap, journalMismatch,
  ]

  /// With these overridden, how deep a queue is does not tell what a restore has brought to it.
  static let sharingQueue: Set<RestoreRefusal> = [notEmpty, consumers, maxLength, journalMismatch]

  /// - Throws: ``DRError`` with `invalidConfiguration` for a name that is none.
  public static func override(_ name: String) throws -> RestoreRefusal {
    guard let refusal = all.first(where: { $0.rawValue == name }) else {
      throw DRError(
        .invalidConfiguration, "'\(name.prefix(40))' is no refusal of a restore",
        advice: "use " + all.map(\.rawValue).joined(separator: ", "))
    }
    return refusal
  }
}

/// Whether a queue can take what is to be restored. Pure.
package enum RestorePreflight {
  package struct Obstacle: Hashable, Sendable {
    package var refusal: RestoreRefusal
    package var evidence: String
  }

  /// Whether what a journal says was brought is there.
  ///
  /// Only consumers explain that less is there; a queue that was purged, or that is another one by now, would lose it.
  ///
  /// - Parameter confirmed: How many messages were confirmed.
  package static func mismatch(ready: Int64, consumers: Int64, confirmed: UInt64, hadConsumers: Bool) -> Obstacle? {
    let confirmed = Int64(clamping: confirmed)
    guard consumers == 0, !hadConsumers, ready < confirmed else { return nil }
    return Obstacle(
      refusal: .journalMismatch,
      evidence: "it holds \(ready) messages, and the journal says that \(confirmed) were restored into it: they "
        + "were taken, expired or purged, or it is another queue by now. Begin anew with an empty queue and another journal, if "
        + "they are to be there")
  }

  /// - Parameters:
  ///   - ready: As the queue itself says, now.
  ///   - type: Of the queue that was dumped.
  ///   - isResumed: What is there may be what the restore itself has brought.
  package static func obstacles(
    _ queue: RabbitMQQueue, ready: Int64, consumers: Int64, type: String, isResumed: Bool
  ) -> [Obstacle] {
    var obstacles: [Obstacle] = []
    if ready > 0 || queue.unacknowledged > 0, !isResumed {
      obstacles.append(
        Obstacle(refusal: .notEmpty, evidence: "it holds \(ready) messages and consumers hold \(queue.unacknowledged)"))
    }
    if consumers > 0 {
      obstacles.append(Obstacle(refusal: .consumers, evidence: "\(consumers) consumers are at work"))
    }
    if queue.kind.rawValue != type {
      obstacles.append(
        Obstacle(refusal: .type, evidence: "it is a \(queue.kind.rawValue) queue, and a \(type) queue was dumped"))
    }
    return obstacles
  }

  /// What a restore brings to a queue.
  package struct Load: Hashable, Sendable {
    package var messages: Int64
    /// Of their bodies.
    package var bytes: Int64
    /// Of the messages, those that a tap has captured.
    package var fromTap: Int64

    package init(messages: Int64, bytes: Int64, fromTap: Int64 = 0) {
      self.messages = messages
      self.bytes = bytes
      self.fromTap = fromTap
    }
  }

  /// Whether the queue drops its oldest messages before it would hold all.
  ///
  /// - Parameter ready: What is there and is not the restore's.
  package static func tooLong(_ queue: RabbitMQQueue, ready: Int64, load: Load) -> Obstacle? {
    guard queue.kind != .stream, !queue.refusesWhenFull else { return nil }
    let tap = load.fromTap > 0 ? " (\(load.fromTap) of them captured by the tap)" : ""
    if let most = queue.limit("max-length"), ready + load.messages > most {
      return Obstacle(
        refusal: .maxLength,
        evidence: "it holds \(most) messages at most, and would confirm and drop of \(load.messages)\(tap)")
    }
    if let most = queue.limit("max-length-bytes"), (ready > 0 ? queue.readyBytes : 0) + load.bytes > most {
      return Obstacle(
        refusal: .maxLength,
        evidence: "it holds \(most) bytes at most, and would confirm and drop of \(load.bytes)"
          + (tap.isEmpty ? "" : ", of \(load.messages) messages\(tap)"))
    }
    return nil
  }
}
