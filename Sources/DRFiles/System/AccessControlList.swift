import Foundation

/// A POSIX access control list, as Linux keeps it in an attribute and as archives have it in text.
///
/// Format: the kernel's `posix_acl_xattr.h` (version 2), and the short text form of `acl(5)`; users and groups by
/// number. star, GNU tar and bsdtar write names, bsdtar with the number behind them.
enum AccessControlList {
  static let access = "system.posix_acl_access"
  static let inherited = "system.posix_acl_default"

  private static let tags: [(tag: UInt16, name: String, isNamed: Bool)] = [
    (0x01, "user", false), (0x02, "user", true), (0x04, "group", false), (0x08, "group", true), (0x10, "mask", false),
    (0x20, "other", false),
  ]

  /// The text of an attribute's value; nil if it is none.
  static func text(_ value: [UInt8]) -> String? {
    guard value.count >= 4, (value.count - 4) % 8 == 0, number(value[0..<4]) == 2 else { return nil }
    var lines: [String] = []
    for start in stride(from: 4, to: value.count, by: 8) {
      let tag = UInt16(number(value[start..<start + 2]))
      let permissions = number(value[start + 2..<start + 4])
      guard let known = tags.first(where: { $0.tag == tag }), permissions <= 7 else { return nil }
      let bits = [(4, "r"), (2, "w"), (1, "x")].map { permissions & UInt32($0.0) == 0 ? "-" : $0.1 }.joined()
      lines.append("\(known.name):\(known.isNamed ? "\(number(value[start + 4..<start + 8]))" : ""):\(bits)")
    }
    return lines.joined(separator: "\n")
  }

  /// The value of the attribute; nil if the text is none, or names somebody who is not known here.
  static func value(_ text: String, user: (String) -> UInt32?, group: (String) -> UInt32?) -> [UInt8]? {
    var entries: [(tag: UInt16, identity: UInt32, permissions: UInt16)] = []
    for line in text.split(whereSeparator: { $0 == "\n" || $0 == "," }) {
      // What follows a hash says what the mask leaves.
      let line = line.prefix { $0 != "#" }.trimmingCharacters(in: .whitespaces)
      if line.isEmpty { continue }
      let fields = line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
      guard
        fields.count == 3 || fields.count == 4
          || (fields.count == 2 && ["mask", "m", "other", "o"].contains(fields[0]))
      else { return nil }
      let name = fields.count == 2 ? "" : fields[1]
      let kind = ["u": "user", "g": "group", "m": "mask", "o": "other"][fields[0]] ?? fields[0]
      guard let known = tags.first(where: { $0.name == kind && $0.isNamed == !name.isEmpty }) else { return nil }
      var identity = UInt32.max
      if known.isNamed {
        let byName = kind == "user" ? user(name) : group(name)
        guard let found = byName ?? UInt32(name) ?? (fields.count == 4 ? UInt32(fields[3]) : nil) else { return nil }
        identity = found
      }
      var permissions: UInt16 = 0
      for letter in fields[fields.count == 2 ? 1 : 2] {
        switch letter {
        case "r": permissions |= 4
        case "w": permissions |= 2
        case "x": permissions |= 1
        case "-": break
        default: return nil
        }
      }
      entries.append((known.tag, identity, permissions))
    }
    guard !entries.isEmpty, entries.count <= 1000 else { return nil }
    // The kernel wants them in this order.
    entries.sort { ($0.tag, $0.identity) < ($1.tag, $1.identity) }
    var bytes: [UInt8] = [2, 0, 0, 0]
    for entry in entries {
      bytes += [UInt8(entry.tag & 0xFF), UInt8(entry.tag >> 8), UInt8(entry.permissions), 0]
      bytes += (0..<4).map { UInt8(truncatingIfNeeded: entry.identity >> (8 * UInt32($0))) }
    }
    return bytes
  }

  private static func number(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    bytes.reversed().reduce(0) { $0 << 8 | UInt32($1) }
  }
}
