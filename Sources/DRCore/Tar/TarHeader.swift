import NIOCore

/// One header block of a tar archive, as it is read.
struct TarHeader {
  static let blockSize = 512

  let kind: UInt8
  let size: Int64
  /// Of a sparse file in GNU tar's own form, what of its map stands here.
  let sparse: TarSparseMap.Blocks?
  private let mode: UInt32
  private let modified: Int64
  private let userID: Int64
  private let groupID: Int64
  private let userName: [UInt8]
  private let groupName: [UInt8]
  private let name: [UInt8]
  private let link: [UInt8]

  /// Zero bytes that follow content of a length.
  static func padding(_ size: Int64) -> Int { Int((512 - size % 512) % 512) }

  /// Parses a block of 512 bytes; nil if it is all zero.
  init?(_ block: ByteBufferView) throws {
    let bytes = [UInt8](block)
    guard bytes.count == TarHeader.blockSize else {
      throw DRError(.malformedData, "not a sound tar archive: a header of \(bytes.count) bytes")
    }
    if bytes.allSatisfy({ $0 == 0 }) { return nil }

    // The checksum is the sum of the bytes, its own field taken as spaces.
    var sum: Int64 = 8 * 0x20
    for (index, byte) in bytes.enumerated() where !(148..<156).contains(index) { sum += Int64(byte) }
    guard try TarHeader.number(bytes[148..<156]) == sum else {
      throw DRError(.malformedData, "not a sound tar archive: the checksum of a header differs")
    }
    guard bytes[257..<262].elementsEqual("ustar".utf8) else {
      throw DRError(.malformedData, "not a tar archive of the ustar kind")
    }
    kind = bytes[156]
    size = try TarHeader.number(bytes[124..<136])
    sparse = kind == UInt8(ascii: "S") ? try TarSparseMap.Blocks(header: bytes) : nil
    mode = UInt32(truncatingIfNeeded: try TarHeader.number(bytes[100..<108])) & 0o7777
    // A moment before 1970 is written in several ways; none that is read here matters to who reads no pax header.
    modified = (try? TarHeader.number(bytes[136..<148])) ?? 0
    userID = try TarHeader.number(bytes[108..<116])
    groupID = try TarHeader.number(bytes[116..<124])
    userName = TarHeader.text(bytes[265..<297])
    groupName = TarHeader.text(bytes[297..<329])
    link = TarHeader.text(bytes[157..<257])
    let short = TarHeader.text(bytes[0..<100])
    // POSIX has a NUL after "ustar" and then the prefix; GNU has spaces, and other fields in its place.
    let prefix = bytes[262] == 0 ? TarHeader.text(bytes[345..<500]) : []
    name = prefix.isEmpty ? short : prefix + [UInt8(ascii: "/")] + short
  }

  func endsInSlash(_ overrides: TarOverrides) -> Bool { (overrides.path ?? name).last == UInt8(ascii: "/") }

  /// The member, with what extended headers said of it.
  func member(_ kind: TarMember.Kind, _ overrides: TarOverrides) throws -> TarMember {
    var raw = (overrides.sparseName ?? overrides.path ?? name)[...]
    while raw.starts(with: "./".utf8) { raw = raw.dropFirst(2) }
    if raw.last == UInt8(ascii: "/"), raw.count > 1 { raw = raw.dropLast() }
    if kind == .folder, raw.isEmpty || raw.elementsEqual(".".utf8) {
      raw = []
    } else {
      try TarHeader.checkPath(raw)
    }
    let length = overrides.size ?? size
    guard length <= 1 << 60 else { throw DRError(.malformedData, "not a sound tar archive: a size of \(length) bytes") }
    var member = TarMember(
      kind: kind, rawPath: [UInt8](raw), size: length, mode: mode, modified: overrides.modified?.seconds ?? modified)
    member.nanoseconds = overrides.modified?.nanoseconds ?? 0
    member.userID = try TarHeader.identity(overrides.userID ?? userID)
    member.groupID = try TarHeader.identity(overrides.groupID ?? groupID)
    member.userName = String(decoding: overrides.userName ?? userName, as: UTF8.self)
    member.groupName = String(decoding: overrides.groupName ?? groupName, as: UTF8.self)
    member.attributes = overrides.attributes
    member.accessACL = overrides.accessACL
    member.defaultACL = overrides.defaultACL
    switch kind {
    case .file, .folder: break
    case .symbolicLink: member.rawLinkTarget = overrides.linkTarget ?? link
    case .hardLink:
      var target = (overrides.linkTarget ?? link)[...]
      while target.starts(with: "./".utf8) { target = target.dropFirst(2) }
      try TarHeader.checkPath(target)
      member.rawLinkTarget = [UInt8](target)
    }
    return member
  }

  private static func identity(_ number: Int64) throws -> UInt32 {
    guard let identity = UInt32(exactly: number) else {
      throw DRError(.malformedData, "not a sound tar archive: an owner of number \(number)")
    }
    return identity
  }

  private static func checkPath(_ path: ArraySlice<UInt8>) throws {
    func refuse(_ why: String) -> DRError {
      let text = String(decoding: path.prefix(200), as: UTF8.self).debugDescription
      return DRError(.invalidKey, "the archive holds a path that \(why): \(text)", advice: "do not trust this archive")
    }
    guard !path.isEmpty else { throw refuse("is empty") }
    guard path.first != UInt8(ascii: "/") else { throw refuse("is absolute") }
    guard !path.contains(0) else { throw refuse("holds a NUL") }
    for part in path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
      guard !part.isEmpty, !part.elementsEqual(".".utf8), !part.elementsEqual("..".utf8) else {
        throw refuse("has an empty, '.' or '..' component")
      }
      guard part.count <= 255 else { throw refuse("has a component of over 255 bytes") }
    }
    guard path.count <= 4096 else { throw refuse("is longer than 4,096 bytes") }
  }

  private static func text(_ field: ArraySlice<UInt8>) -> [UInt8] { [UInt8](field.prefix { $0 != 0 }) }

  /// A number in octal digits, or in base 256 when the top bit is set; never negative.
  static func number(_ field: ArraySlice<UInt8>) throws -> Int64 {
    let bad = DRError(.malformedData, "not a sound tar archive: a number in a header cannot be read")
    if let first = field.first, first & 0x80 != 0 {
      // 0xFF... would be negative.
      guard first == 0x80 else { throw bad }
      var value: UInt64 = 0
      for byte in field.dropFirst() {
        guard value >> 55 == 0 else { throw bad }
        value = value << 8 | UInt64(byte)
      }
      return Int64(value)
    }
    var digits = field.drop { $0 == 0x20 }
    while let last = digits.last, last == 0 || last == 0x20 { digits = digits.dropLast() }
    // What stands after a terminator is not ours to read.
    digits = digits.prefix { $0 != 0 && $0 != 0x20 }
    var value: Int64 = 0
    for byte in digits {
      guard (UInt8(ascii: "0")...UInt8(ascii: "7")).contains(byte) else { throw bad }
      value = value << 3 | Int64(byte & 7)
    }
    return value
  }
}
