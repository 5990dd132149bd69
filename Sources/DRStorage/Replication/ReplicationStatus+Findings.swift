public import DRCore

public import struct Foundation.Date

extension ReplicationStatus {
  /// What is not as it should be; empty: every tier has what the repository has, or had it long enough ago.
  ///
  /// A log that is absent, or has a hole, and a copy of which a backup is torn, are findings at once; what merely has not arrived
  /// yet is one once it is older than the lag. On the repository itself, an absent backup is none: its retention may be shorter.
  ///
  /// - Parameters:
  ///   - lag: How long what the repository has may be missing on a copy.
  ///   - now: The moment at which the status was taken.
  public func findings(lag: Duration, now: Date) -> [Finding] {
    let limit = now.addingTimeInterval(-(lag / .seconds(1)))
    var findings: [Finding] = []
    for (index, tier) in tiers.enumerated() where unreachable[tier] == nil {
      findings += backupFindings(on: index, tier, before: limit)
      for log in logs {
        guard let place = log.places[index] else { continue }
        findings += index == 0 ? endings(of: log) : logFindings(log, place, tier, before: limit, now)
      }
      findings += (unreadable[tier] ?? []).map {
        Finding(
          "manifest-readable", .failure, subject: $0.key.rawValue, evidence: "on \(tier): \($0.error.message)",
          advice: $0.error.advice)
      }
    }
    return findings
  }

  private func backupFindings(on index: Int, _ tier: String, before limit: Date) -> [Finding] {
    let isCopy = index > 0
    let holds = rows.contains { ![.absent, .removed, .unknown].contains($0.places[index]) }
    guard holds || unreadable[tier] != nil else {
      return [
        Finding(
          "copy-present", .failure, subject: tier,
          evidence: isCopy
            ? "absent copy: it holds no backup at all" : "it holds no backup at all",
          advice: isCopy
            ? "see that it is the right place, then run dr-repository replicate"
            : "see that it is the right place; restore from a copy, or take a backup")
      ]
    }
    var findings: [Finding] = []
    let components = Set(rows.map(\.component)).sorted { $0.description < $1.description }
    for component in components where isCopy {
      let own = rows.filter { $0.component == component }
      guard own.allSatisfy({ $0.places[index] == .absent }) else { continue }
      findings.append(
        Finding(
          "copy-present", .failure, subject: "\(component)", evidence: "absent copy: \(tier) holds no backup of it",
          advice: "run dr-repository replicate"))
    }
    for row in rows {
      switch row.places[index] {
      case .torn(let missing):
        findings.append(
          Finding(
            "backup-whole", .failure, subject: "\(row.component) \(row.backup)",
            evidence: "torn on \(tier): \(missing) artifacts are missing there, or have another size",
            advice: isCopy
              ? "run dr-repository replicate: it sends them again" : "restore from a copy; take a new backup"))
      case .absent where isCopy && row.ended < limit && row.places[0] != .absent:
        guard !findings.contains(where: { $0.subject == "\(row.component)" }) else { continue }
        findings.append(
          Finding(
            "backup-on-copy", .failure, subject: "\(row.component) \(row.backup)",
            evidence: "absent on \(tier), complete since \(Timestamp.format(row.ended))",
            advice: "run dr-repository replicate"))
      default: continue
      }
    }
    return findings
  }

  private func logFindings(
    _ log: ChangeLogStatus, _ place: ChangeLogStatus.Place, _ tier: String, before limit: Date, _ now: Date
  ) -> [Finding] {
    guard let since = place.behindSince else { return [] }
    let what = "\(log.component) \(log.log) \(log.systemIdentifier)"
    let behind = "\(place.missing) segments are missing on \(tier), the oldest since \(Timestamp.format(since))"
    func finding(_ evidence: String) -> [Finding] {
      [
        Finding(
          "log-on-copy", .failure, subject: what, evidence: evidence,
          advice: "run dr-repository replicate; if it runs, see why it does not keep up")
      ]
    }
    if place.newest == nil { return finding("the log is absent: \(behind)") }
    if place.holes > 0 {
      return finding("the log has a hole: \(behind), and \(place.holes) of them lie before what is there")
    }
    return since < limit ? finding("the log is behind: \(behind); it ends at \(place.newest ?? "")") : []
  }

  /// The repository's log, if a copy goes further.
  private func endings(of log: ChangeLogStatus) -> [Finding] {
    zip(tiers, log.places).compactMap { tier, place in
      guard let place, place.ahead > 0 else { return nil }
      return Finding(
        "log-in-repository", .failure, subject: "\(log.component) \(log.log) \(log.systemIdentifier)",
        evidence: "the repository's log ends before that on \(tier), which has \(place.ahead) segments more",
        advice:
          "the repository, which is the first tier named, has lost segments or is not the right one: copy them back from there"
      )
    }
  }
}
