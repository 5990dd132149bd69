import DRCore
import NIOCore

/// How large the parts of an upload are. S3 has at most 10,000 of them, from 5 MiB to 5 GiB, and objects up to 5 TiB.
package struct PartPlan: Sendable {
  package static let most = 10_000
  package static let largest = 5 << 30
  package static let largestObject: Int64 = 5 << 40
  /// Parts of a stream that is longer than expected grow by this every thousand: 10,000 of them reach 5 TiB from 5 MiB.
  private static let growth = 2.1

  private let base: Int
  private let grows: Bool

  /// - Parameter expected: The length of the body in bytes as far as it is known: it may be more.
  package init(expected: Int64?, least: Int, equalParts: Bool) {
    var size = Int64(least)
    if let expected {
      // A tenth more than expected still fits, in whole MiB.
      let needed = (min(max(0, expected), PartPlan.largestObject) / 10 * 11) / Int64(PartPlan.most) + 1
      if needed > size { size = ((needed + (1 << 20) - 1) >> 20) << 20 }
    }
    base = Int(min(size, Int64(PartPlan.largest)))
    grows = !equalParts
  }

  /// In bytes.
  ///
  /// - Parameter number: From 1.
  package func size(ofPart number: Int) -> Int {
    guard grows else { return base }
    var size = Double(base)
    for _ in 0..<(max(0, number - 1) / 1000) { size = min(size * PartPlan.growth, Double(PartPlan.largest)) }
    return Int(size)
  }

  /// How many parts may be under way at once.
  package func concurrency(ofPart number: Int, most: Int) -> Int {
    let size = size(ofPart: number)
    return size <= 16 << 20 ? most : max(1, min(most, (64 << 20) / size))
  }
}

/// Cuts a stream into parts without copying: each is a list of the stream's own buffers.
struct PartAssembler {
  struct Part: Sendable {
    var buffers: [ByteBuffer]
    var size: Int
    /// Nothing comes after it.
    var isLast: Bool
  }

  private var iterator: ByteStream.AsyncIterator
  private var rest: ByteBuffer?

  init(_ body: ByteStream) { iterator = body.makeAsyncIterator() }

  mutating func next(_ size: Int) async throws -> Part {
    var part = Part(buffers: [], size: 0, isLast: false)
    while true {
      if rest == nil { rest = try await iterator.next() }
      guard var buffer = rest else {
        part.isLast = true
        return part
      }
      // One buffer ahead is asked for: so the last part is known as such, even if it is full.
      if part.size == size { return part }
      try Task.checkCancellation()
      let room = size - part.size
      if buffer.readableBytes <= room {
        part.buffers.append(buffer)
        part.size += buffer.readableBytes
        rest = nil
      } else if let slice = buffer.readSlice(length: room) {
        part.buffers.append(slice)
        part.size += room
        rest = buffer
      }
    }
  }
}
