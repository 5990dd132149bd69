package import NIOCore
import Synchronization

/// Buffers to fill again: a source takes one for each frame, and the stage that used it last gives it back.
///
/// Bounds the allocations of a stream, not its memory: what is not given back is simply freed.
package final class BufferPool: Sendable {
  private let capacity: Int
  private let limit: Int
  private let free = Mutex<[ByteBuffer]>([])

  /// - Parameters:
  ///   - capacity: Bytes of each buffer.
  ///   - limit: How many idle buffers to keep.
  package init(capacity: Int, limit: Int = 8) {
    self.capacity = capacity
    self.limit = limit
  }

  package func take() -> ByteBuffer {
    free.withLock { $0.popLast() } ?? ByteBufferAllocator().buffer(capacity: capacity)
  }

  /// Takes a buffer back and leaves an empty one in its place. Storage that somebody else still refers to is left to
  /// him: a buffer copies on write.
  package func give(back buffer: inout ByteBuffer) {
    var returned = ByteBuffer()
    swap(&returned, &buffer)
    guard returned.storageCapacity >= capacity else { return }
    returned.clear()
    let cleared = returned
    free.withLock { if $0.count < limit { $0.append(cleared) } }
  }
}
