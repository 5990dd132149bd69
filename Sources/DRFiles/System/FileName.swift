/// Names as a file system has them: bytes.
enum FileName {
  /// Names of our own in the folder that a restore works in: never captured, and refused in an archive.
  static let stagingPrefix = ".dr-restore-"
  static let asidePrefix = ".dr-before-"

  static func isOwn(_ name: some Collection<UInt8>) -> Bool {
    name.starts(with: stagingPrefix.utf8) || name.starts(with: asidePrefix.utf8)
  }

  static func components(_ path: [UInt8]) -> [[UInt8]] { path.split(separator: UInt8(ascii: "/")).map { [UInt8]($0) } }

  static func join(_ folder: [UInt8], _ name: [UInt8]) -> [UInt8] {
    folder.isEmpty ? name : folder + [UInt8(ascii: "/")] + name
  }

  static func parent(_ path: [UInt8]) -> [UInt8] {
    path.lastIndex(of: UInt8(ascii: "/")).map { [UInt8](path[..<$0]) } ?? []
  }

  static func last(_ path: [UInt8]) -> [UInt8] {
    path.lastIndex(of: UInt8(ascii: "/")).map { [UInt8](path[($0 + 1)...]) } ?? path
  }

  /// For messages and manifests: what is no UTF-8 is replaced, and control characters cannot forge a line.
  static func text(_ path: some Collection<UInt8>) -> String {
    let text = String(decoding: path, as: UTF8.self)
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    return text.unicodeScalars.reduce(into: "") { text, scalar in
      switch scalar {
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      case "\\", "\"": text += "\\" + String(scalar)
      case _ where isControl(scalar): text += "\\u{" + String(scalar.value, radix: 16, uppercase: true) + "}"
      default: text.unicodeScalars.append(scalar)
      }
    }
  }

  /// What steers a terminal, or turns the direction of what follows.
  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0..<0x20, 0x7F..<0xA0, 0x2028...0x202E, 0x2066...0x2069: true
    default: false
    }
  }
}
