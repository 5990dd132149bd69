public import DRCore
import NIOCore

public import struct Foundation.Date

/// A tier that fails where it is told to, to see what an operation makes of it. For tests.
public struct FaultInjectingTier: StorageTier {
  /// What goes wrong with one call.
  public enum Fault: Hashable, Sendable {
    /// It does not happen.
    case before
    /// It happens, and its answer is lost.
    case after
    /// Its bytes break off in the middle: of a put, the body; of a get, the stream. Any other call does not happen.
    case inside
    /// It takes so long, then happens.
    case stall(Duration)
    /// One bit of the bytes is another, and nothing says so. Any other call happens as it should.
    case flipBit(at: Int64)
    /// Of a get, the stream ends early and says nothing. Any other call does not happen.
    case truncate

    /// Those without a parameter: what is thrown, or not answered.
    public static let failing: [Fault] = [.before, .after, .inside]
  }

  /// One call to the tier.
  public struct Call: Sendable, CustomStringConvertible {
    public enum Kind: String, Sendable {
      case put, get, head, list, delete, deleteAll, copy, thaw, extendRetention, setLegalHold, removeAbandonedUploads
      case unfinishedUploads
    }

    /// From 1, in order.
    public var number: Int
    public var kind: Kind
    /// The key, or the prefix, or nothing.
    public var subject: String
    public var description: String { "\(kind.rawValue) \(subject)" }
  }

  private let tier: any StorageTier
  private let decide: @Sendable (Call) -> Fault?
  private let error: DRError
  private let log = MutableBox<[Call]>([])

  /// - Parameters:
  ///   - error: What is thrown.
  ///   - decide: What goes wrong with a call; nil: nothing.
  public init(
    _ tier: any StorageTier, throwing error: DRError = DRError(.tierUnavailable, "an injected fault"),
    _ decide: @escaping @Sendable (Call) -> Fault?
  ) {
    self.tier = tier
    self.error = error
    self.decide = decide
  }

  /// Fails one call.
  ///
  /// - Parameters:
  ///   - number: From 1; 0: none.
  ///   - killing: Every call after it fails too, as if the process had been killed.
  public init(
    _ tier: any StorageTier, failing number: Int, _ fault: Fault, killing: Bool = false,
    throwing error: DRError = DRError(.tierUnavailable, "an injected fault")
  ) {
    self.init(tier, throwing: error) { call in
      if call.number == number { return fault }
      return killing && number > 0 && call.number > number ? .before : nil
    }
  }

  /// What was called, in order.
  public var calls: [Call] { log.value }

  public var name: String { "fault:\(tier.name)" }
  public var capabilities: TierCapabilities { tier.capabilities }

  public func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    try await at(.put, key.rawValue) { fault in
      switch fault {
      case .inside: try await tier.put(key, broken(body), options)
      case .truncate: throw error
      case .flipBit(let offset): try await tier.put(key, flipped(body, offset), options)
      default: try await tier.put(key, body, options)
      }
    }
  }

  public func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    try await at(.get, key.rawValue) { fault in
      let stream = try await tier.get(key, range: range)
      return switch fault {
      case .inside: broken(stream)
      case .truncate: shortened(stream)
      case .flipBit(let offset): flipped(stream, offset - (range?.lowerBound ?? 0))
      default: stream
      }
    }
  }

  public func head(_ key: ObjectKey) async throws -> ObjectInfo? {
    try await whole(.head, key.rawValue) { try await tier.head(key) }
  }

  public func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    try await whole(.list, prefix) { try await tier.list(prefix: prefix, after: after, limit: limit) }
  }

  public func delete(_ key: ObjectKey) async throws {
    try await whole(.delete, key.rawValue) { try await tier.delete(key) }
  }

  public func deleteAll(_ keys: [ObjectKey]) async throws -> [ObjectKey: DRError] {
    try await whole(.deleteAll, "\(keys.count) objects") { try await tier.deleteAll(keys) }
  }

  public func copy(_ key: ObjectKey, to target: ObjectKey, _ options: PutOptions) async throws -> ObjectInfo {
    try await whole(.copy, target.rawValue) { try await tier.copy(key, to: target, options) }
  }

  public func thaw(_ keys: [ObjectKey], days: Int, speed: ThawSpeed) async throws -> [ObjectKey: DRError] {
    try await whole(.thaw, "\(keys.count) objects") { try await tier.thaw(keys, days: days, speed: speed) }
  }

  public func extendRetention(of key: ObjectKey, _ lock: RetentionLock) async throws {
    try await whole(.extendRetention, key.rawValue) { try await tier.extendRetention(of: key, lock) }
  }

  public func setLegalHold(_ held: Bool, on key: ObjectKey) async throws {
    try await whole(.setLegalHold, key.rawValue) { try await tier.setLegalHold(held, on: key) }
  }

  public func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    try await whole(.removeAbandonedUploads, "") { try await tier.removeAbandonedUploads(olderThan: date) }
  }

  public func unfinishedUploads() async throws -> [UnfinishedUpload] {
    try await whole(.unfinishedUploads, "") { try await tier.unfinishedUploads() }
  }

  // MARK: Faults

  private func at<R>(_ kind: Call.Kind, _ subject: String, _ body: (Fault?) async throws -> R) async throws -> R {
    let call = log.withLock { log in
      let call = Call(number: log.count + 1, kind: kind, subject: subject)
      log.append(call)
      return call
    }
    let fault = decide(call)
    switch fault {
    case .before: throw error
    case .after:
      _ = try await body(nil)
      throw error
    case .stall(let duration):
      try await Task.sleep(for: duration)
      return try await body(nil)
    case nil, .inside, .flipBit, .truncate: return try await body(fault)
    }
  }

  private func whole<R>(_ kind: Call.Kind, _ subject: String, _ body: () async throws -> R) async throws -> R {
    try await at(kind, subject) { fault in
      if fault == .inside || fault == .truncate { throw error }
      return try await body()
    }
  }

  /// Gives the first bytes, then breaks.
  private func broken(_ stream: ByteStream) -> ByteStream {
    let error = error
    let given = MutableBox(false)
    return ByteStream {
      var iterator = stream.makeAsyncIterator()
      guard !given.value, var buffer = try await iterator.next() else { throw error }
      given.withLock { $0 = true }
      return buffer.readSlice(length: max(1, min(1000, buffer.readableBytes / 2)))
    }
  }

  private func shortened(_ stream: ByteStream) -> ByteStream {
    let given = MutableBox(false)
    return ByteStream {
      var iterator = stream.makeAsyncIterator()
      guard !given.value, var buffer = try await iterator.next() else { return nil }
      given.withLock { $0 = true }
      return buffer.readSlice(length: buffer.readableBytes / 2)
    }
  }

  private func flipped(_ stream: ByteStream, _ offset: Int64) -> ByteStream {
    let position = MutableBox<Int64>(0)
    return ByteStream {
      var iterator = stream.makeAsyncIterator()
      guard var buffer = try await iterator.next() else { return nil }
      let start = position.withLock { position in
        defer { position += Int64(buffer.readableBytes) }
        return position
      }
      let index = offset - start
      if index >= 0, index < Int64(buffer.readableBytes) {
        let place = buffer.readerIndex + Int(index)
        if let byte = buffer.getInteger(at: place, as: UInt8.self) { buffer.setInteger(byte ^ 1, at: place) }
      }
      return buffer
    }
  }
}
