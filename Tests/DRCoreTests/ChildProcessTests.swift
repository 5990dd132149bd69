import DRTestSupport
import Foundation
import Testing

struct ChildProcessTests {
  @Test("A program that a test has started ends with the test's folder, also where the test fails, stopped or not")
  func endsWithItsFolder() async throws {
    struct Failure: Error {}
    for isStopped in [false, true] {
      var process: ChildProcess?
      await #expect(throws: Failure.self) {
        try await withTemporaryFolder { folder in
          let started = try ChildProcess("/bin/sleep", ["300"], output: folder + "/output")
          if isStopped { started.signal(SIGSTOP) }
          process = started
          throw Failure()
        }
      }
      #expect(try await process?.wait(limit: .seconds(10)) == 128 + SIGKILL)
    }
  }
}
