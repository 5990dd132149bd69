import NIOCore

extension Decoding {
  /// Decodes a range of the raw bytes, reading only the frames that it touches.
  ///
  /// zstd streams with the seekable-format table and our gzip members are found without reading what lies before; a
  /// foreign stream is decoded from its start. The checksum of each frame is checked, and each authentication tag.
  ///
  /// - Parameters:
  ///   - rawRange: Which raw bytes.
  ///   - storedSize: The size of the stored object in bytes.
  ///   - fetch: Gives a range of the stored bytes.
  /// - Throws: ``DRError``: `corruptData`, `malformedData`, `noMatchingIdentity`, `invalidConfiguration` for a range
  ///   that reaches past the end.
  public func decode(
    range rawRange: Range<Int64>, storedSize: Int64, format: Compression.Format, encrypted: Bool, object: String,
    fetch: @escaping @Sendable (Range<Int64>) async throws -> ByteStream
  ) async throws -> ByteStream {
    guard !rawRange.isEmpty else { return ByteStream([]) }
    let plain =
      encrypted
      ? try await PlainReader.decrypting(identities, storedSize: storedSize, object: object, fetch: fetch)
      : PlainReader(size: storedSize, object: object, fetch: fetch)
    switch format {
    case .none:
      guard rawRange.lowerBound >= 0, rawRange.upperBound <= plain.size else { throw outside(rawRange, object) }
      return try await plain.read(rawRange)
    case .zstd:
      guard let table = try await plain.zstdSeekTable() else { break }
      return try decode(frames: FrameMap(table.entries, rawRange), rawRange, of: plain, format: format)
    case .gzip:
      guard let map = try await plain.gzipMembers(covering: rawRange) else { break }
      return try decode(frames: map, rawRange, of: plain, format: format)
    }
    let all = decode(try await fetch(0..<storedSize), format: format, encrypted: encrypted, object: object)
    return ByteStream.window(rawRange, of: all, object: object)
  }

  private func decode(
    frames: FrameMap, _ rawRange: Range<Int64>, of plain: PlainReader, format: Compression.Format
  ) throws -> ByteStream {
    guard rawRange.lowerBound >= 0, rawRange.upperBound <= frames.rawRange.upperBound else {
      throw outside(rawRange, plain.object)
    }
    let stored = ByteStream.lazily { try await plain.read(frames.storedRange) }
    let raw = decode(
      stored, format: format, encrypted: false, expected: nil, object: plain.object,
      origin: FrameOrigin(index: frames.firstFrame, offset: frames.storedRange.lowerBound))
    let start = rawRange.lowerBound - frames.rawRange.lowerBound
    return ByteStream.window(start..<(start + Int64(rawRange.count)), of: raw, object: plain.object)
  }

  private func outside(_ range: Range<Int64>, _ object: String) -> DRError {
    DRError(.invalidConfiguration, "bytes \(range) lie outside the raw stream", object: object)
  }
}

/// Which frames hold a range of raw bytes.
struct FrameMap: Equatable {
  var firstFrame: Int
  var storedRange: Range<Int64>
  var rawRange: Range<Int64>

  init(firstFrame: Int, storedRange: Range<Int64>, rawRange: Range<Int64>) {
    self.firstFrame = firstFrame
    self.storedRange = storedRange
    self.rawRange = rawRange
  }

  init(_ entries: [ZstdSeekTable.Entry], _ wanted: Range<Int64>) {
    var stored: (first: Int64?, end: Int64) = (nil, 0)
    var raw: (first: Int64, end: Int64) = (0, 0)
    var position: Int64 = 0
    firstFrame = 0
    for (index, entry) in entries.enumerated() {
      let frame = (stored: position, raw: raw.end)
      position += Int64(entry.storedSize)
      raw.end += Int64(entry.rawSize)
      guard raw.end > wanted.lowerBound else { continue }
      if stored.first == nil {
        firstFrame = index
        stored.first = frame.stored
        raw.first = frame.raw
      }
      stored.end = position
      if raw.end >= wanted.upperBound { break }
    }
    storedRange = (stored.first ?? position)..<max(stored.end, stored.first ?? position)
    rawRange = raw.first..<raw.end
  }
}

/// Random access to the bytes under the encryption.
struct PlainReader: Sendable {
  var size: Int64
  var object: String
  var fetch: @Sendable (Range<Int64>) async throws -> ByteStream

  func read(_ range: Range<Int64>) async throws -> ByteStream { try await fetch(range) }

  func bytes(_ range: Range<Int64>) async throws -> ByteBuffer {
    let buffer = try await fetch(range).collect(limit: range.count, object: object)
    guard buffer.readableBytes == range.count else {
      throw DRError(.truncatedData, "\(buffer.readableBytes) bytes where \(range.count) were asked for", object: object)
    }
    return buffer
  }

  /// Access to what age encrypted: the header is read once, then for each range the chunks that it touches.
  static func decrypting(
    _ identities: [AgeIdentity], storedSize: Int64, object: String,
    fetch: @escaping @Sendable (Range<Int64>) async throws -> ByteStream
  ) async throws -> PlainReader {
    var header = AgeHeaderReader(identities: identities, object: object)
    var found: AgePayload?
    // A header has a few hundred bytes: no more is read of it than that, unless it has many recipients.
    var offset: Int64 = 0
    while found == nil, offset < storedSize {
      let end = min(offset + 4096, storedSize)
      var piece = try await fetch(offset..<end).collect(limit: 4096, object: object)
      found = try header.update(&piece)
      offset = end
    }
    guard let payload = found else { throw header.truncated }
    let layout = try AgeLayout(payloadOffset: payload.offset, storedSize: storedSize, object: object)
    return PlainReader(size: layout.plainSize, object: object) { range in
      let decryptor = try AgeRangeDecryptor(payload, plainRange: range, storedSize: storedSize)
      let state = MutableBox<(decryptor: AgeRangeDecryptor, ended: Bool)>((decryptor, false))
      let stored = try await fetch(decryptor.storedRange)
      return ByteStream {
        guard !state.value.ended else { return nil }
        var iterator = stored.makeAsyncIterator()
        guard let buffer = try await iterator.next() else {
          return try state.withLock { state in
            state.ended = true
            return try state.decryptor.finish()
          }
        }
        return try state.withLock { try $0.decryptor.update(buffer) }
      }
    }
  }

  func zstdSeekTable() async throws -> ZstdSeekTable? {
    guard size > Int64(ZstdSeekTable.footerSize) else { return nil }
    let footer = try await bytes((size - Int64(ZstdSeekTable.footerSize))..<size)
    guard let found = ZstdSeekTable.tableSize(footer: footer), found.size <= size else { return nil }
    let table = try await bytes((size - Int64(found.size))..<size)
    return try ZstdSeekTable(table: table, frames: found.frames, hasChecksums: found.hasChecksums, object: object)
  }

  /// Steps from member to member by the sizes that they state; nil if one is not ours.
  func gzipMembers(covering wanted: Range<Int64>) async throws -> FrameMap? {
    var position: Int64 = 0
    var raw: Int64 = 0
    var index = 0
    var first: (index: Int, stored: Int64, raw: Int64)?
    while position < size {
      let end = min(position + Int64(GzipMemberHeader.size), size)
      guard let header = GzipMemberHeader(try await bytes(position..<end)), header.memberSize > GzipMemberHeader.size
      else { return nil }
      let start = (index: index, stored: position, raw: raw)
      index += 1
      position += Int64(header.memberSize)
      raw += Int64(header.rawSize)
      if first == nil, raw > wanted.lowerBound { first = start }
      if raw >= wanted.upperBound { break }
    }
    guard position <= size else { return nil }
    let start = first ?? (index, position, raw)
    return FrameMap(
      firstFrame: start.index, storedRange: start.stored..<position, rawRange: start.raw..<raw)
  }
}

extension ByteStream {
  /// A stream that is opened when it is first pulled.
  static func lazily(_ open: @escaping @Sendable () async throws -> ByteStream) -> ByteStream {
    let opened = MutableBox<ByteStream?>(nil)
    return ByteStream {
      let stream: ByteStream
      if let current = opened.value {
        stream = current
      } else {
        stream = try await open()
        opened.withLock { $0 = stream }
      }
      var iterator = stream.makeAsyncIterator()
      return try await iterator.next()
    }
  }

  /// A part of another stream, which is pulled no further than the part reaches.
  static func window(_ range: Range<Int64>, of stream: ByteStream, object: String) -> ByteStream {
    let position = MutableBox<Int64>(0)
    return ByteStream {
      var iterator = stream.makeAsyncIterator()
      while position.value < range.upperBound {
        guard var buffer = try await iterator.next() else {
          throw DRError(.invalidConfiguration, "bytes \(range) lie outside the raw stream", object: object)
        }
        let start = position.value
        let end = start + Int64(buffer.readableBytes)
        position.withLock { $0 = end }
        guard end > range.lowerBound else { continue }
        let from = Int(Swift.max(0, range.lowerBound - start))
        let to = Int(Swift.min(Int64(buffer.readableBytes), range.upperBound - start))
        buffer.moveReaderIndex(forwardBy: from)
        return buffer.readSlice(length: to - from)
      }
      return nil
    }
  }
}
