import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import ExampleSupport
import Foundation
import Logging
import Testing

/// What the programs must not do for whoever asks them by mistake.
struct RefusalTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  @Test("A second cluster, a destination that the restore needs, and a manifest that cannot be read are refused")
  func refusals() async throws {
    try await ProgramPlace.with { place in
      #expect(try await place.run("init").status == 0)
      try await PostgresSandbox.withSandbox(logger: Self.logger) { server in
        let taken = try await place.run("backup", "--include-wal", at: server)
        try #require(taken.status == 0, "\(taken.error)")
      }
      try await PostgresSandbox.withSandbox(logger: Self.logger) { other in
        let refused = try await place.run("backup", "--include-wal", at: other)
        #expect(refused.status == 2 && refused.error.contains("--new-system"), "\(refused.error)")
        let accepted = try await place.run("backup", "--include-wal", "--new-system", at: other)
        #expect(accepted.status == 0, "\(accepted.error)")
      }

      // A target that lies too far back is answered in its own terms.
      let early = try await place.run("restore", "--to", place.folder + "/restored", "--target-lsn", "0/1")
      #expect(early.status == 2 && early.error.contains(/reaches back to 0\/[0-9A-F]+ \(/), "\(early.error)")

      // A refusal is in the audit trail, and nowhere else.
      func everything() throws -> [String] {
        try FileManager.default.subpathsOfDirectory(atPath: place.folder).filter { !$0.contains("/audit") }.sorted()
      }
      let before = try everything()
      for destination in ["", place.repository, place.repository + "/inside", place.folder] {
        let result = try await place.run("restore", "--to", destination, "--replace", "--immediate")
        #expect(result.status == 2 && result.error.contains("nothing was touched"), "\(destination): \(result.error)")
      }
      #expect(try everything() == before)
      #expect(try await place.run("clean", "--older-than-hours", "0").status == 64)

      // The first of the two manifests.
      let manifests = place.repository + "/postgres/metadata"
      let names = try FileManager.default.contentsOfDirectory(atPath: manifests).sorted()
      let first = "\(manifests)/\(try #require(names.first))"
      try "{}".write(toFile: first, atomically: false, encoding: .utf8)
      let checked = try await place.run("check-wal")
      #expect(checked.status == 1, "\(checked.output) \(checked.error)")
      #expect(checked.output.contains("cannot be read"))
    }
  }

  @Test("A configuration in a folder of any name leads the server to its WAL, and no key in it is printed")
  func oddNames() async throws {
    try await ProgramPlace.with { place in
      #expect(try await place.run("init").status == 0)
      try await PostgresSandbox.withSandbox(logger: Self.logger) { server in
        let taken = try await place.run("backup", "--include-wal", at: server)
        try #require(taken.status == 0, "\(taken.error)")
      }
      let odd = place.folder + "/ops'dr %f"
      try FileManager.default.createDirectory(atPath: odd, withIntermediateDirectories: false)
      let config = odd + "/dr.json"
      try FileManager.default.copyItem(atPath: place.config, toPath: config)
      let restored = try await runCommand(
        ProgramPlace.program, ["restore", "--config", config, "--to", place.folder + "/restored"])
      try #require(restored.status == 0, "\(restored.error)")
      // What the server makes of the setting, and then the shell of what the server makes.
      let settings = try String(contentsOfFile: place.folder + "/restored/postgresql.auto.conf", encoding: .utf8)
      let line = try #require(settings.split(separator: "\n").last { $0.hasPrefix("restore_command = '") })
      let command = String(line.dropFirst("restore_command = '".count).dropLast()).replacing("''", with: "'")
        .replacing("\\\\", with: "\\").replacing("%%", with: "\u{1}").replacing("%f", with: "00000009.history")
        .replacing("%p", with: "pg_wal/RECOVERYHISTORY").replacing("\u{1}", with: "%")
      let fetched = try await runCommand("/bin/sh", ["-c", "cd '\(place.folder)/restored' && \(command)"])
      #expect(fetched.status == 1, "\(command): \(fetched.error)")

      let inside = try await runCommand(
        ProgramPlace.program,
        [
          "restore", "--config", config, "--to", place.folder + "/other", "--tablespace", "/old=\(place.repository)/ts",
        ])
      #expect(inside.status == 2 && inside.error.contains("would lie in the repository"), "\(inside.error)")
      let around = try await runCommand(
        ProgramPlace.program,
        ["restore", "--config", config, "--to", place.folder + "/other", "--tablespace", "/old=\(place.folder)"])
      #expect(around.status == 2 && around.error.contains("around the repository"), "\(around.error)")
      #expect(!FileManager.default.fileExists(atPath: place.folder + "/other"))

      let key = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ"
      try """
      {"repository": "\(place.repository)", "component": "postgres/test", "identityFile": "\(key)"}
      """.write(toFile: config, atomically: false, encoding: .utf8)
      let told = try await runCommand(ProgramPlace.program, ["verify", "--config", config])
      #expect(told.status == 2 && told.error.contains("a secret key itself"), "\(told.error)")
      #expect(!told.error.contains("QQQQ") && !String(decoding: told.output, as: UTF8.self).contains("QQQQ"))
    }
  }

  @Test(
    "A component of another kind is not backed up as one of the program's own",
    arguments: [
      ("dr-postgres", "redis/test", "postgres/"), ("dr-redis", "postgres/test", "redis/"),
      ("dr-rabbitmq", "redis/test", "rabbitmq/"), ("dr-files", "postgres/test", "config/"),
    ])
  func otherKind(program: String, component: String, expected: String) async throws {
    try await ProgramPlace.with(program, component: component) { place in
      let result = try await place.run("init")
      #expect(result.status == 2 && result.error.contains(expected), "\(result.error)")
      #expect(!FileManager.default.fileExists(atPath: place.repository))
    }
  }

  @Test("A repository that was never made is not looked for in vain: the message names the command that makes it")
  func beforeInit() async throws {
    try await ProgramPlace.with { place in
      for _ in 0..<2 {
        for command in [["backup"], ["list"], ["check-wal"], ["restore", "--to", place.folder + "/restored"]] {
          let result = try await runCommand(ProgramPlace.program, place.arguments(command))
          let names = result.error.contains("dr-postgres init --config '\(place.config)'")
          #expect(result.status == 2 && names, "\(result.error)")
        }
        // The same if the folder is there and empty.
        try? FileManager.default.createDirectory(atPath: place.repository, withIntermediateDirectories: false)
      }
      #expect(try place.files("").isEmpty)
    }
  }

  @Test(
    "The same of the other programs",
    arguments: [
      ("dr-redis", "redis/test", ["backup", "receive", "list"]),
      ("dr-rabbitmq", "rabbitmq/test", ["backup", "tap", "list"]),
      ("dr-files", "config/test", ["capture .", "list", "restore --to x"]),
    ])
  func beforeInitElsewhere(program: String, component: String, commands: [String]) async throws {
    try await ProgramPlace.with(program, component: component) { place in
      for command in commands {
        var words = command.split(separator: " ").map(String.init)
        if program == "dr-rabbitmq", command != "list" { words += ["--password-file", place.config] }
        let result = try await place.run(words)
        let names = result.error.contains("\(program) init --config '\(place.config)'")
        #expect(result.status == 2 && names, "\(command): \(result.error)")
      }
      #expect(!FileManager.default.fileExists(atPath: place.repository))
    }
  }

  @Test(
    "init takes no folder that holds something, unless told to adopt it",
    arguments: [
      ("dr-postgres", "postgres/test"), ("dr-redis", "redis/test"), ("dr-rabbitmq", "rabbitmq/test"),
      ("dr-files", "config/test"),
    ])
  func foreignFolder(program: String, component: String) async throws {
    try await ProgramPlace.with(program, component: component) { place in
      #expect(try await place.run("init").status == 0)
      #expect(try await place.run("init").status == 0)
      let marker = place.repository + "/.dr-tier"
      try FileManager.default.removeItem(atPath: marker)
      // As it is in a new file system.
      try FileManager.default.createDirectory(
        atPath: place.repository + "/lost+found", withIntermediateDirectories: false)
      #expect(try await place.run("init").status == 0)
      try FileManager.default.removeItem(atPath: marker)
      try "x".write(toFile: place.repository + "/letters", atomically: false, encoding: .utf8)
      let refused = try await place.run("init")
      #expect(
        refused.status == 2 && refused.error.contains("letters") && refused.error.contains("--adopt"),
        "\(refused.error)")
      #expect(!FileManager.default.fileExists(atPath: marker))
      #expect(try await place.run("init", "--adopt").status == 0)
      #expect(try await place.run("list").status == 0)
    }
  }

  @Test("Whatever is called wrongly ends with 64, and with what is allowed")
  func calledWrongly() async throws {
    try await ProgramPlace.with { place in
      let calls: [(command: [String], said: String)] = [
        (["backup", "--workers", "0"], "--workers is 1 to 64"),
        (["backup", "--workers", "-1"], "--workers is 1 to 64"),
        (["backup", "--workers", "100000"], "--workers is 1 to 64"),
        (["backup", "--max-rate", "0"], "--max-rate is 32768 to"),
        (["backup", "--wal-timeout", "-5"], "--wal-timeout is more than 0"),
        (["backup", "--compression", "rar"], "'rar' is no compression: use zstd:1"),
        (["backup", "--cadence", "yearly"], "use hourly, daily, weekly or monthly"),
        (["backup", "--server", "host=x password=y"], "PGPASSFILE"), (["backup", "--no-such-flag"], "--no-such-flag"),
        (["receive-wal", "--partial-interval", "-3"], "--partial-interval is 0.01 to 3600"),
        (["verify", "--level", "deep"], "metadata or data"), (["clean", "--older-than-hours", "-1"], "1 or more"),
        (["restore", "--to", "x", "--target-lsn", "here"], "write it as 0/3000148"),
        (["restore", "--to", "x", "--target-time", "noon"], "2026-11-23 12:00:00+00"),
        (["restore", "--to", "x", "--immediate", "--target-name", "y"], "give one"),
        (["restore", "--to", "x", "--timeline", "first"], "latest, current, or a number"),
        (["restore", "--to", "x", "--tablespace", "y"], "OLD=NEW"), (["restore"], "--to"),
      ]
      for (command, said) in calls {
        let result = try await runCommand(ProgramPlace.program, place.arguments(command))
        #expect(result.status == 64 && result.error.contains(said), "\(command): \(result.status) \(result.error)")
      }
    }
  }

  @Test(
    "No program takes a number that cannot be meant",
    arguments: [
      ("dr-repository prune --tier /nowhere --keep-last -1 --execute", "--keep-last is 1 to"),
      ("dr-repository prune --tier /nowhere --keep-last 0 --execute", "--keep-last is 1 to"),
      ("dr-repository prune --tier /nowhere --keep-days -1 --execute", "--keep-days is 0.01 to"),
      ("dr-repository prune --tier /nowhere --keep-last 1 --grace-hours -1 --execute", "--grace-hours is 0 to"),
      ("dr-repository prune --tier /nowhere --keep-last 1 --lease-seconds -1 --execute", "--lease-seconds is 1 to"),
      ("dr-repository prune --tier /nowhere --execute", "no rule says what to keep"),
      ("dr-repository replicate --from /a --to /b --concurrency -1", "--concurrency is 1 to 256"),
      ("dr-repository replicate --from /a --to /b --lock-days -1", "--lock-days is 0.01 to"),
      ("dr-redis receive --config /nowhere --partial-interval -3", "--partial-interval is 0.01 to 3600"),
      ("dr-redis restore-keys --config /nowhere x --rename y", "FROM=TO"),
      ("dr-redis inspect --config /nowhere --shard -1", "--shard is 0 to"),
      ("dr-redis backup --config /nowhere --server nonsense", "redis://user@host"),
      ("dr-tier thaw --tier /nowhere x --days -1", "--days is 1 to"),
      ("dr-tier-check --tier /nowhere --thaw-limit -1", "--thaw-limit is 0 to"),
      ("dr-rabbitmq tap --config /nowhere --segment-interval -1", "--segment-interval must be more than 0"),
      ("dr-rabbitmq backup --config /nowhere --cadence yearly", "use hourly, daily, weekly or monthly"),
      ("dr-rabbitmq backup --config /nowhere --override nonsense", "nonsense"),
      ("dr-redis backup --config /nowhere --cadence yearly", "use hourly, daily, weekly or monthly"),
      ("dr-files capture --config /nowhere x --largest-file -1", "--largest-file is 0 to"),
      ("dr-files capture --config /nowhere x --cadence yearly", "use hourly, daily, weekly or monthly"),
      ("dr-files capture --config /nowhere x ../y", "leads out of the folder"),
      ("dr-files capture --config /nowhere x --exclude ../y", "leads out of the folder"),
      ("dr-files capture --config /nowhere x --secret ../y", "leads out of the folder"),
      ("dr-files list --config /nowhere --path ../y", "leads out of the folder"),
      ("dr-files restore --config /nowhere --to x --path ../y", "leads out of the folder"),
      ("dr-files restore --config /nowhere --to x --target-time noon", "2026-11-23 12:00:00+00"),
      ("dr-files restore --config /nowhere --to x backup --target-time 2026-11-23T12:00:00Z", "give one of them"),
      ("dr-verify restore-test --config /nowhere --rto-minutes 0", "--rto-minutes is 0.0001 to"),
      ("dr-verify restore-test --config /nowhere --canary a=b", "belong together"),
      ("dr-verify baseline", "name a server"),
      ("dr-verify backups --repository /nowhere --sample 0%", "is no part of the data"),
      ("dr-drill --connections -1", "--connections must be 1 to 64"),
      ("dr-drill --ask 0", "--ask must be 1 to 86400"),
    ])
  func senselessNumbers(call: String, said: String) async throws {
    let words = call.split(separator: " ").map(String.init)
    let result = try await runCommand(ReceiverProcess.built(words[0]), Array(words.dropFirst()))
    #expect(result.status == 64 && result.error.contains(said), "\(result.status) \(result.error)")
  }

  @Test("The help of each program says its exit codes")
  func exitCodes() async throws {
    let programs = [
      "dr-drill", "dr-files", "dr-postgres", "dr-rabbitmq", "dr-redis", "dr-repository", "dr-tier", "dr-tier-check",
      "dr-verify",
    ]
    for program in programs {
      let result = try await runCommand(ReceiverProcess.built(program), ["--help"])
      let help = String(decoding: result.output, as: UTF8.self).split(whereSeparator: \.isWhitespace).joined(
        separator: " ")
      let codes = try Regex("Exit codes: 0 .*, 1 .*, 2 .*, 64 called wrongly; 128 and more: ended by a signal\\.")
      #expect(result.status == 0 && help.contains(codes), "\(program): \(help)")
    }
  }
}
