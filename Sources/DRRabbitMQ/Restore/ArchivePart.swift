import DRCore
import NIOCore

/// One backup's archive of a queue's messages: of a stream that was captured by and by, its messages are in several.
struct ArchivePart: Sendable {
  var record: RabbitMQQueueRecord
  var reader: any BackupReader
  var artifact: BackupManifest.Artifact

  /// Those of a queue, in the order of their messages.
  ///
  /// - Parameter chain: The backup and all that it goes on from, the oldest first.
  /// - Throws: ``DRError`` with `changeLogGap` if one that is needed does not hold the queue, or does not end where the next begins.
  static func all(of newest: RabbitMQQueueRecord, in chain: [any BackupReader]) throws -> [ArchivePart] {
    var parts: [ArchivePart] = []
    var from: Int64?
    for reader in chain.reversed() {
      let record = RabbitMQQueueRecord.all(of: reader.manifest).first {
        $0.vhost.exact == newest.vhost.exact && $0.name.exact == newest.name.exact
      }
      guard let record, from == nil || record.nextOffset == from else {
        throw DRError(
          .changeLogGap,
          "the messages of \(newest.title) before offset \(from ?? 0) should be in \(reader.manifest.id), and are not",
          advice: "restore an older backup, or this one's part alone: export writes it as JSON lines",
          component: reader.manifest.component, object: newest.title)
      }
      parts.append(
        ArchivePart(record: record, reader: reader, artifact: try reader.manifest.artifact(record.artifact)))
      from = record.fromOffset ?? 0
      if from == 0 { break }
    }
    guard from == 0 else {
      throw DRError(
        .changeLogGap,
        "the messages of \(newest.title) before offset \(from ?? 0) are in no backup that this one names",
        advice: "restore an older backup", component: chain.first?.manifest.component, object: newest.title)
    }
    return parts.reversed()
  }

  /// What a journal knows them by.
  static func identity(of parts: [ArchivePart]) -> String {
    guard parts.count > 1 else { return parts.first?.artifact.rawSHA256 ?? "" }
    var digest = StreamDigest()
    for part in parts { digest.update(ByteBuffer(string: part.artifact.rawSHA256)) }
    return digest.hex()
  }
}
