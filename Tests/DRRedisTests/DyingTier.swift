import DRCore
import DRStorage
import Foundation
import NIOCore

/// A tier that fails or dawdles on demand, or from some change on makes none any more, as for a process that was killed.
final class DyingTier: StorageTier {
  private let inner: any StorageTier
  private let state = MutableBox<(failing: Bool, left: Int)>((false, .max))
  private let pause = MutableBox<(time: Duration, spared: Int)>((.zero, 0))

  init(_ inner: any StorageTier) { self.inner = inner }

  func fail(_ failing: Bool) { state.withLock { $0.failing = failing } }
  func die(after changes: Int) { state.withLock { $0.left = changes } }

  /// From now on, it takes so long until something is stored, or given.
  ///
  /// - Parameter spared: So many of them take no time still.
  func dawdle(_ time: Duration, after spared: Int = 0) { pause.withLock { $0 = (time, spared) } }

  private func wait() async throws {
    let time = pause.withLock { pause in
      pause.spared -= 1
      return pause.spared < 0 ? pause.time : .zero
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
