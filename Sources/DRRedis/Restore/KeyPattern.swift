import DRCore

/// A pattern of key names, with the meaning that `KEYS` and `SCAN` give it: `*`, `?`, `[abc]`, `[^a-c]`, `\`.
package struct KeyPattern: Sendable, Hashable, CustomStringConvertible {
  package let description: String
  private let glob: Glob

  package init(_ text: String) {
    description = text
    glob = Glob(text.utf8, .redisKey)
  }

  package func matches(_ name: UnsafeRawBufferPointer) -> Bool { glob.matches(name) }
}
