import DRCore

/// Which paths of a tree are meant.
package struct PathSelection: Sendable {
  private let included: [PathPattern]
  private let excluded: [PathPattern]

  /// - Parameter included: Empty: everything.
  /// - Throws: ``DRError`` with `invalidConfiguration` for what is no pattern.
  package init(included: [String], excluded: [String] = []) throws {
    // `.` is the root, and with it everything.
    self.included = included.contains { [".", "./", "/"].contains($0) } ? [] : try included.map(PathPattern.init)
    self.excluded = try excluded.map(PathPattern.init)
  }

  static let everything = PathSelection()

  private init() { (included, excluded) = ([], []) }

  var isEverything: Bool { included.isEmpty }

  /// The patterns, by number, that match the path itself.
  func matching(_ path: [[UInt8]]) -> [Int] { included.indices.filter { included[$0].matches(path) } }

  func text(_ number: Int) -> String { included[number].text }
  var count: Int { included.count }

  /// Whether it, and all below it, is left out.
  func excludes(_ path: [[UInt8]]) -> Bool { excluded.contains { $0.matches(path) } }

  /// Whether the path, or a folder above it, is meant, and nothing on the way excluded.
  func contains(_ path: [[UInt8]]) -> Bool {
    var found = included.isEmpty
    for count in path.indices.map({ $0 + 1 }) {
      let part = Array(path.prefix(count))
      if excludes(part) { return false }
      if !found { found = included.contains { $0.matches(part) } }
    }
    return found
  }
}
