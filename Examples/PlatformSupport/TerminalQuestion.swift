import DRCore
import Foundation

/// A question to whoever is at the terminal.
public enum TerminalQuestion {
  /// The end of the input is no.
  public static func ask(_ question: String) async throws -> Bool {
    print("\(question) [y/N] ", terminator: "")
    fflush(nil)
    let executor = BlockingExecutor(label: "terminal")
    var line: [UInt8] = []
    while !line.contains(UInt8(ascii: "\n")) {
      try Task.checkCancellation()
      // In slices: a read that waits for a person would outlast the step's limit. Nil: nothing yet.
      let read: [UInt8]? = try await executor.run {
        var input = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
        guard poll(&input, 1, 200) > 0 else { return nil }
        return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 256) { buffer in
          let count = Foundation.read(STDIN_FILENO, buffer.baseAddress, buffer.count)
          return Array(buffer.prefix(max(0, count)))
        }
      }
      guard let read else { continue }
      if read.isEmpty { break }
      line += read
    }
    let answer = String(decoding: line.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    return ["y", "yes"].contains(answer.trimmingCharacters(in: .whitespaces).lowercased())
  }
}
