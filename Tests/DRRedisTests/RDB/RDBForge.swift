import DRRedis

/// RDB files written by hand, for what no server at hand writes, and for what no server would.
struct RDBForge {
  private(set) var bytes: [UInt8]

  init(version: String = "0012") { bytes = Array("REDIS\(version)".utf8) }

  mutating func add(_ more: [UInt8]) { bytes += more }

  /// A key of a type, with the bytes of its value.
  mutating func key(_ name: String, _ type: UInt8, _ value: [UInt8]) {
    bytes.append(type)
    bytes += RDBForge.string(name) + value
  }

  /// The file, ended and with its checksum.
  func file(checksum: Bool = true) -> [UInt8] { RDBForge.sealed(bytes + [255], checksum: checksum) }

  static func sealed(_ bytes: [UInt8], checksum: Bool = true) -> [UInt8] {
    let crc = checksum ? bytes.withUnsafeBytes { CRC64.of($0) } : 0
    return bytes + (0..<8).map { UInt8(truncatingIfNeeded: crc >> (8 * UInt64($0))) }
  }

  /// The file with the checksum that its bytes should have.
  static func resealed(_ file: [UInt8]) -> [UInt8] { file.count < 17 ? file : sealed(Array(file.dropLast(8))) }

  static func length(_ number: UInt64) -> [UInt8] {
    switch number {
    case ..<64: [UInt8(number)]
    case ..<16384: [0x40 | UInt8(number >> 8), UInt8(number & 0xFF)]
    case ..<(1 << 32): [0x80] + (0..<4).reversed().map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    default: [0x81] + (0..<8).reversed().map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }
  }

  static func string(_ text: String) -> [UInt8] { string(Array(text.utf8)) }

  static func string(_ bytes: [UInt8]) -> [UInt8] { length(UInt64(bytes.count)) + bytes }

  static func little(_ number: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: number >> (8 * UInt64($0))) }
  }

  /// Of short strings.
  static func listpack(_ elements: [String]) -> [UInt8] {
    var entries: [UInt8] = []
    for element in elements {
      entries.append(0x80 | UInt8(element.utf8.count))
      entries += Array(element.utf8)
      entries.append(UInt8(element.utf8.count + 1))
    }
    var bytes = little(UInt64(entries.count + 7), 4)
    bytes += little(UInt64(elements.count), 2)
    bytes += entries
    bytes.append(0xFF)
    return bytes
  }

  /// Of short strings.
  static func ziplist(_ elements: [String]) -> [UInt8] {
    var entries: [UInt8] = []
    var last = 0
    var size = 0
    for element in elements {
      last = entries.count
      entries.append(UInt8(size))
      entries.append(UInt8(element.utf8.count))
      entries += Array(element.utf8)
      size = entries.count - last
    }
    var bytes = little(UInt64(entries.count + 11), 4)
    bytes += little(UInt64(10 + last), 4)
    bytes += little(UInt64(elements.count), 2)
    bytes += entries
    bytes.append(0xFF)
    return bytes
  }

  static func zipmap(_ pairs: [(String, String)]) -> [UInt8] {
    var bytes = [UInt8(pairs.count)]
    for (field, value) in pairs {
      bytes.append(UInt8(field.utf8.count))
      bytes += Array(field.utf8)
      bytes.append(UInt8(value.utf8.count))
      bytes.append(0)
      bytes += Array(value.utf8)
    }
    bytes.append(0xFF)
    return bytes
  }

  /// Pieces one after another: long sums of arrays take the compiler too long.
  static func join(_ pieces: [UInt8]...) -> [UInt8] { pieces.flatMap { $0 } }

  /// Every form that Redis has ever read and 7.0 can still load.
  static func oldForms() -> RDBForge {
    var forge = RDBForge(version: "0009")
    forge.add(join([251], length(9), length(1)))
    forge.key("list", 1, join(length(3), string("a"), string("b"), [0xC0, 7]))
    forge.key(
      "zset", 3, join(length(3), string("a"), [3], Array("1.5".utf8), string("b"), [254], string("c"), [255]))
    forge.key("zipmap", 9, string(zipmap([("f1", "v1"), ("f2", "v2")])))
    forge.key("ziplist", 10, string(ziplist(["a", "bb", "ccc"])))
    forge.key("zset-ziplist", 12, string(ziplist(["a", "1", "b", "2"])))
    forge.key("hash-ziplist", 13, string(ziplist(["f", "v"])))
    forge.key("quicklist", 14, join(length(2), string(ziplist(["a"])), string(ziplist(["b", "c"]))))
    forge.key("intset", 11, string(join(little(2, 4), little(2, 4), little(1, 2), little(5, 2))))
    forge.add(join([253], little(2_000_000_000, 4)))
    forge.key("seconds", 0, string("value"))
    return forge
  }

  /// Forms of version 12 that were not recorded from a server, and the marks of a cluster.
  static func newForms() -> RDBForge {
    var forge = RDBForge()
    forge.add(join([254, 0, 244], length(16383), length(2), length(1)))
    let pair = join(string("f"), string("v"))
    let moment = little(1 << 41, 8)
    forge.key("preview", 22, join(length(2), length(0), pair, length(1 << 41), pair))
    forge.key("preview-list", 23, string(listpack(["f", "v", "0"])))
    forge.key("fields", 24, join(moment, length(2), [0], pair, [1], pair))
    forge.key("fields-list", 25, join(moment, string(listpack(["f", "v", "0"]))))
    forge.add(join([248], length(70_000)))
    forge.key("idle", 0, [0xC1, 1, 2])
    return forge
  }
}
