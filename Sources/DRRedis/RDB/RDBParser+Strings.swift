import DRCore

/// Strings: their headers, going over them, and what is kept of them or looked into.
extension RDBParser {
  /// The header of the string at a position, or nil if there are too few bytes.
  @inline(__always)
  func stringHeader(_ bytes: UnsafeRawBufferPointer, _ position: Int) throws -> RDBStringHeader? {
    let header = RDBStringHeader(bytes, at: position)
    guard header.size > 0 else {
      guard header.size == 0 else { throw malformed("no string starts like this", at: position) }
      return nil
    }
    return header
  }

  /// The length at a position, or nil if there are too few bytes.
  @inline(__always)
  func length(_ bytes: UnsafeRawBufferPointer, _ position: Int) throws -> RDBLength? {
    let length = RDBLength(bytes, at: position)
    guard length.size > 0, !length.isEncoded else {
      guard length.size == 0 else { throw malformed("no length starts like this", at: position) }
      return nil
    }
    return length
  }

  /// Goes over a string whose header is at the position. Returns false when it ends in a later piece: then the step is
  /// the one that goes over the rest, and after it comes `next`.
  @inline(__always)
  mutating func pass(
    _ header: RDBStringHeader, _ bytes: UnsafeRawBufferPointer, _ position: inout Int, then next: Step
  ) throws -> Bool {
    position &+= header.size
    guard header.payload <= UInt64(bytes.count &- position) else {
      cross(header, then: next)
      return false
    }
    if options.checksValues, isPacked || header.form == .lzf {
      let end = position &+ Int(header.payload)
      try check(header, UnsafeRawBufferPointer(rebasing: bytes[position..<end]), at: position)
    }
    position &+= Int(header.payload)
    return true
  }

  private mutating func cross(_ header: RDBStringHeader, then next: Step) {
    after = next
    let looks = options.checksValues && (isPacked || header.form == .lzf)
    if looks, header.payload <= UInt64(options.valueLimit) {
      collect(header, .packed)
    } else {
      if looks { unchecked &+= 1 }
      left = header.payload
      step = .skip
    }
  }

  mutating func collect(_ header: RDBStringHeader, _ purpose: Purpose) {
    self.purpose = purpose
    collectedHeader = header
    left = header.payload
    scratch.removeAll(keepingCapacity: true)
    step = .collect
  }

  mutating func append(_ bytes: UnsafeRawBufferPointer, _ position: Int, _ number: Int) {
    switch purpose {
    case .key:
      let room = max(0, options.keyLimit - keyBytes.count)
      keyBytes.append(contentsOf: bytes[position..<position + min(number, room)])
    case .auxName, .auxValue:
      let room = max(0, 1024 - scratch.count)
      scratch.append(contentsOf: bytes[position..<position + min(number, room)])
    case .packed:
      scratch.append(contentsOf: bytes[position..<position + number])
    }
  }

  mutating func endCollecting(_ position: Int) throws {
    switch purpose {
    case .key:
      startValue(position)
    case .auxName:
      auxName = text(scratch, collectedHeader)
      step = .aux
    case .auxValue:
      // Old servers kept whole scripts here: those are no one's to show.
      if let name = auxName, aux.count < 64, name != "lua" { aux[name] = text(scratch, collectedHeader) }
      auxName = nil
      step = .opcode
    case .packed:
      step = after
      try scratch.withUnsafeBytes { try check(collectedHeader, $0, at: position - scratch.count) }
      if scratch.capacity > 1 << 20 { scratch = [] }
    }
  }

  private func text(_ bytes: [UInt8], _ header: RDBStringHeader) -> String {
    bytes.withUnsafeBytes { RDBString.text($0, header, limit: 1024) }
  }

  /// Looks into a string: whether it decompresses, and is the collection that it should be.
  private mutating func check(
    _ header: RDBStringHeader, _ stored: UnsafeRawBufferPointer, at position: Int
  ) throws {
    guard header.form == .lzf else {
      guard header.form == .raw else { throw malformed("a number where a packed collection belongs", at: position) }
      return try checkPacking(stored, at: position)
    }
    guard header.length <= LZF.mostBytes(of: header.payload) else {
      throw malformed("a compressed string that states more bytes than it can hold", at: position)
    }
    if isPacked, header.length <= UInt64(options.valueLimit) {
      try withUnsafeTemporaryAllocation(byteCount: Int(header.length), alignment: 8) { buffer in
        guard LZF.decompress(stored, into: buffer) else {
          throw malformed("a compressed string that is not sound", at: position)
        }
        try checkPacking(UnsafeRawBufferPointer(buffer), at: position)
      }
    } else {
      if isPacked { unchecked &+= 1 }
      guard let length = LZF.length(stored), UInt64(length) == header.length else {
        throw malformed("a compressed string that is not sound", at: position)
      }
    }
  }

  private func checkPacking(_ bytes: UnsafeRawBufferPointer, at position: Int) throws {
    do {
      _ = try PackedCollections.check(bytes, packing)
    } catch {
      throw malformed(error.what, at: position)
    }
  }
}
