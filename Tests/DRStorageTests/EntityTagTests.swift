import DRCore
import DRStorage
import Foundation
import NIOCore
import Testing

struct EntityTagTests {
  @Test("Each object that had a key has a tag of its own, however fast one follows the other")
  func distinct() async throws {
    try await withLocalTier { tier, _ in
      var tags: Set<String> = []
      for number in 0..<200 {
        let info = try await tier.put("a/b", String(format: "%03d", number))
        tags.insert(try #require(info.entityTag))
        #expect(try await tier.head(ObjectKey("a/b"))?.entityTag == info.entityTag)
      }
      #expect(tags.count == 200)
    }
  }

  @Test("What a local tier cannot do is refused before the body is pulled")
  func unsupported() async throws {
    try await withLocalTier { tier, path in
      let key = try ObjectKey("a/b")
      let body = ByteStream { throw DRError(.sourceFailed, "pulled") }
      let lock = RetentionLock(.governance, until: .distantFuture)
      for options in [
        PutOptions(ifMatch: "1"), PutOptions(storageClass: .standardIA), PutOptions(lock: lock),
        PutOptions(legalHold: true),
      ] {
        #expect(await code { _ = try await tier.put(key, body, options) } == .unsupported)
      }
      #expect(
        await code { _ = try await tier.put(key, body, PutOptions(onlyIfAbsent: true, ifMatch: "1")) }
          == .invalidConfiguration)
      #expect(await code { _ = try await tier.thaw([key], days: 1, speed: .bulk) } == .unsupported)
      #expect(await code { try await tier.extendRetention(of: key, lock) } == .unsupported)
      #expect(await code { try await tier.setLegalHold(true, on: key) } == .unsupported)
      #expect(files(in: path).isEmpty)
    }
  }

  @Test("Many are removed at once, and a copy is the same bytes")
  func batch() async throws {
    try await withLocalTier { tier, path in
      try await tier.put("a/1", "one")
      try await tier.put("a/2", "two")
      _ = try await tier.copy(ObjectKey("a/1"), to: ObjectKey("b/1"), PutOptions(onlyIfAbsent: true))
      #expect(try await tier.text("b/1") == "one")
      let failures = try await tier.deleteAll(["a/1", "a/2", "absent"].map { try ObjectKey($0) })
      #expect(failures.isEmpty)
      #expect(files(in: path) == ["b/1"])
      #expect(
        await code { _ = try await tier.copy(ObjectKey("a/1"), to: ObjectKey("b/2"), PutOptions()) } == .objectNotFound)
    }
  }
}
