/// How frames are compressed.
public struct Compression: Hashable, Sendable {
  /// The format of the stored bytes. All open with stock tools.
  public enum Format: String, Hashable, Sendable, Codable, CaseIterable {
    /// Concatenated zstd frames, then the table of the zstd seekable format as a skippable frame. Opens with `zstd -d`.
    case zstd
    /// Concatenated gzip members, each with its size in an extra field. Opens with `gzip -d`.
    case gzip
    /// As it is.
    case none

    /// The ending of stored names, with its dot.
    public var pathExtension: String {
      switch self {
      case .zstd: ".zst"
      case .gzip: ".gz"
      case .none: ""
      }
    }
  }

  public let format: Format
  /// zstd: 1 to 19. gzip: 1 to 12 (libdeflate's scale). none: 0.
  public let level: Int

  private init(_ format: Format, level: Int) {
    self.format = format
    self.level = level
  }

  /// zstd at a level from 1 to 19; a level outside is brought to the nearest. 1 is tuned for what databases store: it is
  /// faster than the library's own, and smaller for rows and pages; programs and prose become a few percent larger.
  public static func zstd(level: Int = 1) -> Compression { Compression(.zstd, level: min(max(level, 1), 19)) }
  /// gzip at a level from 1 to 12 (libdeflate's scale); a level outside is brought to the nearest. 5 compresses as well as
  /// level 6 of gzip and pigz.
  public static func gzip(level: Int = 5) -> Compression { Compression(.gzip, level: min(max(level, 1), 12)) }
  /// No compression.
  public static let none = Compression(.none, level: 0)
}
