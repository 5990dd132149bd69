public import DRCore
import NIOCore

public import struct Foundation.Date

/// A tier that reads one byte of one object wrong, and cannot be written: to see that a verifier notices.
///
/// A verifier that was never seen to fail proves nothing. Each drill runs its verifier over this too.
public struct DamagedTier: StorageTier {
  private let tier: any StorageTier
  private let key: ObjectKey
  private let offset: Int64

  /// - Parameters:
  ///   - offset: Which stored byte has its lowest bit flipped, from 0.
  public init(_ tier: any StorageTier, damaging key: ObjectKey, at offset: Int64) {
    self.tier = tier
    self.key = key
    self.offset = offset
  }

  public var name: String { "\(tier.name), damaged at byte \(offset) of \(key)" }
  public var capabilities: TierCapabilities { [] }

  public func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    let stream = try await tier.get(key, range: range)
    guard key == self.key else { return stream }
    let damage = offset
    let position = MutableBox(range?.lowerBound ?? 0)
    return ByteStream {
      var iterator = stream.makeAsyncIterator()
      guard var buffer = try await iterator.next() else { return nil }
      let start = position.withLock { position in
        defer { position += Int64(buffer.readableBytes) }
        return position
      }
      let index = damage - start
      if index >= 0, index < Int64(buffer.readableBytes) {
        let place = buffer.readerIndex + Int(index)
        if let byte = buffer.getInteger(at: place, as: UInt8.self) { buffer.setInteger(byte ^ 1, at: place) }
      }
      return buffer
    }
  }

  public func head(_ key: ObjectKey) async throws -> ObjectInfo? { try await tier.head(key) }

  public func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    try await tier.list(prefix: prefix, after: after, limit: limit)
  }

  public func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    throw refusal
  }

  public func delete(_ key: ObjectKey) async throws { throw refusal }

  public func removeAbandonedUploads(olderThan date: Date) async throws -> Int { throw refusal }

  private var refusal: DRError {
    DRError(.notWritable, "a tier that is damaged on purpose is not written", object: name)
  }
}
