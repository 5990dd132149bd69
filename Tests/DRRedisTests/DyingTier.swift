import DRCore
import DRStorage
import Foundation
import NIOCore

/// A tier that fails on demand, or from some change on makes none any more, as for a process that was killed.
final class DyingTier: StorageTier {
  private let inner: any StorageTier
  private let state = MutableBox<(failing: Bool, left: Int)>((false, .max))

  init(_ inner: any StorageTier) { self.inner = inner }

  func fail(_ failing: Bool) { state.withLock { $0.failing = failing } }
  func die(after changes: Int) { state.withLock { $0.left = changes } }

  private func change() throws {
    try state.withLock { state in
      guard !state.failing, state.left > 0 else { throw DRError(.tierUnavailable, "the tier is away") }
      if state.left != .max { state.left -= 1 }
    }
  }

  var name: String { inner.name }
  var capabilities: TierCapabilities { inner.capabilities }

  func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    try change()
    return try await inner.put(key, body, options)
  }

  func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream { try await inner.get(key, range: range) }
  func head(_ key: ObjectKey) async throws -> ObjectInfo? { try await inner.head(key) }

  func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    try await inner.list(prefix: prefix, after: after, limit: limit)
  }

  func delete(_ key: ObjectKey) async throws {
    try change()
    try await inner.delete(key)
  }

  func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    try await inner.removeAbandonedUploads(olderThan: date)
  }
}
