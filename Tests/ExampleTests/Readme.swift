import DRCore
import Foundation

/// The fenced blocks of a README.
struct Readme {
  struct Block {
    let language: String
    /// Of the block's first line, counted from 1.
    let line: Int
    let text: String

    /// What is run: in a console block the lines after a prompt (and those that they continue on), the rest being
    /// output for the reader; in any other block, all of it.
    var commands: String {
      let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
      guard language == "console", lines.contains(where: { $0.hasPrefix("$ ") }) else { return text }
      var continues = false
      let typed = lines.compactMap { line -> String? in
        let isPrompt = line.hasPrefix("$ ")
        guard isPrompt || continues else { return nil }
        continues = line.hasSuffix("\\")
        return isPrompt ? String(line.dropFirst(2)) : line
      }
      return typed.joined(separator: "\n")
    }

    var isShell: Bool { ["console", "sh", "bash"].contains(language) }
  }

  /// Languages of blocks that nobody runs or compiles. Any other language is refused, lest a block goes unchecked.
  private static let passive = ["text", "json", "conf", "ini"]

  let blocks: [Block]

  /// - Throws: ``DRError`` with `malformedData` for a block that is not closed, or of no known language.
  init(_ text: String) throws {
    var blocks: [Block] = []
    var open: (language: String, line: Int, lines: [String])?
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      if line.hasPrefix("```") {
        if let block = open {
          blocks.append(
            Block(language: block.language, line: block.line, text: block.lines.joined(separator: "\n")))
          open = nil
        } else {
          open = (line.dropFirst(3).trimmingCharacters(in: .whitespaces), index + 2, [])
        }
      } else {
        open?.lines.append(String(line))
      }
    }
    if let open { throw DRError(.malformedData, "the block at line \(open.line) of the README is not closed") }
    for block in blocks where !block.isShell && block.language != "swift" && !Readme.passive.contains(block.language) {
      throw DRError(
        .malformedData, "the block at line \(block.line) of the README has the language '\(block.language)'",
        advice: "use console, sh, bash or swift, which are checked, or text, json, conf or ini")
    }
    self.blocks = blocks
  }

  /// The root of the package.
  static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path

  static func ofPackage() throws -> Readme {
    try Readme(String(contentsOfFile: "\(root)/README.md", encoding: .utf8))
  }
}
