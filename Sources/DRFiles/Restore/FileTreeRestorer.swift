public import DRCore
import DRStorage
import Foundation
public import Logging
import NIOCore

/// Brings a tree back that ``FileTreeSource`` captured: whole or in parts, into a new folder or in place.
///
/// Everything is written into a folder of its own first, and every digest checked, before anything of the destination
/// changes; in place, small files that are there already are compared and not written. Then a new folder appears by one rename; in place each file is replaced by one rename, and the old one is
/// kept in `.dr-before-<time>` within the folder. Killed at any moment, each file is the old or the new one, whole.
///
/// The archive is not trusted: nothing is ever written outside the destination, no symbolic link is followed, devices
/// are refused, and so is an archive that tries any of that, before it has changed anything.
///
/// Secrets (``SecretRules``) get a mode of at most 0600.
public struct FileTreeRestorer: Restorer {
  public enum Placement: Hashable, Sendable {
    /// The destination is absent or an empty folder.
    case newFolder
    /// The destination is there: what the backup holds replaces what has its name, and everything else stays.
    case inPlace
  }

  /// What a restore did.
  public struct Report: Sendable {
    public var outcome: RestoreOutcome
    /// In place: how many files, links and new folders were put there, how many files replaced others, and how many
    /// were there already.
    public var added: Int
    public var replaced: Int
    public var same: Int
    /// Where what was replaced is now.
    public var movedAside: String?
    /// What was not restored as it was.
    public var findings: [Finding]
  }

  /// A folder; absolute.
  public var destination: String
  public var placement: Placement
  /// Only these: names, paths or globs, as ``FileTreeSource/included`` takes them. Empty: everything.
  public var paths: [String]
  /// Give files to their owners: only root can. By name where the name is known here, else by number.
  public var restoresOwners = geteuid() == 0
  /// Restore set-user-ID and set-group-ID bits, capabilities and other attributes that give power.
  public var restoresPrivileges = false
  public var secrets = SecretRules()
  public var progress: ProgressHandler?
  /// Nil: as the file system of the destination does.
  package var foldsCase: Bool?
  /// Frames of 1 MiB that are decoded and digested while others are written.
  private static let framesAhead = 8

  public init(destination: String, placement: Placement = .newFolder, paths: [String] = []) {
    self.destination = destination
    self.placement = placement
    self.paths = paths
  }

  public func restore(
    from reader: any BackupReader, to target: RecoveryTarget, logger: Logger
  ) async throws -> RestoreOutcome {
    try check(reader.manifest, target)
    return try await run(from: reader, logger: logger).outcome
  }

  /// Restores, and says more about it than ``restore(from:to:logger:)``.
  public func run(from reader: any BackupReader, logger: Logger) async throws -> Report {
    try await located(reader.manifest) {
      let start = ContinuousClock.now
      let artifact = try artifact(reader.manifest)
      let selection = try PathSelection(included: paths)
      let judge = try SecretJudge(secrets)
      let executor = BlockingExecutor(label: "files.restore")
      let place = try await executor.run { try RestorePlace(destination, placement) }
      do {
        let extractor = try await executor.run {
          TreeExtractor(
            root: place.staging.tree, object: artifact.key.rawValue, selection: selection, judge: judge,
            policy: AttributePolicy(restoresOwners: restoresOwners, restoresPrivileges: restoresPrivileges),
            foldsCase: try foldsCase ?? place.staging.foldsCase(),
            present: placement == .inPlace ? PresentFiles(place.staging.parent) : nil)
        }
        let meter = progress.map { ProgressMeter(artifact.name, total: TreeContent.size(reader.manifest), handler: $0) }
        let content = ReadAhead(try await TreeContent.open(reader), count: FileTreeRestorer.framesAhead)
        while let frames = try await content.next() {
          try Task.checkCancellation()
          try await executor.run { for frame in frames { try extractor.write(frame) } }
          meter?.add(frames.reduce(0) { $0 + $1.readableBytes })
        }
        let report = try await executor.run {
          try extractor.finish()
          let placed = try place.commit(settled: extractor.selectedFolders, stamp: Timestamp.compact(Date()))
          let outcome = RestoreOutcome(
            bytes: extractor.bytes, items: extractor.files + extractor.links, duration: start.duration(to: .now))
          return Report(
            outcome: outcome, added: placed?.added ?? outcome.items, replaced: placed?.replaced ?? 0,
            same: (placed?.same ?? 0) + extractor.kept,
            movedAside: placed?.aside, findings: FileTreeRestorer.findings(extractor.policy))
        }
        meter?.finish()
        if let aside = report.movedAside {
          logger.notice("the files that were replaced were kept", metadata: ["restore.former": "\(aside)"])
        }
        return report
      } catch {
        // Not cancelled with the restore: what it made has to go.
        await Task.detached { try? await executor.run { place.discard() } }.value
        throw error
      }
    }
  }

  /// What a restore would change. Reads the whole backup and checks every digest, and writes nothing.
  public func diff(from reader: any BackupReader, logger: Logger) async throws -> FileTreeDiff {
    try await located(reader.manifest) {
      let artifact = try artifact(reader.manifest)
      let selection = try PathSelection(included: paths)
      let judge = try SecretJudge(secrets)
      let executor = BlockingExecutor(label: "files.diff")
      let comparer = try await executor.run {
        TreeComparer(
          root: try RestorePlace.look(destination, placement), object: artifact.key.rawValue, selection: selection,
          judge: judge, policy: AttributePolicy(restoresOwners: restoresOwners, restoresPrivileges: restoresPrivileges),
          foldsCase: foldsCase ?? false)
      }
      for try await frame in try await TreeContent.open(reader) {
        try Task.checkCancellation()
        try await executor.run { try comparer.write(frame) }
      }
      return try await executor.run { try comparer.finish() }
    }
  }

  private static func findings(_ policy: AttributePolicy) -> [Finding] {
    var findings: [Finding] = []
    if policy.withheldPrivileges > 0 {
      findings.append(
        Finding(
          "restored-privileges", .warning, subject: "attributes",
          evidence:
            "\(policy.withheldPrivileges) files had set-user-ID bits or attributes that give power, which were left out",
          advice: "restore them with privileges if the backup can be trusted"))
    }
    if policy.unknownACLs > 0 {
      findings.append(
        Finding(
          "restored-acls", .warning, subject: "access control lists",
          evidence: "\(policy.unknownACLs) access control lists name somebody who is not known here, and were left out",
          advice: "make the accounts first, then restore again"))
    }
    return findings
  }

  private func artifact(_ manifest: BackupManifest) throws -> BackupManifest.Artifact {
    guard manifest.method == .files else {
      throw DRError(.invalidConfiguration, "backup \(manifest.id) is none of files", advice: "choose another backup")
    }
    return try manifest.artifact(FileTreeSource.artifact)
  }

  private func check(_ manifest: BackupManifest, _ target: RecoveryTarget) throws {
    switch target {
    case .latest, .immediate: return
    case .time(let moment):
      guard moment >= manifest.recoveryPoint.time else {
        throw DRError(
          .targetUnreachable,
          "backup \(manifest.id) was read until \(Timestamp.format(manifest.recoveryPoint.time)), after the target",
          advice: "choose an earlier backup", component: manifest.component)
      }
    case .position, .name:
      throw DRError(
        .invalidConfiguration, "a backup of files has no positions and no names",
        advice: "choose it by time or identity",
        component: manifest.component)
    }
  }

  private func located<Result: Sendable>(
    _ manifest: BackupManifest, _ work: () async throws -> Result
  ) async throws -> Result {
    do {
      return try await work()
    } catch var error as DRError {
      error.component = error.component ?? manifest.component
      throw error
    }
  }
}
