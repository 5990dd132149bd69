/// Where a sparse file holds data; everything else of it reads as zeroes.
///
/// Format: GNU tar manual, "Storing Sparse Files", PAX format, version 1.0; read also: "Old GNU Format".
package struct TarSparseMap: Hashable, Sendable {
  package struct Run: Hashable, Sendable {
    package var offset: Int64
    package var count: Int64

    package init(offset: Int64, count: Int64) {
      self.offset = offset
      self.count = count
    }
  }

  /// More than a file of any use has; the map of a hostile archive ends here.
  package static let limit = 1 << 20

  package var runs: [Run]
  /// The length of the file, holes included.
  package var length: Int64

  package init(runs: [Run], length: Int64) {
    self.runs = runs
    self.length = length
  }

  /// Bytes of data, without the holes.
  package var dataSize: Int64 { runs.reduce(0) { $0 + $1.count } }

  /// The map as it stands before the data: decimal numbers, each on a line, filled up to whole blocks.
  package var encoded: [UInt8] {
    // GNU tar takes the end of the last run for the end of the file.
    let end = runs.last.map { $0.offset + $0.count } ?? 0
    let all = end < length ? runs + [Run(offset: length, count: 0)] : runs
    var text = "\(all.count)\n"
    for run in all { text += "\(run.offset)\n\(run.count)\n" }
    let bytes = [UInt8](text.utf8)
    return bytes + [UInt8](repeating: 0, count: TarHeader.padding(Int64(bytes.count)))
  }

  /// Reads a map block by block.
  struct Parser: Sendable {
    private let length: Int64
    private var numbers: [Int64] = []
    private var expected: Int?
    private var current: Int64?
    private(set) var bytes: Int64 = 0

    init(length: Int64) { self.length = length }

    /// Takes the next block; gives the map once it is whole.
    mutating func push(_ block: some Sequence<UInt8>) throws -> TarSparseMap? {
      bytes += Int64(TarHeader.blockSize)
      for byte in block {
        if let expected, numbers.count == expected { break }
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
          let value = current ?? 0
          guard value < 1 << 58 else { throw Parser.malformed("a number too large") }
          current = value * 10 + Int64(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "\n"):
          guard let value = current else { throw Parser.malformed("an empty line") }
          current = nil
          if expected == nil {
            guard value <= Int64(TarSparseMap.limit) else { throw Parser.malformed("\(value) runs") }
            expected = Int(value) * 2
          } else {
            numbers.append(value)
          }
        default: throw Parser.malformed("a byte that is no digit")
        }
      }
      guard let expected, numbers.count == expected else { return nil }
      return try map()
    }

    private func map() throws -> TarSparseMap {
      try TarSparseMap(
        checking: stride(from: 0, to: numbers.count, by: 2).map {
          Run(offset: numbers[$0], count: numbers[$0 + 1])
        }, length: length)
    }

    static func malformed(_ what: String) -> DRError {
      DRError(.malformedData, "not a sound tar archive: the map of a sparse file has \(what)")
    }
  }

  /// The map of GNU tar's own form: four runs in the header, and as many blocks of 21 more before the data as are needed.
  struct Blocks: Sendable {
    private var runs: [Run] = []
    private let length: Int64
    /// Whether another block of it follows.
    private(set) var isContinued: Bool

    /// - Throws: ``DRError`` with `malformedData`.
    init(header block: [UInt8]) throws {
      length = try TarHeader.number(block[483..<495])
      isContinued = block[482] != 0
      guard length <= 1 << 60 else { throw Parser.malformed("a length of \(length) bytes") }
      try add(block[386..<482])
    }

    mutating func push(_ block: [UInt8]) throws {
      isContinued = block[504] != 0
      try add(block[..<504])
    }

    private mutating func add(_ fields: ArraySlice<UInt8>) throws {
      for start in stride(from: fields.startIndex, to: fields.endIndex, by: 24) {
        // Fields that are not used are empty.
        guard fields[start + 12] != 0 else { return }
        guard runs.count < TarSparseMap.limit else { throw Parser.malformed("over \(TarSparseMap.limit) runs") }
        runs.append(
          Run(
            offset: try TarHeader.number(fields[start..<start + 12]),
            count: try TarHeader.number(fields[start + 12..<start + 24])))
      }
    }

    func map() throws -> TarSparseMap { try TarSparseMap(checking: runs, length: length) }
  }

  /// - Throws: ``DRError`` with `malformedData` for runs that overlap or lie outside the file.
  private init(checking given: [Run], length: Int64) throws {
    var end: Int64 = 0
    for run in given {
      guard run.offset >= end, run.offset <= length, run.count <= length - run.offset else {
        throw Parser.malformed("runs that overlap or lie outside the file")
      }
      end = run.offset + run.count
    }
    self.init(runs: given.filter { $0.count > 0 }, length: length)
  }
}
