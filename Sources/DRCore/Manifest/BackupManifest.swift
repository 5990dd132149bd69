public import struct Foundation.Date

/// The one record that makes a backup exist: written last, removed first.
///
/// Stored as JSON after `backup-manifest.schema.json` (see ``jsonSchema``), with a digest of itself at its end, so that a
/// flipped byte anywhere in it is found. Fields that this version does not know survive a round trip; a manifest of a
/// later major version is refused.
public struct BackupManifest: Hashable, Sendable {
  /// The version of the format that this library writes, `major.minor`.
  public static let formatVersion = "1.1"

  /// How the backup was captured.
  public struct Method: RawRepresentable, Hashable, Sendable, Codable {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
    /// PostgreSQL: a physical base backup; it needs the WAL from ``BackupManifest/changesFrom`` on.
    public static let basebackup = Method(rawValue: "base-backup")
    /// A logical dump.
    public static let dump = Method(rawValue: "dump")
    /// A consistent copy of a whole data set.
    public static let snapshot = Method(rawValue: "snapshot")
    /// Files as they lay.
    public static let files = Method(rawValue: "files")
  }

  /// A SHA-256 digest, in lower-case hexadecimal.
  public typealias SHA256Hex = String

  /// One named byte stream of a backup.
  public struct Artifact: Hashable, Sendable {
    /// Without codec endings: `base.tar`.
    public var name: String
    /// Where the stored bytes lie in the tier.
    public var key: ObjectKey
    /// Bytes before compression and encryption.
    public var rawSize: Int64
    public var rawSHA256: SHA256Hex
    /// Bytes in the tier.
    public var storedSize: Int64
    public var storedSHA256: SHA256Hex
    public var compression: Compression.Format
    /// The age recipients that can open it: public keys, or `scrypt` for a passphrase. Empty: not encrypted.
    public var recipients: [String]
    /// Fields that this version does not know.
    public var unknownFields: [String: JSONValue] = [:]

    public init(
      name: String, key: ObjectKey, rawSize: Int64, rawSHA256: SHA256Hex, storedSize: Int64,
      storedSHA256: SHA256Hex, compression: Compression.Format, recipients: [String]
    ) {
      self.name = name
      self.key = key
      self.rawSize = rawSize
      self.rawSHA256 = rawSHA256
      self.storedSize = storedSize
      self.storedSHA256 = storedSHA256
      self.compression = compression
      self.recipients = recipients
    }
  }

  /// Something that was there and was not captured.
  public struct Omission: Hashable, Sendable {
    public var what: String
    public var reason: String
    /// Fields that this version does not know.
    public var unknownFields: [String: JSONValue] = [:]

    public init(what: String, reason: String) {
      self.what = what
      self.reason = reason
    }
  }

  /// Unique within the component: `backup_20261123_020000`.
  public var id: String
  public var component: Component
  public var cadence: Cadence
  public var method: Method
  /// The backup that this one needs, if it is no full one.
  public var parent: String?
  public var started: Date
  public var ended: Date
  /// The first moment that this backup can be recovered to.
  public var recoveryPoint: RecoveryPoint
  /// Where the change log must start for the backup to become consistent.
  public var changesFrom: RecoveryPoint?
  public var serverVersion: String?
  public var systemIdentifier: String?
  public var artifacts: [Artifact]
  public var leftOut: [Omission]
  /// What the kind of system adds.
  public var properties: [String: JSONValue]
  public var libraryVersion: String
  /// Fields that this version does not know.
  public var unknownFields: [String: JSONValue] = [:]

  public init(
    id: String, component: Component, cadence: Cadence, started: Date, ended: Date, capture: Capture,
    artifacts: [Artifact]
  ) {
    self.id = id
    self.component = component
    self.cadence = cadence
    self.method = capture.method
    self.parent = capture.parent
    self.started = started
    self.ended = ended
    self.recoveryPoint = capture.recoveryPoint
    self.changesFrom = capture.changesFrom
    self.serverVersion = capture.serverVersion
    self.systemIdentifier = capture.systemIdentifier
    self.artifacts = artifacts
    self.leftOut = capture.leftOut
    self.properties = capture.properties
    self.libraryVersion = Library.version
  }

  /// Bytes before compression and encryption, of all artifacts.
  public var rawSize: Int64 { artifacts.reduce(0) { $0 + $1.rawSize } }
  /// Bytes in the tier, of all artifacts.
  public var storedSize: Int64 { artifacts.reduce(0) { $0 + $1.storedSize } }

  /// Finds an artifact by its name.
  ///
  /// - Throws: ``DRError`` with `malformedData` if the backup has none of that name.
  public func artifact(_ name: String) throws -> Artifact {
    guard let found = artifacts.first(where: { $0.name == name }) else {
      throw DRError(
        .malformedData, "backup \(id) has no artifact \(name)", advice: "choose another backup", component: component)
    }
    return found
  }
}

/// This library.
public enum Library {
  /// As written into manifests.
  public static let version = "0.1.0"
}
