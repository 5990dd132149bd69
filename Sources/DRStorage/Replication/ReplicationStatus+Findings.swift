public import DRCore

public import struct Foundation.Date

extension ReplicationStatus {
  /// What is not as it should be; empty: every tier has what the repository has, or had it long enough ago.
  ///
  /// A log that is absent, or has a hole, and a copy of which a backup is torn, are findings at once; what merely has not arrived
  /// yet is one once it is older than the lag. On the repository itself, an absent backup is one only if it is newer than all that are
  /// there: its retention may be shorter. Its logs are compared, by the names of their segments, with what each backup needs: what an
  /// older backup lacks, behind its own end, is a warning, for the log may have begun anew with a later one.
  ///
  /// - Parameters:
  ///   - lag: How long what the repository has may be missing on a copy.
  ///   - now: The moment at which the status was taken.
  public func findings(lag: Duration, now: Date) -> [Finding] {
    let limit = now.addingTimeInterval(-(lag / .seconds(1)))
    var findings: [Finding] = []
    for (index, tier) in tiers.enumerated() where unreachable[tier] == nil {
      findings += chainFindings(on: index, tier) + (index == 0 ? onlyOnCopies() + gapFindings() : [])
      findings += backupFindings(on: index, tier, before: limit)
      for log in logs {
        guard let place = log.places[index] else { continue }
        findings += index == 0 ? endings(of: log) + log.findings : logFindings(log, place, tier, before: limit, now)
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
            ? "absent copy: it holds no backup of what is looked at" : "it holds no backup of what is looked at",
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

  /// Backups that are whole, and go on from one that is not.
  private func chainFindings(on index: Int, _ tier: String) -> [Finding] {
    let places = Dictionary(rows.map { ("\($0.component) \($0.backup)", $0) }) { first, _ in first }
    return rows.compactMap { row in
      guard case .whole = row.places[index] else { return nil }
      var (link, steps) = (row, 0)
      while let parent = link.parent, steps < rows.count {
        guard let next = places["\(row.component) \(parent)"], next.places[index].isThere else {
          return Finding(
            "backup-chain", .failure, subject: "\(row.component) \(row.backup)",
            evidence: "\(parent), which it goes on from, is not whole on \(tier): it cannot be restored from there",
            advice: index == 0
              ? "bring it back from a copy (dr-repository replicate --from COPY --to \(tier.tierPlace)), or take a whole backup"
              : "run dr-repository replicate")
        }
        link = next
        steps += 1
      }
      return nil
    }
  }

  /// The newest backup of a component is on a copy, and not in the repository.
  private func onlyOnCopies() -> [Finding] {
    let components = Set(rows.map(\.component)).sorted { $0.description < $1.description }
    return components.compactMap { component in
      let own = rows.filter { $0.component == component }
      let newest = own.filter { $0.places[0] != .absent }.map(\.recoveryPoint).max()
      let lost = own.last { row in
        row.places[0] == .absent && newest.map { row.recoveryPoint > $0 } ?? true && row.places.contains { $0.isThere }
      }
      guard let lost, let copy = lost.places.firstIndex(where: \.isThere) else { return nil }
      return Finding(
        "backup-in-repository", .failure, subject: "\(component) \(lost.backup)",
        evidence: "the newest backup is on \(tiers[copy]), and not on \(tiers[0])",
        advice: "the repository, which is the first tier named, has lost it or is not the right one: bring it back "
          + "(dr-repository replicate --from \(tiers[copy].tierPlace) --to \(tiers[0].tierPlace))")
    }
  }

  private func gapFindings() -> [Finding] {
    logGaps.map { found in
      let consequence =
        found.gap.preventsRestore
        ? "it cannot be restored from \(tiers[0])" : "it can be restored no further than to there"
      return Finding(
        "log-complete", found.gap.preventsRestore || found.isNewest ? .failure : .warning,
        subject: "\(found.component) \(found.backup)", evidence: "\(found.log): \(found.gap.evidence): \(consequence)",
        advice:
          "bring it back from a copy that has it (dr-repository replicate --from COPY --to \(tiers[0].tierPlace)); if none has, "
          + "take a new backup, from which the log goes on")
    }
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

extension ReplicationStatus.Place {
  fileprivate var isThere: Bool { if case .whole = self { true } else { false } }
}
