import DRCore
import Foundation
import NIOCore

/// Reads a file from its start to its end, on a thread of its own.
final class RDBFileReader: Sendable {
  let size: Int64
  let modified: Date
  private let path: String
  private let descriptor: Int32
  private let executor = BlockingExecutor(label: "redis.file")

  private init(_ path: String, _ descriptor: Int32, size: Int64, modified: Date) {
    self.path = path
    self.descriptor = descriptor
    self.size = size
    self.modified = modified
  }

  deinit { close(descriptor) }

  static func open(_ path: String) async throws -> RDBFileReader {
    try await BlockingExecutor(label: "redis.file.open").run {
      let descriptor = Foundation.open(path, O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0 else {
        throw DRError(.sourceFailed, "the file cannot be opened: \(lastErrorText())", object: path)
      }
      let attributes = try? FileManager.default.attributesOfItem(atPath: path)
      return RDBFileReader(
        path, descriptor, size: (attributes?[.size] as? NSNumber)?.int64Value ?? 0,
        modified: attributes?[.modificationDate] as? Date ?? Date())
    }
  }

  /// The next piece, or nil at the end.
  func next() async throws -> ByteBuffer? {
    try await executor.run { [descriptor, path] in
      var buffer = ByteBufferAllocator().buffer(capacity: 1 << 20)
      var failure: Int32 = 0
      let count = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: 1 << 20) { bytes in
        var count: Int
        repeat { count = read(descriptor, bytes.baseAddress, 1 << 20) } while count < 0 && errno == EINTR
        if count < 0 { failure = errno }
        return max(0, count)
      }
      guard failure == 0 else {
        throw DRError(
          .sourceFailed, "the file cannot be read: \(String(cString: strerror(failure)))", object: path)
      }
      return count > 0 ? buffer : nil
    }
  }
}
