public import DRCore
import DRStorage

public import struct Foundation.Date

/// What was measured of a component, for a forecast of its recovery.
public struct MeasuredRestore: Hashable, Sendable, Codable {
  /// What a restore has to write.
  public var bytes: Int64
  /// Of its restores, as they were measured.
  public var bytesPerSecond: Double
  /// What does not depend on the size: to find out, to start a server, to replay a log, to verify.
  public var fixed: Span

  public init(bytes: Int64, bytesPerSecond: Double, fixed: Span = .seconds(0)) {
    self.bytes = bytes
    self.bytesPerSecond = bytesPerSecond
    self.fixed = fixed
  }
}

extension ProtectionPlan {
  /// How long a restore would take from a tier.
  public func forecast(of measured: MeasuredRestore, from tier: Tier) -> Span {
    let writing = Double(measured.bytes) / max(measured.bytesPerSecond, 1)
    return .seconds(tier.delay.seconds + writing + measured.fixed.seconds)
  }

  /// What the plan promises and, as it is written, cannot keep; checks that passed are among them.
  ///
  /// The schedules are run over the year behind a moment, with every change of the clocks in it.
  ///
  /// - Parameter measured: By component; without it, of a recovery time nothing is known, which is a notice.
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` for a time zone that is none.
  public func findings(at moment: Date, measured: [Component: MeasuredRestore] = [:]) throws -> [Finding] {
    let year = moment..<moment.addingTimeInterval(366 * 86_400)
    var findings = uniqueness()
    for protected in components {
      let held = protected.tiers.compactMap { name in tiers.first { $0.name == name } }
      findings += tierFindings(protected)
      findings += try rpoFindings(protected, year)
      findings += try retentionFindings(protected, held, year)
      findings += try overlapFindings(protected, year)
      findings.append(rtoFinding(protected, held, measured[protected.component]))
      findings.append(verificationFinding(protected))
    }
    return findings
  }

  private func uniqueness() -> [Finding] {
    func repeated(_ names: [String]) -> [String] {
      Dictionary(grouping: names) { $0 }.filter { $0.value.count > 1 }.map(\.key).sorted()
    }
    return repeated(tiers.map(\.name)).map {
      Finding("plan-names", .failure, subject: $0, evidence: "two tiers have this name", advice: "name each otherwise")
    }
      + repeated(tiers.map(\.place)).map {
        Finding(
          "plan-names", .failure, subject: $0, evidence: "two tiers are one place",
          advice: "give each a place of its own: a copy in one place is no copy")
      }
      + repeated(components.map { "\($0.component)" }).map {
        Finding(
          "plan-names", .failure, subject: $0, evidence: "the component is there twice", advice: "make one of them")
      }
  }

  private func tierFindings(_ protected: Protected) -> [Finding] {
    let subject = "\(protected.component)"
    let unknown = protected.tiers.filter { name in !tiers.contains { $0.name == name } }
    if let first = unknown.first {
      return [
        Finding(
          "tier-present", .failure, subject: subject, evidence: "its tier '\(first)' is not in the plan",
          advice: "the plan has \(tiers.map(\.name).joined(separator: ", "))")
      ]
    }
    switch Set(protected.tiers).count {
    case 0:
      return [Finding("tier-present", .failure, subject: subject, evidence: "no tier holds it", advice: "name one")]
    case 1:
      return [
        Finding(
          "tier-present", .warning, subject: subject, evidence: "only '\(protected.tiers[0])' holds it",
          advice: "a disaster that takes that tier takes every backup: name a second one")
      ]
    default:
      return [
        Finding(
          "tier-present", .passed, subject: subject,
          evidence: "held by \(protected.tiers.joined(separator: ", "))")
      ]
    }
  }

  private func rpoFindings(_ protected: Protected, _ year: Range<Date>) throws -> [Finding] {
    let subject = "\(protected.component)"
    var findings: [Finding] = []
    if !protected.captures.contains(where: { $0.purpose == .full }) {
      findings.append(
        Finding(
          "full-backup", .failure, subject: subject, evidence: "nothing captures it as a whole",
          advice: "a log and an incremental backup go on from a full one: add that"))
    }
    let promised = Span(protected.objective.rpo)
    guard let worst = try exposure(of: protected.component, in: year).worst else {
      return findings + [
        Finding(
          "rpo-reachable", .failure, subject: subject, evidence: "at some moment nothing could be recovered",
          advice: "see that its captures run at all")
      ]
    }
    let evidence = "at most \(worst.loss) would be lost, at \(Timestamp.format(worst.at)); \(promised) is allowed"
    findings.append(
      worst.loss > promised
        ? Finding(
          "rpo-reachable", .failure, subject: subject, evidence: evidence,
          advice: "capture it more often, let a capture take less time, or follow its changes")
        : Finding("rpo-reachable", .passed, subject: subject, evidence: evidence))
    return findings
  }

  /// Within a tier's retention, the longest time from a full backup to the next must find room, or a moment in it cannot be reached.
  private func retentionFindings(_ protected: Protected, _ held: [Tier], _ year: Range<Date>) throws -> [Finding] {
    var onlyFull = self
    onlyFull.components = [protected]
    onlyFull.components[0].captures = protected.captures.filter { $0.purpose == .full }
    guard let interval = try onlyFull.exposure(of: protected.component, in: year).worst?.loss else { return [] }
    return held.compactMap { tier in
      let rules = tier.retention.components["\(protected.component)"] ?? tier.retention.rules
      let reach = rules.compactMap { rule in
        if case .within(let seconds) = rule.kind { seconds } else { nil }
      }.max()
      guard let reach, rules.allSatisfy({ if case .within = $0.kind { true } else { false } }) else { return nil }
      let subject = "\(protected.component) on \(tier.name)"
      let evidence = "full backups are up to \(interval) apart, and kept for \(Span.seconds(reach))"
      return reach < interval.seconds
        ? Finding(
          "retention-chain", .failure, subject: subject, evidence: evidence,
          advice:
            "keep them longer, or take full ones more often: else only the last one is left, and no moment before it")
        : Finding("retention-chain", .passed, subject: subject, evidence: evidence)
    }
  }

  private func overlapFindings(_ protected: Protected, _ year: Range<Date>) throws -> [Finding] {
    let zone = try zone()
    return protected.captures.compactMap { capture in
      guard case .cron(let cron) = capture.schedule, capture.duration.seconds > 0 else { return nil }
      let runs = cron.runs(in: year, zone: zone)
      guard let shortest = zip(runs, runs.dropFirst()).map({ $1.timeIntervalSince($0) }).min(),
        shortest < capture.duration.seconds
      else { return nil }
      return Finding(
        "schedule-overlap", .failure, subject: "\(protected.component) \(capture.name)",
        evidence: "it takes up to \(capture.duration), and begins again after \(Span.seconds(shortest))",
        advice: "run it less often, or make it faster")
    }
  }

  private func rtoFinding(_ protected: Protected, _ held: [Tier], _ measured: MeasuredRestore?) -> Finding {
    let (subject, promised) = ("\(protected.component)", Span(protected.objective.rto))
    guard let nearest = held.first else {
      return Finding("rto-reachable", .failure, subject: subject, evidence: "no tier to restore from")
    }
    guard let measured else {
      guard nearest.delay < promised else {
        return Finding(
          "rto-reachable", .failure, subject: subject,
          evidence: "\(nearest.name) alone delays it by up to \(nearest.delay); \(promised) is allowed",
          advice: "name a nearer tier first")
      }
      return Finding(
        "rto-reachable", .notice, subject: subject,
        evidence: "not known: no restore of it was measured; \(promised) is allowed",
        advice: "measure one with a drill, and give its size and rate")
    }
    let expected = forecast(of: measured, from: nearest)
    let evidence = "about \(expected) from \(nearest.name); \(promised) is allowed"
    return expected > promised
      ? Finding(
        "rto-reachable", .failure, subject: subject, evidence: evidence,
        advice: "hold it on a faster tier, divide it, or promise less")
      : Finding("rto-reachable", .passed, subject: subject, evidence: evidence)
  }

  private func verificationFinding(_ protected: Protected) -> Finding {
    let levels = Set(protected.verifications.map(\.level))
    let subject = "\(protected.component)"
    guard levels.contains(.restore) || levels.contains(.drill) else {
      return Finding(
        "verification-planned", .warning, subject: subject,
        evidence: levels.isEmpty ? "nothing verifies its backups" : "its backups are never restored",
        advice: "a backup that was not restored is not a backup: plan a restore test")
    }
    return Finding(
      "verification-planned", .passed, subject: subject,
      evidence: "its backups are looked at (\(levels.map(\.rawValue).sorted().joined(separator: ", ")))")
  }
}
