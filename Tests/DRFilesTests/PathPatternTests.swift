import DRFiles
import Testing

@Suite struct PathPatternTests {
  private func components(_ path: String) -> [[UInt8]] {
    path.utf8.split(separator: UInt8(ascii: "/")).map { [UInt8]($0) }
  }

  @Test(
    "Patterns match as .gitignore's do",
    arguments: [
      (".env", [".env", "a/.env", "a/b/.env"], [".envrc", "env", "a.env"]),
      ("*.conf", ["a.conf", "x/y/b.conf", ".conf"], ["a.config", "a.conf/b"]),
      ("/.env", [".env"], ["a/.env"]), ("./.env", [".env"], ["a/.env"]),
      ("certs/*.pem", ["certs/a.pem"], ["certs/x/a.pem", "x/certs/a.pem", "certs/a.pem/b"]),
      ("certs/", ["certs", "x/certs"], ["cert"]),
      ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["z", "b/z", "a/zz"]), ("a/**", ["a/b", "a/b/c"], ["a", "b"]),
      ("**/x", ["x", "a/x", "a/b/x"], ["xx"]), ("f?", ["f1", "a/fx"], ["f", "f12"]),
      ("[a-c]x", ["ax", "cx"], ["dx", "x"]), ("[!a-c]x", ["dx"], ["ax"]), ("[]]", ["]"], ["["]), ("[a", ["[a"], ["a"]),
      (#"\*"#, ["*"], ["a"]), ("a*b*c", ["abc", "a--b--c", "abbcbc"], ["ab", "acb"]),
    ] as [(String, [String], [String])])
  func matching(_ pattern: String, _ yes: [String], _ no: [String]) throws {
    let pattern = try PathPattern(pattern)
    for path in yes { #expect(pattern.matches(components(path)), "\(path)") }
    for path in no { #expect(!pattern.matches(components(path)), "\(path)") }
  }

  @Test("What leads out of the folder is no pattern", arguments: ["", "..", "a/../b", "../x", "a/./b", "a\0"])
  func refused(_ pattern: String) {
    #expect(throws: (any Error).self) { try PathPattern(pattern) }
  }

  @Test("A hostile pattern takes no time")
  func fast() throws {
    let pattern = try PathPattern(String(repeating: "*a", count: 40) + "b")
    #expect(!pattern.matches([[UInt8](repeating: 0x61, count: 255)]))
  }
}
