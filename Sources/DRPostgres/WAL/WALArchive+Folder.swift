public import DRCore
import DRStorage
import Foundation
import NIOCore

extension WALArchive {
  /// Writes all that a recovery of a backup may ask for into a folder, each under its own name: the segments from where the backup begins,
  /// and the histories of the timelines. So that a server recovers with `cp FOLDER/%f %p`, and needs neither our programs nor a key.
  ///
  /// - Returns: How many files were written.
  /// - Throws: ``DRError``: as ``fetch(_:)``; `notWritable`; `malformedData` for a backup that does not say where it begins.
  public func write(for backup: BackupManifest, into folder: String) async throws -> Int {
    guard let start = LSN((backup.changesFrom ?? backup.recoveryPoint).position) else {
      throw DRError(.malformedData, "the backup \(backup.id) does not say at which LSN it begins", component: component)
    }
    let size = try backup.properties["walSegmentSize"]?.integer.map { try WALSegmentSize(Int($0)) } ?? segmentSize
    // Behind the timeline, names have the order of the log.
    let first = "\(WALSegmentName(timeline: 1, holding: start, segmentSize: size))".suffix(16)
    var names: Set<String> = []
    for segment in try await store.segments() {
      let name = segment.isPartial ? WALPartialName(parsing: segment.name)?.segment ?? "" : segment.name
      if name.hasSuffix(".history") || WALSegmentName.split(name) != nil && name.suffix(16) >= first {
        names.insert(name)
      }
    }
    let executor = BlockingExecutor(label: "postgres.wal.folder")
    for name in names.sorted() {
      let content = try await fetch(name)
      try await executor.run {
        guard
          FileManager.default.createFile(
            atPath: "\(folder)/\(name)", contents: Data(content.readableBytesView),
            attributes: [.posixPermissions: 0o600])
        else { throw DRError(.notWritable, "a WAL segment cannot be written", object: "\(folder)/\(name)") }
      }
    }
    return names.count
  }
}
