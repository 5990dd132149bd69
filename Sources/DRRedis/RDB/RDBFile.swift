public import DRCore

/// An RDB file on this host.
public struct RDBFile: Sendable {
  /// Its bytes, once.
  public let content: ByteStream
  /// In bytes.
  public let size: Int64

  /// Opens a file.
  ///
  /// - Throws: ``DRError`` with `sourceFailed` if it cannot be read.
  public static func open(_ path: String) async throws -> RDBFile {
    let reader = try await RDBFileReader.open(path)
    return RDBFile(content: ByteStream { try await reader.next() }, size: reader.size)
  }
}
