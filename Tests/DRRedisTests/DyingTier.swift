import DRCore
import DRStorage
import Foundation
import NIOCore

/// A tier that fails or dawdles on demand, or from some change on makes none any more, as for a process that was killed.
final class DyingTier: StorageTier {
  private let inner: any StorageTier
  private let state = MutableBox<(failing: Bool, left: Int)>((false, .max))
  private let pause = MutableBox<(time: Duration, spared: Int, left: Int)>((.zero, 0, .max))

  init(_ inner: any StorageTier) { self.inner = inner }

  func fail(_ failing: Bool) { state.withLock { $0.failing = failing } }
  func die(after changes: Int) { state.withLock { $0.left = changes } }

  /// From now on, it takes so long until something is stored, or given.
  ///
  /// - Parameters:
  ///   - spared: So many of them take no time still.
  ///   - count: So many of them take it, and none after those.
  func dawdle(_ time: Duration, after spared: Int = 0, count: Int = .max) {
    pause.withLock { $0 = (time, spared, count) }
  }

  private func wait() async throws {
    let time = pause.withLock { pause -> Duration in
      guard pause.spared <= 0 else {
        pause.spared -= 1
        return .zero
      }
      guard pause.left > 0 else { return .zero }
      if pause.left != .max { pause.left -= 1 }
      return pause.time
    }
    try await Task.sleep(for: time)
  }

  private func change() async throws {
    try await wait()
    try state.withLock { state in
      guard !state.failing, state.left > 0 else { throw DRError(.tierUnavailable, "the tier is away") }
      if state.left != .max { state.left -= 1 }
    }
  }

  var name: String { inner.name }
  var capabilities: TierCapabilities { inner.capabilities }

  func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    try await change()
    return try await inner.put(key, body, options)
  }

  func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    try await wait()
    return try await inner.get(key, range: range)
  }

  func head(_ key: ObjectKey) async throws -> ObjectInfo? { try await inner.head(key) }

  func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    try await inner.list(prefix: prefix, after: after, limit: limit)
  }

  func delete(_ key: ObjectKey) async throws {
    try await change()
    try await inner.delete(key)
  }

  func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    try await inner.removeAbandonedUploads(olderThan: date)
  }
}
