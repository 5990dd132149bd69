public import DRCore

/// How a program is told to compress: `zstd:3`, `gzip`, `none`.
public enum CompressionArgument {
  /// - Throws: ``DRError`` with `invalidConfiguration`.
  public static func parse(_ compression: String) throws -> Compression {
    let parts = compression.split(separator: ":")
    let level = parts.count == 2 ? Int(parts[1]) : nil
    switch (parts.first, parts.count) {
    case ("zstd", 1): return .zstd()
    case ("gzip", 1): return .gzip()
    case ("none", 1): return .none
    case ("zstd", 2): if let level, (1...19).contains(level) { return .zstd(level: level) }
    case ("gzip", 2): if let level, (1...12).contains(level) { return .gzip(level: level) }
    default: break
    }
    throw DRError(
      .invalidConfiguration, "'\(compression.prefix(40))' is no compression",
      advice: "use zstd:1 to zstd:19, gzip:1 to gzip:12, or none")
  }
}
