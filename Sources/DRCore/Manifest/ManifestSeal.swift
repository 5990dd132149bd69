import Foundation

/// The digest that a manifest carries of itself: its last member but for the closing brace, on a line of its own.
///
///     {
///       …
///       "systemIdentifier" : "7301948571930475812",
///       "sha256" : "<64 hexadecimal digits>"
///     }
///
/// It is the SHA-256 of every byte before that line, so that it is checked without this library:
///
///     sed '/^  "sha256"/,$d' MANIFEST | sha256sum
///
/// It finds damage. It proves nothing against somebody who means harm, and who would write another one.
struct ManifestSeal {
  static let field = "sha256"

  /// What the file says.
  let stated: String
  /// What its bytes come to.
  let actual: String

  private static let start = Data("  \"\(field)\" : \"".utf8)
  private static let end = Data("\"\n}\n".utf8)
  private static let digits = 64

  /// Nil for a file that does not end in such a line, to the byte.
  init?(_ json: Data) {
    let length = ManifestSeal.start.count + ManifestSeal.digits + ManifestSeal.end.count
    guard json.count > length else { return nil }
    let line = Data(json.suffix(length))
    guard line.starts(with: ManifestSeal.start), line.suffix(ManifestSeal.end.count) == ManifestSeal.end else {
      return nil
    }
    stated = String(decoding: line.dropFirst(ManifestSeal.start.count).prefix(ManifestSeal.digits), as: UTF8.self)
    actual = ManifestSeal.digest(json.dropLast(length))
  }

  var isRight: Bool { stated == actual }

  /// Adds the digest to a JSON object that is written with line breaks; nil for any other text.
  static func sealing(_ json: Data) -> Data? {
    let brace = Data("\n}".utf8)
    guard json.starts(with: Data("{\n".utf8)), json.suffix(brace.count) == brace else { return nil }
    let body = Data(json.dropLast(brace.count)) + Data(",\n".utf8)
    return body + start + Data(digest(body).utf8) + end
  }

  private static func digest(_ bytes: Data) -> String {
    var digest = StreamDigest()
    bytes.withUnsafeBytes { digest.update($0) }
    return digest.hex()
  }
}
