public import Logging

/// Brings a component back from a backup. The destination is the restorer's own, given when it is made.
public protocol Restorer: Sendable {
  /// Restores.
  ///
  /// Refuses a destination that is in use or holds data, unless the restorer was told otherwise, and destroys nothing
  /// there before it knows that the backup can be read. A restore that ends half way leaves something that cannot be
  /// taken for a whole one.
  ///
  /// - Throws: ``DRError``: `destinationInUse`, `targetUnreachable`, `corruptData` naming object, frame and offset.
  func restore(from reader: any BackupReader, to target: RecoveryTarget, logger: Logger) async throws -> RestoreOutcome
}

/// Gives the artifacts of a committed backup.
public protocol BackupReader: Sendable {
  var manifest: BackupManifest { get }

  /// The raw bytes of an artifact: decrypted, decompressed, with every digest checked. The stream throws at the latest
  /// at its end if a digest differs.
  ///
  /// - Throws: ``DRError``: `objectNotFound`, `noMatchingIdentity`, `corruptData`.
  func read(_ artifact: BackupManifest.Artifact) async throws -> ByteStream

  /// A range of the raw bytes of an artifact. Whole-artifact digests cannot be checked here: the checksums of the
  /// frames that the range touches are (and, when encrypted, their authentication tags).
  ///
  /// - Throws: As ``read(_:)``, and `invalidConfiguration` for a range outside the artifact.
  func read(_ artifact: BackupManifest.Artifact, range: Range<Int64>) async throws -> ByteStream

  /// As ``read(_:)``, but it may leave the digest of the raw bytes out: for who has a checksum in them to compare. That of the
  /// stored bytes is checked, and the checksum of each frame.
  ///
  /// - Throws: As ``read(_:)``.
  func readWithoutRawDigest(_ artifact: BackupManifest.Artifact) async throws -> ByteStream

  /// Reads an artifact to its end and compares it with the manifest, for who must know that it is whole before he begins.
  /// The digest of the stored bytes says so; they need not be decrypted and decompressed for it.
  ///
  /// - Throws: As ``read(_:)``, and `truncatedData`.
  func verify(_ artifact: BackupManifest.Artifact) async throws

  /// Gives the artifacts of the backup that this one goes on from (``BackupManifest/parent``); nil: it is whole by itself.
  ///
  /// - Throws: ``DRError``: `objectNotFound` if that backup is gone; why its manifest cannot be read.
  func parent() async throws -> (any BackupReader)?
}

extension BackupReader {
  public func readWithoutRawDigest(_ artifact: BackupManifest.Artifact) async throws -> ByteStream {
    try await read(artifact)
  }

  public func verify(_ artifact: BackupManifest.Artifact) async throws {
    for try await _ in try await read(artifact) {}
  }

  public func parent() async throws -> (any BackupReader)? {
    guard let parent = manifest.parent else { return nil }
    throw DRError(
      .unsupported, "this reader cannot find \(parent), from which \(manifest.id) goes on",
      advice: "read it through the repository", component: manifest.component)
  }

  /// This backup and all that it goes on from, the oldest first.
  ///
  /// - Throws: As ``parent()``; `malformedData` for a chain that never ends.
  public func chain() async throws -> [any BackupReader] {
    var chain: [any BackupReader] = [self]
    var seen: Set<String> = [manifest.id]
    while let next = try await chain[chain.count - 1].parent() {
      guard seen.insert(next.manifest.id).inserted else {
        throw DRError(
          .malformedData, "the backups from which \(manifest.id) goes on lead back to \(next.manifest.id)",
          advice: "choose another backup", component: manifest.component)
      }
      chain.append(next)
    }
    return chain.reversed()
  }
}

/// What a restore did.
public struct RestoreOutcome: Sendable {
  /// Raw bytes written.
  public var bytes: Int64
  /// Files or keys written.
  public var items: Int
  /// How long it took.
  public var duration: Duration
  /// Where that which was at the destination is now, a path or a backup; empty if nothing was there.
  public var movedAside: [String]

  public init(bytes: Int64, items: Int, duration: Duration, movedAside: [String] = []) {
    self.bytes = bytes
    self.items = items
    self.duration = duration
    self.movedAside = movedAside
  }
}
