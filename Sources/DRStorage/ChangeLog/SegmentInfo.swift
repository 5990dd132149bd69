public import DRCore

public import struct Foundation.Date

/// What is stored of one segment.
public struct SegmentInfo: Hashable, Sendable {
  public var name: String
  /// SHA-256 of the raw bytes, in lower-case hexadecimal; nil for a partial segment, which changes.
  public var sha256: String?
  /// Stored bytes.
  public var size: Int64
  /// On the tier's clock.
  public var modified: Date
  public var key: ObjectKey

  /// A segment that is not full yet and is replaced as it grows.
  public var isPartial: Bool { sha256 == nil }
}

/// The last component of a segment's key: `<name>-<64 hexadecimal digits>.zst[.age]`, or `<name>.partial.zst[.age]`.
struct SegmentFileName: Hashable {
  var name: String
  /// Nil for a partial segment.
  var sha256: String?
  var format: Compression.Format
  var encrypted: Bool

  private static let partialEnding = ".partial"
  private static let encryptedEnding = ".age"

  /// Before the codec endings.
  static func stem(_ name: String, sha256: String) -> String { "\(name)-\(sha256)" }
  static func partialStem(_ name: String) -> String { name + partialEnding }

  /// Reads a file name from its end, so that a segment's own name may hold dots and hyphens. Nil for a foreign file.
  init?(parsing text: String) {
    var rest = Substring(text)
    encrypted = rest.hasSuffix(SegmentFileName.encryptedEnding)
    if encrypted { rest = rest.dropLast(SegmentFileName.encryptedEnding.count) }
    let formats = Compression.Format.allCases.filter { $0 != .none }
    guard let format = formats.first(where: { rest.hasSuffix($0.pathExtension) }) else { return nil }
    self.format = format
    rest = rest.dropLast(format.pathExtension.count)
    if rest.hasSuffix(SegmentFileName.partialEnding) {
      name = String(rest.dropLast(SegmentFileName.partialEnding.count))
    } else {
      let digest = rest.suffix(64)
      guard digest.utf8.count == 64, digest.utf8.allSatisfy(SegmentFileName.isHexDigit),
        rest.dropLast(64).last == "-"
      else { return nil }
      sha256 = String(digest)
      name = String(rest.dropLast(65))
    }
    guard !name.isEmpty else { return nil }
  }

  private static func isHexDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
  }
}
