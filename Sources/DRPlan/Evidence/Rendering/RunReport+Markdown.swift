import DRCore
import DRVerify

extension RunReport {
  /// As Markdown, for a ticket or a wiki. Whatever its titles hold, nothing in them is markup.
  public var markdown: String {
    let text = ReportWords.markdown
    var lines = [
      "# \(kind.title): \(text(plan.name))", "", "**\(text(sentence))**", "",
      "| | |", "| --- | --- |",
      "| ran | \(ReportWords.moment(started)) to \(ReportWords.moment(ended)) |",
      "| by | \(text("\(by)")) |",
      "| plan's digest | \(text(plan.digest)) |",
    ]
    if let disaster { lines.append("| disaster | \(ReportWords.moment(disaster)) |") }
    if let targetMoment { lines.append("| back to | \(ReportWords.moment(targetMoment)) |") }
    if let number { lines.append("| number in the history | \(number) |") }
    if let previous { lines.append("| the report before it | \(previous) |") }
    lines += ["", "## Recovery time and point", "", "| | recovery time | lost | is at |", "| --- | --- | --- | --- |"]
    lines.append("| **everything** | \(cell(rto)) | \(cell(rpo)) | |")
    for component in components {
      lines.append(
        "| \(text("\(component.component)")) | \(cell(component.rto)) | \(cell(component.rpo)) | \(text(place(component))) |"
      )
    }
    lines += ["", "## Steps", "", "| phase | step | took | outcome | seen |", "| --- | --- | --- | --- | --- |"]
    for phase in phases {
      let seen = phase.notExecuted.map { "not executed: \(text($0))" } ?? ""
      lines.append("| **\(phase.kind.rawValue)** | | \(phase.duration.map { "\($0.rounded)" } ?? "") | | \(seen) |")
      for step in phase.steps {
        let took = step.duration.map { ReportWords.measure(Measure($0, of: step.budget)) } ?? ""
        lines.append(
          "| | \(text(step.title))\(step.isCritical ? " (critical path)" : "") | \(took) | \(step.outcome.rawValue) | "
            + "\(text(step.evidence)) |")
      }
    }
    if !notRun.isEmpty {
      lines += ["", "## Not run, or not measured", ""] + notRun.map { "- \(text($0.what)): \(text($0.reason))" }
    }
    lines += ["", "## Findings", "", "| | check | of | seen | what to do |", "| --- | --- | --- | --- | --- |"]
    for finding in findingsByWeight {
      let word =
        suppression(of: finding) == nil ? finding.severity.rawValue : "\(finding.severity.rawValue), does not count"
      lines.append(
        "| \(word) | \(text(finding.check)) | \(text(finding.subject)) | \(text(finding.evidence)) | "
          + "\(text(finding.advice ?? "")) |")
    }
    if !suppressions.isEmpty {
      lines += ["", "## What does not count, and why", ""]
      lines += suppressions.map {
        "- \(text($0.title)): \(text($0.reason))\(isUsed($0) ? "" : " (nothing fell under it)")"
      }
    }
    if !versions.isEmpty {
      lines += ["", "## Versions", ""]
      lines += versions.sorted { $0.key < $1.key }.map { "- \(text($0.key)): \(text($0.value))" }
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private func cell(_ measure: Measure) -> String {
    ReportWords.measure(measure) + (measure.isExceeded ? " **exceeded**" : "")
  }

  /// Where a component is, and how far from where it was to be.
  func place(_ component: Recovered) -> String {
    guard let point = component.point else { return "" }
    return point.position
      + (targetMoment.map { ", \(ReportWords.distance(point, from: $0))" } ?? ", \(ReportWords.moment(point.time))")
  }

  /// What weighs most first.
  var findingsByWeight: [Finding] {
    findings.enumerated().sorted { left, right in
      (right.element.severity, left.offset) < (left.element.severity, right.offset)
    }.map(\.element)
  }

  /// Whether anything falls under a suppression.
  func isUsed(_ suppression: Suppression) -> Bool {
    findings.contains { suppression.covers($0) }
  }
}

extension RunReport.Kind {
  /// For headings.
  var title: String { rawValue.prefix(1).uppercased() + rawValue.dropFirst() }
}

extension Suppression {
  /// In reports.
  var title: String { check + (subject == "*" ? "" : " of \(subject)") }
}
