public import DRCore

/// What a tier was seen to do.
public struct ConformanceReport: Sendable {
  /// One capability: whether the tier claims it, and whether what was seen bears that out.
  public struct Row: Hashable, Sendable {
    public var capability: String
    public var claimed: Bool
    /// No failure in the checks that are about it.
    public var kept: Bool
  }

  public var tier: String
  public var findings: [Finding]
  public var rows: [Row]

  init(
    tier: String, capabilities: TierCapabilities, findings: [Finding],
    checks: [(name: String, capability: TierCapabilities?)]
  ) {
    self.tier = tier
    self.findings = findings
    let failed = Set(findings.filter { $0.severity == .failure }.map(\.check))
    let common = checks.filter { $0.capability == nil }
    rows = [
      Row(capability: "the common contract", claimed: true, kept: !common.contains { failed.contains($0.name) })
    ]
    rows += TierCapabilities.named.map { capability, name in
      Row(
        capability: name, claimed: capabilities.contains(capability),
        kept: !checks.contains { $0.capability == capability && failed.contains($0.name) })
    }
  }

  /// Whether no check failed, and at least one ran.
  public var isConformant: Bool {
    !findings.contains { $0.severity == .failure } && findings.contains { $0.severity == .passed }
  }

  /// A table for people: the capabilities, then what was wrong.
  public var text: String {
    let width = (rows.map(\.capability.count).max() ?? 0) + 2
    var lines = [tier, ""]
    for row in rows {
      let verdict = row.kept ? (row.claimed ? "yes, seen to be so" : "no, and it says so") : "BROKEN"
      lines.append(row.capability.padded(to: width) + verdict)
    }
    let notable = findings.filter { $0.severity != .passed }
    if !notable.isEmpty { lines.append("") }
    lines += notable.map(\.description)
    let passed = findings.count { $0.severity == .passed }
    let failed = Set(findings.filter { $0.severity == .failure }.map(\.check)).count
    lines += ["", "\(passed) checks passed, \(failed) failed"]
    return lines.joined(separator: "\n")
  }
}

extension String {
  fileprivate func padded(to width: Int) -> String { self + String(repeating: " ", count: max(1, width - count)) }
}
