import DRCore
import NIOCore

import struct Foundation.Date

extension StorageTierConformance {
  static let reading = [
    Check(name: "round-trip", body: roundTrip), Check(name: "ranges", body: ranges),
    Check(name: "absent", body: absent), Check(name: "odd-keys", body: oddKeys), Check(name: "listing", body: listing),
    Check(name: "pages", body: pages), Check(name: "object-info", body: objectInfo),
  ]

  /// What was put is what is read, whether its length was known or not.
  @Sendable private static func roundTrip(_ bench: Bench) async throws {
    let sizes = [0, 1, 4097, (1 << 20) - 1, (1 << 20) + 1, (5 << 20) + 3, bench.settings.largeSize]
    for (number, size) in sizes.enumerated() {
      let content = Bench.bytes(size, UInt64(number))
      // Known, not known, and guessed wrongly in both directions: the guess is no promise.
      let guesses: [Int64?] = size > 1 << 20 ? [nil, Int64(size)] : [nil, Int64(size), Int64(size) + 999, 1]
      for (variant, guess) in guesses.enumerated() {
        let key = try bench.key("\(size)-\(variant)")
        let put = try await bench.put(key, content, PutOptions(expectedLength: guess))
        bench.expect(put.size == Int64(size) && put.key == key, "put of \(size) bytes says \(put.size) of \(put.key)")
        try await bench.expectContent(key, content, "\(size) bytes, \(guess.map { "\($0)" } ?? "none") expected")
        let head = try await bench.tier.head(key)
        bench.expect(head?.size == Int64(size), "head says \(head?.size.description ?? "absent") of \(size) bytes")
      }
    }
  }

  @Sendable private static func ranges(_ bench: Bench) async throws {
    let content = Bench.bytes(3_000_017, 5)
    let key = try bench.key("object")
    _ = try await bench.put(key, content)
    let size = Int64(content.readableBytes)
    for range in [
      0..<1, size - 1..<size, 0..<size, 1_000_000..<1_000_001, 999_999..<2_100_000, 2_000_000..<size, 7..<7,
    ] {
      let part = try await bench.tier.get(key, range: range).collect(limit: Int(size))
      bench.expect(
        part == content.getSlice(at: Int(range.lowerBound), length: range.count),
        "bytes \(range) are \(part.readableBytes) bytes, and not those that were put")
    }
    for outside in [0..<size + 1, size..<size + 5, size + 10..<size + 20, size - 10..<size + 10] {
      try await bench.expect(.truncatedData, "a read of \(outside) of \(size) bytes") {
        _ = try await bench.tier.get(key, range: outside).collect(limit: 1 << 30)
      }
    }
  }

  @Sendable private static func absent(_ bench: Bench) async throws {
    _ = try await bench.put(bench.key("a/b"), Bench.bytes(10, 1))
    for name in ["x", "a/x", "x/y/z", "a"] {
      let key = try bench.key(name)
      let head = try await bench.tier.head(key)
      bench.expect(head == nil, "head finds \(name), which was never put")
      try await bench.expect(.objectNotFound, "get of the absent \(name)") {
        _ = try await bench.tier.get(key, range: nil).collect(limit: 1 << 20)
      }
      try await bench.expect(.objectNotFound, "get of a range of the absent \(name)") {
        _ = try await bench.tier.get(key, range: 0..<1).collect(limit: 1 << 20)
      }
    }
    let page = try await bench.tier.list(prefix: bench.folder + "/nothing", after: nil, limit: 10)
    bench.expect(page.objects.isEmpty && page.next == nil, "a prefix of nothing lists \(page.objects.count) objects")
  }

  /// Keys that an encoding error would change, or lead elsewhere.
  @Sendable private static func oddKeys(_ bench: Bench) async throws {
    let long = String(repeating: "l", count: 250)
    let names = [
      "a b", "a+b", "a%2Fb", "a%20b", "ä ö/ü", "日本/語", "a&b=c?d#e", "q'u\"o<t>e", "~tilde*(x)!", "@:;,$", "..a/b..",
      ".hidden", "\(long)/\(long)", "a  b", " lead", "trail ", "e\u{301}", "\u{e9}",
    ]
    for (number, name) in names.enumerated() {
      let content = Bench.bytes(100 + number, UInt64(100 + number))
      _ = try await bench.put(bench.key(name), content)
    }
    for (number, name) in names.enumerated() {
      let content = Bench.bytes(100 + number, UInt64(100 + number))
      try await bench.expectContent(bench.key(name), content, "the key '\(name)'")
    }
    let listed = try await bench.tier.listAll(prefix: bench.folder + "/").map(\.key)
    let expected = try names.map { try bench.key($0) }.sorted()
    // By bytes: for Swift, two spellings of an accent are one string.
    bench.expect(
      listed.map { Array($0.rawValue.utf8) } == expected.map { Array($0.rawValue.utf8) },
      "\(listed.count) of \(expected.count) odd keys are listed as they were put: \(listed.map(\.rawValue))")
  }

  /// In byte order, by plain prefix, after any text.
  @Sendable private static func listing(_ bench: Bench) async throws {
    let names = ["a.b/x", "a/b", "a0", "ab/c/d", "ab/c.d", "ab-", "b", "ä", "Z"]
    for name in names { _ = try await bench.put(bench.key(name), Bench.bytes(3, 1)) }
    let keys = try names.map { try bench.key($0) }.sorted()
    for prefix in ["", "a", "a/", "ab", "ab/", "ab/c", "ab/c.", "b", "ä", "zz"] {
      let full = "\(bench.folder)/\(prefix)"
      let expected = keys.filter { $0.rawValue.utf8.starts(with: full.utf8) }
      let listed = try await bench.tier.listAll(prefix: full).map(\.key)
      bench.expect(listed == expected, "prefix '\(prefix)' lists \(listed), not \(expected)")
    }
    for after in ["Y", "Z", "a/b", "a/bb", "aa", "ab-", "ab/c.d", "zz", "ä"] {
      let start = try bench.key(after)
      let listed = try await bench.tier.list(prefix: bench.folder + "/", after: start, limit: 100).objects.map(\.key)
      let expected = keys.filter { start < $0 }
      bench.expect(listed == expected, "after '\(after)' come \(listed), not \(expected)")
    }
  }

  @Sendable private static func pages(_ bench: Bench) async throws {
    let count = 23
    let keys = try (0..<count).map { try bench.key(String(repeating: "0", count: 5 - "\($0)".count) + "\($0)/x") }
    for key in keys { _ = try await bench.put(key, Bench.bytes(5, 2)) }
    for limit in [1, 2, 7, 22, 23, 24, 1000] {
      var (listed, after, rounds) = ([ObjectKey](), ObjectKey?.none, 0)
      repeat {
        let page = try await bench.tier.list(prefix: bench.folder + "/", after: after, limit: limit)
        bench.expect(page.objects.count <= limit, "a page of at most \(limit) has \(page.objects.count)")
        listed += page.objects.map(\.key)
        after = page.next
        rounds += 1
      } while after != nil && rounds < 100
      bench.expect(
        listed == keys, "by pages of \(limit) there are \(listed.count) of \(count) objects, or out of order")
    }
  }

  /// Head, listing and the answer to the put agree.
  @Sendable private static func objectInfo(_ bench: Bench) async throws {
    let key = try bench.key("object")
    var tags: Set<String> = []
    for number in 0..<4 {
      let put = try await bench.put(key, Bench.bytes(1000, UInt64(number)))
      let head = try await bench.tier.head(key)
      let listed = try await bench.tier.list(prefix: key.rawValue, after: nil, limit: 2).objects.first
      bench.expect(head?.size == 1000 && listed?.size == 1000, "the size differs between head and listing")
      bench.expect(put.entityTag == head?.entityTag, "put says entity tag \(put.entityTag ?? "none"), head another")
      let skew = head.map { abs($0.modified.timeIntervalSinceNow) } ?? .infinity
      if skew > 900 { bench.note("the tier's clock is \(Int(skew)) s from this host's", "set the clock of this host") }
      // Listings of S3 count in seconds or milliseconds.
      if let head, let listed {
        let apart = abs(head.modified.timeIntervalSince(listed.modified))
        bench.expect(apart < 2, "head and listing date the object \(apart) s apart")
      }
      if let tag = head?.entityTag { tags.insert(tag) }
    }
    bench.expect(tags.count == 4 || tags.isEmpty, "four objects of one name had \(tags.count) entity tags")
  }
}
