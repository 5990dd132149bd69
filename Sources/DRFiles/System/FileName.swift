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
    guard text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7F }) else { return text }
    return String(text.debugDescription.dropFirst().dropLast())
  }
}
