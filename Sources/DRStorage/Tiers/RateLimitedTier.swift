public import DRCore
import NIOCore
import Synchronization

public import struct Foundation.Date

/// Keeps what goes to and from a tier under a bandwidth, so that a replication leaves room for the work of the day.
///
/// The limit holds for all streams of this tier together, over any second and a half or so: a buffer passes at once, and
/// the next one waits until it is paid for.
public struct RateLimitedTier: StorageTier {
  private let tier: any StorageTier
  private let upload: RateLimiter?
  private let download: RateLimiter?

  /// - Parameters:
  ///   - upload: Bytes a second, from 1; nil: no limit.
  ///   - download: Bytes a second, from 1; nil: no limit.
  public init<C: Clock<Duration>>(
    _ tier: any StorageTier, upload: Int64? = nil, download: Int64? = nil, clock: C = ContinuousClock()
  ) where C.Instant: Sendable {
    self.tier = tier
    self.upload = upload.map { RateLimiter(perSecond: $0, clock: clock) }
    self.download = download.map { RateLimiter(perSecond: $0, clock: clock) }
  }

  public var name: String { tier.name }
  public var capabilities: TierCapabilities { tier.capabilities }

  public func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    try await tier.put(key, upload?.limit(body) ?? body, options)
  }

  public func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    let stream = try await tier.get(key, range: range)
    return download?.limit(stream) ?? stream
  }

  public func head(_ key: ObjectKey) async throws -> ObjectInfo? { try await tier.head(key) }

  public func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    try await tier.list(prefix: prefix, after: after, limit: limit)
  }

  public func delete(_ key: ObjectKey) async throws { try await tier.delete(key) }

  public func deleteAll(_ keys: [ObjectKey]) async throws -> [ObjectKey: DRError] { try await tier.deleteAll(keys) }

  public func copy(_ key: ObjectKey, to target: ObjectKey, _ options: PutOptions) async throws -> ObjectInfo {
    try await tier.copy(key, to: target, options)
  }

  public func thaw(_ keys: [ObjectKey], days: Int, speed: ThawSpeed) async throws -> [ObjectKey: DRError] {
    try await tier.thaw(keys, days: days, speed: speed)
  }

  public func extendRetention(of key: ObjectKey, _ lock: RetentionLock) async throws {
    try await tier.extendRetention(of: key, lock)
  }

  public func setLegalHold(_ held: Bool, on key: ObjectKey) async throws {
    try await tier.setLegalHold(held, on: key)
  }

  public func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    try await tier.removeAbandonedUploads(olderThan: date)
  }

  public func unfinishedUploads() async throws -> [UnfinishedUpload] { try await tier.unfinishedUploads() }
}

/// Says when the next bytes may pass.
final class RateLimiter: Sendable {
  private let perSecond: Double
  private let elapsed: @Sendable () -> Duration
  private let sleep: @Sendable (Duration) async throws -> Void
  /// When everything that has passed is paid for.
  private let paid = Mutex(Duration.zero)

  init<C: Clock<Duration>>(perSecond: Int64, clock: C) where C.Instant: Sendable {
    self.perSecond = Double(max(1, perSecond))
    let start = clock.now
    elapsed = { start.duration(to: clock.now) }
    sleep = { try await clock.sleep(for: $0) }
  }

  /// Waits until what passed before is paid for, and books these.
  func pass(_ bytes: Int) async throws {
    let now = elapsed()
    let turn = paid.withLock { paid in
      let turn = max(paid, now)
      paid = turn + .seconds(Double(bytes) / perSecond)
      return turn
    }
    if turn > now { try await sleep(turn - now) }
  }

  func limit(_ stream: ByteStream) -> ByteStream {
    ByteStream {
      var iterator = stream.makeAsyncIterator()
      guard let buffer = try await iterator.next() else { return nil }
      try await self.pass(buffer.readableBytes)
      return buffer
    }
  }
}
