import DRCore
import NIOCore

extension StorageTierConformance {
  static let conditional = [
    Check(name: "conditional-put", capability: .conditionalPut, body: conditionalPut),
    Check(name: "conditional-put-race", capability: .conditionalPut, body: conditionalPutRace),
    Check(name: "conditional-large-put", capability: .conditionalLargePut, body: conditionalLargePut),
    Check(name: "compare-and-swap", capability: .compareAndSwap, body: compareAndSwap),
    Check(name: "compare-and-swap-race", capability: .compareAndSwap, body: compareAndSwapRace),
  ]

  @Sendable private static func conditionalPut(_ bench: Bench) async throws {
    let key = try bench.key("object")
    let (first, second) = (Bench.bytes(1000, 1), Bench.bytes(1000, 2))
    guard bench.tier.capabilities.contains(.conditionalPut) else {
      try await bench.expect(.unsupported, "a conditional put that the tier does not claim") {
        _ = try await bench.put(key, first, PutOptions(onlyIfAbsent: true))
      }
      let head = try await bench.tier.head(key)
      bench.expect(head == nil, "a put that was refused left an object")
      return
    }
    _ = try await bench.put(key, first, PutOptions(onlyIfAbsent: true))
    for content in [second, first, Bench.bytes(6 << 20, 3)] {
      try await bench.expect(.objectExists, "a second put of \(content.readableBytes) bytes, only if absent") {
        _ = try await bench.put(key, content, PutOptions(onlyIfAbsent: true))
      }
      try await bench.expectContent(key, first, "after a second put was refused")
    }
    try await bench.tier.delete(key)
    _ = try await bench.put(key, second, PutOptions(onlyIfAbsent: true))
    try await bench.expectContent(key, second, "put again after its removal")
  }

  /// Of many writers at the same time exactly one is told that it won, and the object is its.
  @Sendable private static func race(_ bench: Bench, rounds: Int, writers: Int, size: Int) async throws {
    for round in 0..<rounds {
      let key = try bench.key("race \(round)")
      let contents = (0..<writers).map { Bench.bytes(size + $0, UInt64(round * 100 + $0)) }
      let gate = Gate(writers)
      let winners = try await withThrowingTaskGroup(of: Int?.self) { group in
        for (number, content) in contents.enumerated() {
          group.addTask {
            // All have begun before any may go on.
            let pieces = MutableBox(Bench.pieces(content)[...])
            let first = MutableBox(true)
            do {
              _ = try await bench.writer.put(
                key,
                ByteStream {
                  if first.withLock({
                    let was = $0
                    $0 = false
                    return was
                  }) {
                    await gate.pass()
                  }
                  return pieces.withLock { $0.popFirst() }
                }, PutOptions(onlyIfAbsent: true, expectedLength: Int64(content.readableBytes)))
              return number
            } catch let error as DRError where error.code == .objectExists {
              await gate.leave()
              return nil
            }
          }
        }
        var winners: [Int] = []
        for try await winner in group { if let winner { winners.append(winner) } }
        return winners
      }
      bench.expect(
        winners.count == 1, "of \(writers) writers at the same time \(winners.count) were told that they won",
        "do not use this tier for a lease, nor by two hosts")
      if let winner = winners.first, winners.count == 1 {
        try await bench.expectContent(key, contents[winner], "the winner's object")
      }
    }
  }

  @Sendable private static func conditionalPutRace(_ bench: Bench) async throws {
    guard bench.tier.capabilities.contains(.conditionalPut) else { return }
    try await race(bench, rounds: 6, writers: 8, size: 2000)
  }

  @Sendable private static func conditionalLargePut(_ bench: Bench) async throws {
    guard bench.tier.capabilities.contains(.conditionalLargePut) else {
      return bench.note("a conditional put of over \(TierCapabilities.smallBody >> 20) MiB is not decided in one step")
    }
    try await race(bench, rounds: 2, writers: 3, size: bench.settings.largeSize / 2)
  }

  @Sendable private static func compareAndSwap(_ bench: Bench) async throws {
    let key = try bench.key("object")
    let contents = (0..<4).map { Bench.bytes(500, UInt64($0 + 20)) }
    guard bench.tier.capabilities.contains(.compareAndSwap) else {
      _ = try await bench.put(key, contents[0])
      try await bench.expect(.unsupported, "a compare-and-swap that the tier does not claim") {
        _ = try await bench.put(key, contents[1], PutOptions(ifMatch: "0"))
      }
      return try await bench.expectContent(key, contents[0], "after a swap was refused")
    }
    let first = try await bench.put(key, contents[0])
    guard let tag = first.entityTag else { return bench.fail("a tier that compares and swaps gives no entity tag") }
    let second = try await bench.put(key, contents[1], PutOptions(ifMatch: tag))
    try await bench.expectContent(key, contents[1], "swapped")
    bench.expect(second.entityTag != tag && second.entityTag != nil, "a swapped object has the tag of the old one")
    try await bench.expect(.preconditionFailed, "a swap with the tag of before") {
      _ = try await bench.put(key, contents[2], PutOptions(ifMatch: tag))
    }
    try await bench.expectContent(key, contents[1], "after a swap was refused")
    try await bench.expect(.preconditionFailed, "a swap of an absent object") {
      _ = try await bench.put(bench.key("absent"), contents[2], PutOptions(ifMatch: tag))
    }
    let absent = try await bench.tier.head(bench.key("absent"))
    bench.expect(absent == nil, "a swap of an absent object left one")
  }

  /// A counter that many raise at the same time loses no step.
  @Sendable private static func compareAndSwapRace(_ bench: Bench) async throws {
    guard bench.tier.capabilities.contains(.compareAndSwap) else { return }
    let key = try bench.key("counter")
    _ = try await bench.put(key, ByteBuffer(string: "0"))
    let (raisers, steps) = (4, 5)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for raiser in 0..<raisers {
        group.addTask {
          var (done, tries) = (0, 0)
          while done < steps {
            try Task.checkCancellation()
            // A tag that is never the object's would be compared for ever.
            guard tries < 500 else { return bench.fail("\(tries) swaps on one object, and \(done) of them took place") }
            tries += 1
            // The tag is of what is read: taken before, and compared by the swap.
            guard let tag = try await bench.tier.head(key)?.entityTag,
              let value = number(try await bench.readThoughReplaced(key))
            else { return bench.fail("the counter is gone") }
            do {
              // Each writes something of its own: by that a tier knows a put of its own whose answer was lost.
              let content = ByteBuffer(string: "\(value + 1) \(raiser).\(done)")
              _ = try await bench.put(key, content, PutOptions(ifMatch: tag))
              done += 1
            } catch let error as DRError where error.code == .preconditionFailed {
              continue
            }
          }
        }
      }
      try await group.waitForAll()
    }
    let value = number(try await bench.read(key)) ?? -1
    bench.expect(value == raisers * steps, "\(raisers * steps) swaps raised a counter to \(value)")
  }

  private static func number(_ content: ByteBuffer) -> Int? { Int(String(buffer: content).prefix { $0 != " " }) }
}

/// Lets tasks go on once all of them have come, or have given up.
private actor Gate {
  private var missing: Int
  private var waiting: [CheckedContinuation<Void, Never>] = []

  init(_ count: Int) { missing = count }

  func pass() async {
    leave()
    guard missing > 0 else { return }
    await withCheckedContinuation { waiting.append($0) }
  }

  func leave() {
    missing -= 1
    guard missing <= 0 else { return }
    for continuation in waiting { continuation.resume() }
    waiting = []
  }
}
