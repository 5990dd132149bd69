public import DRCore
import NIOCore

public import struct Foundation.Date

/// Tries again what failed because the tier could not be reached (`tierUnavailable`, `timedOut`). Every other failure is
/// an answer and passes through.
///
/// - A get that breaks goes on where it stopped, if the object is still the same one.
/// - A put is tried again if its body is at most ``replayLimit`` bytes, which are kept in memory, or was not pulled yet.
///   A longer one fails as it would without this.
/// - A conditional put whose answer was lost may find its own object on the next attempt. It has succeeded if the object
///   has exactly its bytes: so let each writer write something of its own.
public struct RetryingTier: StorageTier {
  /// In bytes.
  public static let replayLimit = 8 << 20

  private let tier: any StorageTier
  private let policy: RetryPolicy
  private let budget: RetryBudget
  private let elapsed: @Sendable () -> Duration
  private let sleep: @Sendable (Duration) async throws -> Void
  private let chance: @Sendable () -> Double

  /// - Parameter chance: Gives 0 to 1, for the jitter.
  public init<C: Clock<Duration>>(
    _ tier: any StorageTier, policy: RetryPolicy = RetryPolicy(), budget: RetryBudget = RetryBudget(),
    clock: C = ContinuousClock(), chance: @escaping @Sendable () -> Double = { Double.random(in: 0...1) }
  ) where C.Instant: Sendable {
    self.tier = tier
    self.policy = policy
    self.budget = budget
    self.chance = chance
    let start = clock.now
    elapsed = { start.duration(to: clock.now) }
    sleep = { try await clock.sleep(for: $0) }
  }

  public var name: String { tier.name }
  public var capabilities: TierCapabilities { tier.capabilities }

  // MARK: Reading

  public func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    // Known before the first byte: what is read after a break must be of the same object.
    let info = try await retrying { try await tier.head(key) }
    guard let info else { throw DRError(.objectNotFound, "there is no such object", object: key.rawValue) }
    let wanted = range ?? 0..<info.size
    // The whole is asked for as such: the size may be that of an object which has been replaced since.
    let first = try await retrying { try await tier.get(key, range: range) }
    let state = MutableBox((stream: first, offset: wanted.lowerBound, attempts: Attempts(start: elapsed())))
    return ByteStream {
      while true {
        do {
          var iterator = state.value.stream.makeAsyncIterator()
          guard let buffer = try await iterator.next() else { return nil }
          state.withLock { $0.offset += Int64(buffer.readableBytes) }
          return buffer
        } catch let error as DRError where RetryingTier.isTransient(error) {
          var attempts = state.value.attempts
          try await wait(&attempts, after: error)
          let next = attempts
          state.withLock { $0.attempts = next }
          let offset = state.value.offset
          guard let now = try await retrying({ try await tier.head(key) }), now.isSame(as: info) else {
            throw DRError(
              .tierUnavailable, "the object was replaced while it was read", advice: "read it again from its start",
              object: key.rawValue, cause: error)
          }
          let rest = try await retrying { try await tier.get(key, range: offset..<wanted.upperBound) }
          state.withLock { $0.stream = rest }
        }
      }
    }
  }

  public func head(_ key: ObjectKey) async throws -> ObjectInfo? { try await retrying { try await tier.head(key) } }

  public func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    try await retrying { try await tier.list(prefix: prefix, after: after, limit: limit) }
  }

  // MARK: Writing

  public func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    try checkSupported(options, for: key)
    var iterator = body.makeAsyncIterator()
    var pulled: [ByteBuffer] = []
    var size = 0
    var ended = false
    while size <= RetryingTier.replayLimit {
      guard let buffer = try await iterator.next() else {
        ended = true
        break
      }
      pulled.append(buffer)
      size += buffer.readableBytes
    }
    let start = pulled
    guard ended else {
      // Too long to keep: it goes through once. What is tried again is what failed before anything was pulled.
      let touched = MutableBox((buffers: start[...], touched: false))
      let isTouched = { touched.value.touched }
      return try await retrying(unless: isTouched) {
        try await tier.put(
          key,
          ByteStream {
            let next = touched.withLock { state in
              state.touched = true
              return state.buffers.popFirst()
            }
            if let next { return next }
            var iterator = body.makeAsyncIterator()
            return try await iterator.next()
          }, options)
      }
    }
    let asked = MutableBox(0)
    return try await retrying {
      asked.withLock { $0 += 1 }
      do {
        return try await tier.put(key, ByteStream(start), options)
      } catch let error as DRError
        where (error.code == .objectExists || error.code == .preconditionFailed) && asked.value > 1
      {
        guard let own = try await foundOwn(key, start, size) else { throw error }
        return own
      }
    }
  }

  /// The object, if it has exactly these bytes.
  private func foundOwn(_ key: ObjectKey, _ body: [ByteBuffer], _ size: Int) async throws -> ObjectInfo? {
    guard let info = try await tier.head(key), info.size == Int64(size) else { return nil }
    let stored: ByteBuffer
    do {
      stored = try await tier.read(key, limit: size)
    } catch let error as DRError where error.code == .objectNotFound {
      return nil
    }
    return try await ByteStream(body).collect(limit: size) == stored ? info : nil
  }

  public func delete(_ key: ObjectKey) async throws { try await retrying { try await tier.delete(key) } }

  public func deleteAll(_ keys: [ObjectKey]) async throws -> [ObjectKey: DRError] {
    try await batch(keys) { try await tier.deleteAll($0) }
  }

  public func copy(_ key: ObjectKey, to target: ObjectKey, _ options: PutOptions) async throws -> ObjectInfo {
    try checkSupported(options, for: target)
    // A swap whose answer was lost cannot be told from another's: it is tried once.
    if options.ifMatch != nil { return try await tier.copy(key, to: target, options) }
    if options.onlyIfAbsent, try await head(target) != nil {
      throw DRError(.objectExists, "the object is there already", object: target.rawValue)
    }
    let lost = MutableBox<DRError?>(nil)
    return try await retrying {
      do {
        return try await tier.copy(key, to: target, options)
      } catch let error as DRError where RetryingTier.isTransient(error) {
        lost.withLock { $0 = error }
        throw error
      } catch let error as DRError where error.code == .objectExists && lost.value != nil {
        // Its bytes are the same whoever made it: who did is not known.
        throw DRError(
          .objectExists, "the object is there, made by this copy or by another at the same time",
          advice: "compare it with what was copied", object: target.rawValue, cause: lost.value)
      }
    }
  }

  public func thaw(_ keys: [ObjectKey], days: Int, speed: ThawSpeed) async throws -> [ObjectKey: DRError] {
    try await batch(keys) { try await tier.thaw($0, days: days, speed: speed) }
  }

  public func extendRetention(of key: ObjectKey, _ lock: RetentionLock) async throws {
    try await retrying { try await tier.extendRetention(of: key, lock) }
  }

  public func setLegalHold(_ held: Bool, on key: ObjectKey) async throws {
    try await retrying { try await tier.setLegalHold(held, on: key) }
  }

  public func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    try await retrying { try await tier.removeAbandonedUploads(olderThan: date) }
  }

  public func unfinishedUploads() async throws -> [UnfinishedUpload] {
    try await retrying { try await tier.unfinishedUploads() }
  }

  // MARK: Attempts

  private struct Attempts: Sendable {
    var start: Duration
    var failures = 0
  }

  private static func isTransient(_ error: DRError) -> Bool {
    error.code == .tierUnavailable || error.code == .timedOut
  }

  private func retrying<Result>(
    unless touched: () -> Bool = { false }, _ body: () async throws -> Result
  ) async throws -> Result {
    var attempts = Attempts(start: elapsed())
    while true {
      do {
        let result = try await body()
        budget.succeeded()
        return result
      } catch let error as DRError where RetryingTier.isTransient(error) && !touched() {
        try await wait(&attempts, after: error)
      }
    }
  }

  /// Asks again for those keys alone that failed for want of an answer.
  private func batch(
    _ keys: [ObjectKey], _ body: ([ObjectKey]) async throws -> [ObjectKey: DRError]
  ) async throws -> [ObjectKey: DRError] {
    var (rest, failures) = (keys, [ObjectKey: DRError]())
    var attempts = Attempts(start: elapsed())
    while true {
      let answer = try await retrying { try await body(rest) }
      failures.merge(answer.filter { !RetryingTier.isTransient($0.value) }) { $1 }
      let open = answer.filter { RetryingTier.isTransient($0.value) }
      guard let error = open.values.first else { return failures }
      rest = rest.filter { open[$0] != nil }
      do {
        try await wait(&attempts, after: error)
      } catch is DRError {
        return failures.merging(open) { $1 }
      }
    }
  }

  /// Waits for the next attempt, or throws what the last one said.
  private func wait(_ attempts: inout Attempts, after error: DRError) async throws {
    attempts.failures += 1
    let delay = policy.delay(afterFailures: attempts.failures, chance: chance())
    guard attempts.failures < policy.attempts, elapsed() + delay - attempts.start <= policy.timeLimit, budget.take()
    else {
      var last = error
      if attempts.failures > 1 { last.message += " (tried \(attempts.failures) times)" }
      throw last
    }
    try await sleep(delay)
  }
}

extension ObjectInfo {
  /// Whether nothing replaced the object in between.
  fileprivate func isSame(as other: ObjectInfo) -> Bool {
    size == other.size && entityTag == other.entityTag && modified == other.modified
  }
}
