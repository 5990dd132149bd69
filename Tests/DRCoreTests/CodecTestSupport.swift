import DRCore
import NIOCore
import Synchronization

/// Counts from 1.
final class Counter: Sendable {
  private let value = Mutex(0)

  func next() -> Int {
    value.withLock {
      $0 += 1
      return $0
    }
  }
}

/// Gives ranges of stored bytes and counts them.
final class Fetched: Sendable {
  private let total = Mutex(0)

  var count: Int { total.withLock { $0 } }

  func from(_ stored: ByteBuffer) -> @Sendable (Range<Int64>) async throws -> ByteStream {
    { range in
      self.total.withLock { $0 += range.count }
      guard let slice = stored.getSlice(at: stored.readerIndex + Int(range.lowerBound), length: range.count) else {
        throw DRError(.truncatedData, "outside")
      }
      return ByteStream(slice)
    }
  }
}

/// Something that happens once.
final class Signal: Sendable {
  private let (stream, continuation) = AsyncStream.makeStream(of: Void.self)

  func raise() { continuation.finish() }

  func wait() async {
    for await _ in stream {}
  }
}

/// Raises its signal when nobody refers to it any more.
final class Watched: Sendable {
  private let signal: Signal

  init(_ signal: Signal) { self.signal = signal }

  deinit { signal.raise() }
}
