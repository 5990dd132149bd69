public import DRCore
import NIOCore

public import struct Foundation.Date

/// Several tiers that hold copies of the same objects, read as one: each object from the nearest that has it.
///
/// A read that breaks goes on from the next tier, at the byte where it stopped, if that has an object of the same size. That
/// something is not there is said only if every tier was asked and answered. What the bytes are is for the reader to check: a
/// copy that is damaged and says nothing is told by its digest (``TieredReader``).
public struct FallbackTier: StorageTier {
  private let tiers: [any StorageTier]

  /// - Parameter tiers: The nearest first; at least one.
  public init(_ tiers: [any StorageTier]) { self.tiers = tiers }

  public var name: String { tiers.map(\.name).joined(separator: ", then ") }
  public var capabilities: TierCapabilities { [] }

  /// The tiers that have an object, each with what it says of it.
  ///
  /// - Throws: If none has it: what kept one from answering, or nothing.
  private func holders(of key: ObjectKey) async throws -> [(tier: any StorageTier, info: ObjectInfo)] {
    var (holders, obstacle) = ([(tier: any StorageTier, info: ObjectInfo)](), (any Error)?.none)
    for tier in tiers {
      do {
        if let info = try await tier.head(key) { holders.append((tier, info)) }
      } catch let error as DRError {
        obstacle = obstacle ?? error
      }
    }
    if holders.isEmpty, let obstacle { throw obstacle }
    // What must be thawed first comes last.
    return holders.filter { $0.info.archive?.isReadable ?? true }
      + holders.filter { !($0.info.archive?.isReadable ?? true) }
  }

  public func head(_ key: ObjectKey) async throws -> ObjectInfo? { try await holders(of: key).first?.info }

  public func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    let holders = try await holders(of: key)
    guard let first = holders.first else {
      throw DRError(.objectNotFound, "there is no such object", object: key.rawValue)
    }
    let range = range ?? 0..<first.info.size
    let copies = holders.filter { $0.info.size == first.info.size }.map { $0.tier }
    let state = MutableBox((stream: ByteStream?.none, offset: range.lowerBound, next: 0))
    // The first read is asked for now: what is absent, or out of range, is said here.
    try await FallbackTier.advance(state, copies, key, range, after: nil)
    return ByteStream {
      while let stream = state.value.stream {
        do {
          var iterator = stream.makeAsyncIterator()
          if let buffer = try await iterator.next() {
            state.withLock { $0.offset += Int64(buffer.readableBytes) }
            return buffer
          }
          guard state.value.offset < range.upperBound else { return nil }
          throw DRError(.truncatedData, "the object ends at byte \(state.value.offset)", object: key.rawValue)
        } catch let error as DRError {
          try await FallbackTier.advance(state, copies, key, range, after: error)
        }
      }
      return nil
    }
  }

  /// Goes on from the next copy that can be opened, or throws the last error.
  private static func advance(
    _ state: MutableBox<(stream: ByteStream?, offset: Int64, next: Int)>, _ copies: [any StorageTier], _ key: ObjectKey,
    _ range: Range<Int64>, after error: DRError?
  ) async throws {
    var last = error
    while let tier = copies.dropFirst(state.value.next).first {
      state.withLock { $0.next += 1 }
      do {
        let stream = try await tier.get(key, range: state.value.offset..<range.upperBound)
        state.withLock { $0.stream = stream }
        return
      } catch let error as DRError {
        last = error
      }
    }
    throw last ?? DRError(.objectNotFound, "there is no such object", object: key.rawValue)
  }

  public func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    var (found, end) = ([ObjectKey: ObjectInfo](), ObjectKey?.none)
    for tier in tiers.reversed() {
      let page = try await tier.list(prefix: prefix, after: after, limit: limit)
      // The nearest one's word counts.
      for object in page.objects { found[object.key] = object }
      // Past the end of a page that goes on, this tier has not been heard.
      if let next = page.next { end = end.map { min($0, next) } ?? next }
    }
    var objects = found.values.sorted { $0.key < $1.key }
    if let end { objects.removeAll { $0.key > end } }
    let isCut = objects.count > limit
    if isCut { objects.removeLast(objects.count - limit) }
    return ObjectPage(objects: objects, next: isCut || end != nil ? objects.last?.key : nil)
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

  private func refusal(_ key: ObjectKey?) -> DRError {
    DRError(
      .notWritable, "several tiers that are read as one are not written", advice: "write to one of them",
      object: key?.rawValue)
  }
}
