import DRCore
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// In a run of the suite a part of the cases, another part each time; all of them with `DR_FAULT_MATRIX=full`.
struct LocalFaultMatrixTests {
  private static let isFull = ProcessInfo.processInfo.environment["DR_FAULT_MATRIX"] == "full"

  @Test(
    "Each fault at each call of each operation, on a local tier, loses nothing",
    arguments: FaultMatrix.Operation.allCases)
  func local(operation: FaultMatrix.Operation) async throws {
    let faults: [FaultInjectingTier.Fault] = [
      .before, .after, .inside, .truncate, .stall(.milliseconds(2)), .flipBit(at: 120),
    ]
    try await withLocalTier { direct, _ in
      let matrix = FaultMatrix(operation: operation, direct: direct, other: InMemoryTier())
      var (call, cases, failed, number) = (1, 0, 0, Int.random(in: 0..<1000))
      let isShort = [.put, .multipart, .copy].contains(operation)
      while true {
        var reached = false
        for fault in faults {
          for killing in [false, true] {
            number += 1
            // Each call is reached by at least one of its twelve cases.
            guard Self.isFull || isShort || number % 5 == 0 else { continue }
            let first = try await matrix.prepare()
            let counting = FaultInjectingTier(direct, failing: call, fault, killing: killing)
            var succeeded = false
            do {
              try await matrix.run(counting)
              succeeded = true
            } catch {}
            let calls = counting.calls
            guard calls.count >= call else {
              try await matrix.reset()
              continue
            }
            reached = true
            // A disk that stores another bit than it was given is found by the next verification, not by the put.
            if case .flipBit = fault, calls[call - 1].kind == .put {
              try await matrix.reset()
              continue
            }
            cases += 1
            if !succeeded { failed += 1 }
            let comment = Comment(
              rawValue: "\(operation): \(fault) at call \(call), \(calls[call - 1])\(killing ? ", killed" : "")")
            try await matrix.check(first, succeeded: succeeded, comment)
            try await matrix.finish()
            try await matrix.check(first, succeeded: true, finished: true, comment)
            try await matrix.reset()
          }
        }
        if !reached { break }
        call += 1
      }
      print("fault matrix, local, \(operation): \(cases) cases, \(failed) reported a failure")
      #expect(cases >= faults.count && failed > 0 && failed < cases)
    }
  }
}
