import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// A disk that is full, cannot be written, or is not there, on a real file system.
struct LocalTierDiskTests {
  @Test("A full disk is a clear error, leaves the previous state, and works again once there is room")
  func fullDisk() async throws {
    try await SmallFileSystem.with { disk in
      let tier = try await LocalTier(root: disk.path, creating: true)
      let old = TestData.rows(300_000)
      let key = try ObjectKey("a/object")
      _ = try await tier.put(key, ByteStream(old), PutOptions())
      let before = everything(in: disk.path)
      for name in ["a/object", "a/new", "b/new"] {
        for onlyIfAbsent in [false, true] where !(onlyIfAbsent && name == "a/object") {
          let error = await #expect(throws: DRError.self) {
            _ = try await tier.put(
              ObjectKey(name), ByteStream(TestData.pieces(of: TestData.rows(1_500_000), upTo: 200_000)),
              PutOptions(onlyIfAbsent: onlyIfAbsent))
          }
          #expect(error?.code == .noSpace)
          #expect(error?.object == name)
          #expect(error?.advice != nil)
          #expect(everything(in: disk.path) == before)
        }
      }
      #expect(try await tier.read(key) == old)
      _ = try await tier.put(ObjectKey("a/new"), ByteStream(TestData.rows(500_000)), PutOptions())
      #expect(try await tier.keys() == ["a/new", "a/object"])
    }
  }

  @Test("A read-only disk can be read, and says that it cannot be written")
  func readOnly() async throws {
    try await SmallFileSystem.with { disk in
      let tier = try await LocalTier(root: disk.path, creating: true)
      try await tier.put("a/b", "x")
      try await disk.protect()
      #expect(await code { try await tier.put("a/b", "y") } == .notWritable)
      #expect(await code { try await tier.put("a/c", "y", onlyIfAbsent: true) } == .notWritable)
      #expect(await code { try await tier.put("c/d", "y") } == .notWritable)
      #expect(await code { try await tier.delete(ObjectKey("a/b")) } == .notWritable)
      #expect(try await LocalTier(root: disk.path).text("a/b") == "x")
      #expect(try await LocalTier(root: disk.path, creating: true).keys() == ["a/b"])
      #expect(await code { _ = try await LocalTier(root: disk.path + "/x", creating: true) } == .notWritable)
    }
  }

  @Test("A volume that is not mounted is unreachable, and its mount point stays empty")
  func unmounted() async throws {
    try await SmallFileSystem.with { disk in
      let tier = try await LocalTier(root: disk.path, creating: true)
      try await tier.put("a/b", "x")
      let key = try ObjectKey("a/b")
      try await disk.unmount()
      let error = await #expect(throws: DRError.self) { try await tier.put("a/b", "y") }
      #expect(error?.code == .tierUnavailable)
      #expect(error?.advice?.contains("mounted") == true)
      #expect(await code { _ = try await tier.get(key, range: nil) } == .tierUnavailable)
      #expect(await code { _ = try await tier.head(key) } == .tierUnavailable)
      #expect(await code { _ = try await tier.keys() } == .tierUnavailable)
      #expect(everything(in: disk.path).isEmpty)
      // Another volume in its place is another tier.
      try await disk.mount()
      let other = try await LocalTier(root: disk.path, creating: true)
      #expect(await code { _ = try await tier.keys() } == .tierUnavailable)
      #expect(try await other.keys().isEmpty)
    }
  }

  @Test("A full disk in the middle of a backup leaves the backups before it, and no remains")
  func fullDiskDuringBackup() async throws {
    try await SmallFileSystem.with { disk in
      let tier = try await LocalTier(root: disk.path, creating: true)
      let clock = TestClock()
      let repository = Repository(tier: tier, now: clock.now)
      let component = try Component.postgres("app")
      let source = MemorySource.sample(component)
      let first = try await repository.backUp(source, cadence: .daily, encoding: smallFrames, logger: quiet)
      let before = files(in: disk.path)
      clock.advance(86_400)
      var large = source
      large.artifacts["more.tar"] = TestData.rows(8_000_000, seed: 5)
      await #expect(throws: DRError.self) {
        try await repository.backUp(large, cadence: .daily, encoding: smallFrames, logger: quiet)
      }
      #expect(files(in: disk.path) == before)
      #expect(try await repository.catalog().backups == [first])
      #expect(try await repository.contents(first) == source.artifacts)
      let second = try await repository.backUp(source, cadence: .daily, encoding: smallFrames, logger: quiet)
      #expect(try await repository.catalog().latest(for: component)?.id == second.id)
    }
  }
}
