package import NIOCore

/// Frames of a tar archive: what stands before and after the content of a member. Bytes in, bytes out.
///
/// Writes ustar, and a pax header before it wherever ustar cannot say it: names of over 100 bytes or not in ASCII,
/// fractions of seconds, numbers that are too large, sparse files (GNU 1.0), extended attributes and access control
/// lists (as star, GNU tar and bsdtar have them).
///
/// Format: POSIX.1-2017, pax, "pax Interchange Format".
package enum TarWriter {
  /// What ends an archive.
  package static let trailerSize = 1024

  /// Zero bytes that follow content of a length.
  package static func padding(_ size: Int64) -> Int { TarHeader.padding(size) }

  /// Writes the headers of a member; of a sparse file also its map. As many bytes as the member has content must follow,
  /// and the ``padding(_:)`` of those.
  package static func write(_ member: TarMember, into buffer: inout ByteBuffer) {
    let map = member.sparse?.encoded ?? []
    let stored = member.size + Int64(map.count)
    var name = member.rawPath
    if name.isEmpty { name = [UInt8(ascii: ".")] }
    if member.kind == .folder { name.append(UInt8(ascii: "/")) }
    let extended = records(of: member, name: name, stored: stored)
    let short = member.sparse == nil ? name : [UInt8]("GNUSparseFile.0/".utf8) + base(name)
    if !extended.isEmpty {
      var header = Block()
      header.set(0, limit: 100, [UInt8]("PaxHeaders/".utf8) + base(name))
      header.number(100, digits: 7, 0o644)
      header.number(108, digits: 7, 0)
      header.number(116, digits: 7, 0)
      header.number(124, digits: 11, Int64(extended.count))
      header.number(136, digits: 11, max(0, member.modified))
      header.finish(kind: UInt8(ascii: "x"))
      buffer.writeBytes(header.bytes)
      buffer.writeBytes(extended)
      buffer.writeRepeatingByte(0, count: padding(Int64(extended.count)))
    }
    var header = Block()
    header.set(0, limit: 100, short)
    header.number(100, digits: 7, Int64(member.mode & 0o7777))
    header.number(108, digits: 7, Int64(member.userID))
    header.number(116, digits: 7, Int64(member.groupID))
    header.number(124, digits: 11, stored)
    header.number(136, digits: 11, max(0, member.modified))
    header.set(157, limit: 100, member.rawLinkTarget ?? [])
    header.set(265, limit: 31, [UInt8](member.userName.utf8))
    header.set(297, limit: 31, [UInt8](member.groupName.utf8))
    let kind: Unicode.Scalar =
      switch member.kind {
      case .file: "0"
      case .hardLink: "1"
      case .symbolicLink: "2"
      case .folder: "5"
      }
    header.finish(kind: UInt8(ascii: kind))
    buffer.writeBytes(header.bytes)
    buffer.writeBytes(map)
  }

  private static func base(_ name: [UInt8]) -> ArraySlice<UInt8> {
    let whole = name.last == UInt8(ascii: "/") ? name.dropLast() : name[...]
    return (whole.lastIndex(of: UInt8(ascii: "/")).map { whole[($0 + 1)...] } ?? whole).prefix(80)
  }

  private static func isPlain(_ text: some Collection<UInt8>, limit: Int) -> Bool {
    text.count <= limit && text.allSatisfy { (0x20..<0x7F).contains($0) }
  }

  /// The content of the pax header; empty if none is needed.
  private static func records(of member: TarMember, name: [UInt8], stored: Int64) -> [UInt8] {
    var content: [UInt8] = []
    func add(_ key: String, _ value: some Collection<UInt8>) {
      let rest = 1 + key.utf8.count + 1 + value.count + 1
      var length = rest + 1
      while "\(length)".utf8.count + rest != length { length = "\(length)".utf8.count + rest }
      content += "\(length) \(key)=".utf8
      content += value
      content.append(UInt8(ascii: "\n"))
    }
    let target = member.rawLinkTarget ?? []
    let isText =
      String(validating: name, as: UTF8.self) != nil && String(validating: target, as: UTF8.self) != nil
    let needsPath = member.sparse == nil && !isPlain(name, limit: 100)
    let needsTarget = !isPlain(target, limit: 100)
    if needsPath || needsTarget, !isText { add("hdrcharset", "BINARY".utf8) }
    if needsPath { add("path", name) }
    if needsTarget { add("linkpath", target) }
    if stored > 0o77_777_777_777 { add("size", "\(stored)".utf8) }
    if member.userID > 0o7_777_777 { add("uid", "\(member.userID)".utf8) }
    if member.groupID > 0o7_777_777 { add("gid", "\(member.groupID)".utf8) }
    if !isPlain(member.userName.utf8, limit: 31) { add("uname", member.userName.utf8) }
    if !isPlain(member.groupName.utf8, limit: 31) { add("gname", member.groupName.utf8) }
    if member.nanoseconds != 0 || member.modified < 0 || member.modified > 0o77_777_777_777 {
      add("mtime", moment(member.modified, member.nanoseconds).utf8)
    }
    if let acl = member.accessACL { add("SCHILY.acl.access", acl.utf8) }
    if let acl = member.defaultACL { add("SCHILY.acl.default", acl.utf8) }
    for attribute in member.attributes {
      let name = attribute.name.replacing("%", with: "%25").replacing("=", with: "%3D")
      add(TarOverrides.attributePrefix + name, attribute.value)
    }
    if let sparse = member.sparse {
      add("GNU.sparse.major", "1".utf8)
      add("GNU.sparse.minor", "0".utf8)
      add("GNU.sparse.name", name)
      add("GNU.sparse.realsize", "\(sparse.length)".utf8)
    }
    return content
  }

  /// A moment as pax has it: nanoseconds count forward, the fraction of a negative number backward.
  private static func moment(_ seconds: Int64, _ nanoseconds: Int32) -> String {
    func fraction(_ nanoseconds: Int32) -> String {
      guard nanoseconds != 0 else { return "" }
      let digits = String(nanoseconds)
      return "." + String(repeating: "0", count: 9 - digits.utf8.count) + digits
    }
    guard seconds < 0, nanoseconds != 0 else { return "\(seconds)\(fraction(nanoseconds))" }
    return (seconds == -1 ? "-0" : "\(seconds + 1)") + fraction(1_000_000_000 - nanoseconds)
  }

  /// A ustar block, as it is written.
  private struct Block {
    var bytes = [UInt8](repeating: 0, count: TarHeader.blockSize)

    mutating func set(_ offset: Int, limit: Int, _ text: some Collection<UInt8>) {
      let part = text.prefix(limit)
      bytes.replaceSubrange(offset..<offset + part.count, with: part)
    }

    /// Octal digits, or base 256 where they do not suffice.
    mutating func number(_ offset: Int, digits: Int, _ value: Int64) {
      if value < Int64(1) << (3 * Int64(digits)) {
        var rest = value
        for place in (0..<digits).reversed() {
          bytes[offset + place] = UInt8(ascii: "0") + UInt8(rest & 7)
          rest >>= 3
        }
      } else {
        var rest = UInt64(value)
        for place in (0...digits).reversed() {
          bytes[offset + place] = UInt8(rest & 0xFF)
          rest >>= 8
        }
        bytes[offset] |= 0x80
      }
    }

    mutating func finish(kind: UInt8) {
      bytes[156] = kind
      set(257, limit: 8, "ustar\u{0}00".utf8)
      set(148, limit: 8, "        ".utf8)
      let sum = bytes.reduce(Int64(0)) { $0 + Int64($1) }
      number(148, digits: 6, sum)
      bytes[154] = 0
      bytes[155] = UInt8(ascii: " ")
    }
  }
}
