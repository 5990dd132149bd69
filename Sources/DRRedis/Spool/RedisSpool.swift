import Foundation

/// Where what a server has sent waits while the tier takes it more slowly: in memory first, then in a temporary file without a
/// name, which holds the data in the clear until it is stored.
///
/// A server drops a replica that takes nothing for `repl-timeout`, or that makes its output buffer too long.
public struct RedisSpool: Sendable {
  /// Bytes that may wait in memory.
  public var memory = 16 << 20
  /// Bytes that may wait in the file. When it is full, or cannot be written, the server has to wait.
  public var fileLimit: Int64 = 4 << 30
  /// Where the file is made; nil: `$TMPDIR` or `/tmp`.
  public var folder: String?

  public init() {}

  var place: String { folder ?? FileManager.default.temporaryDirectory.path }
}
