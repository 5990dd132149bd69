import DRCore
import DRStorage
import ExampleSupport
import Foundation

/// A status as it is printed: for people, or as JSON.
struct StatusReport {
  private let status: ReplicationStatus
  private let findings: [Finding]
  private let unreachable: [(tier: String, error: DRError)]
  private let now: Date

  init(
    _ status: ReplicationStatus, findings: [Finding], unreachable: [(tier: String, error: DRError)], now: Date
  ) {
    self.status = status
    self.findings = findings
    self.unreachable = unreachable
    self.now = now
  }

  var text: String {
    var lines: [String] = []
    for row in status.rows {
      lines.append("\(row.component) \(row.backup)")
      for (tier, place) in zip(status.tiers, row.places) { lines.append("  \(tier): \(place)") }
    }
    for log in status.logs {
      lines.append("\(log.component) \(log.log) \(log.systemIdentifier)")
      for (tier, place) in zip(status.tiers, log.places) { lines.append("  \(tier): \(text(place))") }
    }
    for (tier, manifests) in status.unreadable.sorted(by: { $0.key < $1.key }) {
      lines += manifests.map { "UNREADABLE on \(tier): \($0.key): \($0.error)" }
    }
    lines += unreachable.map { "unreachable: \($0.tier): \($0.error)" }
    return (lines + findings.map { "finding: \($0)" }).joined(separator: "\n")
  }

  private func text(_ place: ChangeLogStatus.Place?) -> String {
    guard let place else { return "not known" }
    var text = "nothing of it"
    if let newest = place.newest {
      text = "\(place.segments) segments, \(Format.bytes(place.bytes)), to \(newest)"
      if let stored = place.stored { text += ", stored \(Timestamp.format(stored))" }
    } else if place.segments > 0 {
      text = "\(place.segments) segments, \(Format.bytes(place.bytes)), none of them of the repository's"
    }
    if let since = place.behindSince {
      text += "; \(place.missing) missing, behind by \(Format.duration(.seconds(max(0, now.timeIntervalSince(since)))))"
    }
    if place.holes > 0 { text += "; a HOLE of \(place.holes)" }
    if place.ahead > 0 { text += "; \(place.ahead) more than the repository has" }
    return text
  }

  // MARK: JSON

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(document), as: UTF8.self)
  }

  private var document: Document {
    Document(
      tiers: status.tiers,
      backups: status.rows.map { row in
        Document.Backup(
          component: "\(row.component)", backup: row.backup, recoveryPoint: Timestamp.format(row.recoveryPoint),
          places: zip(status.tiers, row.places).map(Document.BackupPlace.init))
      },
      logs: status.logs.map { log in
        Document.Log(
          component: "\(log.component)", log: log.log, system: log.systemIdentifier,
          places: zip(status.tiers, log.places).map { Document.LogPlace($0, $1, now) })
      },
      unreachable: unreachable.map { Document.Unreachable(tier: $0.tier, error: "\($0.error)") }, findings: findings)
  }

  /// What other programs may count on.
  private struct Document: Encodable {
    var tiers: [String]
    var backups: [Backup]
    var logs: [Log]
    var unreachable: [Unreachable]
    var findings: [Finding]

    struct Backup: Encodable {
      var component: String
      var backup: String
      var recoveryPoint: String
      var places: [BackupPlace]
    }

    struct BackupPlace: Encodable {
      var tier: String
      /// `whole`, `torn`, `absent`, `removed`, `unknown`.
      var state: String
      var verified: String?
      var archived: Bool?
      var missingArtifacts: Int?

      init(_ tier: String, _ place: ReplicationStatus.Place) {
        self.tier = tier
        switch place {
        case .unknown: state = "unknown"
        case .absent: state = "absent"
        case .removed: state = "removed"
        case .torn(let missing):
          state = "torn"
          missingArtifacts = missing
        case .whole(let verified, let archived):
          state = "whole"
          self.verified = verified.map { Timestamp.format($0) }
          self.archived = archived
        }
      }
    }

    struct Log: Encodable {
      var component: String
      var log: String
      var system: String
      var places: [LogPlace]
    }

    struct LogPlace: Encodable {
      var tier: String
      /// False: the rest is not known.
      var isKnown: Bool
      var segments: Int?
      var bytes: Int64?
      var newest: String?
      var stored: String?
      var missing: Int?
      var holes: Int?
      var behindSeconds: Double?
      var ahead: Int?

      init(_ tier: String, _ place: ChangeLogStatus.Place?, _ now: Date) {
        self.tier = tier
        isKnown = place != nil
        guard let place else { return }
        (segments, bytes, newest) = (place.segments, place.bytes, place.newest)
        (missing, holes, ahead) = (place.missing, place.holes, place.ahead)
        stored = place.stored.map { Timestamp.format($0) }
        behindSeconds = place.behindSince.map { max(0, now.timeIntervalSince($0)) } ?? 0
      }
    }

    struct Unreachable: Encodable {
      var tier: String
      var error: String
    }
  }
}
