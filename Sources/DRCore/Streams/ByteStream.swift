public import NIOCore

/// A single pass over bytes, pulled by its consumer.
///
/// Pulling is the back-pressure: nothing is produced before it is asked for (but for the read-ahead that a stage
/// states). There is one consumer; a second iteration continues where the first stopped. Buffers are never empty.
public struct ByteStream: AsyncSequence, Sendable {
  public typealias Element = ByteBuffer

  private let pull: @Sendable () async throws -> ByteBuffer?
  /// Where buffers go back to once they are used, if the producer fills them again.
  package let recycler: BufferPool?

  /// Creates a stream whose buffers come from a pool.
  package init(recycling pool: BufferPool, _ pull: @escaping @Sendable () async throws -> ByteBuffer?) {
    self.pull = pull
    recycler = pool
  }

  /// Creates a stream from what gives the next buffer, or nil at the end. Calls never overlap.
  public init(_ pull: @escaping @Sendable () async throws -> ByteBuffer?) {
    self.pull = pull
    recycler = nil
  }

  /// Creates a stream of one buffer.
  public init(_ buffer: ByteBuffer) {
    self.init([buffer])
  }

  /// Creates a stream of buffers that are in memory already.
  public init(_ buffers: [ByteBuffer]) {
    let rest = MutableBox(buffers.filter { $0.readableBytes > 0 }[...])
    self.init { rest.withLock { $0.popFirst() } }
  }

  /// Creates a stream from an asynchronous sequence, which is iterated once.
  public init<Buffers: AsyncSequence & Sendable>(_ buffers: Buffers) where Buffers.Element == ByteBuffer {
    let cursor = SequenceCursor(buffers)
    self.init { try await cursor.next() }
  }

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(pull: pull) }

  public struct AsyncIterator: AsyncIteratorProtocol {
    let pull: @Sendable () async throws -> ByteBuffer?

    /// The next buffer, or nil at the end.
    ///
    /// - Throws: What the stream's producer throws.
    public mutating func next() async throws -> ByteBuffer? {
      while let buffer = try await pull() {
        if buffer.readableBytes > 0 { return buffer }
      }
      return nil
    }
  }

  /// Everything, in one buffer.
  ///
  /// - Throws: ``DRError`` with `malformedData` past the limit in bytes; what the producer throws.
  public func collect(limit: Int, object: String? = nil) async throws -> ByteBuffer {
    var all = ByteBuffer()
    for try await buffer in self {
      guard all.readableBytes + buffer.readableBytes <= limit else {
        throw DRError(.malformedData, "larger than the limit of \(limit) bytes", object: object)
      }
      if all.readableBytes == 0 { all = buffer } else { all.writeImmutableBuffer(buffer) }
    }
    return all
  }
}

/// An iterator kept behind a reference, so that a Sendable closure can pull it. `ByteStream` has one consumer and calls
/// never overlap, which is what makes the unchecked box sound.
private final class SequenceCursor<Buffers: AsyncSequence>: @unchecked Sendable where Buffers.Element == ByteBuffer {
  private var iterator: Buffers.AsyncIterator

  init(_ buffers: Buffers) { iterator = buffers.makeAsyncIterator() }

  func next() async throws -> ByteBuffer? {
    // Moved out and back: a mutating async call may not hold exclusive access to a class's storage.
    var current = iterator
    let buffer = try await current.next()
    iterator = current
    return buffer
  }
}
