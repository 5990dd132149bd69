import DRCore
import Foundation
import Testing

/// The README does what it says.
struct ReadmeTests {
  @Test("Every command of the README works as written, in order")
  func commands() async throws {
    let blocks = try Readme.ofPackage().blocks.filter(\.isShell)
    try #require(!blocks.isEmpty)
    let (status, said) = try await ReadmeSession.run(blocks, limit: .seconds(900))
    #expect(status == 0, "\(said)")
    #expect(!said.contains("left running"), "\(said)")
    for block in blocks { #expect(said.contains("the block at line \(block.line)\n")) }
  }

  @Test("Every Swift block of the README is one that ReadmeSnippets.swift compiles")
  func snippets() throws {
    let blocks = try Readme.ofPackage().blocks.filter { $0.language == "swift" }
    try #require(!blocks.isEmpty)
    let compiled = try Snippets.compiled()
    for block in blocks {
      let (imports, body) = Snippets.split(block.text)
      #expect(compiled.imports.isSuperset(of: imports), "line \(block.line)")
      #expect(compiled.bodies.contains(body), "line \(block.line) of README.md is not in ReadmeSnippets.swift")
    }
    #expect(compiled.bodies.count == blocks.count, "ReadmeSnippets.swift holds what the README does not")
  }

  @Test("A command that fails is found and its block named")
  func failingBlock() async throws {
    let readme = try Readme(
      """
      ```console
      $ echo one \\
        two | tr a-z A-Z
      this is output
      $ make test drill
      ```
      ```sh
      psql --no-psqlrc -c 'select 42 as answer'
      sleep 600 &
      cat missing | wc -l
      ```
      ```sh
      echo never
      ```
      """)
    let (status, said) = try await ReadmeSession.run(readme.blocks, limit: .seconds(120))
    #expect(status == 1)
    for text in ["ONE TWO", "line 2", "answer", "line 8", "missing"] { #expect(said.contains(text), "\(said)") }
    #expect(!said.contains("never") && !said.contains("line 13") && !said.contains("left running"), "\(said)")

    let target = try Readme("```sh\nmake no-such-target\n```")
    #expect(try await ReadmeSession.run(target.blocks, limit: .seconds(60)).status != 0)
  }

  @Test("A block that nothing checks is refused", arguments: ["```\nls\n```", "```zsh\nls\n```", "```sh\nls"])
  func uncheckedBlock(text: String) {
    #expect(throws: DRError.self) { try Readme(text) }
  }
}

/// What `ReadmeSnippets.swift` compiles: the text between `// README:` and `// README end`.
private enum Snippets {
  static func compiled() throws -> (imports: Set<String>, bodies: [String]) {
    let file = try String(contentsOfFile: "\(Readme.root)/Tests/ExampleTests/ReadmeSnippets.swift", encoding: .utf8)
    var bodies: [String] = []
    var open: [Substring]?
    for line in file.split(separator: "\n", omittingEmptySubsequences: false) {
      switch line.trimmingCharacters(in: .whitespaces) {
      case "// README": open = []
      case "// README end":
        if let lines = open { bodies.append(dedent(lines)) }
        open = nil
      default: open?.append(line)
      }
    }
    return (split(file).imports, bodies)
  }

  /// The imports of a text, and what follows the last of them without the empty lines between.
  static func split(_ text: String) -> (imports: Set<String>, body: String) {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    let imports = lines.filter { $0.hasPrefix("import ") }
    let last = lines.lastIndex { $0.hasPrefix("import ") }.map { $0 + 1 } ?? 0
    return (Set(imports.map(String.init)), lines[last...].drop(while: \.isEmpty).joined(separator: "\n"))
  }

  private static func dedent(_ lines: [Substring]) -> String {
    let indent = lines.filter { !$0.isEmpty }.map { $0.prefix(while: { $0 == " " }).count }.min() ?? 0
    return lines.map { String($0.dropFirst(indent)) }.joined(separator: "\n")
  }
}
