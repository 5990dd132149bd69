public import struct Foundation.Date

/// What people are told in an incident, in the words of the plan document's communication plan.
public enum IncidentMessage: String, Hashable, Sendable, Codable, CaseIterable {
  case alert, status, business, customers
  case allClear = "all-clear"
  case report

  public func subject(_ incident: Incident) -> String {
    let systems = incident.systems.joined(separator: ", ")
    return switch self {
    case .alert: "INCIDENT ALERT (\(incident.severity.rawValue)): \(systems)"
    case .status: "Status update: \(systems)"
    case .business: "Incident status report: \(systems)"
    case .customers: "Service disruption: \(incident.service ?? systems)"
    case .allClear: "INCIDENT RESOLVED: \(systems)"
    case .report: "Post-incident report: \(systems)"
    }
  }

  /// - Parameter now: When it is sent.
  public func text(_ incident: Incident, now: Date) -> String {
    let systems = incident.systems.isEmpty ? "not known yet" : incident.systems.joined(separator: ", ")
    func known(_ text: String?, _ otherwise: String = "not known yet") -> String {
      guard let text, !text.isEmpty else { return otherwise }
      return text
    }
    func time(_ date: Date?, _ otherwise: String = "not known yet") -> String {
      date.map { ReportWords.moment($0) } ?? otherwise
    }
    let rest = incident.expectedEnd.map { end in
      let left = Span.seconds(max(60, end.timeIntervalSince(now)))
      return "within \(Span.minutes((left.seconds / 60).rounded(.up))), by \(ReportWords.moment(end))"
    }
    switch self {
    case .alert:
      return """
        INCIDENT ALERT: \(systems) failure detected at \(time(incident.began))
        Severity: \(incident.severity.rawValue)
        Estimated Impact: \(known(incident.impact))
        Incident Commander: \(known(incident.commander, "nobody yet"))
        Initial Action: \(known(incident.action, "Investigation"))
        """
    case .status:
      let minutes = Int(max(0, now.timeIntervalSince(incident.began)) / 60)
      return """
        Status Update (\(minutes) min):
        Systems Affected: \(systems)
        Current Action: \(known(incident.action, "Investigation"))
        Estimated Time to Restoration: \(known(rest))
        Next Update: \(time(incident.nextUpdate))
        """
    case .business:
      return """
        Incident Status Report
        - What: \(systems) failure
        - Impact: \(known(incident.impact))
        - When Began: \(time(incident.began))
        - Actions Taken: \(known(incident.actionsTaken.joined(separator: "; "), "none yet"))
        - Estimated Duration: \(known(rest))
        - Next Update: \(time(incident.nextUpdate))
        """
    case .customers:
      let page = incident.statusPage.map { "\nStatus: \($0)" } ?? ""
      return """
        We are investigating a service disruption affecting \(known(incident.service, systems)).
        Our teams are actively working on recovery. Updates every 30 minutes.\(page)
        """
    case .allClear:
      return """
        INCIDENT RESOLVED at \(time(incident.resolved))
        All systems operational
        Incident Summary: \(known(incident.summary))
        Root Cause: \(known(incident.rootCause, "TBD"))
        Post-incident review scheduled: \(time(incident.review, "not yet"))
        """
    case .report:
      let events = incident.timeline.map { "- \(ReportWords.moment($0.when)): \($0.what)" }.joined(separator: "\n")
      return """
        Post-incident report: \(systems), \(incident.severity.rawValue), \(time(incident.began)) to \(time(incident.resolved, "not resolved yet"))

        1. Timeline of events
        \(events.isEmpty ? "- nothing was recorded" : events)

        2. Root cause analysis
        \(known(incident.rootCause, "TBD"))

        3. Immediate fixes implemented
        \(known(incident.actionsTaken.map { "- \($0)" }.joined(separator: "\n"), "TBD"))

        4. Follow-up improvements (with timeline)
        TBD

        5. Lessons learned
        TBD
        """
    }
  }
}
