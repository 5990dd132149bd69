import DRCore
import NIOCore

/// The pieces of an RDB file on their way through the parser: joins what a cut went through, sums the bytes.
///
/// Give a piece with ``append(_:)``, then take events with ``next()`` until it returns nil.
struct RDBInput: Sendable {
  private(set) var parser: RDBParser
  /// Bytes of the file so far.
  private(set) var total: Int64 = 0
  /// The piece, or the bridge over a cut, that is being read.
  private var current = ByteBuffer()
  /// What was read of it.
  private var position = 0
  /// The piece that the bridge leads into, and how much of the bridge is older than it.
  private var piece: (buffer: ByteBuffer, carried: Int)?
  /// What was not read of the pieces before.
  private var carry = ByteBuffer()
  private var failure: DRError?
  private var crc = CRC64()
  /// The last eight bytes: they are the checksum, once there are no more.
  private var tail = ByteBuffer()

  init(object: String, options: RDBParser.Options) { parser = RDBParser(object: object, options: options) }

  /// Gives the next piece. All events of the pieces before must have been taken.
  mutating func append(_ buffer: ByteBuffer) {
    guard buffer.readableBytes > 0 else { return }
    sum(buffer)
    parser.base = total - Int64(carry.readableBytes)
    total += Int64(buffer.readableBytes)
    position = 0
    parser.enter(at: 0)
    if carry.readableBytes == 0 {
      current = buffer
      piece = nil
    } else {
      piece = (buffer, carry.readableBytes)
      current = carry
      current.writeBytes(buffer.readableBytesView.prefix(RDBParser.lookAhead))
      carry.clear()
    }
  }

  /// The next event, or nil if it needs more bytes.
  ///
  /// - Throws: ``DRError``. Once it has thrown it throws the same for good.
  mutating func next() throws -> RDBParser.Event? {
    if let failure { throw failure }
    do {
      while true {
        if let event = try current.withUnsafeReadableBytes({ try parser.run($0, &position) }) { return event }
        guard let (buffer, carried) = piece else {
          keep(current)
          return nil
        }
        piece = nil
        if position < carried {
          // Only if all of the piece is in the bridge and more is needed still.
          keep(current)
          return nil
        }
        parser.base += Int64(position)
        current = buffer
        current.moveReaderIndex(forwardBy: position - carried)
        position = 0
        parser.enter(at: 0)
      }
    } catch let error as DRError {
      failure = error
      throw error
    }
  }

  /// Says that there are no more bytes. Returns whether the file has a checksum, which then is right.
  ///
  /// - Throws: ``DRError``: `truncatedData`, `corruptData`.
  mutating func finish() throws -> Bool {
    if let failure { throw failure }
    guard parser.step == .done else {
      throw DRError(
        .truncatedData,
        "the RDB file ends before it is complete, at offset \(total), while reading \(parser.place)",
        advice: "choose another backup", object: parser.object)
    }
    guard parser.version >= 5, let stored = tail.getInteger(at: tail.readerIndex, endianness: .little, as: UInt64.self)
    else { return false }
    // Zero is what a server writes when its checksums are switched off.
    if stored == 0 { return false }
    guard stored == crc.value else {
      throw DRError(
        .corruptData,
        "the checksum at the end of the RDB file, at offset \(total - 8), is \(hex(stored)), and its bytes have \(hex(crc.value))",
        advice: "choose another backup", object: parser.object)
    }
    return true
  }

  /// Says whether to keep the bytes of the value whose key was just given.
  mutating func keepValue(_ keeps: Bool) { parser.keepsValue = keeps }

  /// The stored bytes of the current key, or their start.
  func withKey<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    if let range = parser.keyRange {
      return try current.withUnsafeReadableBytes { try body(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }
    return try parser.keyBytes.withUnsafeBytes(body)
  }

  /// The current key in its plain form, cut if it is longer than what is kept of keys.
  ///
  /// - Throws: ``DRError`` with `malformedData` if it is compressed and not sound.
  func key() throws -> ByteBuffer {
    let header = parser.keyHeader
    if header.form == .raw {
      if let range = parser.keyRange,
        let slice = current.getSlice(at: current.readerIndex + range.lowerBound, length: range.count)
      {
        return slice
      }
      return ByteBuffer(bytes: parser.keyBytes)
    }
    // A key that was cut can only be shown.
    if header.length > UInt64(parser.options.keyLimit) {
      return ByteBuffer(string: withKey { RDBString.text($0, header, limit: 256) })
    }
    guard let bytes = withKey({ RDBString.bytes($0, header) }) else {
      throw parser.malformed("a key that does not decompress", at: position)
    }
    return ByteBuffer(bytes: bytes)
  }

  /// The bytes of the value that was just read, if they were kept.
  func value() -> ByteBuffer? {
    guard parser.keepsValue else { return nil }
    let from = current.readerIndex + parser.keptFrom
    guard let rest = current.getSlice(at: from, length: position - parser.keptFrom) else { return nil }
    guard !parser.kept.isEmpty else { return rest }
    var all = ByteBuffer(bytes: parser.kept)
    all.writeImmutableBuffer(rest)
    return all
  }

  private mutating func keep(_ buffer: ByteBuffer) {
    carry.clear()
    carry.writeBytes(buffer.readableBytesView.dropFirst(position))
    current = ByteBuffer()
    position = 0
  }

  /// Sums all but the last eight bytes so far.
  private mutating func sum(_ buffer: ByteBuffer) {
    let ready = max(0, tail.readableBytes + buffer.readableBytes - 8)
    let old = min(ready, tail.readableBytes)
    if let bytes = tail.readSlice(length: old) { bytes.withUnsafeReadableBytes { crc.update($0) } }
    buffer.withUnsafeReadableBytes { crc.update(UnsafeRawBufferPointer(rebasing: $0[..<(ready - old)])) }
    tail.writeBytes(buffer.readableBytesView.dropFirst(ready - old))
    tail.discardReadBytes()
  }

  private func hex(_ number: UInt64) -> String { String(number, radix: 16) }
}
