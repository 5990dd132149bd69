public import DRCore

extension RDBSummary {
  /// Reads an RDB file to its end, checks it, and counts what it holds. Memory is bounded whatever the file says.
  ///
  /// - Parameters:
  ///   - object: Names the file in errors.
  ///   - checksValues: Look into every value too. A server does not, and ends when it meets one that is not sound.
  /// - Throws: ``DRError``: `truncatedData`, `corruptData`, `malformedData`, `unsupportedVersion`, each with what was being
  ///   read and the offset; what the stream throws.
  public static func reading(
    _ content: ByteStream, object: String, checksValues: Bool = false
  ) async throws -> RDBSummary {
    var scanner = RDBScanner(object: object, options: RDBScanner.Options(checksValues: checksValues))
    for try await frame in content { try scanner.scan(frame) }
    return try scanner.finish()
  }
}
