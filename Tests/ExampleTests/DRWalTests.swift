import DRCore
import DRPostgres
import DRSandbox
import DRStorage
import DRTestSupport
import ExampleSupport
import Foundation
import Logging
import Testing

/// `dr-wal` as a server calls it: by its exit codes, and from a real server's `archive_command` and `restore_command`.
@Suite(.serialized) struct DRWalTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  /// What a test works with: a server that archives with `dr-wal push`, and its repository.
  private struct Fixture {
    let folder: String
    let server: PostgresSandbox
    let settings: RepositoryConfiguration
    let system: String
    var program: String { folder + "/bin/dr-wal" }
    var config: String { folder + "/dr.json" }

    /// Runs `dr-wal` in the server's data folder, as the server does.
    func run(_ arguments: [String]) async throws -> (status: Int32, error: String) {
      let result = try await runCommand(program, arguments, workingDirectory: server.dataFolder)
      return (result.status, result.error)
    }

    func fetch(_ name: String, to path: String) async throws -> (status: Int32, error: String) {
      try await run(["fetch", "--config", config, "--system-identifier", system, name, path])
    }
  }

  private func withFixture(_ body: (Fixture) async throws -> Void) async throws {
    try await withTemporaryFolder { folder in
      chmod(folder, 0o711)
      let user = try ServerUser.needed("postgres")
      let settings = RepositoryConfiguration(
        repository: folder + "/repository", component: try Component(.postgres, "test"))
      for path in [folder + "/bin", settings.repository] {
        mkdir(path, 0o755)
        if let user { chown(path, user.userID, user.groupID) }
      }
      let built = Bundle.main.bundleURL.appending(path: "dr-wal").path
      let other = "\(Readme.root)/.build/release/dr-wal"
      let source = FileManager.default.isExecutableFile(atPath: built) ? built : other
      try FileManager.default.copyItem(atPath: source, toPath: folder + "/bin/dr-wal")
      try JSONEncoder().encode(settings).write(to: URL(filePath: folder + "/dr.json"))
      chmod(folder + "/dr.json", 0o644)
      _ = try await LocalTier(root: settings.repository, creating: true)
      let options = PostgresSandbox.Options(settings: [
        "archive_mode": "on", "archive_command": "\(folder)/bin/dr-wal push --config \(folder)/dr.json %p",
      ])
      try await PostgresSandbox.withSandbox(options, logger: Self.logger) { server in
        let system = try await server.query("SELECT system_identifier FROM pg_control_system()").single
        try await body(Fixture(folder: folder, server: server, settings: settings, system: try #require(system)))
      }
    }
  }

  /// Fills a segment, and waits until the server has archived it.
  private func archived(_ server: PostgresSandbox) async throws -> String {
    let name = try await server.query(
      "CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t VALUES (1); SELECT pg_walfile_name(pg_switch_wal())"
    ).single
    let segment = try #require(name)
    let deadline = ContinuousClock.now + .seconds(60)
    while try await server.query("SELECT last_archived_wal >= '\(segment)' FROM pg_stat_archiver").single != "t" {
      try #require(ContinuousClock.now < deadline, "\(segment) was not archived")
      try await Task.sleep(for: .milliseconds(100))
    }
    return segment
  }

  @Test("Exit codes: pushed again, other content, fetched, absent, damaged, unreachable, wrong use")
  func exitCodes() async throws {
    try await withFixture { fixture in
      let segment = try await archived(fixture.server)
      let place = fixture.folder + "/fetched"

      let fetched = try await fixture.fetch(segment, to: place)
      #expect(fetched.status == 0, "\(fetched.error)")
      let content = try Data(contentsOf: URL(filePath: place))
      #expect(content.count == 16 << 20)

      // The same content under the same name, as after a crash of the server.
      let copy = "\(fixture.folder)/\(segment)"
      try content.write(to: URL(filePath: copy))
      let push = ["push", "--config", fixture.config, "--system-identifier", fixture.system]
      #expect(try await fixture.run(push + [copy]).status == 0)

      var other = content
      other[other.count - 1] ^= 1
      try other.write(to: URL(filePath: copy))
      let conflict = try await fixture.run(push + [copy])
      #expect((1...125).contains(conflict.status))
      #expect(conflict.error.contains("segment-conflict"))
      try Data().write(to: URL(filePath: copy))
      let empty = try await fixture.run(push + [copy])
      #expect((1...125).contains(empty.status))

      // Only what is truly not there is 1.
      #expect(try await fixture.fetch("0000000100000000000000FF", to: place).status == 1)
      #expect(try await fixture.fetch("00000009.history", to: place).status == 1)
      for wrong in [
        ["fetch"], ["fetch", "--no-such-flag"], ["fetch", "--config", "/nowhere.json", segment, place], [],
      ] {
        let status = try await fixture.run(wrong).status
        #expect(status >= 126, "\(wrong): \(status)")
      }
      // A hole before segments that are there is no end of the log.
      let next = try await archived(fixture.server)
      let hole = try #require(
        try await LocalTier(root: fixture.settings.repository).listAll(prefix: "postgres/wal/")
          .first { $0.key.lastComponent.hasPrefix(segment) })
      let hidden = "\(fixture.settings.repository)/\(hole.key)"
      try FileManager.default.moveItem(atPath: hidden, toPath: fixture.folder + "/hidden")
      let gap = try await fixture.fetch(segment, to: place)
      #expect(gap.status >= 126 && gap.error.contains("change-log-gap"), "\(next): \(gap)")
      try FileManager.default.moveItem(atPath: fixture.folder + "/hidden", toPath: hidden)
      #expect(try await fixture.fetch("../../etc/passwd", to: place).status >= 126)

      let objects = try await LocalTier(root: fixture.settings.repository).listAll(prefix: "postgres/wal/")
      let object = try #require(objects.first { $0.key.lastComponent.hasPrefix(segment) })
      let file = "\(fixture.settings.repository)/\(object.key)"
      var stored = try Data(contentsOf: URL(filePath: file))
      stored[stored.count / 2] ^= 1
      try stored.write(to: URL(filePath: file))
      let before = try Data(contentsOf: URL(filePath: place))
      let damaged = try await fixture.fetch(segment, to: place)
      #expect(damaged.status >= 126)
      #expect(try Data(contentsOf: URL(filePath: place)) == before, "a damaged segment must not replace anything")

      try FileManager.default.moveItem(
        atPath: fixture.settings.repository, toPath: fixture.settings.repository + "-away")
      #expect(try await fixture.fetch(segment, to: place).status >= 126)
      // The mount point of a volume that is not mounted is an empty folder.
      mkdir(fixture.settings.repository, 0o755)
      #expect(try await fixture.fetch(segment, to: place).status >= 126)
    }
  }

  @Test("A real recovery through restore_command; with the archive unreachable it aborts rather than promotes")
  func recovery() async throws {
    try await withFixture { fixture in
      let repository = Repository(tier: try await fixture.settings.tier(creating: false))
      let archive = try await WALArchive.of(
        fixture.server.settings, tier: repository.tier, component: fixture.settings.component, logger: Self.logger)
      let manifest = try await repository.backUp(
        PostgresBaseBackup(
          component: fixture.settings.component, server: fixture.server.settings,
          requiredWAL: .archived(archive, within: .seconds(120))), cadence: .daily, logger: Self.logger)
      try await fixture.server.query("CREATE TABLE after_backup AS SELECT generate_series(1, 1000) AS n")
      _ = try await archived(fixture.server)

      let fetch = "\(fixture.program) fetch --config \(fixture.config) %f %p"
      func restore(to place: String) async throws {
        _ = try await PostgresRestorer(
          dataFolder: place, recovery: RecoverySettings(restoreCommand: fetch), owner: fixture.server.user?.name
        ).restore(from: repository.reader(for: manifest), to: .latest, logger: Self.logger)
      }

      let whole = fixture.folder + "/whole"
      try await restore(to: whole)
      let recovered = try await PostgresSandbox.start(
        dataFolder: whole, until: .promoted, limit: .seconds(120), logger: Self.logger)
      try await PostgresSandbox.with(recovered) { recovered in
        let rows = try await recovered.query("SELECT count(*) FROM after_backup").single
        #expect(rows == "1000")
      }

      // "Cannot reach" must not look like "there is no more".
      let cut = fixture.folder + "/cut"
      try await restore(to: cut)
      let away = fixture.settings.repository + "-away"
      try FileManager.default.moveItem(atPath: fixture.settings.repository, toPath: away)
      let error = await #expect(throws: DRError.self) {
        let server = try await PostgresSandbox.start(
          dataFolder: cut, until: .promoted, limit: .seconds(60), logger: Self.logger)
        try await server.remove()
      }
      #expect(error?.code == .programFailed, "\(error?.description ?? "it was promoted")")
      try FileManager.default.moveItem(atPath: away, toPath: fixture.settings.repository)

      // Nothing was lost: with the archive back, the same folder recovers.
      let again = try await PostgresSandbox.start(
        dataFolder: cut, until: .promoted, limit: .seconds(120), logger: Self.logger)
      try await PostgresSandbox.with(again) { again in
        let rows = try await again.query("SELECT count(*) FROM after_backup").single
        #expect(rows == "1000")
      }
    }
  }
}
