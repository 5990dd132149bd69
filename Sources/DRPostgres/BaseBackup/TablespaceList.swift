import DRCore

/// The tablespaces of a base backup as the server lists them before the data: OID, location, size in KiB; the data
/// folder has neither OID nor location.
struct TablespaceList: Equatable {
  /// In the order in which they come.
  private(set) var archives: [BackupArchive] = []
  private var sizes: [BackupArchive: Int64] = [:]

  /// - Throws: ``DRError`` with `malformedData` for rows that are no such list.
  init(_ rows: PostgresRows) throws {
    for row in 0..<rows.count {
      let archive: BackupArchive
      if let text = rows[row][0] {
        guard let oid = UInt32(text), let location = rows[row][1] else {
          throw BaseBackupDemultiplexer.malformed("a tablespace without OID or location")
        }
        archive = .tablespace(oid: oid, location: location)
      } else {
        archive = .base
      }
      archives.append(archive)
      if let size = rows[row][2].flatMap({ Int64($0) }), size >= 0, size < 1 << 50 { sizes[archive] = size << 10 }
    }
    guard archives.last == .base else { throw BaseBackupDemultiplexer.malformed("no data folder") }
  }

  /// In bytes, as the server guesses it.
  func size(of archive: BackupArchive) -> Int64? { sizes[archive] }

  var totalSize: Int64? { sizes.isEmpty ? nil : sizes.values.reduce(0, +) }

  /// Where each tablespace lies on the server.
  var locations: [UInt32: String] {
    var all: [UInt32: String] = [:]
    for case .tablespace(let oid, let location) in archives { all[oid] = location }
    return all
  }
}
