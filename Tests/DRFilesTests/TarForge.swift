/// Makes tar archives by hand, also such as no honest program makes.
enum TarForge {
  static let trailer = [UInt8](repeating: 0, count: 1024)

  static func filled(_ bytes: [UInt8]) -> [UInt8] {
    bytes + [UInt8](repeating: 0, count: (512 - bytes.count % 512) % 512)
  }

  /// A header and its content.
  static func member(
    _ name: String, kind: Character = "0", content: String = "", link: String = "", mode: String = "0000644",
    size: [UInt8]? = nil, breakingChecksum: Bool = false
  ) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 512)
    func set(_ offset: Int, _ text: [UInt8]) { bytes.replaceSubrange(offset..<offset + text.count, with: text) }
    set(0, [UInt8](name.utf8.prefix(100)))
    set(100, [UInt8](mode.utf8))
    set(108, [UInt8]("0000000".utf8))
    set(116, [UInt8]("0000000".utf8))
    let octal = String(content.utf8.count, radix: 8)
    set(124, size ?? [UInt8]((String(repeating: "0", count: 11 - octal.count) + octal).utf8))
    set(136, [UInt8]("15000000000".utf8))
    set(148, [UInt8]("        ".utf8))
    bytes[156] = kind.asciiValue ?? 0
    set(157, [UInt8](link.utf8.prefix(100)))
    set(257, [UInt8]("ustar\u{0}00".utf8))
    let sum = bytes.reduce(0) { $0 + Int($1) } + (breakingChecksum ? 1 : 0)
    let digits = String(sum, radix: 8)
    set(148, [UInt8]((String(repeating: "0", count: 6 - digits.count) + digits + "\0 ").utf8))
    return bytes + filled([UInt8](content.utf8))
  }

  static func folder(_ name: String) -> [UInt8] { member(name + "/", kind: "5", mode: "0000755") }
  static func link(_ name: String, to target: String) -> [UInt8] { member(name, kind: "2", link: target) }
  static func hardLink(_ name: String, to target: String) -> [UInt8] { member(name, kind: "1", link: target) }

  /// An extended header for the member after it.
  static func pax(_ records: [(String, String)], kind: Character = "x") -> [UInt8] {
    let content = records.map { key, value in
      let rest = " \(key)=\(value)\n"
      var length = rest.utf8.count + 1
      while "\(length)".utf8.count + rest.utf8.count != length { length += 1 }
      return "\(length)\(rest)"
    }.joined()
    return member("PaxHeaders/x", kind: kind, content: content)
  }

  /// A sparse file in GNU tar's own form, with up to four runs in its header.
  static func oldSparse(
    _ name: String, length: Int, runs: [(Int, Int)], data: String, continuation: [UInt8]? = nil
  ) -> [UInt8] {
    func octal(_ number: Int) -> [UInt8] {
      let digits = String(number, radix: 8)
      return [UInt8]((String(repeating: "0", count: 11 - digits.count) + digits + "\0").utf8)
    }
    var bytes = member(name, kind: "S", content: data)
    for (index, run) in runs.enumerated() {
      bytes.replaceSubrange(386 + 24 * index..<410 + 24 * index, with: octal(run.0) + octal(run.1))
    }
    bytes[482] = continuation == nil ? 0 : 1
    bytes.replaceSubrange(483..<495, with: octal(length))
    bytes.replaceSubrange(257..<265, with: [UInt8]("ustar  \0".utf8))
    bytes.replaceSubrange(148..<156, with: [UInt8]("        ".utf8))
    let digits = String(bytes[..<512].reduce(0) { $0 + Int($1) }, radix: 8)
    bytes.replaceSubrange(
      148..<156, with: [UInt8]((String(repeating: "0", count: 6 - digits.count) + digits + "\0 ").utf8))
    bytes.insert(contentsOf: continuation ?? [], at: 512)
    return bytes
  }

  /// A sparse file (GNU 1.0) with a map of one's choice.
  static func sparse(_ name: String, length: String, map: String, data: String) -> [UInt8] {
    let records = [
      ("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", name), ("GNU.sparse.realsize", length),
    ]
    let content = String(decoding: filled([UInt8](map.utf8)), as: UTF8.self) + data
    return pax(records) + member("GNUSparseFile.0/x", content: content)
  }
}
