import DRCore
import DRSandbox
import Foundation
import NIOCore
import Testing

/// Programs that are connected by streams: a failure is never an end, and nothing waits without a limit.
@Suite struct StreamProgramTests {
  @Test("A program that closes its connection and goes on is ended at the limit, and so is one that says nothing")
  func limits() async throws {
    for script in ["exec 1>&-; sleep 60", "sleep 60", "echo some; sleep 60"] {
      let begun = ContinuousClock.now
      let error = await #expect(throws: DRError.self) {
        _ = try await withOutput(of: "/bin/sh", ["-c", script], silence: .seconds(1)) { content in
          for try await _ in content {}
        }
      }
      #expect(error?.code == .timedOut && begun.duration(to: .now) < .seconds(30), "\(script): \(error?.message ?? "")")
    }
    for script in ["cat > /dev/null; sleep 60", "exec 0>&-; sleep 60", "sleep 60"] {
      let begun = ContinuousClock.now
      let error = await #expect(throws: DRError.self) {
        let input = ByteStream((0..<20).map { _ in ByteBuffer(repeating: 120, count: 1 << 20) })
        _ = try await runProgram("/bin/sh", ["-c", script], input: input, silence: .seconds(1))
      }
      #expect(error?.code == .timedOut && begun.duration(to: .now) < .seconds(30), "\(script): \(error?.message ?? "")")
    }
  }

  @Test("What a program has written that failed, or was not there, is no whole stream")
  func failures() async throws {
    for (program, script) in [
      ("/bin/sh", "echo some; exit 3"), ("/bin/sh", "echo some; kill -9 $$"), ("/no/program", ""),
    ] {
      let isEnded = MutableBox(false)
      let error = await #expect(throws: DRError.self) {
        _ = try await withOutput(of: program, ["-c", script], silence: .seconds(10)) { content in
          for try await _ in content {}
          isEnded.withLock { $0 = true }
        }
      }
      #expect(error?.code == .programFailed && !isEnded.value, "\(script)")
    }
    let given = ByteBuffer(string: "0123456789")
    let result = try await runProgram(
      "/bin/sh", ["-c", "wc -c; exit 4"], input: ByteStream(given), silence: .seconds(10))
    #expect(result.status == 4 && result.output.contains("10"))
  }
}
