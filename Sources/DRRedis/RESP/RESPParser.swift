import DRCore
package import NIOCore

/// Takes bytes in pieces of any size and gives whole values.
///
/// Pure, and bounded: no length is trusted, nothing is allocated for what has not come. What has been seen is not read
/// again when more bytes come.
package struct RESPParser: Sendable {
  /// What is refused rather than waited for.
  package struct Limits: Sendable {
    /// Bytes of one bulk string: the server's own default (`proto-max-bulk-len`).
    package var bulk = 512 << 20
    /// Bytes of a line.
    package var line = 64 << 10
    /// Aggregates within aggregates.
    package var depth = 32
    /// Elements of one aggregate.
    package var elements = 1 << 24

    package init() {}
  }

  private struct Aggregate {
    var kind: UInt8
    var missing: Int
    var values: [RESPValue] = []
  }

  private let limits: Limits
  private var buffer = ByteBuffer()
  /// How much of the line that is not whole yet has been searched for its end.
  private var searched = 0
  /// The length of the bulk that is awaited, and which kind it is.
  private var bulk: (kind: UInt8, length: Int)?
  private var open: [Aggregate] = []
  /// Bytes that made up all values so far.
  private var consumed: Int64 = 0

  package init(limits: Limits = Limits()) { self.limits = limits }

  /// Whether it holds nothing of a value that is not whole.
  package var isAtBoundary: Bool { buffer.readableBytes == 0 && bulk == nil && open.isEmpty }

  package mutating func append(_ bytes: ByteBuffer) {
    if buffer.readableBytes == 0 {
      buffer = bytes
      return
    }
    if buffer.readerIndex > 1 << 20 { buffer.discardReadBytes() }
    buffer.writeImmutableBuffer(bytes)
  }

  /// Passes over line feeds where a value would begin: signs of life of a replica.
  package mutating func skipEmptyLines() {
    guard bulk == nil, open.isEmpty else { return }
    while buffer.getInteger(at: buffer.readerIndex, as: UInt8.self) == 10 {
      buffer.moveReaderIndex(forwardBy: 1)
      consumed += 1
      searched = 0
    }
  }

  /// Takes what was appended and belongs to no value yet.
  package mutating func takeRest() -> ByteBuffer {
    defer {
      buffer = ByteBuffer()
      searched = 0
    }
    return buffer
  }

  /// The next whole value, or nil until more bytes come.
  ///
  /// - Throws: ``DRError`` with `malformedData` naming the offset. The parser is of no use after that.
  package mutating func next() throws -> RESPValue? {
    if takeOK() { return .simple("OK") }
    while true {
      guard let value = try scalarOrOpening() else { return nil }
      switch value {
      case .opened: continue
      case .value(let value):
        if let whole = try close(with: value) { return whole }
      }
    }
  }

  /// Most answers, at the least cost: a restore reads one for each key.
  private mutating func takeOK() -> Bool {
    guard bulk == nil, open.isEmpty,
      buffer.getInteger(at: buffer.readerIndex, as: UInt32.self) == 0x2B4F_4B0D,
      buffer.getInteger(at: buffer.readerIndex + 4, as: UInt8.self) == 10
    else { return false }
    buffer.moveReaderIndex(forwardBy: 5)
    consumed += 5
    searched = 0
    return true
  }

  private enum Step {
    case value(RESPValue)
    case opened
  }

  private mutating func scalarOrOpening() throws -> Step? {
    if let bulk { return try takeBulk(bulk.kind, bulk.length).map { .value($0) } }
    guard let line = try takeLine() else { return nil }
    guard let kind = line.first else { throw malformed("an empty line where a value begins") }
    let text = line.dropFirst()
    switch kind {
    case UInt8(ascii: "+"): return .value(.simple(String(decoding: text, as: UTF8.self)))
    case UInt8(ascii: "-"): return .value(.error(RedisError(String(decoding: text, as: UTF8.self))))
    case UInt8(ascii: ":"): return .value(.integer(try number(text)))
    case UInt8(ascii: "_"):
      guard text.isEmpty else { throw malformed("a null with content") }
      return .value(.null)
    case UInt8(ascii: "#"):
      switch text.first {
      case UInt8(ascii: "t") where text.count == 1: return .value(.boolean(true))
      case UInt8(ascii: "f") where text.count == 1: return .value(.boolean(false))
      default: throw malformed("no boolean")
      }
    case UInt8(ascii: ","):
      let text = String(decoding: text, as: UTF8.self)
      guard let value = Double(text) else { throw malformed("no number") }
      return .value(.double(value))
    case UInt8(ascii: "("):
      let digits = text.first == UInt8(ascii: "-") ? text.dropFirst() : text
      guard !digits.isEmpty, digits.allSatisfy({ (48...57).contains($0) }) else { throw malformed("no big number") }
      return .value(.bigNumber(String(decoding: text, as: UTF8.self)))
    case UInt8(ascii: "$"), UInt8(ascii: "!"), UInt8(ascii: "="):
      let length = try number(text)
      if length == -1, kind == UInt8(ascii: "$") { return .value(.null) }
      guard (0...Int64(limits.bulk)).contains(length) else { throw malformed("a string of \(length) bytes") }
      bulk = (kind, Int(length))
      return try takeBulk(kind, Int(length)).map { .value($0) }
    case UInt8(ascii: "*"), UInt8(ascii: "%"), UInt8(ascii: "~"), UInt8(ascii: ">"), UInt8(ascii: "|"):
      let count = try number(text)
      if count == -1, kind == UInt8(ascii: "*") { return .value(.null) }
      guard (0...Int64(limits.elements)).contains(count) else { throw malformed("an aggregate of \(count) elements") }
      guard open.count < limits.depth else { throw malformed("more than \(limits.depth) levels") }
      let isPairs = kind == UInt8(ascii: "%") || kind == UInt8(ascii: "|")
      let aggregate = Aggregate(kind: kind, missing: Int(count) * (isPairs ? 2 : 1))
      if count > 0 || kind == UInt8(ascii: "|") {
        if count > 0 { open.append(aggregate) }
        return .opened
      }
      return .value(try finished(aggregate))
    default: throw malformed("the byte \(kind) where a value begins")
    }
  }

  /// Adds a value to the aggregates that are open. Returns it, or the outermost, once nothing is missing.
  private mutating func close(with value: RESPValue) throws -> RESPValue? {
    var value = value
    while !open.isEmpty {
      open[open.count - 1].values.append(value)
      open[open.count - 1].missing -= 1
      guard open[open.count - 1].missing == 0, let full = open.popLast() else { return nil }
      // An attribute says something about the value after it.
      if full.kind == UInt8(ascii: "|") { return nil }
      value = try finished(full)
    }
    return value
  }

  private func finished(_ aggregate: Aggregate) throws -> RESPValue {
    switch aggregate.kind {
    case UInt8(ascii: "~"): return .set(aggregate.values)
    case UInt8(ascii: ">"): return .push(aggregate.values)
    case UInt8(ascii: "%"):
      return .map(
        stride(from: 0, to: aggregate.values.count, by: 2).map {
          RESPPair(key: aggregate.values[$0], value: aggregate.values[$0 + 1])
        })
    default: return .array(aggregate.values)
    }
  }

  private mutating func takeBulk(_ kind: UInt8, _ length: Int) throws -> RESPValue? {
    guard buffer.readableBytes >= length + 2 else { return nil }
    guard var bytes = buffer.readSlice(length: length), let end = buffer.readBytes(length: 2) else { return nil }
    guard end == [13, 10] else { throw malformed("a string that does not end where its length says") }
    bulk = nil
    consumed += Int64(length + 2)
    switch kind {
    case UInt8(ascii: "!"): return .error(RedisError(String(buffer: bytes)))
    case UInt8(ascii: "="):
      // Three letters of a format and a colon.
      guard length >= 4, bytes.readBytes(length: 4)?.last == UInt8(ascii: ":") else {
        throw malformed("a verbatim string without its format")
      }
      return .bulk(bytes)
    default: return .bulk(bytes)
    }
  }

  /// A line without its end, or nil until it is whole.
  private mutating func takeLine() throws -> [UInt8]? {
    let found = buffer.withUnsafeReadableBytes { bytes -> Int? in
      bytes[min(searched, bytes.count)...].firstIndex(of: 10)
    }
    guard let end = found else {
      searched = buffer.readableBytes
      guard searched <= limits.line else { throw malformed("a line of more than \(limits.line) bytes") }
      return nil
    }
    searched = 0
    guard end <= limits.line else { throw malformed("a line of more than \(limits.line) bytes") }
    guard var line = buffer.readBytes(length: end + 1), line.count >= 2, line[line.count - 2] == 13 else {
      throw malformed("a line that does not end with CR LF")
    }
    consumed += Int64(line.count)
    line.removeLast(2)
    return line
  }

  private func number(_ digits: some Collection<UInt8>) throws -> Int64 {
    guard let value = Int64(String(decoding: digits, as: UTF8.self)) else { throw malformed("no whole number") }
    return value
  }

  private func malformed(_ what: String) -> DRError {
    DRError(
      .malformedData, "not the Redis protocol at offset \(consumed): \(what)",
      advice: "see what listens at this address")
  }
}
