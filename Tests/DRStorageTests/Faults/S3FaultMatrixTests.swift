import DRCore
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// The same over HTTP: each request of each operation, to a real server, spoiled in each way.
///
/// In a run of the suite a part of the cases, another part each time; all of them with `DR_FAULT_MATRIX=full`, and all of
/// one operation with its name, such as `DR_FAULT_MATRIX=prune`.
@Suite(.serialized) struct S3FaultMatrixTests {
  private static let wanted = ProcessInfo.processInfo.environment["DR_FAULT_MATRIX"]

  private static let faults: [S3FaultProxy.Fault] = [
    .refuse, .stall, .answer(status: 500, code: "InternalError"), .answer(status: 503, code: "SlowDown"),
    .errorInSuccess(code: "InternalError"), .loseAnswer, .replaceAnswer(status: 500, code: "InternalError"),
    .truncateAnswer, .stallAnswer, .flipRequestBit, .flipAnswerBit,
  ]

  @Test(
    "Each fault at each request of each operation, on S3, loses nothing", arguments: FaultMatrix.Operation.allCases)
  func s3(operation: FaultMatrix.Operation) async throws {
    // One that decides between two writers: a repository needs that.
    let server = try await S3TestServer.shared(.ceph)
    let isFull = Self.wanted == "full" || Self.wanted == operation.rawValue
    let offset = Int.random(in: 0..<1000)
    try await server.withBucket { bucket in
      try await S3FaultProxy.with(server) { proxy in
        let direct = try await S3Tier(server.configuration(bucket: bucket, prefix: "m"))
        var configuration = server.configuration(bucket: bucket, prefix: "m")
        configuration.endpoint = proxy.endpoint
        configuration.features = direct.features
        configuration.stallLimit = .milliseconds(700)
        configuration.partSize = 5 << 20
        var patient = configuration
        patient.retries = RetryPolicy(attempts: 4, firstDelay: .milliseconds(5), longestDelay: .milliseconds(20))
        // Nothing is tried again: what a caller sees of a fault.
        configuration.retries = RetryPolicy(attempts: 1)
        let matrix = FaultMatrix(operation: operation, direct: direct, other: InMemoryTier())
        let tiers = [try await S3Tier(configuration), try await S3Tier(patient)]

        // How many requests it takes.
        _ = try await matrix.prepare()
        proxy.forget()
        try await matrix.run(tiers[1])
        let requests = proxy.requests
        try await matrix.reset()

        let total = requests.count * Self.faults.count * tiers.count
        let stride = isFull ? 1 : max(1, min(37, total / 3))
        var (cases, failed, number) = (0, 0, offset)
        for request in 1...requests.count {
          for fault in Self.faults {
            for (index, tier) in tiers.enumerated() {
              number += 1
              guard number % stride == 0 else { continue }
              let first = try await matrix.prepare()
              proxy.forget()
              proxy.plan { $0.number == request ? fault : nil }
              var succeeded = false
              do {
                try await matrix.run(tier)
                succeeded = true
              } catch {}
              proxy.plan { _ in nil }
              cases += 1
              if !succeeded { failed += 1 }
              let comment = Comment(
                rawValue:
                  "\(operation): \(fault) at request \(request), \(requests[request - 1].operation), \(index == 0 ? "tried once" : "tried again")"
              )
              try await matrix.check(first, succeeded: succeeded, comment)
              try await matrix.finish()
              try await matrix.check(first, succeeded: true, finished: true, comment)
              try await matrix.reset()
            }
          }
        }
        print(
          "fault matrix, S3 (\(server)), \(operation): \(cases) cases at \(requests.count) requests, \(failed) reported a failure"
        )
        #expect(cases > 0)
        if isFull { #expect(failed > 0 && failed < cases) }
      }
    }
  }
}
