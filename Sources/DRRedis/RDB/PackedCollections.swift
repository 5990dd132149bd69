/// Checks of the forms in which Redis packs a small collection into one string: every entry lies inside, and what is
/// written twice agrees. They count elements, and return what is wrong as text.
///
/// Formats: the comments at the top of Redis's `ziplist.c`, `listpack.c`, `intset.c` and `zipmap.c`.
enum PackedCollections {
  struct Unsound: Error {
    var what: String
    init(_ what: String) { self.what = what }
  }

  /// - Returns: The number of elements.
  static func check(_ bytes: UnsafeRawBufferPointer, _ packing: RDBPacking) throws(Unsound) -> Int {
    switch packing {
    case .plain: return 1
    case .ziplist(let multiple): return try whole(try ziplist(bytes), multiple)
    case .listpack(let multiple): return try whole(try listpack(bytes), multiple)
    case .intset: return try intset(bytes)
    case .zipmap: return try zipmap(bytes)
    }
  }

  private static func whole(_ count: Int, _ multiple: Int) throws(Unsound) -> Int {
    guard count > 0 else { throw Unsound("a packed collection without elements") }
    guard count % multiple == 0 else { throw Unsound("\(count) elements where each member takes \(multiple)") }
    return count
  }

  private static func u16(_ bytes: UnsafeRawBufferPointer, _ position: Int) -> Int {
    Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt16.self)))
  }

  private static func u32(_ bytes: UnsafeRawBufferPointer, _ position: Int) -> Int {
    Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self)))
  }

  // MARK: Listpack

  static func listpack(_ bytes: UnsafeRawBufferPointer) throws(Unsound) -> Int {
    let end = bytes.count - 1
    guard bytes.count >= 7, u32(bytes, 0) == bytes.count, bytes[end] == 0xFF else {
      throw Unsound("a listpack whose size is not the one it states")
    }
    let stated = u16(bytes, 4)
    var position = 6
    var count = 0
    while position < end {
      let size = try listpackEntry(bytes, position, end)
      let backSize = size < 128 ? 1 : size < 16384 ? 2 : size < 2_097_152 ? 3 : size < 268_435_456 ? 4 : 5
      guard size <= end - position - backSize else { throw Unsound("a listpack entry that reaches past the end") }
      position += size
      // The size again, to walk backwards: seven bits a byte, the most significant first, marked but for the first.
      var rest = size
      for index in stride(from: backSize - 1, through: 0, by: -1) {
        let mark: UInt8 = index == 0 ? 0 : 0x80
        guard bytes[position + index] == UInt8(rest & 0x7F) | mark else {
          throw Unsound("a listpack entry whose two sizes differ")
        }
        rest >>= 7
      }
      position += backSize
      count += 1
    }
    guard stated == 0xFFFF || stated == count else { throw Unsound("a listpack that states \(stated) entries") }
    return count
  }

  private static func listpackEntry(
    _ bytes: UnsafeRawBufferPointer, _ position: Int, _ end: Int
  ) throws(Unsound) -> Int {
    let first = Int(bytes[position])
    if first < 0x80 { return 1 }
    if first < 0xC0 { return 1 + (first & 0x3F) }
    if first < 0xE0 { return 2 }
    if first < 0xF0 {
      guard end - position >= 2 else { throw Unsound("a listpack entry that reaches past the end") }
      return 2 + ((first & 0x0F) << 8 | Int(bytes[position + 1]))
    }
    switch first {
    case 0xF0:
      guard end - position >= 5 else { throw Unsound("a listpack entry that reaches past the end") }
      return 5 + u32(bytes, position + 1)
    case 0xF1: return 3
    case 0xF2: return 4
    case 0xF3: return 5
    case 0xF4: return 9
    default: throw Unsound("a listpack entry of unknown kind \(first)")
    }
  }

  // MARK: Ziplist

  static func ziplist(_ bytes: UnsafeRawBufferPointer) throws(Unsound) -> Int {
    let end = bytes.count - 1
    guard bytes.count >= 11, u32(bytes, 0) == bytes.count, bytes[end] == 0xFF else {
      throw Unsound("a ziplist whose size is not the one it states")
    }
    let tail = u32(bytes, 4)
    let stated = u16(bytes, 8)
    var position = 10
    var last = 10
    var previous = 0
    var count = 0
    while position < end {
      last = position
      let marked = bytes[position] == 0xFE
      guard bytes[position] != 0xFF, !marked || end - position > 5 else { throw Unsound("a torn ziplist entry") }
      guard (marked ? u32(bytes, position + 1) : Int(bytes[position])) == previous else {
        throw Unsound("a ziplist entry that gives another size for the one before it")
      }
      let header = marked ? 5 : 1
      guard position + header < end else { throw Unsound("a torn ziplist entry") }
      let size = header + (try ziplistEntry(bytes, position + header, end))
      guard size <= end - position else { throw Unsound("a ziplist entry that reaches past the end") }
      previous = size
      position += size
      count += 1
    }
    guard tail == last else { throw Unsound("a ziplist whose last entry is not where it states") }
    guard stated == 0xFFFF || stated == count else { throw Unsound("a ziplist that states \(stated) entries") }
    return count
  }

  private static func ziplistEntry(
    _ bytes: UnsafeRawBufferPointer, _ position: Int, _ end: Int
  ) throws(Unsound) -> Int {
    let first = Int(bytes[position])
    switch first >> 6 {
    case 0: return 1 + first
    case 1:
      guard end - position >= 2 else { throw Unsound("a torn ziplist entry") }
      return 2 + ((first & 0x3F) << 8 | Int(bytes[position + 1]))
    case 2:
      guard first == 0x80, end - position >= 5 else { throw Unsound("a torn ziplist entry") }
      return 5 + Int(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: position + 1, as: UInt32.self)))
    default:
      switch first {
      case 0xC0: return 3
      case 0xD0: return 5
      case 0xE0: return 9
      case 0xF0: return 4
      case 0xFE: return 2
      case 0xF1...0xFD: return 1
      default: throw Unsound("a ziplist entry of unknown kind \(first)")
      }
    }
  }

  // MARK: Intset

  static func intset(_ bytes: UnsafeRawBufferPointer) throws(Unsound) -> Int {
    guard bytes.count >= 8 else { throw Unsound("an intset shorter than its header") }
    let width = u32(bytes, 0)
    let count = u32(bytes, 4)
    guard width == 2 || width == 4 || width == 8, count > 0, bytes.count == 8 + width * count else {
      throw Unsound("an intset whose size is not the one it states")
    }
    var previous = Int64.min
    for index in 0..<count {
      let position = 8 + index * width
      let value: Int64 =
        switch width {
        case 2: Int64(Int16(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: Int16.self)))
        case 4: Int64(Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: Int32.self)))
        default: Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: Int64.self))
        }
      guard index == 0 || value > previous else { throw Unsound("an intset out of order") }
      previous = value
    }
    return count
  }

  // MARK: Zipmap

  static func zipmap(_ bytes: UnsafeRawBufferPointer) throws(Unsound) -> Int {
    let end = bytes.count - 1
    guard bytes.count >= 2, bytes[end] == 0xFF else { throw Unsound("a zipmap without its end") }
    let stated = Int(bytes[0])
    var position = 1
    var count = 0

    func size() throws(Unsound) -> Int {
      guard position < end else { throw Unsound("a torn zipmap entry") }
      let first = bytes[position]
      if first < 254 {
        position += 1
        return Int(first)
      }
      guard first == 254, end - position > 5 else { throw Unsound("a torn zipmap entry") }
      position += 5
      return u32(bytes, position - 4)
    }

    while position < end {
      let key = try size()
      guard key < end - position else { throw Unsound("a zipmap key that reaches past the end") }
      position += key
      let value = try size()
      guard position < end else { throw Unsound("a torn zipmap entry") }
      let free = Int(bytes[position])
      position += 1
      guard value + free <= end - position else { throw Unsound("a zipmap value that reaches past the end") }
      position += value + free
      count += 1
    }
    guard count > 0 else { throw Unsound("a packed collection without elements") }
    guard stated >= 254 || stated == count else { throw Unsound("a zipmap that states \(stated) entries") }
    return count
  }
}
