import DRCore
import DRPostgres
import DRRedis
import DRStorage
import DRTestSupport
import ExampleSupport
import Foundation
import Logging
import Testing

/// What the programs say: progress on a terminal and elsewhere, what they wait for, and what is wrong.
@Suite struct ProgramOutputTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
  private static let program = ReceiverProcess.built("dr-postgres")

  private struct Source: BackupSource {
    let component: Component

    func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
      try await writer.write("base.tar", ByteStream(TestData.rows(20_000_000)), expectedLength: nil)
      return Capture(recoveryPoint: RecoveryPoint(time: .now, position: "0/1"), method: .snapshot)
    }
  }

  @Test("Progress is a bar on a terminal, and plain lines elsewhere")
  func progress() async throws {
    try await withTemporaryFolder { folder in
      let settings = RepositoryConfiguration(
        repository: folder + "/repository", component: try Component(.postgres, "test"))
      let config = folder + "/dr.json"
      try JSONEncoder().encode(settings).write(to: URL(filePath: config))
      let repository = Repository(tier: try await settings.tier(creating: true))
      _ = try await repository.backUp(
        Source(component: settings.component), cadence: .daily, logger: Self.logger)

      let piped = try await runCommand(Self.program, ["verify", "--config", config])
      #expect(piped.status == 0, "\(piped.error)")
      let lines = piped.error.split(separator: "\n")
      #expect(!lines.isEmpty && lines.allSatisfy { $0.hasPrefix("verify ") }, "\(piped.error)")
      #expect(lines.last?.contains("20.0 MB, ") == true && lines.last?.contains(", in ") == true, "\(piped.error)")
      #expect(!piped.error.contains("\u{1B}") && !piped.error.contains("["))

      #if os(Linux)
        let arguments = ["-qec", "'\(Self.program)' verify --config '\(config)'", "/dev/null"]
      #else
        let arguments = ["-q", "/dev/null", Self.program, "verify", "--config", config]
      #endif
      let terminal = try await runCommand("script", arguments)
      let shown = String(decoding: terminal.output, as: UTF8.self)
      #expect(terminal.status == 0 && shown.contains("\r\u{1B}[Kverify [========================] 20.0 MB"), "\(shown)")
    }
  }

  @Test("A configuration that is missing or wrong is said in words, not in those of a library")
  func configuration() async throws {
    try await withTemporaryFolder { folder in
      let file = folder + "/dr.json"
      func list(_ content: String?) async throws -> String {
        if let content { try content.write(toFile: file, atomically: false, encoding: .utf8) }
        let result = try await runCommand(Self.program, ["list", "--config", file])
        #expect(result.status == 2 && result.error.contains("[invalid-configuration]"), "\(result.error)")
        #expect(result.error.contains("object \(file)") && !result.error.contains(".."), "\(result.error)")
        for word in ["NSCocoa", "Error Domain", "DecodingError", "CodingKey", "UserInfo"] {
          #expect(!result.error.contains(word), "\(result.error)")
        }
        return result.error
      }
      let cases: [(content: String?, said: String)] = [
        (nil, "No such file or directory"), ("no JSON", "is not right"),
        (#"{"repository": "/r"}"#, "'component' is missing"),
        (#"{"repository": 7, "component": "postgres/x"}"#, "'repository'"),
        (#"{"repository": "/r", "component": "nonsense"}"#, "is not a component"),
        (#"{"repository": "/r", "component": "postgres/x", "x": 1}"#, "'x'"),
      ]
      for (content, expected) in cases {
        let said = try await list(content)
        #expect(said.contains(expected), "\(said)")
      }
    }
  }

  @Test("What is stored as plain text is said once, unless the configuration says that it is meant")
  func plaintext() async throws {
    let recipient = try #require(AgeIdentity.generate().recipient)
    let cases = [
      ("", 1), (", \"recipients\": []", 1), (", \"plaintext\": true", 0), (", \"recipients\": [\"\(recipient)\"]", 0),
    ]
    try await PostgresSandbox.withSandbox(logger: Self.logger) { server in
      for (fields, warnings) in cases {
        try await ProgramPlace.with(fields: fields) { place in
          #expect(try await place.run("init").status == 0)
          for command in [["backup", "--include-wal"], ["receive-wal", "--prepare-only"]] {
            let result = try await runCommand(Self.program, place.arguments(command, at: server))
            #expect(
              result.status == 0 && Self.warnings(result.error) == warnings, "\(fields): \(result.error)")
          }
        }
      }
      try await ProgramPlace.with(fields: ", \"plaintext\": true, \"recipients\": [\"\(recipient)\"]") { place in
        #expect(try await place.run("init").status == 0)
        let both = try await place.run("backup", "--include-wal", at: server)
        #expect(both.status == 2 && both.error.contains("plaintext"), "\(both.error)")
      }
    }
  }

  @Test("dr-redis and dr-files say so too")
  func plaintextElsewhere() async throws {
    let cases = [("", 1), (", \"plaintext\": true", 0)]
    try await RedisSandbox.withSandbox(logger: Self.logger) { server in
      guard case .unix(let socket) = server.settings.address else {
        throw DRError(.invalidConfiguration, "the server has no socket")
      }
      for (fields, warnings) in cases {
        try await ProgramPlace.with("dr-redis", component: "redis/test", fields: fields) { place in
          #expect(try await place.run("init").status == 0)
          let receiver = try RunningProgram(
            place.arguments(["receive", "--server", "unix://\(socket)"]), of: place.program, in: place.folder)
          try await eventually("the receiver's snapshot") { receiver.said.contains("committed") }
          receiver.send(SIGTERM)
          let ended = try await receiver.end(within: .seconds(20))
          #expect(ended.status == 0 && Self.warnings(ended.said) == warnings, "\(fields): \(ended.said)")
          let backup = try await place.run("backup", "--server", "unix://\(socket)")
          #expect(backup.status == 0 && Self.warnings(backup.error) == warnings, "\(fields): \(backup.error)")
        }
      }
    }
    for (fields, warnings) in cases {
      try await ProgramPlace.with("dr-files", component: "config/test", fields: fields) { place in
        #expect(try await place.run("init").status == 0)
        let tree = place.folder + "/tree"
        try FileManager.default.createDirectory(atPath: tree, withIntermediateDirectories: false)
        try "port: 80".write(toFile: tree + "/app.yml", atomically: false, encoding: .utf8)
        let capture = try await place.run("capture", tree)
        #expect(capture.status == 0 && Self.warnings(capture.error) == warnings, "\(fields): \(capture.error)")
      }
    }
  }

  private static func warnings(_ text: String) -> Int {
    text.components(separatedBy: "warning: nothing is encrypted").count - 1
  }

  @Test("A backup says what it waits for, for as long as it does; a restore of it says how far it would go")
  func waiting() async throws {
    try await withTemporaryFolder { folder in
      try await PostgresSandbox.withSandbox(logger: Self.logger) { server in
        let config = folder + "/dr.json"
        let settings = RepositoryConfiguration(
          repository: folder + "/repository", component: try Component(.postgres, "test"))
        try JSONEncoder().encode(settings).write(to: URL(filePath: config))
        _ = try await settings.tier(creating: true)
        let receiver = ReceiverProcess(folder: folder, server: server.settings)
        _ = try await receiver.prepare()
        let backup = [
          "backup", "--config", config, "--wal-timeout", "2", "--server", ReceiverProcess.conninfo(server.settings),
        ]
        // Nothing archives the WAL yet.
        let inVain = try await runCommand(Self.program, backup)
        #expect(inVain.status == 2 && inVain.error.contains("[timed-out] the archive did not get the WAL from "))
        let waits = inVain.error.split(separator: "\n").filter { $0.contains("waiting for WAL in the archive, from ") }
        #expect(waits.count == 1, "\(inVain.error)")

        try receiver.start()
        let taken = try await runCommand(Self.program, backup.map { $0 == "2" ? "60" : $0 })
        #expect(taken.status == 0, "\(taken.error)")
        // It goes into a file, and is there at once.
        #expect(receiver.said.contains("slot dr_kill keeps WAL from "), "\(receiver.said)")
        receiver.kill()

        let place = folder + "/restored"
        let restore = ["restore", "--config", config, "--to", place]
        let later = try await runCommand(Self.program, restore + ["--target-time", "2999-01-01 00:00:00+00"])
        #expect(later.status == 2 && later.error.contains("[target-unreachable]"), "\(later.error)")
        #expect(!FileManager.default.fileExists(atPath: place))
        let forced = try await runCommand(
          Self.program, restore + ["--target-time", "2999-01-01 00:00:00+00", "--skip-wal-check"])
        #expect(forced.status == 0 && FileManager.default.fileExists(atPath: place), "\(forced.error)")
      }
    }
  }
}
