import DRCore
import DRStorage
import Foundation
import NIOCore

/// A commit, as a backup of files: its objects as git has them, with the times, modes and owners of the note beside it.
struct GitTreeReader: BackupReader {
  /// Not git's own place for notes: `git log` would show them.
  static let notes = "refs/notes/disaster-recovery"

  private struct Attributes: Sendable {
    var isFolder: Bool
    var mode: UInt32
    var userID: UInt32
    var groupID: UInt32
    var userName: String
    var groupName: String
    var seconds: Int64
    var nanoseconds: Int32
  }

  let manifest: BackupManifest
  private let git: GitRepository
  private let commit: String
  private let attributes: [[UInt8]: Attributes]

  init(_ git: GitRepository, _ commit: String) async throws {
    self.git = git
    self.commit = commit
    let seconds = Double(try await git.run(["log", "-1", "--format=%ct", commit])) ?? 0
    let time = Date(timeIntervalSince1970: seconds)
    let component = try Component(.config, "git")
    let artifact = BackupManifest.Artifact(
      name: FileTreeSource.artifact, key: try ObjectKey(commit), rawSize: 0,
      rawSHA256: String(repeating: "0", count: 64), storedSize: 0, storedSHA256: String(repeating: "0", count: 64),
      compression: .none, recipients: [])
    manifest = BackupManifest(
      id: commit, component: component, cadence: .hourly, started: time, ended: time,
      capture: Capture(recoveryPoint: RecoveryPoint(time: time, position: commit), method: .files),
      artifacts: [artifact])
    attributes = Self.parse(try await git.ask(["notes", "--ref=\(Self.notes)", "show", commit]) ?? "")
  }

  private static func parse(_ note: String) -> [[UInt8]: Attributes] {
    var all: [[UInt8]: Attributes] = [:]
    for line in note.split(separator: "\n") {
      let fields = line.split(separator: "\t", omittingEmptySubsequences: false)
      guard fields.count == 8, let path = FastImport.unquoted(fields[0]), let mode = UInt32(fields[2], radix: 8),
        let user = UInt32(fields[3]), let group = UInt32(fields[4])
      else { continue }
      let time = fields[7].split(separator: ".")
      guard time.count == 2, let seconds = Int64(time[0]), let nanoseconds = Int32(time[1]) else { continue }
      all[path] = Attributes(
        isFolder: fields[1] == "d", mode: mode, userID: user, groupID: group,
        userName: fields[5] == "-" ? "" : String(fields[5]), groupName: fields[6] == "-" ? "" : String(fields[6]),
        seconds: seconds, nanoseconds: nanoseconds)
    }
    return all
  }

  func read(_ artifact: BackupManifest.Artifact) async throws -> ByteStream {
    // What the program writes is a stream for as long as a body runs: the body hands it on, piece by piece.
    let (pieces, feed) = AsyncThrowingStream.makeStream(of: ByteBuffer.self, throwing: (any Error).self)
    let permits = AsyncStream.makeStream(of: Void.self)
    let running = Task {
      do {
        let tree = try await git.withOutput(of: ["ls-tree", "-r", "-t", "-z", "--full-tree", commit]) { output in
          var tree = GitTree()
          for try await frame in output { try tree.add(frame) }
          try tree.finish()
          return tree
        }
        let contents = Rewriter(tree.entries, attributes: attributes, time: manifest.recoveryPoint.time)
        let folders = contents.folders()
        if folders.readableBytes > 0 { feed.yield(folders) }
        try await git.withOutput(of: ["cat-file", "--batch", "--buffer"], input: contents.objects) { output in
          var rewriter = contents
          var wishes = permits.stream.makeAsyncIterator()
          for try await frame in output {
            var out = ByteBuffer()
            try rewriter.pass(frame, into: &out)
            guard out.readableBytes > 0 else { continue }
            guard await wishes.next() != nil else { throw CancellationError() }
            feed.yield(out)
          }
          try rewriter.finish()
          var end = ByteBuffer()
          end.writeRepeatingByte(0, count: TarWriter.trailerSize)
          feed.yield(end)
        }
        feed.finish()
      } catch {
        feed.finish(throwing: error)
      }
    }
    feed.onTermination = { _ in
      permits.continuation.finish()
      running.cancel()
    }
    let source = ByteStream(pieces)
    return ByteStream {
      permits.continuation.yield()
      var iterator = source.makeAsyncIterator()
      return try await iterator.next()
    }
  }

  func read(_ artifact: BackupManifest.Artifact, range: Range<Int64>) async throws -> ByteStream {
    throw DRError(.unsupported, "a part of a commit cannot be read", advice: "read it whole", object: commit)
  }

  /// Makes a tar of what git gives: members with what it did not keep of them, the folders first, for it keeps no empty ones.
  private struct Rewriter: Sendable {
    private let attributes: [[UInt8]: Attributes]
    private let time: Int64
    private let contents: [GitTree.Entry]
    private let paths: [[UInt8]]
    private var reader = GitObjects()
    private var position = 0
    /// Of the file, or the target of the link, that is being read.
    private var size: Int64 = 0
    private var target: [UInt8]?

    init(_ entries: [GitTree.Entry], attributes: [[UInt8]: Attributes], time: Date) {
      self.attributes = attributes
      self.time = Int64(time.timeIntervalSince1970)
      var folders = Set(attributes.filter(\.value.isFolder).keys)
      var contents: [GitTree.Entry] = []
      for entry in entries {
        if case .folder = entry.kind { folders.insert(entry.path) } else { contents.append(entry) }
      }
      self.contents = contents
      paths = folders.sorted { $0.lexicographicallyPrecedes($1) }
    }

    /// What to ask git for, in the order in which ``pass(_:into:)`` takes it.
    var objects: ByteStream {
      let rest = MutableBox(contents.map(\.object)[...])
      return ByteStream {
        rest.withLock { rest in
          guard !rest.isEmpty else { return nil }
          var buffer = ByteBuffer()
          for object in rest.prefix(4096) { buffer.writeString(object + "\n") }
          rest = rest.dropFirst(4096)
          return buffer
        }
      }
    }

    func folders() -> ByteBuffer {
      var out = ByteBuffer()
      for path in paths {
        TarWriter.write(restored(TarMember(kind: .folder, rawPath: path, mode: 0o755, modified: time)), into: &out)
      }
      return out
    }

    mutating func pass(_ frame: ByteBuffer, into out: inout ByteBuffer) throws {
      reader.append(frame)
      while let piece = try reader.next() {
        switch piece {
        case .begin(let size):
          guard position < contents.count else { throw GitTree.malformed }
          let entry = contents[position]
          self.size = size
          guard case .file(let isExecutable) = entry.kind else {
            target = []
            continue
          }
          var member = TarMember(
            kind: .file, rawPath: entry.path, mode: isExecutable ? 0o755 : 0o644, modified: time)
          member.size = size
          TarWriter.write(restored(member), into: &out)
        case .data(let slice):
          if target == nil {
            out.writeImmutableBuffer(slice)
          } else {
            target? += slice.readableBytesView
            guard target?.count ?? 0 <= 1 << 16 else { throw GitTree.malformed }
          }
        case .end:
          if let target {
            var member = TarMember(
              kind: .symbolicLink, rawPath: contents[position].path, mode: 0o777, modified: time)
            member.rawLinkTarget = target
            TarWriter.write(restored(member), into: &out)
          } else {
            out.writeRepeatingByte(0, count: TarWriter.padding(size))
          }
          target = nil
          position += 1
        }
      }
    }

    func finish() throws {
      guard reader.isComplete, position == contents.count else {
        throw DRError(.truncatedData, "git ended before all of the commit was read", advice: "see git fsck")
      }
    }

    private func restored(_ given: TarMember) -> TarMember {
      var member = given
      guard let known = attributes[member.rawPath] else { return member }
      member.mode = known.mode
      (member.userID, member.groupID) = (known.userID, known.groupID)
      (member.userName, member.groupName) = (known.userName, known.groupName)
      (member.modified, member.nanoseconds) = (known.seconds, known.nanoseconds)
      return member
    }
  }
}
