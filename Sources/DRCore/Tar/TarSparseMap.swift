/// Where a sparse file holds data; everything else of it reads as zeroes.
///
/// Format: GNU tar manual, "Storing Sparse Files", PAX format, version 1.0.
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
      var runs: [Run] = []
      var end: Int64 = 0
      for index in stride(from: 0, to: numbers.count, by: 2) {
        let run = Run(offset: numbers[index], count: numbers[index + 1])
        guard run.offset >= end, run.offset + run.count <= length else {
          throw Parser.malformed("runs that overlap or lie outside the file")
        }
        end = run.offset + run.count
        if run.count > 0 { runs.append(run) }
      }
      return TarSparseMap(runs: runs, length: length)
    }

    static func malformed(_ what: String) -> DRError {
      DRError(.malformedData, "not a sound tar archive: the map of a sparse file has \(what)")
    }
  }
}
