import DRCore
import Foundation
import NIOCore

/// A file read or written in order, on a queue of its own.
final class BlockingFile: Sendable {
  private static let chunk = 1 << 20

  private let descriptor: Int32
  private let path: String
  private let executor = BlockingExecutor(label: "file")

  init(reading path: String) throws {
    self.path = path
    descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw BlockingFile.failure(.invalidConfiguration, "cannot be read", path) }
  }

  init(writing path: String) throws {
    self.path = path
    descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw BlockingFile.failure(.notWritable, "cannot be written", path) }
  }

  deinit { close(descriptor) }

  func stream() -> ByteStream {
    ByteStream { try await self.executor.run { try self.read() } }
  }

  func write(_ buffer: ByteBuffer) async throws {
    try await executor.run { try self.writeAll(buffer) }
  }

  private func read() throws -> ByteBuffer? {
    var buffer = ByteBufferAllocator().buffer(capacity: BlockingFile.chunk)
    let count = try buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: BlockingFile.chunk) { bytes in
      let count = Foundation.read(descriptor, bytes.baseAddress, BlockingFile.chunk)
      guard count >= 0 else { throw BlockingFile.failure(.invalidConfiguration, "cannot be read", path) }
      return count
    }
    return count > 0 ? buffer : nil
  }

  private func writeAll(_ buffer: ByteBuffer) throws {
    try buffer.withUnsafeReadableBytes { bytes in
      var rest = bytes
      while !rest.isEmpty {
        let count = Foundation.write(descriptor, rest.baseAddress, rest.count)
        guard count > 0 else { throw BlockingFile.failure(.noSpace, "cannot be written", path) }
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      }
    }
  }

  private static func failure(_ code: DRError.Code, _ what: String, _ path: String) -> DRError {
    DRError(code, "the file \(what): \(String(cString: strerror(errno)))", object: path)
  }
}
