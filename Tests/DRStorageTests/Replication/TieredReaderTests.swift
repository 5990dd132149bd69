import DRCore
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

/// A restore reads each artifact from the nearest tier that has it whole.
struct TieredReaderTests {
  private func withCopies(
    encoding: Encoding = smallFrames,
    _ body: (BackupManifest, InMemoryTier, InMemoryTier, [String: ByteBuffer]) async throws -> Void
  ) async throws {
    let (near, far) = (InMemoryTier(name: "near"), InMemoryTier(name: "far"))
    let source = MemorySource.sample(try .postgres("app"))
    let repository = Repository(tier: near, now: TestClock().now)
    let backup = try await repository.backUp(source, cadence: .daily, encoding: encoding, logger: quiet)
    _ = try await Replicator(from: repository, to: Repository(tier: far)).run(logger: quiet)
    try await body(backup, near, far, source.artifacts)
  }

  private func contents(_ reader: any BackupReader) async throws -> [String: ByteBuffer] {
    var contents: [String: ByteBuffer] = [:]
    for artifact in reader.manifest.artifacts {
      contents[artifact.name] = try await reader.read(artifact).collect(limit: 1 << 30)
    }
    return contents
  }

  @Test("From the nearest; and from the next what that has not, or not in its size, or not readable")
  func nearest() async throws {
    try await withCopies { backup, near, far, expected in
      let counting = FaultInjectingTier(far, failing: 0, .before)
      let reader = TieredReader(backup, tiers: [near, counting], logger: quiet)
      #expect(try await contents(reader) == expected)
      #expect(!counting.calls.contains { $0.kind == .get })
      let key = try backup.artifact("base.tar").key
      _ = try await near.put(key, ByteStream(ByteBuffer(string: "short")), PutOptions())
      #expect(try await contents(reader) == expected)
      #expect(counting.calls.contains { $0.kind == .get && $0.subject == key.rawValue })
      try await near.delete(key)
      #expect(try await contents(reader) == expected)
      try await far.delete(key)
      #expect(await code { _ = try await contents(reader) } == .objectNotFound)
    }
  }

  @Test("A tier that is away is stepped over; when all are, that is said")
  func away() async throws {
    try await withCopies { backup, near, far, expected in
      let gone = FaultInjectingTier(near, failing: 1, .before, killing: true)
      let found = try await contents(TieredReader(backup, tiers: [gone, far], logger: quiet))
      #expect(found == expected)
      let also = FaultInjectingTier(far, failing: 1, .before, killing: true)
      #expect(
        await code { _ = try await contents(TieredReader(backup, tiers: [gone, also], logger: quiet)) }
          == .tierUnavailable)
    }
  }

  @Test(
    "One that breaks, ends early, or lies in the middle is followed by the next, and the bytes are right",
    arguments: [Compression.zstd(level: 1), .gzip(level: 1), .none])
  func middle(compression: Compression) async throws {
    try await withCopies(encoding: Encoding(compression: compression, frameSize: 64 << 10)) {
      backup, near, far, expected in
      let base = try backup.artifact("base.tar")
      var faults: [FaultInjectingTier.Fault] = [.inside, .truncate, .before, .after]
      // Without frames there is no checksum until the end.
      if compression.format != .none {
        for offset in stride(from: Int64(0), to: base.storedSize, by: Int(base.storedSize / 23)) {
          faults.append(.flipBit(at: offset))
        }
      }
      for fault in faults {
        let bad = FaultInjectingTier(near) { call in call.kind == .get ? fault : nil }
        let reader = TieredReader(backup, tiers: [bad, far], logger: quiet)
        #expect(try await contents(reader) == expected, "\(fault)")
        let part = try await reader.read(base, range: 70_000..<200_001).collect(limit: 1 << 20)
        if case .flipBit = fault { continue }
        #expect(part == expected["base.tar"]?.getSlice(at: 70_000, length: 130_001), "\(fault), by range")
      }
      // Both wrong: an error, and never wrong bytes that pass.
      let (one, two) = (
        FaultInjectingTier(near) { $0.kind == .get ? .flipBit(at: 500) : nil },
        FaultInjectingTier(far) { $0.kind == .get ? .flipBit(at: 501) : nil }
      )
      await #expect(throws: DRError.self) {
        _ = try await contents(TieredReader(backup, tiers: [one, two], logger: quiet))
      }
    }
  }

  @Test("Read as one tier: the union of what is there, and absent only if every tier says so")
  func fallback() async throws {
    let (near, far) = (InMemoryTier(name: "near"), InMemoryTier(name: "far"))
    let content = TestData.rows(2_500_000)
    for number in 0..<9 {
      if number % 2 == 0 { try await near.put("a/\(number)", "near \(number)") }
      if number % 3 == 0 { try await far.put("a/\(number)", "near \(number)") }
    }
    for tier in [near, far] { _ = try await tier.put(ObjectKey("big"), ByteStream(content), PutOptions()) }
    let both = FallbackTier([near, far])
    let expected = ["a/0", "a/2", "a/3", "a/4", "a/6", "a/8"]
    #expect(try await both.keys("a/") == expected)
    for limit in 1...8 {
      var (listed, after) = ([String](), ObjectKey?.none)
      repeat {
        let page = try await both.list(prefix: "a/", after: after, limit: limit)
        listed += page.objects.map(\.key.rawValue)
        after = page.next
      } while after != nil
      #expect(listed == expected, "by \(limit)")
    }
    let broken = FaultInjectingTier(near) { $0.kind == .get ? .inside : nil }
    #expect(try await FallbackTier([broken, far]).read(ObjectKey("big")) == content)
    let part = try await FallbackTier([broken, far]).get(ObjectKey("big"), range: 1000..<2_000_000).collect(
      limit: 1 << 30)
    #expect(part == content.getSlice(at: 1000, length: 1_999_000))
    let gone = FaultInjectingTier(near, failing: 1, .before, killing: true)
    #expect(try await FallbackTier([gone, far]).text("a/3") == "near 3")
    #expect(await code { _ = try await FallbackTier([gone, far]).text("a/2") } == .tierUnavailable)
    #expect(await code { _ = try await both.text("a/1") } == .objectNotFound)
    #expect(await code { _ = try await FallbackTier([gone, far]).listAll(prefix: "") } == .tierUnavailable)
    #expect(await code { try await both.delete(ObjectKey("big")) } == .notWritable)
  }
}
