/// A pattern of key names, with the meaning that `KEYS` and `SCAN` give it: `*`, `?`, `[abc]`, `[^a-c]`, `\`.
///
/// Takes time in proportion to the pattern times the name, never more: a star is tried once again at most for each byte.
package struct KeyPattern: Sendable, Hashable, CustomStringConvertible {
  private enum Piece: Sendable, Hashable {
    case byte(UInt8)
    case any
    case star
    case choice([ClosedRange<UInt8>], inverted: Bool)
  }

  package let description: String
  private let pieces: [Piece]

  package init(_ text: String) {
    description = text
    let bytes = Array(text.utf8)
    var pieces: [Piece] = []
    var index = 0
    while index < bytes.count {
      switch bytes[index] {
      case UInt8(ascii: "*"):
        if pieces.last != .star { pieces.append(.star) }
      case UInt8(ascii: "?"): pieces.append(.any)
      case UInt8(ascii: "["):
        pieces.append(KeyPattern.choice(bytes, &index))
        continue
      case UInt8(ascii: "\\") where index + 1 < bytes.count:
        index += 1
        pieces.append(.byte(bytes[index]))
      case let byte: pieces.append(.byte(byte))
      }
      index += 1
    }
    self.pieces = pieces
  }

  /// Reads from `[` on, and moves behind its `]`, or to the end if there is none.
  private static func choice(_ bytes: [UInt8], _ index: inout Int) -> Piece {
    index += 1
    var inverted = false
    if index < bytes.count, bytes[index] == UInt8(ascii: "^") {
      inverted = true
      index += 1
    }
    var ranges: [ClosedRange<UInt8>] = []
    while index < bytes.count, bytes[index] != UInt8(ascii: "]") {
      if bytes[index] == UInt8(ascii: "\\"), index + 1 < bytes.count {
        index += 1
      } else if index + 2 < bytes.count,
        bytes[index + 1] == UInt8(ascii: "-")
      {
        let (first, last) = (bytes[index], bytes[index + 2])
        ranges.append(min(first, last)...max(first, last))
        index += 3
        continue
      }
      ranges.append(bytes[index]...bytes[index])
      index += 1
    }
    index += 1
    return .choice(ranges, inverted: inverted)
  }

  package func matches(_ name: UnsafeRawBufferPointer) -> Bool {
    var piece = 0
    var position = 0
    // Where to go back to: the piece after the last star, and the first byte that the star does not cover yet.
    var retry: (piece: Int, position: Int)?
    while position < name.count {
      if piece < pieces.count {
        if case .star = pieces[piece] {
          piece += 1
          retry = (piece, position)
          continue
        }
        if accepts(pieces[piece], name[position]) {
          piece += 1
          position += 1
          continue
        }
      }
      guard let last = retry else { return false }
      piece = last.piece
      position = last.position + 1
      retry = (last.piece, last.position + 1)
    }
    return pieces[piece...].allSatisfy { $0 == .star }
  }

  private func accepts(_ piece: Piece, _ byte: UInt8) -> Bool {
    switch piece {
    case .byte(let wanted): byte == wanted
    case .any: true
    case .star: false
    case .choice(let ranges, let inverted): ranges.contains { $0.contains(byte) } != inverted
    }
  }
}
