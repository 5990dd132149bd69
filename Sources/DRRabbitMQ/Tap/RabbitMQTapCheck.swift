public import DRCore
public import DRStorage
import Foundation
public import Logging

/// Is every segment of the taps there that a backup may need, from the first through the last that was stored, and can each be read?
public struct RabbitMQTapCheck: Verifier {
  public var tier: any StorageTier
  public var component: Component
  public var layout: RepositoryLayout
  public var decoding: Decoding
  /// All of the component's.
  public var backups: [BackupManifest]
  /// Read every segment, not only their names.
  public var readsAll: Bool

  public init(
    tier: any StorageTier, component: Component, layout: RepositoryLayout = .byKind, decoding: Decoding = Decoding(),
    backups: [BackupManifest], readsAll: Bool = true
  ) {
    self.tier = tier
    self.component = component
    self.layout = layout
    self.decoding = decoding
    self.backups = backups
    self.readsAll = readsAll
  }

  public func verify(logger: Logger) async throws -> [Finding] {
    let own = backups.filter { $0.component == component }
    var findings: [Finding] = []
    var present: Set<String> = []
    for cluster in try await tier.folders(below: "\(layout.folder(of: component))/messages/") {
      let log = try RabbitMQTapLog(
        tier: tier, component: component, layout: layout, cluster: cluster, decoding: decoding)
      let names = try await log.store.segments().map(\.name)
      for key in TapSequence.all(names).map(\.key) {
        present.insert("\(cluster)/\(key)")
        findings += try await check(key, log, TapSequence.title(of: key, in: own) ?? "\(cluster)/\(key)", own)
      }
    }
    for backup in own {
      let folder = TapSequence.folder(of: backup.systemIdentifier ?? "")
      for tap in TapRecord.all(of: backup) where present.insert("\(folder)/\(tap.key)").inserted {
        findings.append(tap.lost(backup))
      }
    }
    return findings
  }

  private func check(
    _ key: String, _ log: RabbitMQTapLog, _ title: String, _ backups: [BackupManifest]
  ) async throws -> [Finding] {
    let (sequence, stored) = try await log.sequence(key)
    var findings =
      sequence.findings(since: TapSequence.since(backups), title: title)
      + sequence.gaps(before: backups, title: title)
    var evidence = "\(stored.count) segments are there, to number \(stored.last?.number ?? 0)"
    if readsAll, findings.allSatisfy({ $0.severity != .failure }) {
      do {
        let reading = try await log.read(key, title: title, allowsGaps: true, since: TapSequence.since(backups)) {
          _, _ in
        }
        findings += reading.findings.filter { !findings.contains($0) }
        evidence = "\(reading.segments) segments with \(reading.messages) messages were read"
        if let until = reading.until {
          evidence +=
            ", the last of which came at \(Timestamp.format(Date(timeIntervalSince1970: Double(until) / 1000)))"
        }
      } catch let error as DRError where error.code != .tierUnavailable {
        findings.append(
          Finding(
            "tap-segments", .failure, subject: title, evidence: error.message + (error.object.map { " (\($0))" } ?? ""),
            advice: TapSequence.repair))
      }
    }
    if findings.allSatisfy({ $0.severity != .failure }) {
      findings.append(Finding("tap-segments", .passed, subject: title, evidence: evidence))
    }
    return findings
  }
}
