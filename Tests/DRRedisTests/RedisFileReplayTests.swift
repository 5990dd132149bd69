import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Restoring by file to a point in time: the snapshot as base, the change log as increment.
struct RedisFileReplayTests {
  @Test(
    "To an offset, to a moment, to the latest: the server that starts holds what the live one held",
    arguments: [
      RedisDataLayout.AppendOnly.folder, .singleFile,
    ])
  func pointInTime(_ kind: RedisDataLayout.AppendOnly) async throws {
    try await RedisFixture.withRepository { repository, folder in
      let archive = RedisLogArchive(tier: repository.tier, component: try RedisFixture.component())
      var marks: [(offset: String, moment: Date, digest: String)] = []
      var manifest: BackupManifest?
      try await RedisFixture.withServer { server in
        try await RedisFixture.fill(server, keys: 100)
        manifest = try await repository.backUp(
          RedisSnapshot(component: try RedisFixture.component(), server: server.settings), cadence: .hourly,
          logger: RedisFixture.logger)
        let log = try RunningLog(archive, server)
        for round in 1...3 {
          try await server.command("SET", "round", "\(round)", database: 3)
          try await server.command(
            "EVAL", "redis.call('SET', 'a', ARGV[1]) redis.call('SET', 'b', ARGV[1])", "0", "\(round)")
          try await server.command("RPUSH", "list:1", "round \(round)")
          try await server.command("EXPIRE", "session:\(round)", "5000")
          try await log.waitUntilDurable(server)
          let point = try #require(log.last)
          try await Task.sleep(for: .milliseconds(30))
          marks.append((point.position, Date(), try await RedisFixture.digest(server)))
          try await Task.sleep(for: .milliseconds(30))
        }
        _ = await log.stop()
      }
      let reader = repository.reader(for: try #require(manifest))
      let targets: [(RecoveryTarget, Int)] = [
        (.position(marks[0].offset), 0), (.time(marks[1].moment), 1), (.latest, 2),
      ]
      for (number, (target, mark)) in targets.enumerated() {
        let data = "\(folder)/data-\(number)"
        let restorer = RedisFileRestorer(layout: RedisDataLayout(folder: data, appendOnly: kind), archive: archive)
        let report = try await restorer.restoreFiles(from: reader, to: target, logger: RedisFixture.logger)
        #expect(report.commands > 0)
        if mark == 0 { #expect(report.position == marks[0].offset) }
        let digest = try await LocalRedis.with(["--appendonly", "yes"], in: data) { try await $0.digest() }
        #expect(digest == marks[mark].digest, "\(target)")
      }
      let snapshotAlone = RedisFileRestorer(layout: RedisDataLayout(folder: "\(folder)/alone", appendOnly: .off))
      #expect(
        try await snapshotAlone.restoreFiles(from: reader, to: .latest, logger: RedisFixture.logger).commands == 0)
      // Changes have no place in an RDB file, and what the log does not reach is said, before anything is written.
      let off = RedisFileRestorer(
        layout: RedisDataLayout(folder: "\(folder)/off", appendOnly: .off), archive: archive)
      let beyond = RedisFileRestorer(
        layout: RedisDataLayout(folder: "\(folder)/off", appendOnly: kind), archive: archive)
      for (restorer, target) in [
        (off, RecoveryTarget.latest), (beyond, .time(Date() + 1000)), (beyond, .position("99999999999")),
      ] {
        let error = await #expect(throws: DRError.self) {
          try await restorer.restoreFiles(from: reader, to: target, logger: RedisFixture.logger)
        }
        #expect(error?.code == .targetUnreachable)
        #expect(!FileManager.default.fileExists(atPath: "\(folder)/off"))
      }
    }
  }
}
