public import DRCore
import NIOCore

public import struct Foundation.Date

/// Puts only what is absent, on a tier that cannot decide that: by looking first. For a bucket without conditional put
/// (OpenStack Swift; Ceph's, when it has Object Lock).
///
/// The name is a promise of whoever makes one: **no other process writes there at the same time.** Between the look and the
/// put another process could put its own, and one of the two would be lost without a word; so two prunings, or two backups
/// of one component, would not be kept apart, and neither would a process that was stopped for an hour and goes on. Tasks
/// of this process are kept apart: of two of them one wins. Nothing else is changed; reading needs no such tier.
public struct SoleWriterTier: StorageTier {
  private let tier: any StorageTier
  private let locks = KeyLocks()
  private let emulates: Bool

  /// A tier that has conditional put is used as it is.
  public init(_ tier: any StorageTier) {
    self.tier = tier
    emulates = !tier.capabilities.contains(.conditionalPut)
  }

  public var name: String { tier.name }
  public var capabilities: TierCapabilities { tier.capabilities.union(.conditionalPut) }

  public func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    guard emulates, options.onlyIfAbsent else { return try await tier.put(key, body, options) }
    var plain = options
    plain.onlyIfAbsent = false
    try tier.checkSupported(plain, for: key)
    // Small ones are whole before the look: so nobody waits for another's source.
    var (start, size, iterator) = ([ByteBuffer](), 0, body.makeAsyncIterator())
    while size <= TierCapabilities.smallBody, let buffer = try await iterator.next() {
      start.append(buffer)
      size += buffer.readableBytes
    }
    let pulled = MutableBox(start[...])
    let whole = ByteStream {
      if let next = pulled.withLock({ $0.popFirst() }) { return next }
      var iterator = body.makeAsyncIterator()
      return try await iterator.next()
    }
    return try await ifAbsent(key) { [plain] in try await tier.put(key, whole, plain) }
  }

  public func copy(_ key: ObjectKey, to target: ObjectKey, _ options: PutOptions) async throws -> ObjectInfo {
    guard emulates, options.onlyIfAbsent else { return try await tier.copy(key, to: target, options) }
    var plain = options
    plain.onlyIfAbsent = false
    return try await ifAbsent(target) { [plain] in try await tier.copy(key, to: target, plain) }
  }

  private func ifAbsent(
    _ key: ObjectKey, _ write: @Sendable () async throws -> ObjectInfo
  ) async throws -> ObjectInfo {
    await locks.lock(key)
    do {
      guard try await tier.head(key) == nil else {
        throw DRError(.objectExists, "the object is there already", object: key.rawValue)
      }
      let info = try await write()
      await locks.unlock(key)
      return info
    } catch {
      await locks.unlock(key)
      throw error
    }
  }

  // MARK: As it is

  public func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    try await tier.get(key, range: range)
  }

  public func head(_ key: ObjectKey) async throws -> ObjectInfo? { try await tier.head(key) }

  public func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    try await tier.list(prefix: prefix, after: after, limit: limit)
  }

  public func delete(_ key: ObjectKey) async throws { try await tier.delete(key) }

  public func deleteAll(_ keys: [ObjectKey]) async throws -> [ObjectKey: DRError] { try await tier.deleteAll(keys) }

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

/// One holder for each key; the others wait in the order in which they came.
private actor KeyLocks {
  private var waiting: [ObjectKey: [CheckedContinuation<Void, Never>]] = [:]

  func lock(_ key: ObjectKey) async {
    guard waiting[key] != nil else {
      waiting[key] = []
      return
    }
    await withCheckedContinuation { waiting[key]?.append($0) }
  }

  func unlock(_ key: ObjectKey) {
    guard var queue = waiting[key], !queue.isEmpty else {
      waiting[key] = nil
      return
    }
    let next = queue.removeFirst()
    waiting[key] = queue
    next.resume()
  }
}
