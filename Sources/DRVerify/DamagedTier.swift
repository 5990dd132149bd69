public import DRCore
import NIOCore

public import struct Foundation.Date

/// A tier that has one object other than it was stored, and cannot be written: to see that a verifier notices.
///
/// A verifier that was never seen to fail proves nothing. Each drill runs its verifier over this too.
public struct DamagedTier: StorageTier {
  /// What has become of the object.
  public enum Damage: Hashable, Sendable, CustomStringConvertible {
    /// The lowest bit of this stored byte, from 0, is flipped.
    case flippedBit(at: Int64)
    /// It is gone.
    case missing
    /// It ends after so many stored bytes.
    case truncated(to: Int64)

    public var description: String {
      switch self {
      case .flippedBit(let offset): "damaged at byte \(offset)"
      case .missing: "without"
      case .truncated(let size): "cut after \(size) bytes"
      }
    }
  }

  private let tier: any StorageTier
  private let key: ObjectKey
  private let damage: Damage

  public init(_ tier: any StorageTier, damaging key: ObjectKey, by damage: Damage) {
    self.tier = tier
    self.key = key
    self.damage = damage
  }

  /// - Parameters:
  ///   - offset: Which stored byte has its lowest bit flipped, from 0.
  public init(_ tier: any StorageTier, damaging key: ObjectKey, at offset: Int64) {
    self.init(tier, damaging: key, by: .flippedBit(at: offset))
  }

  public var name: String { "\(tier.name), \(damage): \(key)" }
  public var capabilities: TierCapabilities { [] }

  public func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    guard key == self.key else { return try await tier.get(key, range: range) }
    switch damage {
    case .flippedBit(let offset):
      return flipping(offset, in: try await tier.get(key, range: range), from: range?.lowerBound ?? 0)
    case .missing:
      throw DRError(.objectNotFound, "there is no such object", object: key.rawValue)
    case .truncated(let size):
      let wanted = range ?? 0..<size
      let left = min(wanted.lowerBound, size)..<min(wanted.upperBound, size)
      return left.isEmpty ? ByteStream([]) : try await tier.get(key, range: left)
    }
  }

  private func flipping(_ damage: Int64, in stream: ByteStream, from start: Int64) -> ByteStream {
    let position = MutableBox(start)
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

  public func head(_ key: ObjectKey) async throws -> ObjectInfo? { try await tier.head(key).flatMap(damaged) }

  public func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    var page = try await tier.list(prefix: prefix, after: after, limit: limit)
    page.objects = page.objects.compactMap(damaged)
    // A page may be empty only at the end: the object was the only one on it.
    guard page.objects.isEmpty, let next = page.next else { return page }
    return try await list(prefix: prefix, after: next, limit: limit)
  }

  private func damaged(_ info: ObjectInfo) -> ObjectInfo? {
    guard info.key == key else { return info }
    switch damage {
    case .flippedBit: return info
    case .missing: return nil
    case .truncated(let size):
      var info = info
      info.size = min(info.size, size)
      return info
    }
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
