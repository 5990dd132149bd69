import DRCore
import Testing

@Suite struct GlobTests {
  private static func matches(_ pattern: String, _ dialect: Glob.Dialect, _ name: String) -> Bool {
    Array(name.utf8).withUnsafeBytes { Glob(pattern.utf8, dialect).matches($0) }
  }

  @Test(
    "Each dialect means by a pattern what it says",
    arguments: [
      // Pattern, name, then: a component of a path, a Redis key, stars only.
      ("a*c", "abbc", [true, true, true]), ("*", "", [true, true, true]), ("a**", "a", [true, true, true]),
      ("a?", "ab", [true, true, false]), ("a?", "a?", [true, true, true]),
      ("[a-c]", "b", [true, true, false]), ("[a-c]", "[a-c]", [false, false, true]),
      ("[c-a]", "b", [true, true, false]),
      ("[!a]", "b", [true, false, false]), ("[!a]", "!", [true, true, false]), ("[^a]", "b", [true, true, false]),
      // A bracket that closes at once, and one that never does.
      ("[]]", "]", [true, false, false]), ("[]", "[]", [true, false, true]), ("[ab", "a", [false, true, false]),
      ("[ab", "[ab", [true, false, true]), ("[a-]", "-", [true, false, false]), ("[a-]", "]", [false, true, false]),
      // A backslash.
      (#"\*"#, "*", [true, true, false]), (#"\*"#, #"\x"#, [false, false, true]), (#"a\"#, #"a\"#, [true, true, true]),
      (#"[\]]"#, #"\]"#, [true, false, false]), (#"[\]]"#, "]", [false, true, false]),
    ] as [(String, String, [Bool])])
  func dialects(pattern: String, name: String, expected: [Bool]) {
    let dialects: [Glob.Dialect] = [.pathComponent, .redisKey, .starsOnly]
    let found = dialects.map { Self.matches(pattern, $0, name) }
    #expect(found == expected)
  }

  @Test(
    "A pattern that means harm takes no time", arguments: [.pathComponent, .redisKey, .starsOnly] as [Glob.Dialect])
  func fast(dialect: Glob.Dialect) {
    let glob = Glob(String(repeating: "*a", count: 50).utf8, dialect)
    let name = [UInt8](repeating: 0x61, count: 100_000) + [0x62]
    #expect(!name.withUnsafeBytes { glob.matches($0) })
  }
}
