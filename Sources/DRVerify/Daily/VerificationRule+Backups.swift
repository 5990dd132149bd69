import DRCore

import struct Foundation.Date

/// What the catalog alone says.
extension VerificationRule {
  static let tierReachable = VerificationRule("tier-reachable") { facts, _ in
    facts.tiers.indices.map { index in
      guard let error = facts.unreachable[index] else {
        return Finding("tier-reachable", .passed, subject: facts.tiers[index], evidence: "it answers")
      }
      return Finding(
        "tier-reachable", .couldNotVerify, subject: facts.tiers[index], evidence: error.message,
        advice: error.advice ?? "make it reachable, and look again: nothing is known of it until then")
    }
  }

  static let backupPresent = VerificationRule("backup-present") { facts, _ in
    // Of what cannot be reached nothing is known, which is said already.
    guard !facts.reached.isEmpty else { return [] }
    guard !facts.components.isEmpty else {
      return [
        Finding(
          "backup-present", .failure, subject: facts.tiers[0], evidence: "there is no backup at all",
          advice: "see that it is the right place, and the right layout; else take a backup")
      ]
    }
    return facts.components.map { component in
      let count = facts.catalog.count { $0.component == component }
      return Finding(
        "backup-present", count > 0 ? .passed : .failure, subject: "\(component)",
        evidence: count > 0 ? "\(count) backups" : "there is no backup of it",
        advice: count > 0 ? nil : "see that the component is the right one; else take a backup")
    }
  }

  /// How far the clocks of a source and of the verifier may be apart.
  private static let clockTolerance = 300.0

  static let backupAge = VerificationRule("backup-age") { facts, settings in
    facts.components.compactMap { component in
      let own = facts.catalog.filter { $0.component == component }
      guard let newest = own.max(by: { $0.recoveryPoint.time < $1.recoveryPoint.time }) else { return nil }
      let age = facts.now.timeIntervalSince(newest.recoveryPoint.time)
      let limit = settings.maximumAge / .seconds(1)
      let taken = "\(newest.id) is of \(Timestamp.format(newest.recoveryPoint.time))"
      func finding(_ severity: Finding.Severity, _ evidence: String, _ advice: String? = nil) -> Finding {
        Finding("backup-age", severity, subject: "\(component)", evidence: evidence, advice: advice)
      }
      if age < -clockTolerance {
        return finding(
          .failure, "\(taken), which is \(hours(-age)) from now", "see the clocks of the source and of this host")
      }
      guard age <= limit else {
        return finding(
          .failure, "\(taken): \(hours(age)) old, \(hours(limit)) allowed", "see why no backup was taken since")
      }
      return finding(.passed, "\(taken): \(hours(max(0, age))) old, \(hours(limit)) allowed")
    }
  }

  private static func hours(_ seconds: Double) -> String {
    "\(((seconds / 36).rounded() / 100).shortText) h"
  }

  static let backupSize = VerificationRule("backup-size") { facts, settings in
    let series = Dictionary(grouping: facts.catalog) { "\($0.component) \($0.method.rawValue) \($0.cadence)" }
    return series.sorted { $0.key < $1.key }.compactMap { name, members in
      let sorted = members.sorted { ($0.recoveryPoint.time, $0.id) < ($1.recoveryPoint.time, $1.id) }
      guard let newest = sorted.last else { return nil }
      func notChecked(_ why: String, _ advice: String? = nil) -> Finding {
        Finding(
          "backup-size", .notChecked, subject: "\(newest.component) \(newest.id)", evidence: why, advice: advice)
      }
      guard newest.parent == nil else {
        return notChecked("it holds what changed since \(newest.parent ?? ""), of which no size is expected")
      }
      let history = sorted.dropLast().filter { $0.parent == nil }.map(\.rawSize)
      guard history.count >= settings.minimumHistory else {
        return notChecked(
          "there are \(history.count) earlier ones of the same kind and cadence, and \(settings.minimumHistory) are needed to expect a size"
        )
      }
      return size(newest, median(history), history.count, settings.sizeTolerance)
    }
  }

  private static func size(
    _ backup: BackupManifest, _ expected: Double, _ count: Int, _ tolerance: Double
  ) -> Finding {
    let difference = Double(backup.rawSize) - expected
    let share = expected > 0 ? difference / expected * 100 : backup.rawSize == 0 ? 0 : 100
    let good = abs(share) <= tolerance && backup.rawSize > 0
    let sign = share < 0 ? "less" : "more"
    return Finding(
      "backup-size", good ? .passed : .failure, subject: "\(backup.component) \(backup.id)",
      evidence: "\(backup.rawSize) raw bytes, \(((abs(share) * 10).rounded() / 10).shortText) % \(sign) than "
        + "\(Int64(expected)), the median of \(count) earlier ones; \(tolerance.shortText) % allowed",
      advice: good ? nil : "see what was added or lost; if it is as it should be, suppress this with the reason")
  }

  private static func median(_ sizes: [Int64]) -> Double {
    let sorted = sizes.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? Double(sorted[middle]) : (Double(sorted[middle - 1]) + Double(sorted[middle])) / 2
  }

  static let dataSample = VerificationRule("data-sample") { facts, _ in
    guard case .sample(let sample) = facts.level, let taken = facts.sample else { return [] }
    let all = facts.objects.filter { if case .there = $0.presence { true } else { false } }.count
    return [
      Finding(
        "data-sample", taken.chosen > 0 ? .notice : .notChecked, subject: facts.tiers[0],
        evidence: "\(sample): \(taken.chosen) of \(all) objects were read to their end, \(taken.bytes) bytes")
    ]
  }
}
