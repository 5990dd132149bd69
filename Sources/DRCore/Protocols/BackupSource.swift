public import Logging

/// Captures one consistent backup of a component.
public protocol BackupSource: Sendable {
  var component: Component { get }

  /// Writes every artifact of one consistent backup.
  ///
  /// Artifacts may be written side by side. When this returns, the source has checked all that it can: the caller may
  /// commit. When it throws, or is cancelled, the source's own work has ended (no backup goes on in the server) and
  /// nothing is committed.
  ///
  /// - Throws: ``DRError`` naming what failed, or what the writer threw.
  func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture
}

/// Takes the artifacts of a backup in progress.
public protocol BackupWriter: Sendable {
  /// The identity under which the backup will be committed.
  var backupID: String { get }

  /// Whether what is written can be read only by a recipient. A source leaves secrets out where it is not, and says so.
  var encrypts: Bool { get }

  /// Stores one artifact: pulled, compressed, encrypted and digested. Durable when it returns.
  ///
  /// - Parameters:
  ///   - name: The artifact's name without codec endings: `base.tar`. Unique within the backup.
  ///   - content: The raw bytes.
  ///   - expectedLength: The raw length in bytes, or a good guess, where known.
  /// - Throws: ``DRError``, or what the content threw.
  @discardableResult
  func write(_ name: String, _ content: ByteStream, expectedLength: Int64?) async throws -> BackupManifest.Artifact
}

extension BackupWriter {
  public var encrypts: Bool { false }
}

/// What a source says about the backup that it wrote.
public struct Capture: Sendable {
  /// The first moment that the backup can be recovered to.
  public var recoveryPoint: RecoveryPoint
  /// Where the change log must start for the backup to become consistent.
  public var changesFrom: RecoveryPoint?
  /// The backup that this one goes on from and cannot be restored without: of the same component and system.
  public var parent: String?
  /// Which kind of capture this was.
  public var method: BackupManifest.Method
  /// The version of the server, as it gives it.
  public var serverVersion: String?
  /// What the system calls itself: PostgreSQL's system identifier. Backups of different systems never mix.
  public var systemIdentifier: String?
  /// What was there and was not captured, and why.
  public var leftOut: [BackupManifest.Omission]
  /// What the kind of system adds.
  public var properties: [String: JSONValue]

  public init(
    recoveryPoint: RecoveryPoint, changesFrom: RecoveryPoint? = nil, parent: String? = nil,
    method: BackupManifest.Method, serverVersion: String? = nil, systemIdentifier: String? = nil,
    leftOut: [BackupManifest.Omission] = [],
    properties: [String: JSONValue] = [:]
  ) {
    self.recoveryPoint = recoveryPoint
    self.changesFrom = changesFrom
    self.parent = parent
    self.method = method
    self.serverVersion = serverVersion
    self.systemIdentifier = systemIdentifier
    self.leftOut = leftOut
    self.properties = properties
  }
}
