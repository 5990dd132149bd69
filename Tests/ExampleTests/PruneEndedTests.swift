import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// A pruning that does not come to its end says what it had done by then.
struct PruneEndedTests {
  enum End: String, CaseIterable {
    case leaseLost, signal
  }

  @Test(
    "A pruning that loses its lease, or is told to end, says what it had removed, and the next one ends it",
    arguments: End.allCases)
  func ended(how: End) async throws {
    let server = try await S3TestServer.shared(.ceph)
    try await server.withTier(prefix: "app") { tier in
      let repository = try await SmallRepository(on: tier)
      var ids: [String] = []
      for _ in 0..<3 { ids.append(try await repository.backUp().id) }
      try await S3FaultProxy.with(server) { proxy in
        try await withTemporaryFolder { folder in
          try """
          [default]
          aws_access_key_id = \(server.credentials.accessKeyID)
          aws_secret_access_key = \(server.credentials.secretAccessKey)
          """.write(toFile: "\(folder)/credentials", atomically: true, encoding: .utf8)
          let place = "\(folder)/tier.json"
          try """
          {"repository": "\(tier.name)", "s3": {"endpoint": "\(proxy.endpoint)", "credentials": "file:\(folder)/credentials"}}
          """.write(toFile: place, atomically: true, encoding: .utf8)
          let arguments = [
            "prune", "--tier", place, "--keep-last", "1", "--grace-hours", "0", "--lease-seconds", "15", "--execute",
          ]
          func prune() throws -> RunningProgram {
            try RunningProgram(arguments, of: ReceiverProcess.built("dr-repository"), in: folder)
          }
          let marking = try await prune().end(within: .seconds(120))
          try #require(marking.status == 0 && marking.said.contains("marked 2, took back 0, removed 0"), "\(marking)")

          // The second manifest is asked to be removed, and no answer comes.
          let asked = MutableBox(0)
          proxy.plan { request in
            guard request.method == "DELETE", request.uri.contains("/metadata/"), request.uri.contains(".json") else {
              return nil
            }
            return asked.withLock { count in
              count += 1
              return count > 1 ? .stall : nil
            }
          }
          let running = try prune()
          try await eventually("the second removal to be asked for", within: .seconds(120)) { asked.value > 1 }
          switch how {
          case .signal: running.send(SIGTERM)
          case .leaseLost:
            _ = try await tier.put(
              ObjectKey("leases/prune/0000000000000009.json"),
              ByteStream(
                ByteBuffer(string: "{\"owner\": \"other\", \"count\": 0, \"life\": 1, \"released\": true}")),
              PutOptions())
          }
          let ended = try await running.end(within: .seconds(120))
          let done = "by then: marked 0, took back 0, removed 1 backups and 0 segments; removed: \(ids[0]); "
          #expect(ended.said.contains(done + "begun to remove: \(ids[1])"), "\(ended)")
          switch how {
          case .signal: #expect(ended.status == 143 && ended.said.contains("ended by SIGTERM"), "\(ended)")
          case .leaseLost: #expect(ended.status == 2 && ended.said.contains("[lease-lost]"), "\(ended)")
          }
          proxy.plan { _ in nil }
          let rest = try await prune().end(within: .seconds(120))
          #expect(rest.status == 0 && rest.said.contains("removed 1 backups"), "\(rest)")
          #expect(try await Repository(tier: tier).catalog().backups.map(\.id) == [ids[2]])
        }
      }
    }
  }
}
