import Foundation
import Testing

/// The table of hazards names tests that are there.
struct RedisHazardTableTests {
  @Test("Each line of REDIS.md's tables names tests, and each of them is there")
  func namedTests() throws {
    let here = URL(filePath: #filePath).deletingLastPathComponent()
    let folders = [here, here.appending(path: "RDB"), here.appending(path: "../ExampleTests")]
    let sources = try folders.flatMap { folder in
      try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        .filter { $0.pathExtension == "swift" }.map { try String(contentsOf: $0, encoding: .utf8) }
    }
    let document = try String(contentsOf: here.appending(path: "../../REDIS.md"), encoding: .utf8)
    let rows = document.split(separator: "\n").filter {
      $0.hasPrefix("| ") && !$0.hasPrefix("| ---") && !$0.hasPrefix("| hazard") && !$0.hasPrefix("| type")
    }
    #expect(rows.count > 60)
    var named = 0
    for row in rows {
      let cells = row.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
      let names = (cells.last ?? "").split(separator: ",").map { $0.trimmingCharacters(in: [" ", "`"]) }
      #expect(!names.isEmpty, "\(row)")
      for name in names {
        let parts = name.split(separator: ".").map(String.init)
        let isThere =
          parts.count == 2
          && sources.contains { source in
            ["struct", "extension"].contains { source.contains("\($0) \(parts[0]) ") }
              && source.contains("func \(parts[1])(")
          }
        #expect(isThere, "'\(name)', in the row '\(row.prefix(60))…'")
        named += 1
      }
    }
    #expect(named > rows.count)
  }
}
