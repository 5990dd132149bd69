import DRCore

/// A pattern of paths below a folder, as `.gitignore` writes them.
///
/// - Without a slash it is a name, at any depth: `.env`, `*.conf`. With one it is a path from the root: `certs/*.pem`;
///   `./.env` or `/.env` is the one at the root alone.
/// - `*` and `?` stand for any text and any character within a component, `[a-z]` and `[!a-z]` for one of several, `**` for any
///   number of components; `\` takes the next character as it is.
/// - What matches a folder holds for everything below it.
package struct PathPattern: Hashable, Sendable {
  let text: String
  /// Nil stands for `**`.
  private let components: [Glob?]

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
    var components = parts.map { $0.elementsEqual("**".utf8) ? nil : Glob($0, .pathComponent) }
    if !isAnchored { components.insert(nil, at: 0) }
    self.components = components
  }

  /// Whether it matches a path itself, not something above it. The empty path is the root.
  package func matches(_ path: [[UInt8]]) -> Bool {
    // A name at any depth, as most patterns are.
    if components.count == 2, components[0] == nil, let glob = components[1] {
      return path.last?.withUnsafeBytes { glob.matches($0) } ?? false
    }
    return PathPattern.match(components[...], path[...])
  }

  private static func match(_ pattern: ArraySlice<Glob?>, _ path: ArraySlice<[UInt8]>) -> Bool {
    guard let first = pattern.first else { return path.isEmpty }
    if let glob = first {
      guard let component = path.first, component.withUnsafeBytes({ glob.matches($0) }) else { return false }
      return match(pattern.dropFirst(), path.dropFirst())
    }
    // `dir/**` is what is below, not the folder itself.
    if pattern.count == 1 { return !path.isEmpty }
    let rest = pattern.dropFirst()
    return (path.startIndex...path.endIndex).contains { match(rest, path[$0...]) }
  }
}
