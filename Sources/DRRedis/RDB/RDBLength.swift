/// A length as RDB files hold it: 1, 2, 5 or 9 bytes.
struct RDBLength {
  /// The length; for an encoded string, how it is encoded.
  var value: UInt64
  /// Bytes that it takes; 0: there are too few bytes to tell; -1: no length starts like this.
  var size: Int
  /// Whether this is no length, but a string in another form.
  var isEncoded = false

  @inline(__always)
  init(_ bytes: UnsafeRawBufferPointer, at position: Int) {
    value = 0
    size = 0
    let room = bytes.count &- position
    guard room > 0 else { return }
    let first = bytes[position]
    switch first &>> 6 {
    case 0:
      value = UInt64(first)
      size = 1
    case 1:
      guard room >= 2 else { return }
      value = UInt64(first & 0x3F) &<< 8 | UInt64(bytes[position &+ 1])
      size = 2
    case 2:
      if first == 0x80 {
        guard room >= 5 else { return }
        value = UInt64(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: position &+ 1, as: UInt32.self)))
        size = 5
      } else if first == 0x81 {
        guard room >= 9 else { return }
        value = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: position &+ 1, as: UInt64.self))
        size = 9
      } else {
        size = -1
      }
    default:
      value = UInt64(first & 0x3F)
      size = 1
      isEncoded = true
    }
  }
}

/// What stands before the bytes of a string.
struct RDBStringHeader {
  enum Form: UInt8, Sendable {
    case raw
    case int8
    case int16
    case int32
    case lzf
  }

  static let none = RDBStringHeader()

  var form = Form.raw
  /// Bytes that follow the header.
  var payload: UInt64
  /// Bytes of the string itself, once decompressed; of an integer, of its binary form.
  var length: UInt64
  /// Bytes of the header; 0: there are too few bytes to tell; -1: no string starts like this.
  var size: Int

  private init() {
    payload = 0
    length = 0
    size = 0
  }

  @inline(__always)
  init(_ bytes: UnsafeRawBufferPointer, at position: Int) {
    let first = RDBLength(bytes, at: position)
    payload = first.value
    length = first.value
    size = first.size
    guard first.isEncoded else { return }
    switch first.value {
    case 0: setInteger(.int8, 1)
    case 1: setInteger(.int16, 2)
    case 2: setInteger(.int32, 4)
    case 3: readCompressed(bytes, at: position)
    default: size = -1
    }
  }

  private mutating func setInteger(_ form: Form, _ count: UInt64) {
    self.form = form
    payload = count
    length = count
  }

  private mutating func readCompressed(_ bytes: UnsafeRawBufferPointer, at position: Int) {
    form = .lzf
    let stored = RDBLength(bytes, at: position + 1)
    guard stored.size > 0, !stored.isEncoded else {
      size = stored.isEncoded ? -1 : stored.size
      return
    }
    let full = RDBLength(bytes, at: position + 1 + stored.size)
    guard full.size > 0, !full.isEncoded else {
      size = full.isEncoded ? -1 : full.size
      return
    }
    payload = stored.value
    length = full.value
    size = 1 + stored.size + full.size
  }
}
