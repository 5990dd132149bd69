import DRCore
import DRStorage
import NIOCore

/// The whole tree of a backup as one tar, wherever its content lies: what has not changed is in the tars of the backups before.
enum TreeContent {
  /// - Throws: ``DRError``; as the reader's `chain` and `read`.
  static func open(_ reader: any BackupReader) async throws -> ByteStream {
    let own = try reader.manifest.artifact(FileTreeSource.artifact)
    guard reader.manifest.parent != nil else { return try await reader.read(own) }
    let index = try await TreeIndex.read(of: reader)
    var wanted: [String: [[UInt8]: String]] = [:]
    for (path, entry) in index.entries where entry.home != reader.manifest.id {
      wanted[entry.home, default: [:]][path] = entry.sha256
    }
    let chain = try await reader.chain().dropLast()
    let holders = chain.filter { wanted[$0.manifest.id] != nil }
    guard holders.count == wanted.count else {
      throw DRError(
        .objectNotFound, "\(reader.manifest.id) needs backups that it does not go on from",
        advice: "choose another backup", component: reader.manifest.component)
    }
    // Its own first: it has the folders, into which the others' files go.
    var parts = [
      Part(stream: try await reader.read(own), filter: TarFilter(object: own.key.rawValue))
    ]
    for holder in holders {
      let artifact = try holder.manifest.artifact(FileTreeSource.artifact)
      parts.append(
        Part(
          stream: try await holder.read(artifact),
          filter: TarFilter(only: wanted[holder.manifest.id], object: artifact.key.rawValue)))
    }
    let state = MutableBox((parts: parts[...], hasEnded: false))
    return ByteStream {
      while var part = state.value.parts.first {
        var iterator = part.stream.makeAsyncIterator()
        if let frame = try await iterator.next() {
          var out = ByteBuffer()
          try part.filter.pass(frame, into: &out)
          let current = part
          state.withLock { $0.parts[$0.parts.startIndex] = current }
          if out.readableBytes > 0 { return out }
        } else {
          try part.filter.finish()
          state.withLock { _ = $0.parts.popFirst() }
        }
      }
      guard !state.value.hasEnded else { return nil }
      state.withLock { $0.hasEnded = true }
      return ByteBuffer(repeating: 0, count: TarWriter.trailerSize)
    }
  }

  /// About how many raw bytes ``open(_:)`` reads, for progress; nil: not known.
  static func size(_ manifest: BackupManifest) -> Int64? {
    let size = manifest.properties["bytes"]?.integer ?? manifest.rawSize
    return size > 0 ? size : nil
  }

  private struct Part: Sendable {
    var stream: ByteStream
    var filter: TarFilter
  }
}

/// Lets a tar through, or the wanted files of it, without its end: bytes in, bytes out.
struct TarFilter: Sendable {
  private var reader: TarReader
  private let object: String
  /// By path, the digest of its content; nil: everything is wanted.
  private let wanted: [[UInt8]: String]?
  private var found: [[UInt8]: String] = [:]
  private var current: (member: TarMember, digest: StreamDigest)?

  init(only wanted: [[UInt8]: String]? = nil, object: String) {
    self.wanted = wanted
    self.object = object
    reader = TarReader(object: object, dialect: .everything)
  }

  mutating func pass(_ frame: ByteBuffer, into out: inout ByteBuffer) throws {
    reader.append(frame)
    while let event = try reader.next() {
      switch event {
      case .file(let member) where wanted.map { $0[member.rawPath] != nil } ?? true:
        TarWriter.write(member, into: &out)
        current = (member, StreamDigest())
      case .data(let slice):
        guard current != nil else { continue }
        if wanted != nil { current?.digest.update(slice) }
        out.writeImmutableBuffer(slice)
      case .fileEnd:
        guard let ended = current else { continue }
        out.writeRepeatingByte(0, count: TarWriter.padding(ended.member.size))
        // Of a file that was read twice, the last counts.
        if wanted != nil { found[ended.member.rawPath] = ended.digest.hex() }
        current = nil
      case .directory(let member) where wanted == nil, .symlink(let member) where wanted == nil,
        .hardLink(let member) where wanted == nil:
        TarWriter.write(member, into: &out)
      default: continue
      }
    }
  }

  /// - Throws: ``DRError``: `corruptData` for a file that is not there, or another one.
  func finish() throws {
    try reader.finish()
    for (path, digest) in wanted ?? [:] where found[path] != digest {
      throw DRError(
        .corruptData,
        found[path] == nil
          ? "the tar does not hold a file that a later backup refers to"
          : "a file is not the one that a later backup refers to",
        advice: "choose another backup", object: "\(object): \(FileName.text(path))")
    }
  }
}
