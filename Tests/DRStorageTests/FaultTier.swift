import DRCore
import Foundation
import NIOCore

/// A tier that fails at a chosen call, or from it on, as if the process had been killed there.
final class FaultTier: StorageTier {
  enum Fault: Sendable, CaseIterable {
    /// The call does not happen.
    case before
    /// The call happens, and its answer is lost.
    case after
    /// Of a put, the body breaks after its first bytes; any other call does not happen.
    case inside
  }

  struct Injected: Error {}

  private let base: any StorageTier
  private let call: Int
  private let fault: Fault
  private let killing: Bool
  private let count = MutableBox(0)
  private let log = MutableBox<[String]>([])

  /// - Parameters:
  ///   - call: Which call fails, from 1; 0: none.
  ///   - killing: Every call after it fails too.
  init(_ base: any StorageTier, failing call: Int = 0, _ fault: Fault = .before, killing: Bool = false) {
    self.base = base
    self.call = call
    self.fault = fault
    self.killing = killing
  }

  /// What was called, in order.
  var calls: [String] { log.value }

  var name: String { "fault:\(base.name)" }
  var capabilities: TierCapabilities { base.capabilities }

  func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    try await at("put \(key)") { fault in
      guard fault == .inside else { return try await self.base.put(key, body, options) }
      let given = MutableBox(0)
      return try await self.base.put(
        key,
        ByteStream {
          var iterator = body.makeAsyncIterator()
          guard var buffer = try await iterator.next(), given.value < 1000 else { throw Injected() }
          let part = buffer.readSlice(length: max(1, min(1000, buffer.readableBytes / 2)))
          given.withLock { $0 += 1000 }
          return part
        }, options)
    }
  }

  func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    try await at("get \(key)") { _ in try await self.base.get(key, range: range) }
  }

  func head(_ key: ObjectKey) async throws -> ObjectInfo? {
    try await at("head \(key)") { _ in try await self.base.head(key) }
  }

  func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    try await at("list \(prefix)") { _ in try await self.base.list(prefix: prefix, after: after, limit: limit) }
  }

  func delete(_ key: ObjectKey) async throws {
    try await at("delete \(key)") { _ in try await self.base.delete(key) }
  }

  func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    try await at("clean") { _ in try await self.base.removeAbandonedUploads(olderThan: date) }
  }

  private func at<R>(_ what: String, _ body: (Fault?) async throws -> R) async throws -> R {
    let number = count.withLock { count in
      count += 1
      return count
    }
    log.withLock { $0.append(what) }
    if call > 0, killing, number > call { throw Injected() }
    guard number == call else { return try await body(nil) }
    switch fault {
    case .before: throw Injected()
    case .after:
      _ = try await body(nil)
      throw Injected()
    case .inside:
      guard what.hasPrefix("put") else { throw Injected() }
      return try await body(.inside)
    }
  }
}
