import DRCore
package import NIOCore

/// Puts the pieces of a WAL stream together into segments.
package struct WALAssembler: Sendable {
  /// The segment that is being filled, and what there is of it.
  package private(set) var current: WALSegmentName
  package private(set) var bytes: ByteBuffer
  /// Segments that are full, the oldest first.
  package private(set) var completed: [(name: WALSegmentName, bytes: ByteBuffer)] = []

  /// Starts at the first position of a segment.
  package init(at segment: WALSegmentName) {
    current = segment
    bytes = ByteBufferAllocator().buffer(capacity: segment.segmentSize.bytes)
  }

  /// What stands in its place while it is filled elsewhere.
  init(placeholder segment: WALSegmentName) {
    current = segment
    bytes = ByteBuffer()
  }

  /// The next position that must come.
  package var position: LSN { current.start.advanced(by: UInt64(bytes.readableBytes)) }

  /// Takes a piece of the log.
  ///
  /// - Throws: ``DRError`` with `malformedData` if it does not start where the piece before ended.
  package mutating func append(_ piece: UnsafeRawBufferPointer, at start: LSN) throws {
    guard start == position else {
      throw DRError(
        .malformedData, "the server sent WAL from \(start), and \(position) was next", object: "\(current)")
    }
    var rest = piece[...]
    while !rest.isEmpty {
      let part = rest.prefix(current.segmentSize.bytes - bytes.readableBytes)
      bytes.writeBytes(part)
      rest = rest.dropFirst(part.count)
      if bytes.readableBytes == current.segmentSize.bytes {
        completed.append((current, bytes))
        current = current.next
        bytes = ByteBufferAllocator().buffer(capacity: current.segmentSize.bytes)
      }
    }
  }

  /// The oldest full segment, which is then the caller's.
  package mutating func takeCompleted() -> (name: WALSegmentName, bytes: ByteBuffer)? {
    completed.isEmpty ? nil : completed.removeFirst()
  }
}
