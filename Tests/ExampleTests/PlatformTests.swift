import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// A platform as one file describes it: backed up, served, looked at, restored to one moment, brought up elsewhere.
@Suite(.serialized) struct PlatformTests {
  private static let programs = [
    "dr-backup", "dr-restore", "dr-status", "dr-failover", "dr-files", "dr-redis", "dr-repository",
  ]

  private static func address(_ server: RedisSandbox) throws -> String {
    guard case .unix(let socket) = server.settings.address else {
      throw DRError(.invalidConfiguration, "the server has no socket")
    }
    return "unix://\(socket)"
  }

  /// A platform of a Redis and a folder.
  private static func withPlatform(
    fields: String = "", _ body: (ScenarioPlace, RedisSandbox) async throws -> Void
  ) async throws {
    try await ScenarioPlace.with(programs) { place in
      let redis = try place.configure("redis/cache")
      let files = try place.configure("config/app")
      try await place.done("dr-redis", "init", "--config", redis)
      try await place.done("dr-files", "init", "--config", files)
      try FileManager.default.createDirectory(atPath: "\(place.folder)/app", withIntermediateDirectories: true)
      try place.write("one", to: "app/settings.conf")
      try place.user?.own("\(place.folder)/app")
      try await RedisSandbox.withSandbox(logger: ScenarioPlace.logger) { server in
        let address = try address(server)
        try place.write(
          """
          {
            // Two components are enough.
            "plan": {
              "name": "small", "platform": {"rto": "1h", "rpo": "1h", "priority": "critical"},
              "tiers": [{"name": "local", "place": "\(place.folder)", "retention": {"rules": [{"days": 7}]}}],
              "components": [
                {"component": "redis/cache", "objective": {"rto": "30m", "rpo": "15m", "priority": "high"}, "tiers": ["local"],
                 "captures": [{"name": "snapshot", "purpose": "full", "schedule": {"cron": "* * * * *"}, "cadence": "hourly"},
                              {"name": "changes", "purpose": "log", "schedule": {"continuous": "5s"}}],
                 "verifications": [{"level": "data", "cron": "0 3 * * *"}]},
                {"component": "config/app", "objective": {"rto": "30m", "rpo": "24h", "priority": "high"}, "tiers": ["local"],
                 "captures": [{"name": "archive", "purpose": "full", "schedule": {"cron": "0 3 * * *"}, "cadence": "daily"},
                              {"name": "cleaning", "purpose": "upkeep", "schedule": {"cron": "0 4 * * *"}}]}
              ]
            },
            "repository": "\(place.folder)/repository-redis-cache",
            "components": {
              "redis/cache": {
                "config": "\(redis)",
                "captures": {"snapshot": {"run": ["dr-redis", "backup", "--config", "\(redis)", "--server", "\(address)"], "attempts": 2, "pause": "1s"},
                             "changes": ["dr-redis", "receive", "--config", "\(redis)", "--server", "\(address)"]},
                "verifications": {"data": ["dr-redis", "check", "--repository-only", "--config", "\(redis)"]},
                "restore": ["dr-redis", "restore", "--online", "--replace", "--config", "\(redis)", "--server", "\(address)"],
                "regions": {"west": {"restore": ["dr-redis", "restore", "--online", "--replace", "--config", "\(redis)", "--server", "\(address)"],
                                     "capture": ["dr-redis", "backup", "--config", "\(redis)", "--server", "\(address)"]}}
              },
              "config/app": {
                "config": "\(files)",
                "captures": {"archive": ["dr-files", "capture", "--config", "\(files)", "\(place.folder)/app"]},
                "restore": ["dr-files", "restore", "--config", "\(files)", "--to", "\(place.folder)/app-again"],
                "regions": {"west": {"restore": ["dr-files", "restore", "--config", "\(files)", "--to", "\(place.folder)/app-west"]}}
              }
            },
            "regions": {"west": {"provision": ["sh", "-c", "echo provisioned >> \(place.folder)/west"],
                                 "application": ["sh", "-c", "echo started >> \(place.folder)/west"],
                                 "switch": ["sh", "-c", "echo switched >> \(place.folder)/west"]}}\(fields)
          }
          """, to: "platform.json5")
        try await body(place, server)
      }
    }
  }

  @Test(
    "It is checked, backed up once, looked at and restored; what is lost now, and how far each is from the moment, is said"
  )
  func once() async throws {
    try await Self.withPlatform { place, server in
      let platform = ["--platform", "platform.json5"]
      let check = try await place.run("dr-backup", ["check"] + platform)
      #expect(
        check.output.contains("warning job-configured config/app cleaning: not configured")
          && check.output.contains("passed job-configured redis/cache snapshot: dr-redis backup"), "\(check)")

      let before = try await place.run("dr-status", platform)
      #expect(before.status == 1 && before.output.contains("redis/cache: nothing could be recovered"), "\(before)")
      try await server.command("SET", "session", "first")
      let taken = try await place.run("dr-backup", ["run"] + platform)
      #expect(
        taken.status == 0 && taken.output.contains("redis/cache snapshot: done in ")
          && taken.output.contains("config/app archive: done in "), "\(taken)")
      #expect(!taken.output.contains("cleaning") && !taken.output.contains("changes"), "\(taken)")
      let unverified = try await place.run("dr-status", platform)
      #expect(unverified.status == 1 && unverified.output.contains("never verified"), "\(unverified)")
      let verified = try await place.run("dr-backup", ["run"] + platform + ["--only", "verification, data"])
      #expect(verified.status == 0 && verified.output.contains("redis/cache verification, data: done"), "\(verified)")
      let known = try await place.run("dr-status", platform)
      let line = try #require(known.output.split(separator: "\n").first { $0.hasPrefix("redis/cache ") })
      #expect(!line.contains("never"), "\(known)")
      for wrong in [["--only", "nosuch"], ["--component", "redis/other"]] {
        let refused = try await place.run("dr-backup", ["run"] + platform + wrong)
        #expect(refused.status == 64, "\(refused)")
      }

      // What comes after the moment is in the log, and there alone.
      let receive = ["receive", "--config", "\(place.folder)/redis-cache.json", "--server", try Self.address(server)]
      let moment = try await place.whileRunning("dr-redis", receive) { receiver -> String in
        try await eventually("the log") { receiver.said.contains("committed") || receiver.said.contains("goes on") }
        try await server.command("SET", "session", "first")
        try await Task.sleep(for: .milliseconds(1500))
        let moment = Timestamp.postgres(Date())
        try await Task.sleep(for: .milliseconds(1500))
        try await server.command("SET", "session", "second")
        try await Task.sleep(for: .milliseconds(1500))
        return moment
      }
      let all = ["--target-time", moment, "--execute", "--journal", "journal"]
      let dry = try await place.run("dr-restore", platform)
      #expect(dry.status == 0 && dry.output.contains("would dr-redis restore --online"), "\(dry)")
      #expect(try await server.command("GET", "session").text == "second")
      let restored = try await place.run("dr-restore", platform + all)
      #expect(restored.status == 0 && restored.output.contains("passed: "), "\(restored)")
      #expect(restored.output.firstMatch(of: /redis\/cache: 20\S+Z, \S+ before the moment/) != nil, "\(restored)")
      #expect(restored.output.contains("config/app: not known: its programs say no moment"), "\(restored)")
      #expect(try await server.command("GET", "session").text == "first")
      #expect(try String(contentsOfFile: "\(place.folder)/app-again/settings.conf", encoding: .utf8) == "one")
      let again = try await place.run("dr-restore", platform + all)
      #expect(again.status == 0 && again.output.contains("redis-cache: done before"), "\(again)")
      let kind = try await place.run("dr-restore", platform + ["--type", "postgresql"])
      #expect(kind.status == 64 && kind.error.contains("no component of the kind postgres"), "\(kind)")
    }
  }

  @Test(
    "As a service: jobs run at their times, a log goes on, one of two hosts works, and one that is killed is taken over from"
  )
  func service() async throws {
    try await Self.withPlatform { place, server in
      let serve = ["serve", "--platform", "\(place.folder)/platform.json5", "--lease", "2s"]
      try await server.command("SET", "session", "first")
      try await place.whileRunning("dr-backup", serve) { second in
        try await place.whileRunning("dr-backup", serve, ending: SIGKILL) { first in
          try await eventually("one to work and one to wait", within: .seconds(90)) {
            let said = [first.said, second.said]
            return said.contains { $0.contains("working") } && said.contains { $0.contains("waiting") }
          }
          // On a busy machine the one may lose its short lease to the other.
          func both() -> String { first.said + second.said }
          do {
            try await eventually("a snapshot at its minute", within: .seconds(150)) {
              both().contains("redis/cache snapshot: succeeded")
            }
          } catch {
            Issue.record("\(error): \(first.said)\n\(second.said)")
          }
          #expect(both().contains("redis/cache changes: begun"), "\(both())")
          #expect(both().contains("config/app cleaning: NOT CONFIGURED"))
        }
        // The other one was killed: its lease runs out, and its log's.
        try await eventually("the other to work", within: .seconds(60)) { second.said.contains("working") }
      }
      let status = try await place.run(
        "dr-status", ["--platform", "platform.json5", "--textfile", "dr.prom", "--json"])
      let document = try JSONDecoder().decode([String: JSONValue].self, from: Data(status.output.utf8))
      guard case .array(let rows)? = document["components"], case .object(let redis)? = rows.first else {
        Issue.record("\(status)")
        return
      }
      #expect(redis["component"] == .string("redis/cache") && redis["exposureSeconds"] != nil, "\(redis)")
      let figures = try String(contentsOfFile: "\(place.folder)/dr.prom", encoding: .utf8)
      #expect(figures.contains("dr_job_last_success_timestamp_seconds{job=\"redis/cache snapshot\"} 1"), "\(figures)")
      let judged = try await runCommand("promtool", ["check", "metrics"], input: Array(figures.utf8))
      #expect(judged.status == 0, "\(judged.error)")

      // As if nobody had worked for a day: what was dealt with last is that much older.
      let tier = try await LocalTier(root: "\(place.folder)/repository-redis-cache")
      let memory = try #require(try await tier.listAll(prefix: "schedules/").map(\.key).last)
      let written = try JSONDecoder().decode(JSONValue.self, from: Data(try await tier.read(memory).readableBytesView))
      guard case .object(var book) = written, case .object(var jobs)? = book["jobs"] else {
        Issue.record("\(written)")
        return
      }
      for (job, entry) in jobs {
        guard case .object(var entry) = entry else { continue }
        switch entry["handled"] {
        case .number(let handled): entry["handled"] = .number(handled - 86_400)
        case .integer(let handled): entry["handled"] = .integer(handled - 86_400)
        default: Issue.record("\(entry)")
        }
        jobs[job] = .object(entry)
      }
      book["jobs"] = .object(jobs)
      let older = ByteBuffer(bytes: try JSONEncoder().encode(JSONValue.object(book)))
      _ = try await tier.put(memory, ByteStream(older), PutOptions())
      let dead = try await place.run("dr-status", ["--platform", "platform.json5"])
      #expect(dead.status == 1 && dead.output.contains("nobody has looked at"), "\(dead)")
      #expect(dead.output.contains("see that dr-backup serve runs"), "\(dead)")
    }
  }

  @Test("Brought up in another region, with the plan of the way back, which dr-plan reads")
  func failover() async throws {
    try await Self.withPlatform { place, server in
      try await server.command("SET", "session", "first")
      let taken = try await place.run("dr-backup", ["run", "--platform", "platform.json5"])
      try #require(taken.status == 0, "\(taken)")
      let there = ["--platform", "platform.json5", "--target-region"]
      // What follows a restore at home is of home's servers, and a region has its own.
      let written = try String(contentsOfFile: "\(place.folder)/platform.json5", encoding: .utf8)
      func note(_ where: String, _ line: String) -> String {
        "[\"sh\", \"-c\", \"echo \(line) >> \(place.folder)/\(`where`)\"]"
      }
      let files =
        "\"restore\": [\"dr-files\", \"restore\", \"--config\", \"\(place.folder)/config-app.json\", \"--to\", "
      try #require(
        written.contains("\(files)\"\(place.folder)/app-again\"]") && written.contains("\(place.folder)/app-west\"]"))
      try place.write(
        written.replacing(
          "\(place.folder)/app-again\"]",
          with:
            "\(place.folder)/app-again\"], \"afterRestore\": [\(note("home", "started"))], \"point\": \(note("home", "asked"))"
        ).replacing(
          "\(place.folder)/app-west\"]",
          with: "\(place.folder)/app-west\"], \"afterRestore\": [\(note("there", "started"))]"),
        to: "platform.json5")
      let unknown = try await place.run("dr-failover", there + ["mars"])
      #expect(unknown.status == 2 && unknown.error.contains("it has west"), "\(unknown)")
      let dry = try await place.run("dr-failover", there + ["west"])
      #expect(dry.status == 0 && dry.output.contains("nothing was done"), "\(dry)")
      #expect(!FileManager.default.fileExists(atPath: "\(place.folder)/west"))
      let done = try await place.run("dr-failover", there + ["west", "--execute", "--journal", "journal"])
      #expect(done.status == 0 && done.output.contains("the way back: dr-plan recover failback.json"), "\(done)")
      let west = try String(contentsOfFile: "\(place.folder)/west", encoding: .utf8)
      #expect(west == "provisioned\nstarted\nswitched\n")
      #expect(try String(contentsOfFile: "\(place.folder)/there", encoding: .utf8) == "started\n")
      #expect(!FileManager.default.fileExists(atPath: "\(place.folder)/home"))
      let back = try await place.run("dr-plan", ["recover", "failback.json"])
      #expect(
        back.status == 0 && back.output.contains("redis-cache-capture: would dr-redis backup")
          && back.output.contains("config-app-copy: would ask: config/app: is this done")
          && back.output.contains("config-app-home-1: would sh -c"), "\(back)")
    }
  }

  @Test(
    "A platform's file that cannot be meant is refused, and says where",
    arguments: [
      (
        "\"snapshot\": {\"run\"", "\"snapshoot\": {\"run\"",
        "has a capture 'snapshoot' of redis/cache that the plan has not"
      ),
      ("\"regions\": {\"west\": {\"provision\"", "\"regions\": {\"east\": {\"provision\"", "a region 'west' of "),
      ("\"attempts\": 2", "\"atempts\": 2", "the field 'atempts' is not known"),
      ("\"config/app\": {\n", "\"config/apps\": {\n", "has a component 'config/apps' that the plan has not"),
      (
        "\"dr-files\", \"restore\", ", "\"dr-files\", \"restore\", \"host=a password=hunter2\", ",
        "holds a secret: password= in the command of dr-files"
      ),
      (
        "\"dr-files\", \"restore\", ", "\"dr-files\", \"restore\", \"redis://user:hunter2@host\", ",
        "holds a secret: an address with a password"
      ),
      (
        "\"dr-files\", \"restore\", ", "\"dr-files\", \"restore\", \"--password\", \"hunter2\", ",
        "holds a secret: --password in the command of dr-files"
      ),
      ("\"archive\": [\"dr-files\", ", "\"archive\": [\"--password=hunter2\", ", "password= as a command's program"),
      (
        "\"captures\": {\"archive\"",
        "\"environment\": {\"FROM\": \"redis://user:hunter2@host\"}, \"captures\": {\"archive\"",
        "holds a secret: an address with a password in the variable FROM"
      ),
    ])
  func refused(good: String, bad: String, why: String) async throws {
    try await Self.withPlatform { place, _ in
      let text = try String(contentsOfFile: "\(place.folder)/platform.json5", encoding: .utf8)
      #expect(text.contains(good))
      try place.write(text.replacing(good, with: bad), to: "wrong.json5")
      let answer = try await place.run("dr-backup", ["check", "--platform", "wrong.json5"])
      #expect(answer.status == 2 && answer.error.contains(why), "\(answer)")
      #expect(!answer.error.contains("hunter2") && !answer.output.contains("hunter2"))
    }
  }

  @Test(
    "The sample is a platform, and each of its programs is called rightly; the plan in it is the one that dr-plan shows"
  )
  func sample() async throws {
    let sample = "\(Readme.root)/Examples/platform.json5"
    let check = try await runCommand(
      ReceiverProcess.built("dr-backup"), ["check", "--platform", sample, "--json"])
    let said = String(decoding: check.output, as: UTF8.self)
    let findings = try JSONDecoder().decode([Finding].self, from: Data(said.utf8))
    // Weekly and monthly verifications are for the reader to name.
    let missing = findings.filter { $0.severity == .failure }.map(\.subject)
    #expect(missing.allSatisfy { $0.contains("verification, ") }, "\(missing)")
    var called = 0
    for finding in findings where finding.check == "job-configured" && finding.severity == .passed {
      let words = finding.evidence.split(separator: " ").map(String.init)
      guard words.first?.hasPrefix("dr-") == true else { continue }
      let answer = try await runCommand(
        ReceiverProcess.built(words[0]), Array(words.dropFirst()), timeLimit: .seconds(20))
      #expect(answer.status == 2, "\(finding.evidence): \(answer.error)")
      called += 1
    }
    #expect(called > 15)
    let shown = try await runCommand(ReceiverProcess.built("dr-plan"), ["show"])
    #expect(shown.output == Array(try Data(contentsOf: URL(filePath: "\(Readme.root)/Examples/platform-plan.json"))))
    let failover = try await runCommand(
      ReceiverProcess.built("dr-failover"), ["--platform", sample, "--target-region", "us-west-2"])
    #expect(failover.status == 0, "\(failover.error)")
    let rules = try await runCommand("promtool", ["check", "rules", "\(Readme.root)/Examples/monitoring/alerts.yml"])
    #expect(rules.status == 0, "\(rules.error)")
    let dashboard = try Data(contentsOf: URL(filePath: "\(Readme.root)/Examples/monitoring/grafana-dashboard.json"))
    #expect(try JSONSerialization.jsonObject(with: dashboard) is [String: Any])
  }
}
