import DRCore
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// The stock tools are the judges: they read what we write, and we read what they write.
struct StockToolTests {
  static let frame = 1 << 20
  static let sizes = [0, 1, frame, frame + 1, 3 * frame + 12345]

  static func write(_ buffer: ByteBuffer, to path: String) throws {
    try Data(buffer.readableBytesView).write(to: URL(fileURLWithPath: path))
  }

  static func read(_ path: String) throws -> ByteBuffer {
    ByteBuffer(bytes: try Data(contentsOf: URL(fileURLWithPath: path)))
  }

  static func shell(_ script: String, in folder: String) async throws -> String {
    let result = try await runCommand(
      "/bin/bash", ["-o", "pipefail", "-ec", script], workingDirectory: folder, timeLimit: .seconds(300))
    guard result.status == 0 else { throw DRError(.programFailed, "\(script): \(result.error)") }
    return String(decoding: result.output, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
  }

  static func decode(_ stored: ByteBuffer, _ format: Compression.Format) async throws -> ByteBuffer {
    try await Decoding().decode(ByteStream(stored), format: format, encrypted: false, object: "theirs")
      .collect(limit: 1 << 30)
  }

  @Test("zstd and gzip read what we write, and find it whole", arguments: [Compression.zstd(), .gzip()], sizes)
  func theirsReadOurs(compression: Compression, size: Int) async throws {
    try await withTemporaryFolder { folder in
      let raw = TestData.rows(size)
      let encoded = try Encoding(compression: compression).encode(ByteStream(raw))
      try Self.write(try await encoded.stored.collect(limit: 1 << 30), to: folder + "/ours")
      let summary = try encoded.summary()
      let tools = compression.format == .zstd ? ["zstd"] : ["gzip", "pigz"]
      for tool in tools {
        _ = try await Self.shell("\(tool) -t < ours", in: folder)
        let sum = try await Self.shell("\(tool) -dc < ours | sha256sum", in: folder)
        #expect(sum.hasPrefix(summary.rawSHA256), "\(tool)")
      }
      #expect(try await Self.shell("sha256sum ours", in: folder).hasPrefix(summary.storedSHA256))
      #expect(
        try await Self.shell("md5sum ours", in: folder).hasPrefix(StreamDigest.hex(Self.read(folder + "/ours"), .md5)))
    }
  }

  @Test(
    "We read what the tools write",
    arguments: [
      ("zstd -1 -c", Compression.Format.zstd), ("zstd -T2 -3 -c", .zstd), ("zstd -19 --long=27 -c", .zstd),
      ("zstd --no-check -c", .zstd), ("zstd --no-content-size -c", .zstd), ("gzip -6 -c", .gzip),
      ("pigz -p2 -c", .gzip),
      ("pigz -9 -i -c", .gzip), ("gzip -n -1 -c", .gzip),
    ])
  func oursReadTheirs(command: String, format: Compression.Format) async throws {
    try await withTemporaryFolder { folder in
      for size in [0, 1, Self.frame, 30 * Self.frame + 17] {
        let raw = TestData.rows(size)
        try Self.write(raw, to: folder + "/raw")
        _ = try await Self.shell("\(command) raw > theirs; \(command) < raw > piped", in: folder)
        #expect(try await Self.decode(Self.read(folder + "/theirs"), format) == raw)
        #expect(try await Self.decode(Self.read(folder + "/piped"), format) == raw)
        // Ranges work without our tables too.
        let theirs = try Self.read(folder + "/theirs")
        let middle = Int64(size / 3)..<Int64(size / 2)
        let part = try await Decoding().decode(
          range: middle, storedSize: Int64(theirs.readableBytes), format: format, encrypted: false, object: "theirs",
          fetch: Fetched().from(theirs)
        ).collect(limit: 1 << 30)
        #expect(part == raw.getSlice(at: Int(middle.lowerBound), length: middle.count) ?? ByteBuffer())
      }
    }
  }

  @Test("Files that the tools put one behind the other, with skippable frames and padding between")
  func concatenated() async throws {
    try await withTemporaryFolder { folder in
      let raw = TestData.rows(200_000)
      try Self.write(raw, to: folder + "/raw")
      _ = try await Self.shell(
        """
        zstd -c raw > a; printf '\\x52\\x2a\\x4d\\x18\\x05\\x00\\x00\\x00hello' >> a; zstd -c raw >> a
        gzip -c raw > b; gzip -c raw >> b; head -c 1000 /dev/zero >> b
        """, in: folder)
      var twice = raw
      twice.writeImmutableBuffer(raw)
      #expect(try await Self.decode(Self.read(folder + "/a"), .zstd) == twice)
      #expect(try await Self.decode(Self.read(folder + "/b"), .gzip) == twice)
      _ = try await Self.shell("echo garbage >> a; echo garbage >> b", in: folder)
      for (name, format) in [("a", Compression.Format.zstd), ("b", .gzip)] {
        await #expect(throws: DRError.self) { _ = try await Self.decode(Self.read("\(folder)/\(name)"), format) }
      }
    }
  }

  @Test("5 GiB, past every 32-bit size", arguments: [Compression.zstd(), .gzip(level: 1)])
  func fiveGiB(compression: Compression) async throws {
    try await withTemporaryFolder { folder in
      let block = ByteBuffer(repeating: 0, count: Self.frame)
      let left = Counter()
      let encoded = try Encoding(compression: compression).encode(
        ByteStream { left.next() <= 5 * 1024 ? block : nil })
      try Self.write(try await encoded.stored.collect(limit: 1 << 30), to: folder + "/ours")
      let summary = try encoded.summary()
      #expect(summary.rawSize == 5 << 30)
      let stored = try Self.read(folder + "/ours")
      var decoded: Int64 = 0
      for try await buffer in Decoding().decode(
        ByteStream(stored), format: compression.format, encrypted: false, expected: summary, object: "ours")
      {
        decoded += Int64(buffer.readableBytes)
      }
      #expect(decoded == 5 << 30)
      let tool = compression.format == .zstd ? "zstd -dc" : "pigz -dc"
      #expect(try await Self.shell("\(tool) < ours | sha256sum", in: folder).hasPrefix(summary.rawSHA256))
      let tail = (Int64(5) << 30) - 10..<(Int64(5) << 30)
      let part = try await Decoding().decode(
        range: tail, storedSize: Int64(stored.readableBytes), format: compression.format, encrypted: false,
        object: "ours", fetch: Fetched().from(stored)
      ).collect(limit: 100)
      #expect(part == ByteBuffer(repeating: 0, count: 10))
    }
  }

  @Test("A 5 GiB file of one foreign frame, read from a sparse file's zstd and pigz")
  func foreignFiveGiB() async throws {
    try await withTemporaryFolder { folder in
      _ = try await Self.shell(
        """
        truncate -s 5G sparse; zstd -q -T2 -c sparse > theirs; zstd -q -c < sparse > piped; pigz -1 -p2 -c sparse > member
        """, in: folder)
      for (name, format) in [("theirs", Compression.Format.zstd), ("piped", .zstd), ("member", .gzip)] {
        var size: Int64 = 0
        for try await buffer in Decoding().decode(
          ByteStream(try Self.read("\(folder)/\(name)")), format: format, encrypted: false, object: name)
        {
          size += Int64(buffer.readableBytes)
        }
        #expect(size == 5 << 30)
      }
    }
  }
}
