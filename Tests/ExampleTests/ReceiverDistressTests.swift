import DRCore
import DRPostgres
import DRTestSupport
import Foundation
import Logging
import Testing

/// `dr-postgres receive-wal` where it cannot do its work.
struct ReceiverDistressTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  private static func receive(_ place: ProgramPlace, _ server: PostgresSandbox) throws -> RunningProgram {
    try RunningProgram(
      place.arguments(["receive-wal", "--partial-interval", "0.2"], at: server), in: place.folder)
  }

  @Test("On a full disk it says so once, ends within seconds when it is told to, and loses nothing")
  func fullDisk() async throws {
    try await SmallFileSystem.with { disk in
      try await withTemporaryFolder { folder in
        let place = ProgramPlace(folder: folder, config: folder + "/dr.json", repository: disk.path)
        try place.configure()
        var options = PostgresSandbox.Options()
        options.walSegmentSize = 1
        try await PostgresSandbox.withSandbox(options, logger: Self.logger) { server in
          #expect(try await place.run("init").status == 0)
          let running = try Self.receive(place, server)
          try await eventually("the stream") {
            try await server.query("SELECT count(*) FROM pg_stat_replication").single == "1"
          }
          // More than the disk holds, and nothing that compresses.
          try await server.query("CREATE TABLE t (x bytea)")
          for _ in 0..<6 {
            try await server.query(
              "INSERT INTO t SELECT string_agg(sha512(random()::text::bytea), '') FROM generate_series(1, 8000)")
          }
          try await eventually("the disk to be full") { running.said.contains("[no-space]") }
          try await Task.sleep(for: .seconds(4))
          let told = ContinuousClock.now
          running.send(SIGTERM)
          let ended = try await running.end(within: .seconds(40))
          #expect(told.duration(to: .now) < .seconds(6), "\(ended.said)")
          #expect(ended.status == 0, "\(ended.said)")
          #expect(ended.said.components(separatedBy: "WAL cannot be stored; trying again").count == 2, "\(ended.said)")
          #expect(ended.said.contains("stopped before all that was received is stored"), "\(ended.said)")
          let end = try await server.query("SELECT pg_current_wal_flush_lsn()").single.flatMap { LSN($0) }
          let kept = try await server.query("SELECT restart_lsn FROM pg_replication_slots").single.flatMap { LSN($0) }
          #expect(try #require(kept) < #require(end))
        }
      }
    }
  }

  @Test("A second receiver says who holds the slot, goes on trying, and takes over")
  func secondReceiver() async throws {
    try await ProgramPlace.with { place in
      try await PostgresSandbox.withSandbox(logger: Self.logger) { server in
        #expect(try await place.run("init").status == 0)
        let first = try Self.receive(place, server)
        var process: String?
        try await eventually("the first one to stream") {
          process = try await server.query("SELECT active_pid FROM pg_replication_slots").single
          return process != nil
        }
        let second = try Self.receive(place, server)
        let pid = try #require(process)
        let who = try Regex("another receiver holds the replication slot: .* is active for PID \(pid)")
        try await eventually("the second one to say so", within: .seconds(20)) {
          second.said.contains(who)
        }
        try await Task.sleep(for: .seconds(2))
        #expect(second.said.components(separatedBy: "another receiver holds").count == 2, "\(second.said)")
        first.send(SIGTERM)
        _ = try await first.end(within: .seconds(20))
        try await eventually("the second one to stream", within: .seconds(60)) {
          let now = try await server.query("SELECT active_pid FROM pg_replication_slots").single
          return now != nil && now != process
        }
        second.send(SIGTERM)
        #expect(try await second.end(within: .seconds(20)).status == 0)
      }
    }
  }
}
