import DRCore
import DRStorage
import Foundation
import NIOCore

/// A commit, as a backup of files: `git archive`, with the times, modes and owners of the note beside it.
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
        try await git.withOutput(of: ["-c", "tar.umask=0022", "archive", "--format=tar", commit]) { output in
          var wishes = permits.stream.makeAsyncIterator()
          var rewriter = Rewriter(attributes: attributes)
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

  /// Gives members what git did not keep of them, and puts the folders first: git keeps no empty ones.
  private struct Rewriter {
    let attributes: [[UInt8]: Attributes]
    var reader = TarReader(object: "the commit", dialect: .everything)
    var padding = 0
    private var hasBegun = false

    init(attributes: [[UInt8]: Attributes]) { self.attributes = attributes }

    mutating func pass(_ frame: ByteBuffer, into out: inout ByteBuffer) throws {
      if !hasBegun {
        hasBegun = true
        let folders = attributes.filter(\.value.isFolder).keys.sorted { $0.lexicographicallyPrecedes($1) }
        for path in folders {
          TarWriter.write(
            restored(TarMember(kind: .folder, rawPath: path, mode: 0o755, modified: 0)), into: &out)
        }
      }
      reader.append(frame)
      while let event = try reader.next() {
        switch event {
        case .file(let member):
          TarWriter.write(restored(member), into: &out)
          padding = TarWriter.padding(member.size)
        case .data(let slice): out.writeImmutableBuffer(slice)
        case .fileEnd: out.writeRepeatingByte(0, count: padding)
        case .directory(let member) where attributes[member.rawPath] != nil: continue
        case .directory(let member), .symlink(let member), .hardLink(let member):
          TarWriter.write(restored(member), into: &out)
        case .end: break
        }
      }
    }

    func finish() throws { try reader.finish() }

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
