import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// What PostgreSQL 13 and 14 send, derived from what a 15 sends: every archive in a copy of its own, without message types,
/// and without the blocks of zeroes that end a tar. (No such server was at hand: their documentation says so.)
@Suite struct OldServerStreamTests {
  /// The copy messages of a base backup as they came.
  private struct Recording: Sendable {
    var messages: [ByteBuffer] = []
    var size = 0
  }

  private func record(_ server: PostgresSandbox) async throws -> [ByteBuffer] {
    try await PostgresConnection.withConnection(server.settings, replication: true, logger: BackupFixture.logger) {
      connection in
      try await connection.send(BaseBackupCommand(label: "recorded").text(serverVersion: 150_000))
      guard case .rows? = try await connection.nextResult(limit: .seconds(60)),
        case .rows? = try await connection.nextResult(), case .copyOut? = try await connection.nextResult()
      else { throw DRError(.sourceFailed, "no base backup") }
      var recording = Recording()
      while try await connection.copyBatch(
        into: &recording,
        { recording, message in
          recording.messages.append(ByteBuffer(bytes: message))
          return .proceed
        }) != .ended
      {}
      while try await connection.nextResult() != nil {}
      return recording.messages
    }
  }

  /// The bytes of each archive, in order.
  private func archives(_ messages: [ByteBuffer]) throws -> [(archive: BackupArchive, content: ByteBuffer)] {
    var archives: [(archive: BackupArchive, content: ByteBuffer)] = []
    var demultiplexer = BaseBackupDemultiplexer(frameSize: 128 << 20, isTyped: true, frame: ByteBuffer())
    for message in messages {
      _ = try demultiplexer.take { memory in
        message.withUnsafeReadableBytes { memory.copyMemory(from: $0) }
        return message.readableBytes
      }
      guard let next = demultiplexer.takeFollowing() else { continue }
      let content = demultiplexer.takeFrame(replacement: ByteBuffer())
      if !archives.isEmpty { archives[archives.count - 1].content = content }
      archives.append((next, ByteBuffer()))
    }
    archives[archives.count - 1].content = demultiplexer.takeFrame(replacement: ByteBuffer())
    return archives
  }

  @Test("Archives without message types and without a tar's end are read as a 14 sends them")
  func untyped() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await server.query("CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n")
      let archives = try archives(await record(server))
      #expect(archives.map(\.archive) == [.base, .manifest])
      var random = TestData.Random(seed: 14)
      for (archive, content) in archives {
        var old = content
        if archive != .manifest {
          let trailer = try #require(content.getSlice(at: content.writerIndex - 1024, length: 1024))
          #expect(trailer.readableBytesView.allSatisfy { $0 == 0 })
          old = try #require(content.getSlice(at: content.readerIndex, length: content.readableBytes - 1024))
        }
        // However the copy cuts it: frames come out full, and nothing is lost between them.
        let frameSize = 64 << 10
        var demultiplexer = BaseBackupDemultiplexer(frameSize: frameSize, isTyped: false, frame: ByteBuffer())
        var scanner = BackupPageScanner(archive: archive, checksums: true)
        var stored = ByteBuffer()
        func store() throws {
          let frame = demultiplexer.takeFrame(replacement: ByteBuffer())
          if archive != .manifest { try scanner.scan(frame) }
          stored.writeImmutableBuffer(frame)
        }
        for piece in TestData.pieces(of: old, upTo: 40_000, seed: .random(in: 0...99, using: &random)) {
          let control = try demultiplexer.take { memory in
            piece.withUnsafeReadableBytes { memory.copyMemory(from: $0) }
            return piece.readableBytes
          }
          #expect((control == .pause) == (demultiplexer.waiting >= frameSize))
          #expect(demultiplexer.following == nil)
          if control == .pause { try store() }
        }
        while demultiplexer.waiting > 0 { try store() }
        guard archive != .manifest else {
          #expect(stored == content)
          continue
        }
        // Sound without its end, where that is not due; and not otherwise.
        try scanner.finish(trailer: false)
        #expect(throws: DRError.self) { try scanner.finish(trailer: true) }
        #expect(scanner.pages > 2000 && scanner.suspectCount == 0)
        // With the end put back it is what a 15 sends, to the byte, and a tar.
        stored.writeRepeatingByte(0, count: 1024)
        #expect(stored == content)
        let listed = try await runCommand("tar", ["tf", "-"], input: Array(stored.readableBytesView))
        #expect(listed.status == 0 && String(decoding: listed.output, as: UTF8.self).contains("global/pg_control\n"))

        // A copy that ends early is no whole archive, wherever it was cut.
        for _ in 0..<20 {
          let length = Int.random(in: 512..<(old.readableBytes - 512), using: &random)
          let cut = try #require(old.getSlice(at: old.readerIndex, length: length))
          var scanner = BackupPageScanner(archive: archive, checksums: true)
          try scanner.scan(cut)
          // At the end of a member nothing tells, but the server's own manifest.
          if length % 512 != 0 { #expect(throws: DRError.self) { try scanner.finish(trailer: false) } }
        }
      }
    }
  }

  @Test("The commands for a 13 and a 14 use only words that their grammar has")
  func grammar() {
    let words: Set = [
      "BASE_BACKUP", "LABEL", "PROGRESS", "FAST", "WAL", "NOWAIT", "MAX_RATE", "NOVERIFY_CHECKSUMS", "MANIFEST",
      "MANIFEST_CHECKSUMS",
    ]
    for version in [130_000, 130_023, 140_020, 149_999] {
      for option in 0..<16 {
        var command = BaseBackupCommand(label: "x")
        command.fastCheckpoint = option & 1 != 0
        command.includesWAL = option & 2 != 0
        command.serverVerifiesChecksums = option & 4 != 0
        command.maximumRate = option & 8 != 0 ? 1024 : nil
        let text = command.text(serverVersion: version)
        let used = text.split(separator: " ").filter { !$0.hasPrefix("'") && Int($0) == nil }.map(String.init)
        #expect(Set(used).isSubset(of: words) && Set(used).count == used.count, "\(text)")
        #expect(!text.contains("(") && used.contains("FAST") == command.fastCheckpoint)
        #expect(used.contains("WAL") == command.includesWAL)
        #expect(used.contains("NOVERIFY_CHECKSUMS") != command.serverVerifiesChecksums)
        #expect(text.contains("MAX_RATE 1024") == (command.maximumRate != nil))
      }
    }
  }
}
