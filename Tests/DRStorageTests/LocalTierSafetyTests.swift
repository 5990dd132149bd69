import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Keys and links that would lead outside, and who may read what is stored.
struct LocalTierSafetyTests {
  @Test(
    "A key that could escape its root is no key",
    arguments: [
      "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", "a\0b", "a\nb", "a\\b", ".dr-tmp-x",
      "a/.dr-tmp-x", ".dr-tmp-\u{301}", "../\u{301}a", "a/..\u{2F}\u{301}b", String(repeating: "a", count: 256),
      Array(repeating: "abcdefg", count: 200).joined(separator: "/"),
    ])
  func badKeys(text: String) throws {
    let error = #expect(throws: DRError.self) { try ObjectKey(text) }
    #expect(error?.code == .invalidKey)
  }

  @Test("What lies in a tier is known to, by whatever path it is reached, and whether it is there or not")
  func enclosing() async throws {
    try await withLocalTier { _, path in
      let resolved = try #require(realpath(path, nil))
      defer { free(resolved) }
      let root = String(cString: resolved)
      try FileManager.default.createDirectory(atPath: path + "/a", withIntermediateDirectories: false)
      let link = path + "-link"
      try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path + "/a")
      defer { try? FileManager.default.removeItem(atPath: link) }
      for place in [path, path + "/", path + "/a", path + "/b/c", path + "/a/../x", link, link + "/c"] {
        #expect(LocalTier.enclosing(place) == root, "\(place)")
      }
      for place in ["/", (path as NSString).deletingLastPathComponent, path + "-other", path + "/../other"] {
        #expect(LocalTier.enclosing(place) == nil, "\(place)")
      }
    }
  }

  @Test("A slash before a combining accent is a slash")
  func combining() async throws {
    let key = try ObjectKey("a/\u{301}b")
    #expect(key.lastComponent.unicodeScalars.elementsEqual("\u{301}b".unicodeScalars))
    try await withLocalTier { tier, path in
      _ = try await tier.put(key, ByteStream(ByteBuffer(string: "x")), PutOptions())
      #expect(try await tier.listAll(prefix: "a/").map(\.key) == [key])
      try await tier.delete(key)
      #expect(everything(in: path) == [".dr-tier"])
    }
  }

  @Test("The tier's own marker is no object, nor is a folder or what would lie below an object")
  func notObjects() async throws {
    try await withLocalTier { tier, _ in
      try await tier.put("a/b", "x")
      for key in [".dr-tier", "a", "a/b/c"] {
        #expect(await code { try await tier.put(key, "y") } == .invalidKey, "\(key)")
      }
      #expect(await code { try await tier.delete(ObjectKey(".dr-tier")) } == .invalidKey)
      #expect(await code { _ = try await tier.get(ObjectKey(".dr-tier"), range: nil) } == .invalidKey)
      #expect(try await tier.keys() == ["a/b"])
      #expect(try await tier.text("a/b") == "x")
    }
  }

  @Test("No symbolic link below the root is followed, by no call")
  func symbolicLinks() async throws {
    try await withTemporaryFolder { folder in
      let (root, outside) = (folder + "/tier", folder + "/outside")
      let tier = try await LocalTier(root: root, creating: true)
      try FileManager.default.createDirectory(atPath: outside + "/deep", withIntermediateDirectories: true)
      try Data("secret".utf8).write(to: URL(fileURLWithPath: outside + "/secret"))
      try Data("old".utf8).write(to: URL(fileURLWithPath: outside + "/.dr-tmp-old"))
      let before = everything(in: outside)
      try await tier.put("a/b", "x")
      for (link, target) in [
        ("folder", outside), ("a/folder", "../../outside"), ("file", outside + "/secret"), ("dangling", "nowhere"),
        ("a/file", "../../outside/secret"),
      ] {
        try FileManager.default.createSymbolicLink(atPath: "\(root)/\(link)", withDestinationPath: target)
      }
      let keys = [
        "folder/new", "folder/deep/new", "folder/secret", "a/folder/new", "a/folder/secret", "file", "dangling",
        "a/file", "file/x",
      ]
      for text in keys {
        let key = try ObjectKey(text)
        for onlyIfAbsent in [true, false] {
          #expect(await code { try await tier.put(text, "y", onlyIfAbsent: onlyIfAbsent) } == .invalidKey, "\(text)")
        }
        #expect(await code { _ = try await tier.get(key, range: nil) } == .invalidKey, "\(text)")
        #expect(await code { _ = try await tier.head(key) } == .invalidKey, "\(text)")
        #expect(await code { try await tier.delete(key) } == .invalidKey, "\(text)")
      }
      // Not left out without a word: what lies behind might be the backups that somebody moved.
      for prefix in ["", "folder", "folder/", "a/", "a/folder/s"] {
        #expect(await code { _ = try await tier.keys(prefix) } == .invalidKey, "\(prefix)")
      }
      #expect(try await tier.removeAbandonedUploads(olderThan: .distantFuture) == 0)
      #expect(everything(in: outside) == before)
      #expect(try String(contentsOfFile: outside + "/secret", encoding: .utf8) == "secret")
      #expect(try await tier.text("a/b") == "x")
    }
  }

  @Test("A folder that becomes a link while it is written to leads nowhere")
  func swappedFolder() async throws {
    try await withTemporaryFolder { folder in
      let (root, outside) = (folder + "/tier", folder + "/outside")
      let tier = try await LocalTier(root: root, creating: true)
      try FileManager.default.createDirectory(atPath: outside + "/b", withIntermediateDirectories: true)
      let writers = Task {
        for round in 0..<400 { _ = try? await tier.put("a/b/\(round)", "x") }
      }
      let swapper = BlockingExecutor(label: "tests.swapper")
      try await swapper.run {
        for _ in 0..<400 {
          rename("\(root)/a", "\(root)/a.real")
          symlink(outside, "\(root)/a")
          unlink("\(root)/a")
          rename("\(root)/a.real", "\(root)/a")
        }
      }
      await writers.value
      #expect(everything(in: outside) == ["b"])
    }
  }

  @Test("The root itself may be reached through a link, and by a relative path")
  func linkedRoot() async throws {
    try await withTemporaryFolder { folder in
      let tier = try await LocalTier(root: folder + "/real", creating: true)
      try await tier.put("a/b", "x")
      try FileManager.default.createSymbolicLink(atPath: folder + "/link", withDestinationPath: "real")
      #expect(try await LocalTier(root: folder + "/link").text("a/b") == "x")
      let up = String(repeating: "../", count: 40)
      let relative = try await LocalTier(root: up + folder.dropFirst() + "/real/")
      #expect(try await relative.text("a/b") == "x")
      #expect(relative.name.hasPrefix("local:/"))
      for path in ["", "a\0b"] { #expect(await code { _ = try await LocalTier(root: path) } == .invalidConfiguration) }
    }
  }

  @Test("Files are 0600, folders 0700, and both belong to the owner of the root")
  func modes() async throws {
    try await withTemporaryFolder { folder in
      let root = folder + "/new/tier"
      let tier = try await LocalTier(root: root, creating: true)
      // As an administrator would give the repository to the database's user.
      let owner: (uid_t, gid_t) = geteuid() == 0 ? (64_321, 64_322) : (geteuid(), getegid())
      #expect(chown(root, owner.0, owner.1) == 0)
      try await tier.put("a/b/c", "x")
      try await tier.put("a/b/d", "x", onlyIfAbsent: true)
      for path in ["a", "a/b", "a/b/c", "a/b/d"] {
        var status = stat()
        #expect(lstat("\(root)/\(path)", &status) == 0)
        #expect(status.st_mode & 0o7777 == (path.count < 4 ? 0o700 : 0o600), "\(path)")
        #expect(status.st_uid == owner.0 && status.st_gid == owner.1, "\(path)")
      }
      for path in [folder + "/new", root, root + "/.dr-tier"] {
        var status = stat()
        #expect(lstat(path, &status) == 0)
        #expect(status.st_mode & 0o077 == 0, "\(path)")
      }
    }
  }

  @Test("A root that is missing, empty or another one is an unreachable tier, never an empty one")
  func vanished() async throws {
    try await withTemporaryFolder { folder in
      let root = folder + "/tier"
      #expect(await code { _ = try await LocalTier(root: root) } == .tierUnavailable)
      #expect(!FileManager.default.fileExists(atPath: root))
      let tier = try await LocalTier(root: root, creating: true)
      try await tier.put("a/b", "x")
      let key = try ObjectKey("a/b")

      func expectUnreachable(_ why: Comment) async {
        #expect(await code { try await tier.put("a/b", "y") } == .tierUnavailable, why)
        #expect(await code { _ = try await tier.get(key, range: nil) } == .tierUnavailable, why)
        #expect(await code { _ = try await tier.head(key) } == .tierUnavailable, why)
        #expect(await code { _ = try await tier.keys() } == .tierUnavailable, why)
        #expect(await code { _ = try await tier.keys("zzz/") } == .tierUnavailable, why)
        #expect(await code { try await tier.delete(key) } == .tierUnavailable, why)
        #expect(await code { _ = try await tier.removeAbandonedUploads(olderThan: .now) } == .tierUnavailable, why)
      }
      rename(root, folder + "/gone")
      await expectUnreachable("the folder is gone")
      #expect(await code { _ = try await LocalTier(root: root) } == .tierUnavailable)

      mkdir(root, 0o700)
      await expectUnreachable("an empty folder is in its place")
      #expect(await code { _ = try await LocalTier(root: root) } == .tierUnavailable)
      #expect(everything(in: root).isEmpty)

      _ = try await LocalTier(root: root, creating: true)
      await expectUnreachable("another tier is in its place")
      #expect(everything(in: root) == [".dr-tier"])

      try Data("torn".utf8).write(to: URL(fileURLWithPath: root + "/.dr-tier"))
      await expectUnreachable("its marker is damaged")

      rename(root, folder + "/other")
      try Data().write(to: URL(fileURLWithPath: root))
      await expectUnreachable("a file is in its place")
      unlink(root)

      rename(folder + "/gone", root)
      #expect(try await tier.text("a/b") == "x")
      // Created again, it stays the same tier.
      _ = try await LocalTier(root: root, creating: true)
      #expect(try await tier.text("a/b") == "x")
    }
  }

  @Test("Of several processes that create one tier, all use the same")
  func createdTogether() async throws {
    try await withTemporaryFolder { folder in
      let tiers = try await withThrowingTaskGroup(of: LocalTier.self) { group in
        for _ in 0..<12 { group.addTask { try await LocalTier(root: folder + "/a/b/tier", creating: true) } }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      for (number, tier) in tiers.enumerated() { try await tier.put("a/\(number)", "x") }
      #expect(everything(in: folder + "/a/b/tier").count == 14)
    }
  }
}
