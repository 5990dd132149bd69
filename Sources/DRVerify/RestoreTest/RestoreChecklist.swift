public import DRCore

/// The plan's fifteen points, to be verified after any restoration: each is checked, or is not, because.
public struct RestoreChecklist: Sendable {
  /// One line of the list.
  public struct Point: Hashable, Sendable {
    /// From 1.
    public var number: Int
    public var title: String
    /// The checks that say whether it is so.
    package var checks: Set<String>
    /// Of which systems; nil: of any.
    package var kinds: Set<Component.Kind>?
    /// Why it is not checked if none of them ran.
    package var otherwise: String
  }

  public static let points: [Point] = {
    let database: Set<Component.Kind> = [.postgres]
    let noDatabase = "no database was restored in this test"
    let noBaseline = "no baseline of a database was given"
    let lines: [(String, Set<String>, Set<Component.Kind>?, String)] = [
      ("Database connectivity successful", ["connectivity"], database, noDatabase),
      ("All tables and schemas present", ["tables"], database, noBaseline),
      ("Row counts match expected values", ["row-counts"], database, noDatabase),
      ("Primary keys and unique constraints valid", ["uniqueness", "indexes"], database, noDatabase),
      ("Foreign key relationships intact", ["foreign-keys"], database, noDatabase),
      ("Data types unchanged", ["column-types"], database, noBaseline),
      ("Last modified timestamps correct", ["timestamps"], database, noBaseline),
      ("No corruption detected in integrity checks", ["amcheck", "dump", "constraints"], database, noDatabase),
      ("Application connects successfully", ["application"], nil, "no command of the application was given"),
      (
        "No errors in application logs", [], nil,
        "the application does not run in the sandbox, and its logs are elsewhere"
      ),
      ("Critical queries execute correctly", ["queries", "canary"], database, "no queries and no canary were given"),
      ("Performance metrics acceptable", ["query-timings"], database, "no timings of queries were given"),
      (
        "Cache layer functioning", ["connectivity", "key-counts", "samples", "hits"], [.redis],
        "no cache was restored in this test"
      ),
      (
        "Message queues processing normally", ["queues", "depths", "round-trip"], [.rabbitmq],
        "no queues were restored in this test"
      ),
      ("Monitoring and alerting working", [], nil, "no monitoring watches a sandbox"),
    ]
    return lines.enumerated().map { index, line in
      Point(number: index + 1, title: line.0, checks: line.1, kinds: line.2, otherwise: line.3)
    }
  }()

  /// One finding for each point, from those of the systems that were restored. A point of which some checks ran and some did not is what
  /// those that ran say; one of which none gave an answer is not checked.
  public static func findings(_ seen: [(component: Component, findings: [Finding])]) -> [Finding] {
    points.map { point in
      let own = seen.filter { point.kinds?.contains($0.component.kind) ?? true }.flatMap(\.findings)
        .filter { point.checks.contains($0.check) }
      func finding(_ severity: Finding.Severity, _ evidence: String) -> Finding {
        Finding(
          "checklist", severity, subject: "\(point.number). \(point.title)", evidence: evidence,
          advice: severity >= .warning ? "see the findings of \(point.checks.sorted().joined(separator: ", "))" : nil)
      }
      let worst = own.max { $0.severity < $1.severity }
      if let worst, worst.severity >= .warning {
        return finding(worst.severity, "\(worst.check) \(worst.subject): \(worst.evidence)")
      }
      let passed = own.filter { $0.severity == .passed }
      guard let first = passed.first else { return finding(.notChecked, worst?.evidence ?? point.otherwise) }
      return finding(
        .passed,
        passed.count == 1
          ? "\(first.check): \(first.evidence)"
          : "\(passed.count) checks: \(Set(passed.map(\.check)).sorted().joined(separator: ", "))")
    }
  }
}
