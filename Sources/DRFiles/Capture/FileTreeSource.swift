public import DRCore
import Foundation
public import Logging
import NIOCore

/// Captures a tree of files as one tar: configuration, certificates, keys.
///
/// Artifact: `tree.tar`, which every tar reads: long names, moments to the nanosecond, owners, modes, symbolic and hard
/// links, sparse files, extended attributes and POSIX access control lists, where the file system has them.
///
/// It is streamed, in bounded memory. A file that changes while it is read is read again; one that never stood still is
/// stored as it was read last, and said to be in the manifest. Files are read one after the other, so a tree is no
/// snapshot of one moment; each file up to 1 MiB is one that was there.
///
/// A secret (``SecretRules``) is stored only where the backup is encrypted, and then with a mode of at most 0600 and no
/// access control list; else the capture is refused with the list of the files.
///
/// X.509 certificates in it are in the manifest (``CertificateFacts``), with whether the keys beside them fit: see
/// ``CertificateCheck``.
///
/// Never captured: what a restore keeps aside or works on, and folders that hold a repository.
public struct FileTreeSource: BackupSource {
  /// What to do with a file that may not be read.
  public enum Unreadable: Hashable, Sendable {
    case fail
    /// The manifest says so.
    case leaveOut
  }

  public let component: Component
  /// The folder; absolute. Paths in the archive are relative to it.
  public var root: String
  /// Names, paths or globs below the root, as `.gitignore` writes them: `.env` and `*.conf` at any depth,
  /// `certs/*.pem` at its place, `**` for any folders. A folder stands for all below it. Empty: everything.
  public var included: [String]
  /// Written in the same way; it comes before ``included``.
  public var excluded: [String]
  /// Files of more bytes are left out, and the manifest says so.
  public var largestFile: Int64?
  /// With more bytes in all, the capture fails.
  public var largestTotal: Int64?
  /// Go into folders where another file system is mounted.
  public var crossesFileSystems = false
  public var unreadable: Unreadable = .fail
  public var secrets = SecretRules()
  /// Capture in a way that the next backup can go on from: an index of the files is stored beside them (`tree.index`).
  public var isIncremental = false
  /// The backup to go on from, which was incremental too: the content of files that have not changed since (path, length, times, inode,
  /// mode and owner are the same) is left where it is, and the new backup cannot be restored without it. Secrets and certificates are
  /// stored each time. One of another root, or without an index, is passed over.
  public var since: (any BackupReader)?
  /// What a watch knows the tree by (``FileTreeChanges``).
  var fingerprint: String?

  public init(component: Component, root: String, included: [String] = [], excluded: [String] = []) {
    self.component = component
    self.root = root
    self.included = included
    self.excluded = excluded
  }

  /// The artifact's name.
  public static let artifact = "tree.tar"

  /// - Throws: ``DRError``: `secretsUnencrypted` with the list of files; `sourceFailed` for what cannot be read;
  ///   `invalidConfiguration`.
  public func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
    do {
      return try await read(into: writer, logger)
    } catch var error as DRError {
      error.component = error.component ?? component
      throw error
    }
  }

  private func read(into writer: any BackupWriter, _ logger: Logger) async throws -> Capture {
    let executor = BlockingExecutor(label: "files.capture")
    var settings = try TreeCursor.Settings(self, encrypts: writer.encrypts)
    if isIncremental { settings.indexedAs = writer.backupID }
    if isIncremental, let since, since.manifest.properties["root"] == .string(root),
      since.manifest.artifacts.contains(where: { $0.name == TreeIndex.artifact })
    {
      settings.known = try await TreeIndex.read(of: since)
    }
    let cursorSettings = settings
    if !writer.encrypts {
      // Known before anything is stored.
      let survey = try await executor.run { try TreeCursor(cursorSettings, isSurvey: true) }
      while try await executor.run({ try survey.advance() }) { try Task.checkCancellation() }
      try refuse(survey.report.secrets)
    }
    let pool = BufferPool(capacity: TreeCursor.frameSize)
    let cursor = try await executor.run { try TreeCursor(cursorSettings, isSurvey: false) }
    let stream = ByteStream(recycling: pool) {
      try Task.checkCancellation()
      return try await executor.run { try cursor.fill(pool.take()) }
    }
    try await writer.write(FileTreeSource.artifact, stream, expectedLength: nil)
    let report = cursor.report
    if !writer.encrypts { try refuse(report.secrets) }
    guard report.files + report.links + report.folders > 0 else {
      throw DRError(.sourceFailed, "there is nothing of what was asked for", advice: "see the patterns", object: root)
    }
    if isIncremental { try await writer.write(TreeIndex.artifact, report.index.stream(), expectedLength: nil) }
    logger.info(
      "files captured",
      metadata: [
        "files.count": "\(report.files)", "files.bytes": "\(report.bytes)", "files.changed": "\(report.changedCount)",
      ])
    return Capture(
      recoveryPoint: RecoveryPoint(time: Date(), position: writer.backupID),
      parent: report.unchanged > 0 ? since?.manifest.id : nil, method: .files,
      leftOut: report.leftOut(patterns: settings.selection), properties: try properties(report))
  }

  /// The certificates of the tree as it is now, without a backup.
  ///
  /// - Throws: ``DRError``: `sourceFailed`, `invalidConfiguration`.
  public func certificates() async throws -> [CertificateFacts] {
    let executor = BlockingExecutor(label: "files.certificates")
    let settings = try TreeCursor.Settings(self, encrypts: true)
    let cursor = try await executor.run { try TreeCursor(settings, isSurvey: false) }
    while try await executor.run({ try cursor.fill(ByteBuffer()) != nil }) { try Task.checkCancellation() }
    return cursor.report.certificates.facts()
  }

  private func properties(_ report: TreeReport) throws -> [String: JSONValue] {
    func list(_ texts: [String]) -> JSONValue { .array(texts.map { .string($0) }) }
    var properties: [String: JSONValue] = [
      "root": .string(root), "included": list(included), "excluded": list(excluded),
      "files": .integer(Int64(report.files)), "folders": .integer(Int64(report.folders)),
      "links": .integer(Int64(report.links)), "bytes": .integer(report.bytes),
      "unchanged": .integer(Int64(report.unchanged)), "secrets": .integer(Int64(report.secrets.count)),
      "certificates": .array(try report.certificates.facts().map { try $0.json() }),
      "unreadableCertificates": list(report.certificates.unreadable),
      "changedCount": .integer(Int64(report.changedCount)),
      "changed": .array(
        report.changed.map { change in
          [
            "path": .string(change.path), "readings": .integer(Int64(change.readings)),
            "settled": .bool(change.settled),
          ]
        }),
    ]
    if let fingerprint { properties["fingerprint"] = .string(fingerprint) }
    return properties
  }

  private func refuse(_ secrets: TreeReport.Some<String>) throws {
    guard secrets.count > 0 else { return }
    let more = secrets.count - secrets.kept.count
    throw DRError(
      .secretsUnencrypted,
      "\(secrets.count) files look like secrets, and the backup is not encrypted: nothing was stored",
      advice: "set a recipient, or exclude them", component: component,
      object: secrets.kept.joined(separator: ", ") + (more > 0 ? " and \(more) more" : ""))
  }
}

extension DRError.Code {
  /// Secrets were to be stored where everybody could read them.
  public static let secretsUnencrypted: Self = "secrets-unencrypted"
}
