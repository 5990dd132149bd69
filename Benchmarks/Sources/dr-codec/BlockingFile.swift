import DRCore
import Dispatch
import Foundation
import NIOCore

/// A file read or written in order, on a queue of its own.
final class BlockingFile: Sendable {
  private static let chunk = 1 << 20

  private let descriptor: Int32
  private let queue = DispatchQueue(label: "file")

  init(reading path: String) throws {
    descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw BlockingFile.failure("cannot be read", path) }
  }

  init(writing path: String) throws {
    descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw BlockingFile.failure("cannot be written", path) }
  }

  deinit { close(descriptor) }

  /// The rest of the file, one chunk read ahead.
  func stream() -> ByteStream {
    let (ahead, continuation) = AsyncStream.makeStream(of: Result<ByteBuffer?, any Error>.self)
    let cursor = Cursor(ahead.makeAsyncIterator())
    let fill: @Sendable () -> Void = { [self] in queue.async { continuation.yield(Result { try self.read() }) } }
    fill()
    return ByteStream {
      guard let buffer = try await cursor.next()?.get() else {
        continuation.finish()
        return nil
      }
      fill()
      return buffer
    }
  }

  func write(_ buffer: ByteBuffer) async throws {
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      queue.async { continuation.resume(with: Result { try self.writeAll(buffer) }) }
    }
  }

  private func read() throws -> ByteBuffer? {
    var buffer = ByteBufferAllocator().buffer(capacity: BlockingFile.chunk)
    let count = try buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: BlockingFile.chunk) { bytes in
      let count = Foundation.read(descriptor, bytes.baseAddress, BlockingFile.chunk)
      guard count >= 0 else { throw BlockingFile.failure("cannot be read", nil) }
      return count
    }
    return count > 0 ? buffer : nil
  }

  private func writeAll(_ buffer: ByteBuffer) throws {
    try buffer.withUnsafeReadableBytes { bytes in
      var rest = bytes
      while !rest.isEmpty {
        let count = Foundation.write(descriptor, rest.baseAddress, rest.count)
        guard count > 0 else { throw BlockingFile.failure("cannot be written", nil) }
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      }
    }
  }

  private static func failure(_ what: String, _ path: String?) -> DRError {
    DRError("file-failed", "a file \(what): \(String(cString: strerror(errno)))", object: path)
  }

  /// `@unchecked Sendable`: a ``ByteStream`` pulls from one consumer, and calls never overlap.
  private final class Cursor: @unchecked Sendable {
    private var iterator: AsyncStream<Result<ByteBuffer?, any Error>>.AsyncIterator

    init(_ iterator: AsyncStream<Result<ByteBuffer?, any Error>>.AsyncIterator) { self.iterator = iterator }

    func next() async -> Result<ByteBuffer?, any Error>? {
      var current = iterator
      defer { iterator = current }
      return await current.next()
    }
  }
}
