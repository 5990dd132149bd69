import Foundation

extension RunReport {
  /// A bar for each step, those of the critical path marked, and the line of the target.
  var timelineHTML: String {
    guard phases.contains(where: { $0.started != nil }) else { return "" }
    let line = ReportTimeline(self)
    let goal =
      line.target.map {
        "<i class=\"goal\(line.isTargetOffScale ? " far" : "")\" style=\"left:\(percent($0))\"></i>"
      } ?? ""
    func bar(_ style: String, _ started: Date?, _ ended: Date?) -> String {
      guard let started, let ended else { return "" }
      let (left, right) = (line.position(started), line.position(ended))
      return "<i class=\"bar \(style)\" style=\"left:\(percent(left));width:\(percent(right - left))\"></i>"
    }
    var rows = [scale(line, goal)]
    for phase in phases {
      let took = phase.notExecuted == nil ? phase.duration.map { "\($0.rounded)" } ?? "" : "not run"
      rows.append(
        row(
          "phase", "\(phase.kind.rawValue)", small: phase.notExecuted, bar("", phase.started, phase.ended) + goal, took)
      )
      for step in phase.steps {
        let took =
          step.outcome == .done
          ? ReportWords.measure(Measure(step.duration, of: step.budget)) + (step.isLate ? ", exceeded" : "")
          : step.outcome.rawValue
        rows.append(
          row(
            "step", (step.isCritical ? "◆ " : "") + step.title, small: step.component.map { "\($0)" },
            bar(step.mark, step.started, step.ended) + goal, took,
            isBad: step.isLate || ![.done, .skipped].contains(step.outcome)))
      }
    }
    return """
      <h2>Timeline</h2>
      \(rows.joined(separator: "\n"))
      <p class="legend"><span><i class="bar"></i>step</span><span><i class="bar critical"></i>◆ critical path</span>\
      <span><i class="bar failed"></i>failed, or over its budget</span><span><i class="bar skipped"></i>not needed</span>\
      \(goal.isEmpty ? "" : "<span><i class=\"goal\"></i>RTO</span>")</p>
      """
  }

  private func scale(_ line: ReportTimeline, _ goal: String) -> String {
    let ticks = line.ticks.map { seconds in
      let place = line.position(line.origin.addingTimeInterval(seconds))
      let style = place < 3 ? " class=\"first\"" : place > 94 ? " class=\"last\"" : ""
      return "<span\(style) style=\"left:\(percent(place))\">\(Span.seconds(seconds))</span>"
    }
    var goals = ""
    if let target = line.target, let span = rto.target {
      // On the side where there is room.
      let side = target > 60 ? "right:\(percent(100 - target))" : "left:\(percent(target))"
      goals =
        "<div class=\"goals\"><span style=\"\(side)\">&nbsp;RTO \(span)\(line.isTargetOffScale ? ", not to scale" : "")&nbsp;</span></div>"
    }
    return
      "<div class=\"row scale\"><div class=\"label\"></div><div class=\"track\">\(goals)<div class=\"axis\">\(ticks.joined())</div></div>"
      + "<div class=\"took\"></div></div>"
  }

  private func row(
    _ style: String, _ label: String, small: String?, _ track: String, _ took: String, isBad: Bool = false
  ) -> String {
    let text = ReportWords.html
    let more = small.map { "<small>\(text($0))</small>" } ?? ""
    return
      "<div class=\"row \(style)\"><div class=\"label\">\(text(label))\(more)</div><div class=\"track\">\(track)</div>"
      + "<div class=\"took\(isBad ? " bad" : "")\">\(text(took))</div></div>"
  }

  private func percent(_ value: Double) -> String { String(format: "%.2f%%", value) }
}

extension RunReport.Step {
  fileprivate var isLate: Bool {
    guard let duration, let budget else { return false }
    return duration > budget
  }

  /// The classes of its bar.
  fileprivate var mark: String {
    let outcome =
      switch outcome {
      case .done: isLate ? "failed" : ""
      case .skipped: "skipped"
      case .failed, .cancelled, .takenBack, .notExecuted: "failed"
      }
    return [isCritical ? "critical" : "", outcome].filter { !$0.isEmpty }.joined(separator: " ")
  }
}
