import DRCore
import NIOCore

/// What extended headers (pax `x`, GNU `L` and `K`) say of the member after them.
struct TarOverrides: Sendable {
  /// The largest extended header that is read, in bytes.
  static let limit: Int64 = 64 << 10

  var path: [UInt8]?
  var linkTarget: [UInt8]?
  var size: Int64?

  var isEmpty: Bool { path == nil && linkTarget == nil && size == nil }

  /// Reads the content of an extended header.
  mutating func read(_ kind: UInt8, _ content: ByteBufferView) throws {
    switch kind {
    case UInt8(ascii: "L"): path = [UInt8](content.prefix { $0 != 0 })
    case UInt8(ascii: "K"): linkTarget = [UInt8](content.prefix { $0 != 0 })
    default: try readPax([UInt8](content)[...], isGlobal: kind == UInt8(ascii: "g"))
    }
  }

  /// Records of the form `<length> <key>=<value>\n`, where the length counts the whole record.
  private mutating func readPax(_ content: ArraySlice<UInt8>, isGlobal: Bool) throws {
    let bad = DRError(.malformedData, "not a sound tar archive: a pax header cannot be read")
    var rest = content
    while !rest.isEmpty {
      let digits = rest.prefix { $0 != 0x20 }
      guard (1...6).contains(digits.count), let length = Int(String(decoding: digits, as: UTF8.self)),
        length > digits.count + 1, length <= rest.count
      else { throw bad }
      let record = rest.prefix(length).dropFirst(digits.count + 1)
      guard record.last == UInt8(ascii: "\n"), let equals = record.firstIndex(of: UInt8(ascii: "=")) else { throw bad }
      let key = String(decoding: record[..<equals], as: UTF8.self)
      let value = record[(equals + 1)...].dropLast()
      rest = rest.dropFirst(length)
      if key.hasPrefix("GNU.sparse") {
        throw DRError(.malformedData, "the archive holds a sparse file, which is not supported")
      }
      guard ["path", "linkpath", "size"].contains(key) else { continue }
      guard !isGlobal else {
        throw DRError(.malformedData, "the archive has a global pax header with '\(key)', which is not supported")
      }
      switch key {
      case "path": path = [UInt8](value)
      case "linkpath": linkTarget = [UInt8](value)
      default:
        guard let number = Int64(String(decoding: value, as: UTF8.self)), number >= 0 else { throw bad }
        size = number
      }
    }
  }
}
