import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// A check of a server in which one thing is wrong.
struct RedisProbeMutant: Sendable, CustomTestStringConvertible {
  var name: String
  var check: String
  /// It hears this answer.
  var answer: RedisAnswer?
  /// It takes these findings for all well.
  var overlooks: @Sendable (Finding) -> Bool

  var testDescription: String { "\(check): \(name)" }

  private init(_ name: String, _ check: String, hears from: String, as to: String) {
    (self.name, self.check, answer, overlooks) = (name, check, RedisAnswer(from, to), { _ in false })
  }

  private init(_ name: String, _ check: String, overlooks: @escaping @Sendable (Finding) -> Bool) {
    (self.name, self.check, self.overlooks) = (name, check, overlooks)
  }

  func findings(_ findings: [Finding]) -> [Finding] {
    findings.map { finding in
      guard finding.check == check, overlooks(finding) else { return finding }
      return Finding(finding.check, .passed, subject: finding.subject, evidence: finding.evidence)
    }
  }

  /// The numbers of an evidence.
  private static func numbers(_ finding: Finding) -> [Int] {
    finding.evidence.matches(of: /[0-9]+/).compactMap { Int($0.output) }
  }

  private static let singles: [RedisProbeMutant] = [
    RedisProbeMutant("takes a replica for a master", "connectivity", hears: "role:slave", as: "role:master"),
    RedisProbeMutant("takes one that loads for ready", "connectivity") { $0.severity == .failure },
    RedisProbeMutant("leaves other databases out", "key-counts", hears: "db5:keys=1", as: "xx5:keys=1"),
    RedisProbeMutant("takes each key for one that may have ended", "key-counts") { finding in
      // Keys now, of them with a time, in the backup, of them with a time: the rule without the second.
      let numbers = numbers(finding)
      return numbers.count == 4 && (numbers[2] - numbers[3]...numbers[2]).contains(numbers[0])
    },
    RedisProbeMutant("tolerates keys too many", "key-counts") {
      numbers($0).count == 4 && numbers($0)[0] > numbers($0)[2]
    },
    RedisProbeMutant("takes each key for one that may have ended", "key-types") { $0.subject == "hash" },
    RedisProbeMutant("tolerates more of a type", "key-types") {
      numbers($0).count == 2 && numbers($0)[0] > numbers($0)[1]
    },
    RedisProbeMutant("has seen no key go", "memory", hears: "evicted_keys:", as: "evicted_keys:0\nwere:"),
    RedisProbeMutant("knows no limit", "memory", hears: "maxmemory:500000", as: "maxmemory:0"),
    RedisProbeMutant("tolerates any size", "memory") { $0.severity == .warning },
    RedisProbeMutant(
      "has a good rewrite", "persistence", hears: "aof_last_bgrewrite_status:err", as: "aof_last_bgrewrite_status:ok"),
    RedisProbeMutant(
      "has a good save", "persistence", hears: "rdb_last_bgsave_status:err", as: "rdb_last_bgsave_status:ok"),
    RedisProbeMutant("has a good write", "persistence") { $0.evidence.contains("the last write") },
    RedisProbeMutant("does not wait for a rewrite", "persistence") { $0.evidence.contains("in progress") },
    RedisProbeMutant("has an append-only file", "append-only", hears: "aof_enabled:0", as: "aof_enabled:1"),
    RedisProbeMutant(
      "has a good rewrite", "append-only-status", hears: "aof_last_bgrewrite_status:err",
      as: "aof_last_bgrewrite_status:ok"),
    RedisProbeMutant(
      "has a good save", "save-status", hears: "rdb_last_bgsave_status:err", as: "rdb_last_bgsave_status:ok"),
  ]

  /// And of each check one that sees nothing.
  static let all =
    singles
    + Set(RedisProbeDamage.all.map(\.check)).sorted().map { check in
      RedisProbeMutant("sees nothing", check) { _ in true }
    }
}

/// The suite that the checks of a server satisfy, and that no mutant of them does.
@Suite(.serialized) struct RedisProbeMutantTests {
  private struct Seen: Sendable {
    var damage: RedisProbeDamage
    var findings: [Finding]
    var mutants: [String: (findings: [Finding], isHeard: Bool)] = [:]

    func isNoticed(_ findings: [Finding]) -> Bool {
      findings.contains { finding in
        finding.check == damage.check && finding.severity >= damage.severity && "\(finding)".contains(damage.subject)
          && !finding.evidence.contains("could not be looked at")
      }
    }
  }

  private static let seen = Task { () -> (healthy: [Finding], damaged: [Seen]) in
    try await RedisFixture.withServer(RedisFixture.options()) { source in
      try await RedisFixture.fill(source)
      let samples = try await RedisSamples.take(source.settings, count: 40, logger: RedisFixture.logger)
      return try await RedisFixture.withRepository { repository, folder in
        let snapshot = RedisSnapshot(component: try RedisFixture.component(), server: source.settings)
        let manifest = try await repository.backUp(snapshot, cadence: .hourly, logger: RedisFixture.logger)
        try await source.stop(saving: true)
        let dump = source.dataFolder + "/dump.rdb"
        let key = try #require(samples.keys.first { $0.database == 0 && !["numbers", "string:7"].contains($0.name) })
        var healthy: [Finding] = []
        var damaged: [Seen] = []
        let nothing = RedisProbeDamage("nothing", "", sees: "")
        for look in [RedisProbeDamage.Look.probes, .persistence, .harmlessness] {
          var none = nothing
          none.look = look
          healthy += try await restored(none, dump, folder) { try await find(none, $0, manifest, samples) }
        }
        for damage in RedisProbeDamage.all {
          damaged.append(
            try await restored(damage, dump, folder) { server in
              try await damage.harm(server, key)
              return try await judged(damage, server, in: folder, manifest, samples)
            })
        }
        return (healthy, damaged)
      }
    }
  }

  /// A server over a copy of the data, with an append-only file, as a restore leaves it.
  private static func restored<R: Sendable>(
    _ damage: RedisProbeDamage, _ dump: String, _ folder: String, _ body: (RedisSandbox) async throws -> R
  ) async throws -> R {
    let data = "\(folder)/data-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: false)
    try FileManager.default.copyItem(atPath: dump, toPath: data + "/dump.rdb")
    var settings = [
      "maxmemory-policy": "allkeys-lru", "repl-backlog-size": "32mb",
      "client-output-buffer-limit": "replica 256mb 64mb 60",
    ]
    if damage.look == .persistence { settings["maxmemory"] = "512mb" }
    settings.merge(damage.settings) { $1 }
    var options = RedisFixture.options(settings)
    options.listensOnLoopback = damage.look == .harmlessness
    let sandbox = try await RedisSandbox.prepare(options, dataFolder: data, logger: RedisFixture.logger)
    return try await RedisSandbox.with(sandbox) { server in
      try await server.start()
      try await server.command("CONFIG", "SET", "appendonly", "yes")
      try await RedisFixture.eventually("the append-only file") {
        let info = try await RedisFixture.info(server)
        return info["aof_rewrite_in_progress"] == "0" && info["aof_rewrite_scheduled"] == "0"
      }
      return try await body(server)
    }
  }

  private static func find(
    _ damage: RedisProbeDamage, _ server: RedisSandbox, at socket: String? = nil, _ manifest: BackupManifest,
    _ samples: RedisSamples
  ) async throws -> [Finding] {
    let settings = socket.map { RedisConnectionSettings(socket: $0) } ?? server.settings
    switch damage.look {
    case .probes:
      return try await RedisProbes(settings, manifest: manifest, samples: samples).verify(logger: RedisFixture.logger)
    case .persistence:
      var expectation = RedisPersistenceCheck.Expectation()
      expectation.maximumMemory = 512 << 20
      expectation.evictionPolicy = "allkeys-lru"
      expectation.saveAge = .seconds(3600)
      expectation.replicas = damage.check == "replicas" ? 1 : 0
      return try await RedisPersistenceCheck(settings, expectation: expectation).verify(logger: RedisFixture.logger)
    case .harmlessness: return try await server.harmlessness(logger: RedisFixture.logger)
    }
  }

  private static func judged(
    _ damage: RedisProbeDamage, _ server: RedisSandbox, in folder: String, _ manifest: BackupManifest,
    _ samples: RedisSamples
  ) async throws -> Seen {
    let (heard, count) = (MutableBox<[RedisAnswer]>([]), MutableBox(0))
    let socket = "\(folder)/altered.sock"
    guard case .unix(let path) = server.settings.address else { throw DRError(.invalidConfiguration, "no socket") }
    let filter: @Sendable () -> SocketRelay.Filter = { RedisAnswer.filter({ heard.value }, count) }
    return try await SocketRelay.with(
      path, at: socket, answers: filter
    ) {
      let own = damage.answer.map { [$0] } ?? []
      heard.withLock { $0 = own }
      var seen = Seen(damage: damage, findings: try await find(damage, server, at: socket, manifest, samples))
      for mutant in RedisProbeMutant.all where mutant.check == damage.check {
        let answers = own + (mutant.answer.map { [$0] } ?? [])
        heard.withLock { $0 = answers }
        count.withLock { $0 = 0 }
        let found = try await find(damage, server, at: socket, manifest, samples)
        let isHeard = mutant.answer == nil || count.value > (own.isEmpty ? 0 : 1)
        seen.mutants[mutant.testDescription] = (mutant.findings(found), isHeard)
      }
      return seen
    }
  }

  @Test("On a healthy server every check looks at something, and finds nothing")
  func healthy() async throws {
    let findings = try await Self.seen.value.healthy
    let bad = findings.filter { $0.severity != .passed }
    #expect(bad.isEmpty, "\(bad)")
    let checks = Set(findings.map(\.check))
    #expect(checks.isSuperset(of: Set(RedisProbeDamage.all.map(\.check))), "\(checks)")
    let undamaged = checks.subtracting(RedisProbeDamage.all.map(\.check))
    // Who follows it and what it loaded is asked in a test of its own.
    #expect(undamaged == ["harmless-replicas", "harmless-modules"], "\(undamaged)")
  }

  @Test("Each damage is noticed by the check that is for it")
  func original() async throws {
    for seen in try await Self.seen.value.damaged {
      #expect(seen.isNoticed(seen.findings), "\(seen.damage.name): \(seen.findings)")
    }
  }

  @Test("A check in which one thing is wrong is found out", arguments: RedisProbeMutant.all)
  func foundOut(mutant: RedisProbeMutant) async throws {
    let name = mutant.testDescription
    let all = try await Self.seen.value.damaged.filter { $0.damage.check == mutant.check }
    let isHeard = all.contains { $0.mutants[name]?.isHeard ?? false }
    #expect(isHeard, "its answer is never given: it mutates nothing")
    let missed = all.filter { !$0.isNoticed($0.mutants[name]?.findings ?? []) }
    #expect(!missed.isEmpty, "nobody noticed \(name)")
  }

  @Test("There are so many, and no two of a name")
  func complete() {
    let names = RedisProbeMutant.all.map(\.testDescription)
    #expect(Set(names).count == names.count && names.count >= 35, "\(names.count)")
  }

  @Test("A server that somebody follows, and one that loaded a module, are not harmless")
  func followedAndLoaded() async throws {
    try await withTemporaryFolder { folder in
      chmod(folder, 0o755)
      // All that a module is made of: it takes what it needs from the server by name.
      let source = """
        int RedisModule_OnLoad(void **context, void **arguments, int count) {
          int (*find)(const char *, void *) = (int (*)(const char *, void *))context[0];
          void (*name)(void *, const char *, int, int) = 0;
          find("RedisModule_SetModuleAttribs", &name);
          name(context, "harm", 1, 1);
          return 0;
        }
        """
      try source.write(toFile: "\(folder)/harm.c", atomically: true, encoding: .utf8)
      let made = try await runCommand("cc", ["-shared", "-fPIC", "-w", "-o", "\(folder)/harm.so", "\(folder)/harm.c"])
      try #require(made.status == 0, "\(made.error)")
      chmod("\(folder)/harm.so", 0o755)
      var options = RedisFixture.options(["loadmodule": "\(folder)/harm.so"])
      options.listensOnLoopback = true
      try await RedisFixture.withServer(options) { server in
        let port = try #require(server.nodes[0].port)
        try await RedisFixture.withServer(RedisFixture.options(["replicaof": "127.0.0.1 \(port)"])) { _ in
          try await RedisFixture.eventually("it to be followed") {
            try await RedisFixture.info(server, "replication")["connected_slaves"] == "1"
          }
          let failed = try await server.harmlessness(logger: RedisFixture.logger).filter { $0.severity == .failure }
          #expect(Set(failed.map(\.check)) == ["harmless-replicas", "harmless-modules"], "\(failed)")
        }
      }
    }
  }
}
