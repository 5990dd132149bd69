public import DRCore

public import struct Foundation.Date

/// A tier that is only read: for restore tests, for looking at another site's repository. Nothing reaches the tier that
/// could change it.
public struct ReadOnlyTier: StorageTier {
  private let tier: any StorageTier

  public init(_ tier: any StorageTier) { self.tier = tier }

  public var name: String { "\(tier.name) (read-only)" }

  /// Those that are about reading.
  public var capabilities: TierCapabilities { tier.capabilities.intersection([.versions]) }

  public func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    try await tier.get(key, range: range)
  }

  public func head(_ key: ObjectKey) async throws -> ObjectInfo? { try await tier.head(key) }

  public func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    try await tier.list(prefix: prefix, after: after, limit: limit)
  }

  public func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    throw refusal(key)
  }

  public func delete(_ key: ObjectKey) async throws { throw refusal(key) }

  public func deleteAll(_ keys: [ObjectKey]) async throws -> [ObjectKey: DRError] { throw refusal(keys.first) }

  public func copy(_ key: ObjectKey, to target: ObjectKey, _ options: PutOptions) async throws -> ObjectInfo {
    throw refusal(target)
  }

  public func thaw(_ keys: [ObjectKey], days: Int, speed: ThawSpeed) async throws -> [ObjectKey: DRError] {
    throw refusal(keys.first)
  }

  public func extendRetention(of key: ObjectKey, _ lock: RetentionLock) async throws { throw refusal(key) }

  public func setLegalHold(_ held: Bool, on key: ObjectKey) async throws { throw refusal(key) }

  public func removeAbandonedUploads(olderThan date: Date) async throws -> Int { throw refusal(nil) }

  public func unfinishedUploads() async throws -> [UnfinishedUpload] { try await tier.unfinishedUploads() }

  private func refusal(_ key: ObjectKey?) -> DRError {
    DRError(
      .notWritable, "\(tier.name) was opened for reading only", advice: "open it for writing if the change is meant",
      object: key?.rawValue)
  }
}
