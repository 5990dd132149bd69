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

  public func perform() async throws -> String {
    let deliveries = await notifier.send(announcement())
    try Task.checkCancellation()
    let failed = deliveries.filter { $0.error != nil }
    let sent = "sent over \(deliveries.count - failed.count) of \(deliveries.count) channels"
    return ([sent] + failed.map(\.description)).joined(separator: "; ")
  }
}
