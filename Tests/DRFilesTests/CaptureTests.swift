import DRCore
import DRFiles
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

@Suite struct CaptureTests {
  private func names(_ place: Place, _ manifest: BackupManifest) async throws -> [String] {
    var names: [String] = []
    try await FileTreeListing().list(place.repository.reader(for: manifest)) { names.append($0.path) }
    return names
  }

  @Test("Names at any depth, paths at theirs, globs, exclusions; folders above what was chosen come along")
  func selection() async throws {
    try await Place.with { place in
      for path in [
        "app.conf", "a/b/deep.conf", "a/b/other.txt", "a/skip/x.conf", "certs/one.pem", "certs/old/two.pem",
        "compose.yml",
      ] {
        try place.write(path, path)
      }
      let manifest = try await place.capture(
        try place.source(["*.conf", "certs/*.pem", "a/**/other.[st]xt", "missing.json"], excluded: ["skip"]))
      #expect(
        try await names(place, manifest)
          == [".", "a", "a/b", "a/b/deep.conf", "a/b/other.txt", "app.conf", "certs", "certs/one.pem"])
      #expect(manifest.leftOut.map(\.what) == ["missing.json"])
      #expect(manifest.method == .files && manifest.properties["files"] == .integer(4))
      #expect(manifest.properties["root"] == .string(place.tree))
      await refusal { try await place.capture(try place.source(["nothing-like-it"])) }
      await refusal { try await place.capture(try place.source(["../x"])) }
    }
  }

  @Test("Files over a limit are left out, and said so; a tree over its limit fails")
  func limits() async throws {
    try await Place.with { place in
      try place.write("small", "x")
      try place.write("large", String(repeating: "x", count: 5000))
      var source = try place.source()
      source.largestFile = 4000
      let manifest = try await place.capture(source)
      #expect(try await names(place, manifest) == [".", "small"])
      #expect(manifest.leftOut.map(\.what) == ["large"])
      source.largestFile = nil
      source.largestTotal = 4000
      let limited = source
      await refusal { try await place.capture(limited) }
    }
  }

  @Test("Sockets and pipes are left out, and said so; so is a folder that holds a repository, and what restores keep")
  func strangers() async throws {
    try await Place.with { place in
      try place.write("file", "x")
      try place.write(".dr-before-20260101_000000/file", "old")
      try await shell(
        #"mkfifo "$1/pipe"; python3 -c 'import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$1/socket""#,
        place.tree)
      _ = try await LocalTier(root: place.tree + "/backups", creating: true)
      let manifest = try await place.capture(try place.source())
      #expect(try await names(place, manifest) == [".", "file"])
      #expect(
        manifest.leftOut.map(\.what).sorted() == [".dr-before-20260101_000000", "backups", "pipe", "socket"])
    }
  }

  @Test("Another file system is not entered, unless told")
  func fileSystems() async throws {
    try await Place.with { place in
      try place.write("file", "x")
      try await shell(
        #"mkdir "$1/mounted"; mount -t tmpfs -o size=1m none "$1/mounted"; echo y > "$1/mounted/inner""#, place.tree)
      var source = try place.source()
      do {
        let manifest = try await place.capture(source)
        #expect(try await names(place, manifest) == [".", "file", "mounted"])
        #expect(manifest.leftOut.map(\.what) == ["mounted"])
        source.crossesFileSystems = true
        #expect(try await names(place, try await place.capture(source)) == [".", "file", "mounted", "mounted/inner"])
      } catch {
        try await shell(#"umount "$1/mounted""#, place.tree)
        throw error
      }
      try await shell(#"umount "$1/mounted""#, place.tree)
    }
  }

  @Test("What may not be read fails the capture, or is left out when told")
  func unreadable() async throws {
    try await Place.with { place in
      try place.write("open", "x")
      try place.write("closed", "x", mode: 0o600)
      // Root may read everything: the program runs as somebody else.
      let config = place.folder + "/dr.json"
      try Data(#"{"repository": "\#(place.folder)/own", "component": "config/app"}"#.utf8).write(
        to: URL(fileURLWithPath: config))
      try await shell(
        #"chmod 755 "$1"; chmod 644 "$1/dr.json"; chmod 755 "$1/tree"; mkdir "$1/own"; chown nobody "$1/own""#,
        place.folder)
      let program = place.folder + "/dr-files"
      try FileManager.default.copyItem(atPath: ChildProcess.program("dr-files"), toPath: program)
      func run(_ arguments: String...) async throws -> (status: Int32, output: [UInt8], error: String) {
        try await runCommand(
          "setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", "--", program] + arguments)
      }
      #expect(try await run("init", "--config", config).status == 0)
      let refused = try await run("capture", "--config", config, place.tree)
      #expect(
        refused.status == 2 && refused.error.contains("closed") && refused.error.contains("Permission denied"),
        "\(refused.error)")
      let left = try await run("capture", "--config", config, place.tree, "--leave-out-unreadable")
      #expect(
        left.status == 0 && String(decoding: left.output, as: UTF8.self).contains("left out: closed"), "\(left.error)")
    }
  }

  // MARK: Files that change

  /// Takes artifacts into memory, and does something once so many bytes have come.
  private final class HookedWriter: BackupWriter {
    let backupID = "backup"
    let encrypts = true
    private let hooks: MutableBox<[(after: Int, run: @Sendable () throws -> Void)]>
    private let taken = MutableBox(ByteBuffer())

    init(_ hooks: [(after: Int, run: @Sendable () throws -> Void)]) { self.hooks = MutableBox(hooks) }

    var bytes: [UInt8] { [UInt8](taken.value.readableBytesView) }

    func write(_ name: String, _ content: ByteStream, expectedLength: Int64?) async throws -> BackupManifest.Artifact {
      for try await var buffer in content {
        let size = taken.withLock { all in
          all.writeBuffer(&buffer)
          return all.readableBytes
        }
        let due = hooks.withLock { hooks in
          let due = hooks.prefix { size >= $0.after }.map(\.run)
          hooks.removeFirst(due.count)
          return due
        }
        for run in due { try run() }
      }
      return BackupManifest.Artifact(
        name: name, key: try ObjectKey(name), rawSize: 0, rawSHA256: "", storedSize: 0, storedSHA256: "",
        compression: .none,
        recipients: [])
    }
  }

  @Test("A large file that grows, shrinks or is replaced while it is read is read again; the last state is restored")
  func changing() async throws {
    try await Place.with { place in
      let size = 6 << 20
      for name in ["grows", "replaced", "shrinks"] {
        try Data([UInt8](TestData.rows(size, seed: UInt64(name.utf8.count)).readableBytesView)).write(
          to: URL(fileURLWithPath: "\(place.tree)/\(name)"))
      }
      try await Task.sleep(for: .milliseconds(60))
      let root = place.tree
      let writer = HookedWriter([
        (
          2 << 20,
          {
            let file = try #require(FileHandle(forWritingAtPath: root + "/grows"))
            try file.seekToEnd()
            try file.write(contentsOf: Data("the end".utf8))
          }
        ),
        // Behind both readings of the first.
        (
          15 << 20,
          {
            try Data("another".utf8).write(to: URL(fileURLWithPath: root + "/next"))
            _ = rename(root + "/next", root + "/replaced")
          }
        ),
        (20 << 20, { _ = truncate(root + "/shrinks", 3 << 20) }),
      ])
      let capture = try await place.source().capture(into: writer, logger: quiet)
      #expect(capture.properties["changedCount"] == .integer(3), "\(capture.properties)")
      #expect(capture.leftOut.isEmpty)
      for change in capture.properties["changed"]?.array ?? [] {
        #expect(change.object?["settled"] == .bool(true) && change.object?["readings"] == .integer(2), "\(change)")
      }
      let manifest = try await place.store(tar: writer.bytes)
      try await place.restore(manifest, to: place.folder + "/back")
      let (back, tree) = (try await fingerprint(place.folder + "/back"), try await fingerprint(place.tree))
      #expect(unrooted(back) == unrooted(tree))
      // And with the stock tool, for which the last of two counts too.
      try Data(writer.bytes).write(to: URL(fileURLWithPath: place.folder + "/ours.tar"))
      try await shell(
        #"mkdir "$1/stock"; tar -xpf "$1/ours.tar" -C "$1/stock"; diff -r "$1/tree" "$1/stock""#, place.folder)
    }
  }

  @Test("A file that never stands still is stored as it was last, and the manifest says so")
  func restless() async throws {
    try await Place.with { place in
      try place.write("calm", "x")
      let size = 6 << 20
      let path = place.tree + "/restless"
      try Data([UInt8](TestData.rows(size, seed: 1).readableBytesView)).write(to: URL(fileURLWithPath: path))
      try await Task.sleep(for: .milliseconds(60))
      let change: @Sendable (String) throws -> Void = { text in
        let file = try #require(FileHandle(forWritingAtPath: path))
        try file.write(contentsOf: Data(text.utf8))
      }
      // In the middle of each reading, behind what has been read of it.
      let writer = HookedWriter(
        (0..<4).map { reading in (reading * size + (2 << 20), { try change("after reading \(reading)") }) })
      let capture = try await place.source().capture(into: writer, logger: quiet)
      #expect(capture.leftOut.map(\.what) == ["restless"])
      let noted = try #require(capture.properties["changed"]?.array?.first?.object)
      #expect(noted["path"] == .string("restless") && noted["settled"] == .bool(false))
      #expect(capture.properties["files"] == .integer(2))
      let manifest = try await place.store(tar: writer.bytes)
      try await place.restore(manifest, to: place.folder + "/back")
      let back = try Data(contentsOf: URL(fileURLWithPath: place.folder + "/back/restless"))
      #expect(back.count == size && back.starts(with: Data("after reading 2".utf8)))
    }
  }

  @Test("Files and folders that go while the tree is walked are no failure")
  func vanishing() async throws {
    try await Place.with { place in
      try place.write("a/large", String(repeating: "x", count: 3 << 20))
      try place.write("b/file", "x")
      try place.write("c", "x")
      try await Task.sleep(for: .milliseconds(60))
      let tree = place.tree
      let writer = HookedWriter([
        (
          1 << 20,
          {
            try FileManager.default.removeItem(atPath: tree + "/b")
            try FileManager.default.removeItem(atPath: tree + "/c")
            try FileManager.default.removeItem(atPath: tree + "/a/large")
          }
        )
      ])
      let capture = try await place.source().capture(into: writer, logger: quiet)
      #expect(capture.properties["files"] == .integer(1))
      #expect(Set(capture.leftOut.map(\.what)).isSuperset(of: ["b", "c"]), "\(capture.leftOut)")
    }
  }
}
