import DRCore
import DRTestSupport
import Foundation
import NIOCore
import Testing

@Suite struct TarReaderTests {
  /// What came out of an archive, with the content put together again.
  private struct Contents: Equatable {
    var files: [String: [UInt8]] = [:]
    var folders: [String] = []
    var links: [String: String] = [:]
    var isEnded = false
  }

  private func read(_ pieces: [ByteBuffer], trailer: Bool = true) throws -> Contents {
    var reader = TarReader(object: "test.tar")
    var contents = Contents()
    var current: TarMember?
    var data: [UInt8] = []
    for piece in pieces {
      reader.append(piece)
      while let event = try reader.next() {
        switch event {
        case .file(let member):
          #expect(current == nil)
          current = member
          data = []
        case .data(let slice):
          #expect(slice.readableBytes > 0)
          data += slice.readableBytesView
        case .fileEnd:
          let member = try #require(current)
          #expect(Int64(data.count) == member.size)
          contents.files[member.path] = data
          current = nil
        case .directory(let member): contents.folders.append(member.path)
        case .symlink(let member): contents.links[member.path] = member.linkTarget
        case .hardLink(let member): Issue.record("a hard link: \(member.path)")
        case .end: contents.isEnded = true
        }
      }
    }
    try reader.finish(trailer: trailer)
    return contents
  }

  /// An archive made by the stock tar, of every kind of member that is read.
  private func archive(format: String, long: Int = 0) async throws -> (tar: [UInt8], expected: Contents) {
    try await withTemporaryFolder { folder in
      var expected = Contents(isEnded: true)
      let tree = folder + "/tree"
      for path in ["base", "base/5", "empty"] {
        try FileManager.default.createDirectory(atPath: "\(tree)/\(path)", withIntermediateDirectories: true)
        expected.folders.append(path)
      }
      let deep = String(repeating: "d", count: 60)
      var files = ["base/5/1": 0, "base/5/2": 1, "base/5/3": 511, "base/5/4": 512, "base/5/5": 20_000, "PG_VERSION": 3]
      if long > 0 {
        var folder = ""
        while folder.utf8.count < long {
          folder += folder.isEmpty ? deep : "/" + deep
          try FileManager.default.createDirectory(atPath: "\(tree)/\(folder)", withIntermediateDirectories: true)
          expected.folders.append(folder)
        }
        files["\(folder)/file"] = 700
      }
      for (path, size) in files {
        let bytes = [UInt8](TestData.rows(size, seed: UInt64(size)).readableBytesView)
        try Data(bytes).write(to: URL(fileURLWithPath: "\(tree)/\(path)"))
        expected.files[path] = bytes
      }
      try FileManager.default.createSymbolicLink(atPath: tree + "/link", withDestinationPath: "/elsewhere/x")
      expected.links["link"] = "/elsewhere/x"
      expected.folders.sort()
      let made = try await runCommand("tar", ["--format=\(format)", "--sort=name", "-cf", "-", "-C", tree, "."])
      try #require(made.status == 0, "\(made.error)")
      return (made.output, expected)
    }
  }

  @Test(arguments: ["ustar", "pax", "gnu"])
  func readsWhatTarWrites(format: String) async throws {
    let (tar, expected) = try await archive(format: format, long: format == "ustar" ? 0 : 400)
    var contents = try read([ByteBuffer(bytes: tar)])
    contents.folders.sort()
    #expect(contents == expected)
  }

  @Test func readsUSTARPrefixes() async throws {
    let (tar, expected) = try await archive(format: "ustar", long: 140)
    #expect(try read([ByteBuffer(bytes: tar)]).files == expected.files)
  }

  @Test(arguments: ["pax", "gnu"])
  func cutAnywhere(format: String) async throws {
    let (tar, expected) = try await archive(format: format, long: 200)
    let whole = ByteBuffer(bytes: tar)
    for most in [1, 7, 512, 513, 8192] {
      let contents = try read(TestData.pieces(of: whole, upTo: most, seed: UInt64(most)))
      #expect(contents.files == expected.files)
      #expect(contents.isEnded)
    }
    for cut in stride(from: 0, through: 4096, by: 1) {
      let pieces = [ByteBuffer(bytes: tar[..<cut]), ByteBuffer(bytes: tar[cut...])]
      #expect(try read(pieces).files == expected.files)
    }
  }

  @Test func endingEarlyIsAnError() async throws {
    let (tar, expected) = try await archive(format: "ustar")
    // The stock tar pads the trailer to 10,240 bytes; the content ends where the last file's block does.
    let content = try #require(tar.lastIndex { $0 != 0 }) / 512 * 512 + 512
    for cut in 0..<content + 1024 {
      #expect(throws: DRError.self, "cut at \(cut)") { try read([ByteBuffer(bytes: tar[..<cut])]) }
    }
    #expect(try read([ByteBuffer(bytes: tar[..<(content + 1024)])]).files == expected.files)
    // PostgreSQL 13 and 14 send no trailer.
    #expect(try read([ByteBuffer(bytes: tar[..<content])], trailer: false).files == expected.files)
    #expect(throws: DRError.self) { try read([ByteBuffer(bytes: tar[..<(content - 100)])], trailer: false) }
  }

  @Test func contentIsNotCopied() throws {
    let frame = ByteBuffer(bytes: header("base/5/1", size: "00000001000") + [UInt8](repeating: 7, count: 512))
    var reader = TarReader(object: "test.tar")
    reader.append(frame)
    guard case .file? = try reader.next(), case .data(let slice)? = try reader.next() else {
      Issue.record("expected a file and its data")
      return
    }
    let inFrame = frame.withUnsafeReadableBytes { UInt(bitPattern: $0.baseAddress) + 512 }
    #expect(slice.withUnsafeReadableBytes { UInt(bitPattern: $0.baseAddress) } == inFrame)
  }

  @Test(arguments: [
    "/etc/passwd", "../x", "base/../../x", "base/./x", "base//x", "..", "base/..", "./../x", "/", "base/1//",
  ])
  func refusesHostilePaths(path: String) {
    for kind: Unicode.Scalar in ["0", "2"] {
      #expect(throws: DRError.self) { try read([ByteBuffer(bytes: header(path, kind: kind) + trailer)]) }
    }
    #expect(throws: DRError.self) { try read([ByteBuffer(bytes: pax(["path": path]) + header("ok") + trailer)]) }
  }

  @Test func refusesWhatItDoesNotRead() throws {
    let hostile: [[UInt8]] = [
      header("hard", kind: "1"), header("character", kind: "3"), header("block", kind: "4"), header("fifo", kind: "6"),
      header("GNU sparse", kind: "S"), header("volume", kind: "V"), header("folder", size: "00000000001", kind: "5"),
      // A size that is negative, one that is too large, and digits that are none.
      header("negative", size: "\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}"),
      header("large", size: "\u{80}\0\0\0\u{7F}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}"),
      header("overflow", size: "\u{80}\0\u{01}\0\0\0\0\0\0\0\0\0"), header("digits", size: "0000000001x"),
      // Extended headers.
      pax(["GNU.sparse.major": "1"]) + header("x"), pax(["size": "-1"]) + header("x"), pax(["size": "x"]) + header("x"),
      pax(["path": "a\0b"]) + header("x"), pax(["path": "x"]), pax(["path": "x"], kind: "g") + header("x"),
      header("x", size: "00000000005", kind: "x") + block("9 a=b"),
      header("x", size: "00000000004", kind: "x") + block("abcd"),
      header("x", size: "00010000000", kind: "x"), header("x", size: "77777777777", kind: "L"),
      // A lone zero block, and bytes behind the end.
      [UInt8](repeating: 0, count: 512) + header("x"),
    ]
    for bytes in hostile {
      #expect(throws: DRError.self, "\(bytes.prefix(24))") { try read([ByteBuffer(bytes: bytes + trailer)]) }
    }
    #expect(throws: DRError.self) { try read([ByteBuffer(bytes: header("x") + trailer + [1])]) }
    #expect(try read([ByteBuffer(bytes: header("x") + trailer + [UInt8](repeating: 0, count: 3000))]).isEnded)
    #expect(try read([ByteBuffer(bytes: pax(["mtime": "1.5"]) + header("x") + trailer)]).files == ["x": []])
  }

  @Test func largeSizesAreRead() throws {
    // 9 GB in base 256, as PostgreSQL writes it, and in a pax header.
    for bytes in [
      header("large", size: "\u{80}\0\0\0\0\0\0\u{02}\u{18}\u{71}\u{1A}\0"),
      pax(["size": "9000000000"]) + header("large"),
    ] {
      var reader = TarReader(object: "test.tar")
      reader.append(ByteBuffer(bytes: bytes))
      guard case .file(let member)? = try reader.next() else {
        Issue.record("expected a file")
        return
      }
      #expect(member.size == 9_000_000_000)
      #expect(try reader.next() == nil)
      #expect(throws: DRError.self) { try reader.finish() }
    }
  }

  @Test func flippedBytesNeverTrapAndNeverEscape() async throws {
    let (tar, _) = try await archive(format: "pax", long: 200)
    var random = TestData.Random(seed: 11)
    var refused = 0
    for _ in 0..<4000 {
      var bytes = tar
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= UInt8(1 << Int.random(in: 0..<8, using: &random))
      }
      do {
        let contents = try read(TestData.pieces(of: ByteBuffer(bytes: bytes), upTo: 4000, seed: random.next()))
        for path in contents.files.keys {
          #expect(!path.hasPrefix("/") && !path.split(separator: "/").contains("..") && !path.contains("\0"))
        }
      } catch is DRError {
        refused += 1
      }
    }
    #expect(refused > 100)
  }

  @Test func errorsStay() {
    var reader = TarReader(object: "test.tar")
    reader.append(ByteBuffer(bytes: header("../x") + header("good") + trailer))
    #expect(throws: DRError.self) { try reader.next() }
    #expect(throws: DRError.self) { try reader.next() }
    #expect(throws: DRError.self) { try reader.finish() }
  }

  // MARK: Archives by hand

  private var trailer: [UInt8] { [UInt8](repeating: 0, count: 1024) }

  private func block(_ text: String) -> [UInt8] {
    let bytes = [UInt8](text.utf8)
    return bytes + [UInt8](repeating: 0, count: (512 - bytes.count % 512) % 512)
  }

  /// A header; each character of the size is one byte.
  private func header(_ name: String, size: String = "00000000000", kind: Unicode.Scalar = "0") -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 512)
    bytes.replaceSubrange(0..<name.utf8.count, with: name.utf8)
    bytes.replaceSubrange(100..<107, with: "0000600".utf8)
    bytes.replaceSubrange(124..<(124 + size.unicodeScalars.count), with: size.unicodeScalars.map { UInt8($0.value) })
    bytes.replaceSubrange(136..<147, with: "00000000000".utf8)
    bytes.replaceSubrange(148..<156, with: "        ".utf8)
    bytes[156] = UInt8(kind.value)
    bytes.replaceSubrange(257..<265, with: "ustar\u{0}00".utf8)
    let sum = bytes.reduce(0) { $0 + Int($1) }
    let digits = String(sum, radix: 8)
    bytes.replaceSubrange(148..<156, with: (String(repeating: "0", count: 6 - digits.count) + digits + "\0 ").utf8)
    return bytes
  }

  private func pax(_ records: [String: String], kind: Unicode.Scalar = "x") -> [UInt8] {
    let content = records.map { key, value in
      let rest = " \(key)=\(value)\n"
      var length = rest.utf8.count + 1
      while "\(length)".utf8.count + rest.utf8.count != length { length += 1 }
      return "\(length)\(rest)"
    }.joined()
    let digits = String(content.utf8.count, radix: 8)
    return header(
      "PaxHeaders/x", size: String(repeating: "0", count: 11 - digits.count) + digits, kind: kind) + block(content)
  }
}
