import DRCore
package import NIOCore

/// A page of a backup that is not as it should be.
package struct SuspectPage: Hashable, Sendable {
  /// The file, relative to the server's data folder.
  var path: String
  /// The page's number within the file.
  var page: Int64
  /// The number within the relation that its checksum was made with.
  var block: UInt32
  var verdict: PageVerdict
  var bytes: ByteBuffer
}

/// Checks the pages of a base backup's tar as it passes. Pure: frames in, suspects out.
package struct BackupPageScanner: Sendable {
  /// More suspects than this are not kept: by then the answer is clear.
  static let limit = 1000

  private(set) var suspects: [SuspectPage] = []
  /// How many pages were seen.
  package private(set) var pages: Int64 = 0
  package private(set) var suspectCount = 0

  private let folder: String
  private let checksums: Bool
  private var reader: TarReader
  private var relation: (name: RelationFileName, path: String)?
  private var pageInFile: Int64 = 0
  private var carry = ByteBuffer()

  /// - Parameters:
  ///   - folder: What the archive's paths are relative to.
  ///   - checksums: Whether the cluster has data checksums.
  package init(archive: BackupArchive, checksums: Bool) {
    folder = archive.serverFolder
    self.checksums = checksums
    reader = TarReader(object: archive.artifactName)
  }

  /// Looks at the next frame of the archive.
  ///
  /// - Throws: ``DRError`` with `malformedData` if it is no sound tar.
  package mutating func scan(_ frame: ByteBuffer) throws {
    reader.append(frame)
    while let event = try reader.next() {
      switch event {
      case .file(let member):
        relation = RelationFileName(path: member.path).map { ($0, folder + member.path) }
        pageInFile = 0
        carry.clear()
      case .data(let slice):
        if let relation { check(slice, of: relation.name, relation.path) }
      case .fileEnd:
        relation = nil
      case .directory, .symlink, .hardLink, .end:
        break
      }
    }
  }

  /// - Throws: ``DRError`` with `truncatedData` if the archive ended in the middle.
  package func finish(trailer: Bool) throws { try reader.finish(trailer: trailer) }

  private mutating func check(_ slice: ByteBuffer, of relation: RelationFileName, _ path: String) {
    var slice = slice
    if carry.readableBytes > 0 {
      let missing = min(PageChecksum.pageSize - carry.readableBytes, slice.readableBytes)
      if var piece = slice.readSlice(length: missing) { carry.writeBuffer(&piece) }
      guard carry.readableBytes == PageChecksum.pageSize else { return }
      carry.withUnsafeReadableBytes { check(page: $0, of: relation, path) }
      carry.clear()
    }
    let whole = slice.readableBytes / PageChecksum.pageSize
    slice.withUnsafeReadableBytes { bytes in
      for index in 0..<whole {
        let start = index * PageChecksum.pageSize
        check(
          page: UnsafeRawBufferPointer(rebasing: bytes[start..<start + PageChecksum.pageSize]), of: relation, path)
      }
    }
    slice.moveReaderIndex(forwardBy: whole * PageChecksum.pageSize)
    carry.writeBuffer(&slice)
  }

  private mutating func check(page: UnsafeRawBufferPointer, of relation: RelationFileName, _ path: String) {
    let block = relation.firstBlock &+ UInt32(truncatingIfNeeded: pageInFile)
    let verdict = PageVerdict(page, block: block, checksums: checksums)
    if !verdict.isGood {
      suspectCount += 1
      if suspects.count < BackupPageScanner.limit {
        suspects.append(
          SuspectPage(path: path, page: pageInFile, block: block, verdict: verdict, bytes: ByteBuffer(bytes: page)))
      }
    }
    pageInFile += 1
    pages += 1
  }
}
