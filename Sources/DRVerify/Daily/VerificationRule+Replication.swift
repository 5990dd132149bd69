import DRCore
import DRStorage

/// What the tiers have of each other, and what backups need of one another and of the change log.
extension VerificationRule {
  static let replication: [VerificationRule] = [
    ofStatus("backup-whole") { facts in
      wholeBackups(facts)
    },
    ofStatus("backup-chain") { facts in
      let linked = facts.catalog.count { $0.parent != nil }
      return linked == 0
        ? [notChecked("backup-chain", facts.tiers[0], "no backup goes on from another")]
        : [passed("backup-chain", facts.tiers[0], "\(linked) backups go on from others, which are whole")]
    },
    ofStatus("backup-in-repository") { facts in
      copies(facts, "backup-in-repository") {
        passed("backup-in-repository", $0, "it has no backup newer than the repository's")
      }
    },
    ofStatus("log-complete") { facts in logs(facts) },
    ofStatus("log-in-repository") { facts in
      copies(facts, "log-in-repository") {
        passed("log-in-repository", $0, "its logs go no further than the repository's")
      }
    },
    ofStatus("copy-present") { facts in
      copies(facts, "copy-present") { passed("copy-present", $0, "it holds backups of each component") }
    },
    ofStatus("backup-on-copy") { facts in
      copies(facts, "backup-on-copy") {
        passed("backup-on-copy", $0, "every backup of the repository was copied in time")
      }
    },
    ofStatus("log-on-copy") { facts in
      copies(facts, "log-on-copy") { tier in
        facts.status.logs.isEmpty
          ? notChecked("log-on-copy", tier, "there is no change log")
          : passed("log-on-copy", tier, "every log of the repository was copied in time, without a hole")
      }
    },
  ]

  /// The findings of this name that the status gives; if none of them is a warning or a failure, also what is as it should be.
  private static func ofStatus(
    _ check: String, _ good: @escaping @Sendable (VerificationFacts) -> [Finding]
  ) -> VerificationRule {
    VerificationRule(check) { facts, settings in
      // Without the repository there is nothing to compare with.
      guard facts.unreachable[0] == nil else {
        return [notChecked(check, facts.tiers[0], "the repository cannot be reached")]
      }
      // What is wrong with the manifests, a rule of its own says.
      let found = facts.status.findings(lag: settings.lag, now: facts.now).filter { finding in
        switch finding.check {
        case "manifest-readable": false
        case "backup-whole", "backup-chain", "backup-in-repository", "log-in-repository", "copy-present",
          "backup-on-copy",
          "log-on-copy":
          finding.check == check
        // Each kind of log has names of its own for what is missing in it.
        default: check == "log-complete"
        }
      }.map { finding in
        // A hole that no newer backup needs is one all the same: moments within the retention are lost.
        guard finding.check == "log-complete", finding.severity == .warning else { return finding }
        var finding = finding
        finding.severity = .failure
        return finding
      }
      return found.contains { $0.severity >= .warning } ? found : found + good(facts)
    }
  }

  private static func wholeBackups(_ facts: VerificationFacts) -> [Finding] {
    facts.reached.map { tier in
      let whole = facts.status.rows.count { if case .whole = $0.places[tier] { true } else { false } }
      return whole > 0
        ? passed("backup-whole", facts.tiers[tier], "\(whole) backups, each with every artifact in its size")
        : notChecked("backup-whole", facts.tiers[tier], "it holds no backup")
    }
  }

  private static func logs(_ facts: VerificationFacts) -> [Finding] {
    facts.components.map { component in
      let own = facts.status.logs.filter { $0.component == component && ($0.places.first ?? nil)?.newest != nil }
      guard !own.isEmpty else {
        return notChecked("log-complete", "\(component)", "there is no change log of it")
      }
      let names = own.map { "\($0.log)/\($0.systemIdentifier)" }.sorted().joined(separator: ", ")
      return passed(
        "log-complete", "\(component)", "as far as the names of the segments say, \(names) has what the backups need")
    }
  }

  private static func copies(
    _ facts: VerificationFacts, _ check: String, _ good: (String) -> Finding
  ) -> [Finding] {
    guard facts.tiers.count > 1 else {
      return [notChecked(check, facts.tiers[0], "no copy of the repository was named")]
    }
    return facts.reached.filter { $0 > 0 }.map { good(facts.tiers[$0]) }
  }

  private static func passed(_ check: String, _ subject: String, _ evidence: String) -> Finding {
    Finding(check, .passed, subject: subject, evidence: evidence)
  }

  private static func notChecked(_ check: String, _ subject: String, _ why: String) -> Finding {
    Finding(check, .notChecked, subject: subject, evidence: why)
  }
}
