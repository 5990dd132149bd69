/// A pattern of names, byte for byte. `*` is any text; what else has a meaning, its dialect says.
///
/// Takes time in proportion to the pattern times the name, never more: a star is tried once again at most for each byte.
package struct Glob: Hashable, Sendable {
  /// How a pattern is written.
  package enum Dialect: Hashable, Sendable {
    /// As a component of a path in `.gitignore`: `?` is any byte; `[a-z]` one of several, inverted by `!` or `^`; a `]` that comes
    /// first stands for itself, as does a `[` that is never closed; `\` takes the next byte as it is, but not within brackets.
    case pathComponent
    /// As Redis' `KEYS` and `SCAN`: `?` is any byte; `[a-z]` one of several, inverted by `^` alone; a `]` that comes first closes,
    /// and brackets that are never closed go on to the end; `\` takes the next byte as it is, within brackets too.
    case redisKey
    /// Everything but the star stands for itself.
    case starsOnly
  }

  private enum Piece: Hashable, Sendable {
    case byte(UInt8)
    case any
    case star
    case choice([ClosedRange<UInt8>], inverted: Bool)

    func takes(_ byte: UInt8) -> Bool {
      switch self {
      case .byte(let wanted): wanted == byte
      case .any: true
      case .star: false
      case .choice(let ranges, let inverted): ranges.contains { $0.contains(byte) } != inverted
      }
    }
  }

  private let pieces: [Piece]
  /// What a name must begin and end with, if that is known: most names are told by it.
  private let first: UInt8?
  private let last: UInt8?

  package init(_ pattern: some Sequence<UInt8>, _ dialect: Dialect) {
    let bytes = [UInt8](pattern)
    var pieces: [Piece] = []
    var index = 0
    while index < bytes.count {
      switch bytes[index] {
      case UInt8(ascii: "*"):
        if pieces.last != .star { pieces.append(.star) }
      case UInt8(ascii: "?") where dialect != .starsOnly: pieces.append(.any)
      case UInt8(ascii: "\\") where dialect != .starsOnly && index + 1 < bytes.count:
        index += 1
        pieces.append(.byte(bytes[index]))
      case UInt8(ascii: "[") where dialect != .starsOnly:
        let found =
          dialect == .redisKey ? Glob.redisChoice(bytes, from: index) : Glob.pathChoice(bytes, from: index)
        guard let (choice, end) = found else { fallthrough }
        pieces.append(choice)
        index = end
        continue
      default: pieces.append(.byte(bytes[index]))
      }
      index += 1
    }
    self.pieces = pieces
    first = if case .byte(let byte)? = pieces.first { byte } else { nil }
    last = if case .byte(let byte)? = pieces.last { byte } else { nil }
  }

  package func matches(_ name: UnsafeRawBufferPointer) -> Bool {
    if let first, name.first != first { return false }
    if let last, name.last != last { return false }
    var (piece, position) = (0, 0)
    // Where to go back to: the piece after the last star, and the first byte that the star does not cover yet.
    var retry: (piece: Int, position: Int)?
    while position < name.count {
      if piece < pieces.count {
        if case .star = pieces[piece] {
          piece += 1
          retry = (piece, position)
          continue
        }
        if pieces[piece].takes(name[position]) {
          piece += 1
          position += 1
          continue
        }
      }
      guard let last = retry else { return false }
      piece = last.piece
      position = last.position + 1
      retry = (piece, position)
    }
    return pieces[piece...].allSatisfy { $0 == .star }
  }

  /// Reads from `[` to behind its `]`; nil if there is none.
  private static func pathChoice(_ bytes: [UInt8], from start: Int) -> (Piece, end: Int)? {
    var index = start + 1
    var inverted = false
    if index < bytes.count, bytes[index] == UInt8(ascii: "!") || bytes[index] == UInt8(ascii: "^") {
      inverted = true
      index += 1
    }
    var ranges: [ClosedRange<UInt8>] = []
    while index < bytes.count {
      if bytes[index] == UInt8(ascii: "]"), !ranges.isEmpty { return (.choice(ranges, inverted: inverted), index + 1) }
      if index + 2 < bytes.count, bytes[index + 1] == UInt8(ascii: "-"), bytes[index + 2] != UInt8(ascii: "]") {
        ranges.append(range(bytes[index], bytes[index + 2]))
        index += 3
      } else {
        ranges.append(bytes[index]...bytes[index])
        index += 1
      }
    }
    return nil
  }

  /// Reads from `[` to behind its `]`, or to the end if there is none.
  private static func redisChoice(_ bytes: [UInt8], from start: Int) -> (Piece, end: Int)? {
    var index = start + 1
    var inverted = false
    if index < bytes.count, bytes[index] == UInt8(ascii: "^") {
      inverted = true
      index += 1
    }
    var ranges: [ClosedRange<UInt8>] = []
    while index < bytes.count, bytes[index] != UInt8(ascii: "]") {
      if bytes[index] == UInt8(ascii: "\\"), index + 1 < bytes.count {
        index += 1
      } else if index + 2 < bytes.count, bytes[index + 1] == UInt8(ascii: "-") {
        ranges.append(range(bytes[index], bytes[index + 2]))
        index += 3
        continue
      }
      ranges.append(bytes[index]...bytes[index])
      index += 1
    }
    return (.choice(ranges, inverted: inverted), index + 1)
  }

  /// The bounds may come in either order.
  private static func range(_ one: UInt8, _ other: UInt8) -> ClosedRange<UInt8> { min(one, other)...max(one, other) }
}
