import Foundation

/// Tells people. It is done whatever becomes of the message: a channel that fails is in the report, and fails no recovery.
public struct NotifyAction: RecoveryAction {
  public var notifier: Notifier
  private let announcement: @Sendable () -> Announcement
  public let summary: String

  /// - Parameter announcement: Made when it is sent.
  public init(_ summary: String, over notifier: Notifier, _ announcement: @escaping @Sendable () -> Announcement) {
    self.summary = "tell: \(summary)"
    self.notifier = notifier
    self.announcement = announcement
  }

  /// One of the communication plan's messages, with what is known when it is sent.
  ///
  /// - Parameters:
  ///   - audience: Nil: as the communication plan has it.
  ///   - limit: What a channel may take at most: one that stands still costs the recovery no more than this.
  public init(_ message: IncidentMessage, to audience: [String]?, by messages: PlanMessages, within limit: Duration) {
    let audience = messages.audience(of: message, audience)
    var notifier = messages.notifier
    notifier.patience = min(notifier.patience, limit)
    self.init("\(message.rawValue) to \(audience.joined(separator: ", "))", over: notifier) {
      messages.announcement(message, to: audience, now: Date())
    }
  }

  public func perform() async throws -> String {
    guard !notifier.channels.isEmpty else { return "NOBODY WAS TOLD: no channel is named" }
    let deliveries = await notifier.send(announcement())
    try Task.checkCancellation()
    let failed = deliveries.filter { $0.error != nil }
    let sent = "sent over \(deliveries.count - failed.count) of \(deliveries.count) channels"
    return ([sent] + failed.map(\.description)).joined(separator: "; ")
  }
}
