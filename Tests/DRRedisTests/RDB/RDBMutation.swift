import DRTestSupport

/// Damages an RDB file and gives it the checksum that goes with it.
enum RDBMutation {
  /// Bytes that mean something in the format, among them lengths that lie.
  private static let telling: [[UInt8]] = {
    let most = [UInt8](repeating: 0xFF, count: 8)
    var pieces: [[UInt8]] = [[0x81] + most, [0x81, 0x7F] + most.dropFirst(), [0xC3, 0x05, 0x81] + most]
    pieces += [
      [0x80, 0xFF, 0xFF, 0xFF, 0xFF], [0x80, 0, 0, 0, 0], [0x81, 0, 0, 0, 0, 0, 0, 0, 0], [0x40, 0], [0x7F, 0xFF],
    ]
    pieces += [0xC0, 0xC1, 0xC2, 0xC3, 0xF5, 0xF7, 0xFA, 0xFC, 0xFD, 0xFE, 0xFF, 0].map { [$0] }
    return pieces
  }()

  static func mutate(_ file: [UInt8], _ random: inout TestData.Random) -> [UInt8] {
    var bytes = Array(file.dropLast(8))
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      guard bytes.count > 20 else { break }
      // The version is rarely touched: all else would be refused by it.
      let first = Int.random(in: 0..<20, using: &random) == 0 ? 0 : 9
      let place = Int.random(in: first..<bytes.count, using: &random)
      switch Int.random(in: 0..<8, using: &random) {
      case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 1: bytes[place] = UInt8.random(in: 0...255, using: &random)
      case 2: bytes.remove(at: place)
      case 3: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
      case 4:
        let piece = telling[Int.random(in: 0..<telling.count, using: &random)]
        bytes.replaceSubrange(place..<min(bytes.count, place + piece.count), with: piece)
      case 5:
        bytes.insert(contentsOf: telling[Int.random(in: 0..<telling.count, using: &random)], at: place)
      case 6:
        let from = Int.random(in: 9..<bytes.count, using: &random)
        let piece = Array(bytes[from..<min(bytes.count, from + Int.random(in: 1...60, using: &random))])
        bytes.insert(contentsOf: piece, at: place)
      default:
        // A type or an opcode for another, or small numbers for one another.
        bytes[place] = UInt8.random(in: 0...27, using: &random)
      }
    }
    if Int.random(in: 0..<10, using: &random) == 0 {
      bytes.removeLast(Int.random(in: 0..<bytes.count - 9, using: &random))
    }
    return RDBForge.sealed(bytes)
  }
}
