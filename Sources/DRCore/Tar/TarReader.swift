package import NIOCore

/// Reads a tar archive, pushed in pieces cut anywhere: bytes in, events out.
///
/// Reads ustar as PostgreSQL writes it, sizes in base 256 as GNU tar writes them, pax headers and GNU long names, as far
/// as its ``Dialect`` goes. Devices and other kinds of member are refused. Made for hostile input: header checksums are
/// compared, lengths are bounded, paths are checked (``TarMember/path``).
///
/// Content is handed out as slices that share the frames' storage; nothing is copied but a header that a cut goes
/// through. Give a frame with ``append(_:)``, then take events with ``next()`` until it returns nil.
///
/// Format: POSIX.1-2017, pax, "ustar Interchange Format".
package struct TarReader: Sendable {
  /// What an archive may hold.
  package enum Dialect: Sendable {
    /// Files, folders and symbolic links; of pax headers `path`, `linkpath` and `size`. Anything more is refused.
    case files
    /// What a file system has: hard links, sparse files (GNU 1.0, and GNU tar's own), owners, fractions of seconds, extended attributes
    /// and access control lists too. The folder that the archive was made of is a member, with an empty path.
    case everything
  }

  package enum Event: Sendable {
    /// A file starts; as many ``data(_:)`` as there is content follow, then ``fileEnd``.
    case file(TarMember)
    case data(ByteBuffer)
    case fileEnd
    case directory(TarMember)
    case symlink(TarMember)
    case hardLink(TarMember)
    /// The trailer: two blocks of zeroes. Nothing but zeroes may follow.
    case end
  }

  private enum State {
    case header
    case content(remaining: Int64, padding: Int)
    case padding(Int)
    case extended(UInt8, remaining: Int, padding: Int)
    case sparseMap(TarMember, TarSparseMap.Parser)
    case sparseBlocks(TarMember, TarSparseMap.Blocks)
    case trailer
    case ended
    case failed(DRError)
  }

  private let object: String
  private let dialect: Dialect
  private var state = State.header
  private var input = ByteBuffer()
  /// The offset of the next byte of input in the archive.
  private var offset: Int64 = 0
  private var collected = ByteBuffer()
  private var overrides: TarOverrides

  /// - Parameter object: Names the archive in errors.
  package init(object: String, dialect: Dialect = .files) {
    self.object = object
    self.dialect = dialect
    overrides = TarOverrides(dialect)
  }

  /// Gives the next frame. All events of the frames before should have been taken: what is left of them is copied.
  package mutating func append(_ frame: ByteBuffer) {
    if input.readableBytes == 0 { input = frame } else { input.writeImmutableBuffer(frame) }
  }

  /// The next event, or nil if it needs more bytes.
  ///
  /// - Throws: ``DRError``: `malformedData` or `invalidKey`, naming the archive and the offset. Once it has thrown it
  ///   throws the same for good.
  package mutating func next() throws -> Event? {
    do {
      return try step()
    } catch let error as DRError {
      state = .failed(error)
      throw error
    }
  }

  /// Says that there are no more bytes.
  ///
  /// - Parameter trailer: Whether the archive must have its trailer. PostgreSQL 13 and 14 send archives without.
  /// - Throws: ``DRError`` with `truncatedData` if the archive ends in the middle.
  package func finish(trailer: Bool = true) throws {
    switch state {
    case .ended: return
    case .failed(let error): throw error
    case .header where !trailer && input.readableBytes == 0 && overrides.isEmpty: return
    default:
      throw DRError(
        .truncatedData, "the archive ends before it is complete, at offset \(offset + Int64(input.readableBytes))",
        object: object)
    }
  }

  private mutating func step() throws -> Event? {
    while true {
      switch state {
      case .failed(let error):
        throw error

      case .header:
        guard let block = take(TarHeader.blockSize) else { return nil }
        if let event = try header(block) { return event }

      case .content(let remaining, let padding):
        if remaining == 0 {
          state = .padding(padding)
          return .fileEnd
        }
        let count = Int(min(remaining, Int64(input.readableBytes)))
        guard count > 0, let slice = take(count) else { return nil }
        state = .content(remaining: remaining - Int64(count), padding: padding)
        return .data(slice)

      case .padding(let count):
        guard skip(count) else { return nil }
        state = .header

      case .extended(let kind, let remaining, let padding):
        let count = min(remaining, input.readableBytes)
        if let slice = take(count) { collected.writeImmutableBuffer(slice) }
        guard count == remaining else {
          state = .extended(kind, remaining: remaining - count, padding: padding)
          return nil
        }
        try located { try overrides.read(kind, collected.readableBytesView) }
        collected.clear()
        state = .padding(padding)

      case .sparseMap(var member, var parser):
        guard member.size >= parser.bytes + Int64(TarHeader.blockSize) else {
          throw malformed("a sparse file without its map")
        }
        guard let block = take(TarHeader.blockSize) else { return nil }
        guard let map = try located({ try parser.push(block.readableBytesView) }) else {
          state = .sparseMap(member, parser)
          continue
        }
        member.size -= parser.bytes
        return try sparse(member, map)

      case .sparseBlocks(let member, var blocks):
        guard blocks.isContinued else { return try sparse(member, try located { try blocks.map() }) }
        guard let block = take(TarHeader.blockSize) else { return nil }
        try located { try blocks.push([UInt8](block.readableBytesView)) }
        state = .sparseBlocks(member, blocks)

      case .trailer:
        guard let block = take(TarHeader.blockSize) else { return nil }
        guard block.readableBytesView.allSatisfy({ $0 == 0 }) else { throw malformed("a lone block of zeroes") }
        state = .ended
        return .end

      case .ended:
        guard input.readableBytesView.allSatisfy({ $0 == 0 }) else { throw malformed("bytes after the end") }
        offset += Int64(input.readableBytes)
        input.moveReaderIndex(forwardBy: input.readableBytes)
        return nil
      }
    }
  }

  /// A sparse file, of which only the data follows.
  private mutating func sparse(_ given: TarMember, _ map: TarSparseMap) throws -> Event {
    var member = given
    guard map.dataSize == member.size else { throw malformed("a sparse file whose map does not fit its data") }
    member.sparse = map
    state = .content(remaining: member.size, padding: TarHeader.padding(member.size))
    return .file(member)
  }

  private mutating func header(_ block: ByteBuffer) throws -> Event? {
    guard let header = try located({ try TarHeader(block.readableBytesView) }) else {
      guard overrides.isEmpty else { throw malformed("an extended header without its member") }
      state = .trailer
      return nil
    }
    switch header.kind {
    case UInt8(ascii: "x"), UInt8(ascii: "g"), UInt8(ascii: "L"), UInt8(ascii: "K"):
      guard header.size <= TarOverrides.limit(dialect) else {
        throw malformed("an extended header of \(header.size) bytes")
      }
      state = .extended(
        header.kind, remaining: Int(header.size), padding: TarHeader.padding(header.size))
      return nil

    case UInt8(ascii: "0"), 0, UInt8(ascii: "7"):
      let member = try located { try header.member(.file, overrides) }
      let sparseLength = try located { try overrides.sparseFile() }
      // Old archives mark a folder by a trailing slash alone.
      guard !header.endsInSlash(overrides) else { throw malformed("a file whose name ends in a slash") }
      overrides = TarOverrides(dialect)
      if let sparseLength {
        guard sparseLength <= 1 << 60 else { throw malformed("a sparse file of \(sparseLength) bytes") }
        state = .sparseMap(member, TarSparseMap.Parser(length: sparseLength))
        return nil
      }
      state = .content(remaining: member.size, padding: TarHeader.padding(member.size))
      return .file(member)

    case UInt8(ascii: "S") where dialect == .everything:
      guard let blocks = header.sparse else { throw malformed("a sparse file without its map") }
      let member = try located { try header.member(.file, overrides) }
      overrides = TarOverrides(dialect)
      state = .sparseBlocks(member, blocks)
      return nil

    case UInt8(ascii: "5"):
      let member = try located { try header.member(.folder, overrides) }
      guard member.size == 0 else { throw malformed("a folder with content") }
      overrides = TarOverrides(dialect)
      // "./" is the folder that the archive was made of.
      return member.path.isEmpty && dialect == .files ? nil : .directory(member)

    case UInt8(ascii: "2"):
      let member = try located { try header.member(.symbolicLink, overrides) }
      guard member.size == 0 else { throw malformed("a link with content") }
      overrides = TarOverrides(dialect)
      return .symlink(member)

    case UInt8(ascii: "1") where dialect == .everything:
      let member = try located { try header.member(.hardLink, overrides) }
      guard member.size == 0 else { throw malformed("a link with content") }
      overrides = TarOverrides(dialect)
      return .hardLink(member)

    default:
      throw malformed("a member of kind \(header.kind), which is neither file, folder nor link")
    }
  }

  private mutating func take(_ count: Int) -> ByteBuffer? {
    guard let slice = input.readSlice(length: count) else { return nil }
    offset += Int64(count)
    return slice
  }

  /// Skips padding, of which perhaps only a part is there yet.
  private mutating func skip(_ count: Int) -> Bool {
    let there = min(count, input.readableBytes)
    input.moveReaderIndex(forwardBy: there)
    offset += Int64(there)
    guard there == count else {
      state = .padding(count - there)
      return false
    }
    return true
  }

  private func malformed(_ what: String) -> DRError {
    DRError(.malformedData, "not a sound tar archive: \(what) before offset \(offset)", object: object)
  }

  /// Adds to an error which archive it is in, and where.
  private func located<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch var error as DRError {
      error.message += ", before offset \(offset) of the archive"
      error.object = object
      throw error
    }
  }
}
