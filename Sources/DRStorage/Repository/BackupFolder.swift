import DRCore

/// The keys of one component's backups.
struct BackupFolder: Hashable, Sendable {
  /// Without a slash at its end.
  let path: String

  private static let manifestEnding = ".json"
  private static let markerEnding = ".inprogress"

  /// Every manifest and marker starts so.
  var metadataPrefix: String { "\(path)/metadata/" }

  func manifest(_ id: String) throws -> ObjectKey { try ObjectKey(metadataPrefix + id + BackupFolder.manifestEnding) }

  func marker(_ id: String) throws -> ObjectKey { try ObjectKey(metadataPrefix + id + BackupFolder.markerEnding) }

  /// Where it is written that a copy of a backup was verified on this tier.
  func replica(_ id: String) throws -> ObjectKey { try ObjectKey("\(path)/replicas/\(id).json") }

  /// Every artifact of a backup starts so.
  func artifacts(_ id: String, _ cadence: Cadence) -> String { "\(path)/\(cadence)/\(id)/" }

  /// What a key in the metadata folder is, and of which backup; nil for a foreign object.
  enum Metadata: Equatable {
    case manifest(id: String)
    case marker(id: String)
  }

  func metadata(_ key: ObjectKey) -> Metadata? {
    guard let name = key.rest(after: metadataPrefix) else { return nil }
    if name.hasSuffix(BackupFolder.manifestEnding) {
      let id = String(name.dropLast(BackupFolder.manifestEnding.count))
      return BackupID.isValid(id) ? .manifest(id: id) : nil
    }
    if name.hasSuffix(BackupFolder.markerEnding) {
      let id = String(name.dropLast(BackupFolder.markerEnding.count))
      return BackupID.isValid(id) ? .marker(id: id) : nil
    }
    return nil
  }

  /// The backup to which an object below a cadence's folder belongs; nil for a foreign one.
  func backupID(ofArtifact key: ObjectKey, _ cadence: Cadence) -> String? {
    guard let rest = key.rest(after: "\(path)/\(cadence)/"), rest.contains("/") else { return nil }
    let id = String(rest.prefix { $0 != "/" })
    return BackupID.isValid(id) ? id : nil
  }
}
