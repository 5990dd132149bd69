import DRCore

import struct Foundation.Date

/// What the `notify` steps of a recovery plan tell people with: channels, and what is known of the incident when a message is sent.
public struct PlanMessages: Sendable {
  /// Without channels nobody is told, and the steps say so.
  public var notifier: Notifier
  /// Who is told, unless a step says it.
  public var plan: CommunicationPlan
  public var incident: @Sendable () -> Incident

  public init(
    over notifier: Notifier = Notifier([]), by plan: CommunicationPlan = .document,
    of incident: @escaping @Sendable () -> Incident
  ) {
    self.notifier = notifier
    self.plan = plan
    self.incident = incident
  }

  /// For plans that are only looked at: nobody is told anything.
  public static let none = PlanMessages { Incident([], severity: .critical, began: Date()) }

  /// - Parameter audience: Nil: as the communication plan has it.
  func audience(of message: IncidentMessage, _ audience: [String]?) -> [String] {
    audience ?? plan.messages.first { $0.message == message }?.audience ?? plan.everybody
  }

  /// As it is sent now.
  func announcement(_ message: IncidentMessage, to audience: [String], now: Date) -> Announcement {
    var known = incident()
    // Whose step says that it is over, knows it first.
    if message == .allClear, known.resolved == nil { known.resolved = now }
    return message.announcement(known, now: now, to: audience)
  }
}
