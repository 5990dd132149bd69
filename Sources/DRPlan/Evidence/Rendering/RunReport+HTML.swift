import DRCore
import DRVerify

extension RunReport {
  /// As one page that needs nothing besides: no script, no font, no picture from anywhere. Whatever its titles hold, nothing in them is
  /// markup.
  public var html: String {
    let text = ReportWords.html
    let title = "\(kind.title): \(plan.name)"
    return """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <title>\(text(title))</title>
      <style>
      \(ReportStyle.css)
      </style>
      </head>
      <body>
      <h1>\(text(title))</h1>
      \(verdictHTML)
      \(factsHTML)
      \(componentsHTML)
      \(timelineHTML)
      \(list("Not run, or not measured", notRun.map { "<b>\(text($0.what))</b>: \(text($0.reason))" }))
      \(findingsHTML)
      \(list("What does not count, and why", suppressions.map {
        "<b>\(text($0.title))</b>: \(text($0.reason))\(isUsed($0) ? "" : " (nothing fell under it)")"
      }))
      \(list("Versions", versions.sorted { $0.key < $1.key }.map { "\(text($0.key)): \(text($0.value))" }))
      <footer>\(footer.map(text).joined(separator: "<br>\n"))</footer>
      </body>
      </html>

      """
  }

  private var verdictHTML: String {
    let style =
      switch verdict {
      case .passed: "passed"
      case .failed: "failed"
      case .couldNotVerify: "doubt"
      case .notConfigured: ""
      }
    let rest = sentence.dropFirst("\(verdict.rawValue): ".count)
    return "<p class=\"verdict \(style)\"><b>\(verdict.rawValue)</b>\(ReportWords.html(String(rest)))</p>"
  }

  private var factsHTML: String {
    func fact(_ name: String, _ measure: Measure) -> String {
      let words = ReportWords.html(ReportWords.measure(measure))
      return
        "<div><dt>\(name)</dt><dd>\(words)\(measure.isExceeded ? " <span class=\"bad\">exceeded</span>" : "")</dd></div>"
    }
    func fact(_ name: String, _ value: String) -> String {
      "<div><dt>\(name)</dt><dd>\(ReportWords.html(value))</dd></div>"
    }
    var facts: [String] = []
    if rto.target != nil || rto.actual != nil { facts.append(fact("Recovery time, of everything", rto)) }
    if rpo.target != nil || rpo.actual != nil { facts.append(fact("Lost at most", rpo)) }
    if let disaster { facts.append(fact("Disaster", ReportWords.moment(disaster))) }
    if let targetMoment { facts.append(fact("Back to", ReportWords.moment(targetMoment))) }
    facts.append(
      fact("Ran", "\(ReportWords.moment(started)), for \(Span.seconds(ended.timeIntervalSince(started)).rounded)"))
    facts.append(fact("By", "\(by.name) on \(by.host)"))
    return "<dl class=\"facts\">\n\(facts.joined(separator: "\n"))\n</dl>"
  }

  private var componentsHTML: String {
    guard !components.isEmpty else { return "" }
    func cell(_ name: String, _ measure: Measure) -> String {
      let words = ReportWords.html(ReportWords.measure(measure))
      return
        "<td data-name=\"\(name)\">\(words)\(measure.isExceeded ? " <span class=\"bad\">exceeded</span>" : "")</td>"
    }
    let rows = components.map { component in
      "<tr><td><b>\(ReportWords.html("\(component.component)"))</b></td>\(cell("recovery time", component.rto))"
        + "\(cell("lost", component.rpo))<td data-name=\"is at\">\(ReportWords.html(place(component)))</td></tr>"
    }
    return """
      <h2>Components</h2>
      <table class="stack">
      <thead><tr><th>component</th><th>recovery time</th><th>lost</th><th>is at</th></tr></thead>
      <tbody>
      \(rows.joined(separator: "\n"))
      </tbody>
      </table>
      """
  }

  private var findingsHTML: String {
    guard !findings.isEmpty else { return "" }
    let text = ReportWords.html
    let rows = findingsByWeight.map { finding in
      let isCounted = suppression(of: finding) == nil
      let advice = finding.advice.map { "<br><span class=\"muted\">What to do: \(text($0))</span>" } ?? ""
      return "<tr><td class=\"mark \(isCounted ? finding.severity.rawValue : "")\">\(finding.severity.rawValue)"
        + "\(isCounted ? "" : "<br>does not count")</td><td data-name=\"check\">\(text(finding.check))</td><td data-name=\"of\">\(text(finding.subject))</td>"
        + "<td>\(text(finding.evidence))\(advice)</td></tr>"
    }
    return """
      <h2>Findings</h2>
      <table class="stack">
      <thead><tr><th></th><th>check</th><th>of</th><th>seen</th></tr></thead>
      <tbody>
      \(rows.joined(separator: "\n"))
      </tbody>
      </table>
      """
  }

  private func list(_ title: String, _ items: [String]) -> String {
    items.isEmpty ? "" : "<h2>\(title)</h2>\n<ul>\n\(items.map { "<li>\($0)</li>" }.joined(separator: "\n"))\n</ul>"
  }

  private var footer: [String] {
    ["\(by.program) \(by.version), by \(by.name) on \(by.host)", "the plan's digest: \(plan.digest)"]
      + (number.map { ["number \($0) of its history"] } ?? [])
      + (previous.map { ["the report before it: \($0)"] } ?? [])
  }
}
