import Foundation

/// Files of keys as `age` reads them with `-i` and `-R`: one key a line, empty lines and lines that start with `#`.
enum AgeKeyFile {
  /// - Throws: ``DRError`` with `invalidConfiguration`, naming the line by its number and never showing it; also if
  ///   there is no key at all.
  static func parse<Key>(_ text: String, of what: String, _ parseKey: (String) throws -> Key) throws -> [Key] {
    var keys: [Key] = []
    for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
      let line = line.trimmingCharacters(in: .whitespaces)
      if line.isEmpty || line.hasPrefix("#") { continue }
      do {
        keys.append(try parseKey(line))
      } catch let error as DRError {
        throw DRError(
          error.code, "line \(index + 1) of the \(what) file: \(error.message)", advice: error.advice)
      }
    }
    guard !keys.isEmpty else {
      throw DRError(
        .invalidConfiguration, "the \(what) file holds no key",
        advice: "give the file that age-keygen wrote, or one with its public keys, one on each line")
    }
    return keys
  }
}
