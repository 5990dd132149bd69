package import DRCore

package import struct Foundation.Date

/// One stored segment of a change log, whichever system's: for who verifies it without knowing its content.
package struct LogObject: Hashable, Sendable {
  /// The folder of the log and that of its system: `wal/7301234`.
  package var log: String
  package var key: ObjectKey
  /// Stored bytes.
  package var size: Int64
  package var isEncrypted: Bool
  /// Written again and again, and without a digest in its name.
  package var isPartial: Bool
}

extension Repository {
  /// What is stored of a component's change logs, in the order of the keys.
  ///
  /// - Throws: As the tier's `list`.
  package func logObjects(
    of component: Component, changeLogs: [ChangeLogRule] = ChangeLogRule.all
  ) async throws -> [LogObject] {
    var found: [LogObject] = []
    for rule in changeLogs {
      let root = "\(folder(of: component).path)/\(rule.log)/"
      for object in try await tier.listAll(prefix: root) {
        guard let file = SegmentFileName(parsing: object.key.lastComponent),
          let system = object.key.rest(after: root)?.prefix(while: { $0 != "/" })
        else { continue }
        found.append(
          LogObject(
            log: "\(rule.log)/\(system)", key: object.key, size: object.size, isEncrypted: file.encrypted,
            isPartial: file.sha256 == nil))
      }
    }
    return found
  }

  /// Reads a segment to its end, decodes it, and compares it with the digest in its name, if it has one.
  ///
  /// - Throws: ``DRCore/DRError``: `corruptData`, `truncatedData`, `malformedData`, `objectNotFound`, `noMatchingIdentity`; as the
  ///   tier's `get`.
  package func verify(_ object: LogObject, decoding: Decoding) async throws {
    guard let file = SegmentFileName(parsing: object.key.lastComponent) else {
      throw DRError(.malformedData, "this is no segment", object: object.key.rawValue)
    }
    var digest = StreamDigest()
    let content = decoding.decode(
      try await tier.get(object.key, range: nil), format: file.format, encrypted: file.encrypted,
      object: object.key.rawValue)
    for try await buffer in content { digest.update(buffer) }
    let actual = digest.hex()
    guard let stated = file.sha256, stated != actual else { return }
    throw DRError(
      .corruptData, "the SHA-256 of the segment is \(actual), and its name says \(stated)",
      advice: "take the segment from another tier or from the server", object: object.key.rawValue)
  }

  /// When a backup's manifest was stored here, on the tier's clock; nil: it is not there.
  ///
  /// - Throws: As the tier's `head`.
  package func manifestStored(_ backup: String, of component: Component) async throws -> Date? {
    try await tier.head(try folder(of: component).manifest(backup))?.modified
  }

  /// The stored text of a backup's manifest, and its key.
  ///
  /// - Throws: As the tier's `get`.
  package func manifestText(of backup: BackupManifest) async throws -> (key: ObjectKey, text: [UInt8]) {
    let key = try folder(of: backup.component).manifest(backup.id)
    return (key, Array(try await tier.read(key).readableBytesView))
  }
}
