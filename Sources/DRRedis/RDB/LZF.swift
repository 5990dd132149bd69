/// The compression of strings in RDB files: LibLZF's format, read only.
///
/// A control byte under 32 says how many literal bytes follow (one more than it says); any other is a copy of up to 264
/// bytes from at most 8 KiB back in what was written.
enum LZF {
  /// The most bytes that so many compressed ones can stand for: a copy takes two bytes at least.
  static func mostBytes(of compressed: UInt64) -> UInt64 {
    let (bytes, overflow) = compressed.multipliedReportingOverflow(by: 132)
    return overflow ? .max : bytes
  }

  /// How many bytes these stand for, or nil if they are not sound. Writes nothing.
  static func length(_ bytes: UnsafeRawBufferPointer) -> Int? {
    var position = 0
    var written = 0
    while position < bytes.count {
      let control = Int(bytes[position])
      position &+= 1
      if control < 32 {
        guard control < bytes.count &- position else { return nil }
        position &+= control &+ 1
        written &+= control &+ 1
      } else {
        var count = control &>> 5
        if count == 7 {
          guard position < bytes.count else { return nil }
          count &+= Int(bytes[position])
          position &+= 1
        }
        guard position < bytes.count else { return nil }
        let back = (control & 0x1F) &<< 8 | Int(bytes[position])
        position &+= 1
        guard back < written else { return nil }
        written &+= count &+ 2
      }
    }
    return written
  }

  /// Decompresses into as many bytes as there is room. Returns false unless the bytes are sound and fill it exactly.
  static func decompress(_ bytes: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) -> Bool {
    var position = 0
    var written = 0
    while position < bytes.count {
      let control = Int(bytes[position])
      position &+= 1
      if control < 32 {
        let count = control &+ 1
        guard count <= bytes.count &- position, count <= output.count &- written else { return false }
        for index in 0..<count { output[written &+ index] = bytes[position &+ index] }
        position &+= count
        written &+= count
      } else {
        var count = control &>> 5
        if count == 7 {
          guard position < bytes.count else { return false }
          count &+= Int(bytes[position])
          position &+= 1
        }
        guard position < bytes.count else { return false }
        let from = written &- 1 &- ((control & 0x1F) &<< 8 | Int(bytes[position]))
        position &+= 1
        count &+= 2
        guard from >= 0, count <= output.count &- written else { return false }
        // One by one: a copy may read what it has just written.
        for index in 0..<count { output[written &+ index] = output[from &+ index] }
        written &+= count
      }
    }
    return written == output.count
  }
}
