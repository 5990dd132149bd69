import DRCore
import DRPostgres
import DRTestSupport
import Foundation
import Logging
import Testing

private let logger = Logger(label: "test")

@Suite(.serialized) struct SandboxAbandonedTests {
  /// A process makes a sandbox and is killed: the next one finds its server running, and ends it.
  @Test func aSandboxWhoseProcessWasKilledIsRemovedByTheNext() async throws {
    let parent = "/tmp/drt-crash-\(getpid())"
    try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: parent) }

    await #expect(processExitsWith: .signal(SIGKILL)) {
      var options = PostgresSandbox.Options()
      options.parentFolder = "/tmp/drt-crash-\(getppid())"
      let sandbox = try await PostgresSandbox.create(options, logger: Logger(label: "child"))
      let connection = try await PostgresConnection.connect(sandbox.settings, logger: Logger(label: "child"))
      try await connection.send("DO $$BEGIN LOOP END LOOP; END$$")
      kill(getpid(), SIGKILL)
    }

    let name = try #require(try FileManager.default.contentsOfDirectory(atPath: parent).first)
    let home = "\(parent)/\(name)"
    #expect(try serverProcesses(marked: home).count > 4)
    let pidFile = try String(contentsOfFile: "\(home)/data/postmaster.pid", encoding: .utf8)
      .split(separator: "\n", omittingEmptySubsequences: false)
    let segment = String(try #require(pidFile[6].split(separator: " ").last))
    #expect(try isSharedMemory(segment))

    var options = PostgresSandbox.Options()
    options.parentFolder = parent
    try await PostgresSandbox.withSandbox(options, logger: logger) { sandbox in
      #expect(!FileManager.default.fileExists(atPath: home))
      #expect(try serverProcesses(marked: home).isEmpty)
      #expect(try !isSharedMemory(segment))

      // The living are let alone.
      let removed = try await PostgresSandbox.removeAbandoned(in: parent, logger: logger)
      #expect(removed.isEmpty)
      #expect(try await sandbox.query("SELECT 1").single == "1")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: parent).isEmpty)
  }

  /// Whoever can write to the temporary folder could lay out a home that names somebody's data folder.
  @Test func whatLooksLikeASandboxEndsNoOthersServer() async throws {
    let parent = "/tmp/drt-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: parent) }
    try await PostgresSandbox.withSandbox(logger: logger) { sandbox in
      func layOut(_ name: String, owner: Int?) throws {
        let home = "\(parent)/\(name)"
        try FileManager.default.createDirectory(atPath: home, withIntermediateDirectories: false)
        try #"{"process":1,"dataFolder":"\#(sandbox.dataFolder)","made":"2020-01-01T00:00:00Z"}"#
          .write(toFile: "\(home)/owner.json", atomically: true, encoding: .utf8)
        if let owner {
          for path in ["\(home)/owner.json", home] {
            try FileManager.default.setAttributes([.ownerAccountID: owner], ofItemAtPath: path)
          }
        }
      }
      // Our own, over a data folder on which another server has been started since: its folder goes, not the server.
      try layOut("drpg-mine00", owner: nil)
      if geteuid() == 0 { try layOut("drpg-theirs", owner: 65534) }
      try FileManager.default.createSymbolicLink(
        atPath: "\(parent)/drpg-link00", withDestinationPath: sandbox.dataFolder)
      // Made a moment ago, and not claimed yet.
      try FileManager.default.createDirectory(atPath: "\(parent)/drpg-fresh0", withIntermediateDirectories: false)

      let removed = try await PostgresSandbox.removeAbandoned(in: parent, logger: logger)
      #expect(removed == ["\(parent)/drpg-mine00"])
      #expect(try await sandbox.query("SELECT 1").single == "1")
      #expect(FileManager.default.fileExists(atPath: "\(sandbox.dataFolder)/PG_VERSION"))
      #expect(FileManager.default.fileExists(atPath: "\(parent)/drpg-fresh0"))
    }
  }
}
