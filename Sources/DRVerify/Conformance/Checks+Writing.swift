import DRCore
import NIOCore

import struct Foundation.Date

extension StorageTierConformance {
  static let writing = [
    Check(name: "replace", body: replace), Check(name: "broken-body", body: brokenBody),
    Check(name: "one-writer", body: oneWriter), Check(name: "delete", body: delete),
    Check(name: "delete-many", body: deleteMany), Check(name: "copy", body: copy),
    Check(name: "abandoned-uploads", body: abandonedUploads),
  ]

  static let refusing = [Check(name: "refuses-writes", body: refusesWrites)]

  static let all = reading + writing + conditional + optional

  @Sendable private static func replace(_ bench: Bench) async throws {
    let key = try bench.key("object")
    for (number, size) in [2_000_000, 10, 0, bench.settings.largeSize, 3].enumerated() {
      let content = Bench.bytes(size, UInt64(number + 40))
      _ = try await bench.put(key, content)
      try await bench.expectContent(key, content, "replaced by \(size) bytes")
      let listed = try await bench.tier.listAll(prefix: bench.folder + "/")
      bench.expect(listed.map(\.size) == [Int64(size)], "after a replacement \(listed.count) objects are listed")
    }
  }

  /// A put whose body breaks leaves what was there, and says what the body said.
  @Sendable private static func brokenBody(_ bench: Bench) async throws {
    let old = Bench.bytes(5000, 7)
    for (number, good) in [0, 1, 100_000, 6 << 20, bench.settings.largeSize].enumerated() {
      for exists in [false, true] {
        let key = try bench.key("\(number)-\(exists)")
        if exists { _ = try await bench.put(key, old) }
        let start = MutableBox(Bench.pieces(Bench.bytes(good, 9))[...])
        try await bench.expect("body-broke", "a put whose body breaks after \(good) bytes") {
          _ = try await bench.writer.put(
            key,
            ByteStream {
              if let piece = start.withLock({ $0.popFirst() }) { return piece }
              throw DRError("body-broke", "the body of a check ends here")
            }, PutOptions(expectedLength: Int64(good + 10)))
        }
        let head = try await bench.tier.head(key)
        bench.expect(
          head?.size == (exists ? 5000 : nil), "after a broken put of \(good) bytes head says \(head?.size ?? -1)")
        if exists { try await bench.expectContent(key, old, "after a broken put") }
        let listed = try await bench.tier.listAll(prefix: key.rawValue)
        bench.expect(listed.count == (exists ? 1 : 0), "after a broken put \(listed.count) objects are listed")
      }
    }
  }

  /// Of writers at the same time the object is one's, whole, at every moment.
  @Sendable private static func oneWriter(_ bench: Bench) async throws {
    let key = try bench.key("object")
    let contents = (0..<6).map { Bench.bytes(300_000 + $0 * 1001, UInt64($0 + 60)) }
    _ = try await bench.put(key, contents[0])
    try await withThrowingTaskGroup(of: Void.self) { group in
      for content in contents {
        group.addTask { for _ in 0..<3 { _ = try await bench.put(key, content) } }
      }
      group.addTask {
        for _ in 0..<12 {
          let seen = try await bench.readThoughReplaced(key)
          bench.expect(
            contents.contains(seen), "while it is replaced, an object of \(seen.readableBytes) bytes is seen")
        }
      }
      try await group.waitForAll()
    }
    let last = try await bench.read(key)
    bench.expect(contents.contains(last), "after six writers, the object is none of theirs")
  }

  @Sendable private static func delete(_ bench: Bench) async throws {
    let (key, other) = (try bench.key("a/b"), try bench.key("a/bb"))
    _ = try await bench.put(key, Bench.bytes(10, 1))
    _ = try await bench.put(other, Bench.bytes(10, 1))
    try await bench.tier.delete(key)
    let head = try await bench.tier.head(key)
    bench.expect(head == nil, "an object is there after its removal")
    try await bench.expect(.objectNotFound, "get of a removed object") {
      _ = try await bench.tier.get(key, range: nil).collect(limit: 100)
    }
    let listed = try await bench.tier.listAll(prefix: bench.folder + "/").map(\.key)
    bench.expect(listed == [other], "after a removal there are \(listed)")
    try await bench.tier.delete(key)
    try await bench.tier.delete(bench.key("never/was"))
    let content = Bench.bytes(20, 3)
    _ = try await bench.put(key, content)
    try await bench.expectContent(key, content, "put again after its removal")
  }

  @Sendable private static func deleteMany(_ bench: Bench) async throws {
    let keys = try (0..<12).map { try bench.key("n \($0)&") }
    for key in keys { _ = try await bench.put(key, Bench.bytes(1, 1)) }
    let kept = try bench.key("kept")
    _ = try await bench.put(kept, Bench.bytes(1, 1))
    let failures = try await bench.tier.deleteAll(keys + [try bench.key("absent")])
    bench.expect(failures.isEmpty, "removing 12 objects and an absent one failed for \(failures)")
    let listed = try await bench.tier.listAll(prefix: bench.folder + "/").map(\.key)
    bench.expect(listed == [kept], "after the removal there are \(listed)")
    let none = try await bench.tier.deleteAll([])
    bench.expect(none.isEmpty, "removing nothing failed")
  }

  @Sendable private static func copy(_ bench: Bench) async throws {
    let (key, target) = (try bench.key("a b/source"), try bench.key("c+d/target"))
    let content = Bench.bytes(700_001, 8)
    _ = try await bench.put(key, content)
    let info = try await bench.tier.copy(key, to: target, PutOptions())
    bench.expect(info.size == 700_001 && info.key == target, "copy says \(info.size) bytes of \(info.key)")
    try await bench.expectContent(target, content, "the copy")
    try await bench.expectContent(key, content, "what was copied")
    try await bench.expect(.objectNotFound, "a copy of an absent object") {
      _ = try await bench.tier.copy(bench.key("absent"), to: target, PutOptions())
    }
    try await bench.expectContent(target, content, "the copy, after one that failed")
    if bench.tier.capabilities.contains(.conditionalPut) {
      try await bench.expect(.objectExists, "a copy onto an object, only if it is absent") {
        _ = try await bench.tier.copy(key, to: target, PutOptions(onlyIfAbsent: true))
      }
    }
  }

  /// Removing what is older than all time removes nothing: not an upload that runs, not an object.
  @Sendable private static func abandonedUploads(_ bench: Bench) async throws {
    let key = try bench.key("object")
    let content = Bench.bytes(bench.settings.largeSize, 4)
    let pieces = MutableBox(Bench.pieces(content)[...])
    let half = pieces.value.count / 2
    _ = try await bench.writer.put(
      key,
      ByteStream {
        if pieces.value.count == half {
          let removed = try await bench.tier.removeAbandonedUploads(olderThan: .distantPast)
          bench.expect(removed == 0, "\(removed) uploads were removed that were not older than all time")
        }
        return pieces.withLock { $0.popFirst() }
      }, PutOptions())
    try await bench.expectContent(key, content, "put while abandoned uploads were removed")
  }

  /// A tier that is only read changes nothing.
  @Sendable private static func refusesWrites(_ bench: Bench) async throws {
    let key = try bench.key("object")
    let content = Bench.bytes(100, 1)
    _ = try await bench.put(key, content)
    let tier = bench.tier
    let lock = RetentionLock(.governance, until: Date(timeIntervalSinceNow: 1))
    try await bench.expect(.notWritable, "put") { _ = try await tier.put(key, ByteStream(content), PutOptions()) }
    try await bench.expect(.notWritable, "delete") { try await tier.delete(key) }
    try await bench.expect(.notWritable, "deleteAll") { _ = try await tier.deleteAll([key]) }
    try await bench.expect(.notWritable, "copy") {
      _ = try await tier.copy(key, to: bench.key("copy"), PutOptions())
    }
    try await bench.expect(.notWritable, "thaw") { _ = try await tier.thaw([key], days: 1, speed: .standard) }
    try await bench.expect(.notWritable, "extendRetention") { try await tier.extendRetention(of: key, lock) }
    try await bench.expect(.notWritable, "setLegalHold") { try await tier.setLegalHold(true, on: key) }
    try await bench.expect(.notWritable, "removeAbandonedUploads") {
      _ = try await tier.removeAbandonedUploads(olderThan: .distantPast)
    }
    try await bench.expectContent(key, content, "after every write was refused")
    let listed = try await bench.writer.listAll(prefix: bench.folder + "/")
    bench.expect(listed.count == 1, "after every write was refused there are \(listed.count) objects")
  }
}
