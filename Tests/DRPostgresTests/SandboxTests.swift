import DRCore
import DRPostgres
import DRTestSupport
import Foundation
import Logging
import Testing

private let logger = Logger(label: "test")

@Suite(.serialized) struct SandboxTests {
  @Test func itRunsAsAnUnprivilegedUserAndLeavesNothing() async throws {
    let (home, process, segment) = try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      let process = try #require(await sandbox.processID)
      let owner = try FileManager.default.attributesOfItem(atPath: "/proc/\(process)")[.ownerAccountID] as? Int
      #expect(owner != 0)
      #expect(owner == sandbox.user.map { Int($0.userID) } ?? Int(geteuid()))
      for (folder, mode) in [(sandbox.dataFolder, 0o700), (sandbox.settings.host ?? "", 0o700)] {
        let attributes = try FileManager.default.attributesOfItem(atPath: folder)
        #expect(attributes[.posixPermissions] as? Int == mode)
        #expect(attributes[.ownerAccountID] as? Int == owner)
      }
      #expect(try await sandbox.query("SHOW listen_addresses").single == "")
      #expect(try await sandbox.query("SHOW data_checksums").single == "on")
      #expect(try await sandbox.query("SHOW wal_level").single == "replica")
      let supplementary = try String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
        .split(separator: "\n").first { $0.hasPrefix("Groups:") }
      if geteuid() == 0 { #expect(supplementary?.split(separator: ":").last?.allSatisfy(\.isWhitespace) ?? true) }
      return (homeFolder(sandbox), process, try sharedMemorySegment(of: sandbox))
    }
    #expect(!FileManager.default.fileExists(atPath: home))
    #expect(kill(process, 0) != 0)
    #expect(try !isSharedMemory(segment))
    #expect(try serverProcesses(marked: home).isEmpty)
  }

  @Test func whatTheBodyThrowsComesOutAndNothingStays() async throws {
    struct Failure: Error {}
    let home = MutableBox("")
    await #expect(throws: Failure.self) {
      try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
        home.withLock { $0 = homeFolder(sandbox) }
        throw Failure()
      }
    }
    #expect(!home.value.isEmpty)
    #expect(!FileManager.default.fileExists(atPath: home.value))
    #expect(try serverProcesses(marked: home.value).isEmpty)
  }

  @Test func cancellationDoesNotSkipTheRemoval() async throws {
    let home = MutableBox("")
    let task = Task {
      try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
        home.withLock { $0 = homeFolder(sandbox) }
        try await Task.sleep(for: .seconds(600))
      }
    }
    try await waitUntil { !home.value.isEmpty }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(!FileManager.default.fileExists(atPath: home.value))
    #expect(try serverProcesses(marked: home.value).isEmpty)
  }

  @Test func aKillTakesEveryProcessAndTheNextStartRecovers() async throws {
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      try await sandbox.query("CREATE TABLE t AS SELECT 42 AS n")
      let busy = try await PostgresConnection.connect(sandbox.settings, logger: logger)
      try await busy.send("DO $$BEGIN LOOP END LOOP; END$$")
      let home = homeFolder(sandbox)
      #expect(try serverProcesses(marked: home).count > 4)
      let segment = try sharedMemorySegment(of: sandbox)

      try await sandbox.kill()
      #expect(try serverProcesses(marked: home).isEmpty)
      #expect(try !isSharedMemory(segment))
      #expect(await sandbox.processID == nil)
      #expect(FileManager.default.fileExists(atPath: "\(sandbox.dataFolder)/postmaster.pid"))
      await busy.close()

      try await sandbox.start()
      #expect(try await sandbox.query("SELECT n FROM t").single == "42")
      #expect(await sandbox.logTail.contains("ready to accept connections"))
      try await sandbox.stop(.immediate)
      #expect(try serverProcesses(marked: home).isEmpty)
      try await sandbox.start()
      try await sandbox.stop()
      #expect(!FileManager.default.fileExists(atPath: "\(sandbox.dataFolder)/postmaster.pid"))
      try await sandbox.remove()
      try await sandbox.remove()
    }
  }

  @Test func settingsAndSegmentSizeAreTheServers() async throws {
    var options = PostgresSandbox.Options(settings: [
      "wal_level": "logical", "max_connections": "37", "dr.note": #"it's a \ 'quoted' one"#,
    ])
    options.walSegmentSize = 1
    options.dataChecksums = false
    try await PostgresSandbox.withSandbox(options, logger: logger) { sandbox in
      for (name, value) in options.settings.merging(
        ["wal_segment_size": "1MB", "data_checksums": "off"], uniquingKeysWith: { $1 })
      {
        let shown = try await sandbox.query("SHOW \(name)").single
        #expect(shown == value)
      }
    }
  }

  @Test func whatCannotWorkIsSaidAndLeavesNothing() async throws {
    let parent = "/tmp/drt-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: parent) }
    var options = PostgresSandbox.Options()
    options.parentFolder = parent

    options.majorVersion = 99
    var error = await #expect(throws: DRError.self) { try await PostgresSandbox.create(options, logger: logger) }
    #expect(error?.code == .programFailed)
    #expect(error?.advice?.contains("postgresql-99") == true)

    options.majorVersion = nil
    options.settings = ["shared_buffers": "much"]
    error = await #expect(throws: DRError.self) { try await PostgresSandbox.create(options, logger: logger) }
    #expect(error?.code == .programFailed)
    #expect(error?.message.contains("shared_buffers") == true)

    for settings in [["a b": "1"], ["work_mem": "1MB'\nfsync = on"], ["": "x"]] {
      options.settings = settings
      error = await #expect(throws: DRError.self) { try await PostgresSandbox.create(options, logger: logger) }
      #expect(error?.code == .invalidConfiguration)
    }
    options.settings = [:]
    options.superuser = "postgres"
    options.walSegmentSize = 3
    await #expect(throws: DRError.self) { try await PostgresSandbox.create(options, logger: logger) }
    #expect(try FileManager.default.contentsOfDirectory(atPath: parent).isEmpty)

    options.parentFolder = parent + String(repeating: "/long", count: 20)
    error = await #expect(throws: DRError.self) { try await PostgresSandbox.create(options, logger: logger) }
    #expect(error?.code == .invalidConfiguration)

    options = .init()
    error = await #expect(throws: DRError.self) {
      try await PostgresSandbox.start(dataFolder: parent, options, logger: logger)
    }
    #expect(error?.code == .invalidConfiguration)
  }
}

/// What sandboxes look like from outside.
func homeFolder(_ sandbox: PostgresSandbox) -> String {
  ((sandbox.settings.host ?? "") as NSString).deletingLastPathComponent
}

/// The processes whose title or command line has the sandbox's name, but for this one's own children that are no servers.
func serverProcesses(marked home: String) throws -> [Int32] {
  let name = (home as NSString).lastPathComponent
  return try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { Int32($0) }.filter { process in
    let line = (try? Data(contentsOf: URL(filePath: "/proc/\(process)/cmdline"))) ?? Data()
    return process != getpid() && String(decoding: line, as: UTF8.self).contains(name)
  }
}

/// Asked of the kernel: a reading of `/proc/sysvipc/shm` can miss an entry while others go.
func isSharedMemory(_ segment: String) throws -> Bool {
  var status = shmid_ds()
  return shmctl(try #require(Int32(segment)), IPC_STAT, &status) == 0 || errno == EACCES
}

/// The identifier of the segment that the server keeps for its data folder.
func sharedMemorySegment(of sandbox: PostgresSandbox) throws -> String {
  let lines = try String(contentsOfFile: "\(sandbox.dataFolder)/postmaster.pid", encoding: .utf8).split(
    separator: "\n", omittingEmptySubsequences: false)
  let segment = try #require(lines[6].split(separator: " ").last.map(String.init))
  try #require(try isSharedMemory(segment))
  return segment
}
