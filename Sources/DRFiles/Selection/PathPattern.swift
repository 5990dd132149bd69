import DRCore

/// A pattern of paths below a folder, as `.gitignore` writes them.
///
/// - Without a slash it is a name, at any depth: `.env`, `*.conf`. With one it is a path from the root: `certs/*.pem`;
///   `./.env` or `/.env` is the one at the root alone.
/// - `*` and `?` stand for any text and any character within a component, `[a-z]` and `[!a-z]` for one of several, `**` for any
///   number of components; `\` takes the next character as it is.
/// - What matches a folder holds for everything below it.
package struct PathPattern: Hashable, Sendable {
  private enum Piece: Hashable, Sendable {
    case byte(UInt8)
    case any
    case star
    case choice([ClosedRange<UInt8>], inverted: Bool)
  }

  let text: String
  /// Nil stands for `**`.
  private let components: [[Piece]?]

  /// - Throws: ``DRError`` with `invalidConfiguration`.
  package init(_ text: String) throws {
    func refuse(_ why: String) -> DRError {
      DRError(
        .invalidConfiguration, "'\(text.prefix(200))' is no pattern: it \(why)",
        advice: "patterns are names or paths below the root folder, such as .env, *.conf or certs/**/*.pem")
    }
    self.text = text
    guard !text.isEmpty, !text.utf8.contains(0) else { throw refuse("is empty or holds a NUL") }
    var parts = Array(text.utf8).split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: true).map {
      [UInt8]($0)
    }
    var isAnchored = text.utf8.dropLast().contains(UInt8(ascii: "/"))
    while let first = parts.first, first.elementsEqual(".".utf8) {
      isAnchored = true
      parts.removeFirst()
    }
    guard !parts.contains(where: { $0.elementsEqual("..".utf8) || $0.elementsEqual(".".utf8) }) else {
      throw refuse("leads out of the folder")
    }
    var components = parts.map { $0.elementsEqual("**".utf8) ? nil : PathPattern.pieces($0) }
    if !isAnchored { components.insert(nil, at: 0) }
    self.components = components
  }

  /// Whether it matches a path itself, not something above it. The empty path is the root.
  package func matches(_ path: [[UInt8]]) -> Bool { PathPattern.match(components[...], path[...]) }

  private static func match(_ pattern: ArraySlice<[Piece]?>, _ path: ArraySlice<[UInt8]>) -> Bool {
    guard let first = pattern.first else { return path.isEmpty }
    if let pieces = first {
      guard let component = path.first, matches(pieces, component) else { return false }
      return match(pattern.dropFirst(), path.dropFirst())
    }
    // `dir/**` is what is below, not the folder itself.
    if pattern.count == 1 { return !path.isEmpty }
    let rest = pattern.dropFirst()
    return (path.startIndex...path.endIndex).contains { match(rest, path[$0...]) }
  }

  /// A star is tried once again at most for each byte.
  private static func matches(_ pieces: [Piece], _ name: [UInt8]) -> Bool {
    var (piece, byte) = (0, 0)
    var retry: (piece: Int, byte: Int)?
    while byte < name.count {
      if piece < pieces.count, pieces[piece] == .star {
        retry = (piece, byte)
        piece += 1
        continue
      }
      if piece < pieces.count, takes(pieces[piece], name[byte]) {
        piece += 1
        byte += 1
        continue
      }
      guard let last = retry else { return false }
      retry = (last.piece, last.byte + 1)
      piece = last.piece + 1
      byte = last.byte + 1
    }
    return pieces[piece...].allSatisfy { $0 == .star }
  }

  private static func takes(_ piece: Piece, _ byte: UInt8) -> Bool {
    switch piece {
    case .byte(let wanted): wanted == byte
    case .any: true
    case .star: false
    case .choice(let ranges, let inverted): ranges.contains { $0.contains(byte) } != inverted
    }
  }

  private static func pieces(_ bytes: [UInt8]) -> [Piece] {
    var pieces: [Piece] = []
    var index = 0
    while index < bytes.count {
      switch bytes[index] {
      case UInt8(ascii: "*"):
        if pieces.last != .star { pieces.append(.star) }
      case UInt8(ascii: "?"): pieces.append(.any)
      case UInt8(ascii: "\\") where index + 1 < bytes.count:
        index += 1
        pieces.append(.byte(bytes[index]))
      case UInt8(ascii: "["):
        guard let (choice, end) = choice(bytes, from: index) else { fallthrough }
        pieces.append(choice)
        index = end
        continue
      default: pieces.append(.byte(bytes[index]))
      }
      index += 1
    }
    return pieces
  }

  /// Reads from `[` to behind its `]`; nil if there is none: then the bracket is itself.
  private static func choice(_ bytes: [UInt8], from start: Int) -> (Piece, end: Int)? {
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
        ranges.append(min(bytes[index], bytes[index + 2])...max(bytes[index], bytes[index + 2]))
        index += 3
      } else {
        ranges.append(bytes[index]...bytes[index])
        index += 1
      }
    }
    return nil
  }
}
