import NIOCore

/// What extended headers (pax `x`, GNU `L` and `K`) say of the member after them.
struct TarOverrides: Sendable {
  /// The largest extended header that is read, in bytes: for files alone, and with what a file system keeps beside them.
  static func limit(_ dialect: TarReader.Dialect) -> Int64 { dialect == .files ? 64 << 10 : 1 << 20 }

  var path: [UInt8]?
  var linkTarget: [UInt8]?
  var size: Int64?
  var modified: (seconds: Int64, nanoseconds: Int32)?
  var userID: Int64?
  var groupID: Int64?
  var userName: [UInt8]?
  var groupName: [UInt8]?
  var attributes: [TarMember.Attribute] = []
  var accessACL: String?
  var defaultACL: String?
  var sparseVersion: (major: Int64?, minor: Int64?)
  var sparseName: [UInt8]?
  var sparseLength: Int64?
  /// Whether a header was read at all.
  private(set) var isEmpty = true

  private let dialect: TarReader.Dialect

  init(_ dialect: TarReader.Dialect) { self.dialect = dialect }

  /// The length of a sparse file whose map stands before its data; nil: not sparse.
  func sparseFile() throws -> Int64? {
    if sparseVersion.major == nil, sparseVersion.minor == nil, sparseName == nil, sparseLength == nil { return nil }
    guard sparseVersion.major == 1, sparseVersion.minor == 0, let sparseLength else {
      throw DRError(
        .malformedData, "the archive holds a sparse file of a form that is not supported",
        advice: "make the archive with --format=posix --sparse-version=1.0")
    }
    return sparseLength
  }

  /// Reads the content of an extended header.
  mutating func read(_ kind: UInt8, _ content: ByteBufferView) throws {
    if kind != UInt8(ascii: "g") { isEmpty = false }
    switch kind {
    case UInt8(ascii: "L"): path = [UInt8](content.prefix { $0 != 0 })
    case UInt8(ascii: "K"): linkTarget = [UInt8](content.prefix { $0 != 0 })
    default: try readPax([UInt8](content)[...], isGlobal: kind == UInt8(ascii: "g"))
    }
  }

  private static let malformed = DRError(.malformedData, "not a sound tar archive: a pax header cannot be read")

  /// Records of the form `<length> <key>=<value>\n`, where the length counts the whole record.
  private mutating func readPax(_ content: ArraySlice<UInt8>, isGlobal: Bool) throws {
    let bad = TarOverrides.malformed
    var rest = content
    while !rest.isEmpty {
      let digits = rest.prefix { $0 != 0x20 }
      guard (1...7).contains(digits.count), let length = Int(String(decoding: digits, as: UTF8.self)),
        length > digits.count + 1, length <= rest.count
      else { throw bad }
      let record = rest.prefix(length).dropFirst(digits.count + 1)
      guard record.last == UInt8(ascii: "\n"), let equals = record.firstIndex(of: UInt8(ascii: "=")) else { throw bad }
      let key = String(decoding: record[..<equals], as: UTF8.self)
      let value = record[(equals + 1)...].dropLast()
      rest = rest.dropFirst(length)
      try take(key, value, isGlobal: isGlobal)
    }
  }

  private mutating func take(_ key: String, _ value: ArraySlice<UInt8>, isGlobal: Bool) throws {
    let isSparse = key.hasPrefix("GNU.sparse")
    let isAttribute = key.hasPrefix(TarOverrides.attributePrefix)
    if isSparse, dialect == .files {
      throw DRError(.malformedData, "the archive holds a sparse file, which is not supported")
    }
    let matters = ["path", "linkpath", "size"].contains(key)
    let isMore = TarOverrides.further.contains(key) || isSparse || isAttribute
    guard matters || (isMore && dialect == .everything) else { return }
    guard !isGlobal else {
      throw DRError(.malformedData, "the archive has a global pax header with '\(key)', which is not supported")
    }
    switch key {
    case "path": path = [UInt8](value)
    case "linkpath": linkTarget = [UInt8](value)
    case "size": size = try TarOverrides.number(value)
    case "mtime": modified = try TarOverrides.moment(value)
    case "uid": userID = try TarOverrides.number(value)
    case "gid": groupID = try TarOverrides.number(value)
    case "uname": userName = [UInt8](value)
    case "gname": groupName = [UInt8](value)
    case "SCHILY.acl.access": accessACL = String(decoding: value, as: UTF8.self)
    case "SCHILY.acl.default": defaultACL = String(decoding: value, as: UTF8.self)
    case "GNU.sparse.major": sparseVersion.major = try TarOverrides.number(value)
    case "GNU.sparse.minor": sparseVersion.minor = try TarOverrides.number(value)
    case "GNU.sparse.name": sparseName = [UInt8](value)
    case "GNU.sparse.realsize": sparseLength = try TarOverrides.number(value)
    case _ where isAttribute:
      let name = TarOverrides.attributeName(key)
      guard !name.isEmpty, !name.utf8.contains(0), name.utf8.count <= 255 else { throw TarOverrides.malformed }
      attributes.removeAll { $0.name == name }
      attributes.append(TarMember.Attribute(name: name, value: [UInt8](value)))
    default:
      throw DRError(.malformedData, "the archive holds a sparse file of a form that is not supported ('\(key)')")
    }
  }

  static let attributePrefix = "SCHILY.xattr."
  private static let further: Set = [
    "mtime", "uid", "gid", "uname", "gname", "SCHILY.acl.access", "SCHILY.acl.default",
  ]

  /// GNU tar writes `%` and `=` of a name as `%25` and `%3D`: the first `=` ends the key.
  private static func attributeName(_ key: String) -> String {
    String(key.dropFirst(attributePrefix.count)).replacing("%3D", with: "=").replacing("%25", with: "%")
  }

  private static func number(_ value: ArraySlice<UInt8>) throws -> Int64 {
    guard let number = Int64(String(decoding: value, as: UTF8.self)), number >= 0 else { throw malformed }
    return number
  }

  /// Seconds with a fraction, which may be negative: nanoseconds always count forward.
  private static func moment(_ value: ArraySlice<UInt8>) throws -> (seconds: Int64, nanoseconds: Int32) {
    let parts = value.split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
    let isNegative = value.first == UInt8(ascii: "-")
    guard let whole = parts.first, let seconds = Int64(String(decoding: whole, as: UTF8.self)), abs(seconds) < 1 << 56
    else { throw malformed }
    var nanoseconds: Int32 = 0
    if parts.count == 2 {
      guard !parts[1].isEmpty, parts[1].allSatisfy({ (0x30...0x39).contains($0) }) else { throw malformed }
      for place in 0..<9 {
        let digits = parts[1]
        let digit = place < digits.count ? Int32(digits[digits.startIndex + place] - 0x30) : 0
        nanoseconds = nanoseconds * 10 + digit
      }
    }
    guard isNegative, nanoseconds > 0 else { return (seconds, nanoseconds) }
    return (seconds - 1, 1_000_000_000 - nanoseconds)
  }
}
