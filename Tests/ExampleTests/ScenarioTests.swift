import DRCore
import DRPostgres
import DRRabbitMQ
import DRRedis
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

/// The document's scenarios, as the plans in `Examples/scenarios` carry them out on real servers.
@Suite(.serialized) struct ScenarioTests {
  @Test("Each plan keeps within the document's time, and says what it needs")
  func budgets() async throws {
    let allowed = [
      ("1-postgres-corruption", 35.0), ("2-redis-failure", 20), ("3-queue-loss", 30), ("4-node-failure", 40),
      ("5-data-centre-loss", 75),
    ]
    for (name, minutes) in allowed {
      let json = try Data(contentsOf: URL(filePath: ScenarioPlace.plan(name)))
      let answer = try await runCommand(ReceiverProcess.built("dr-plan"), ["recover", ScenarioPlace.plan(name)])
      #expect(answer.status == 2 && answer.error.contains("variables without a value"), "\(name): \(answer)")
      let missing = answer.error.firstMatch(of: /without a value: ([a-z0-9, -]+)/)?.1.split(separator: ", ") ?? []
      let sets = missing.flatMap { name in
        ["--set", "\(name)=http://127.0.0.1:1"]
      }
      let dry = try await runCommand(
        ReceiverProcess.built("dr-plan"), ["recover", ScenarioPlace.plan(name)] + sets)
      let said = String(decoding: dry.output, as: UTF8.self)
      #expect(dry.status == 0 && json.count > 500, "\(name): \(dry.error)")
      let path = try #require(said.firstMatch(of: /up to ([0-9hm]+) of ([0-9hm]+)/), "\(said)")
      #expect(try Self.minutes(path.1) <= Self.minutes(path.2) && Self.minutes(path.2) == minutes, "\(name): \(said)")
    }
  }

  private static func minutes(_ text: Substring) throws -> Double {
    let match = try #require(text.wholeMatch(of: /(?:([0-9]+)h)?(?:([0-9]+)m)?/))
    return (match.1.flatMap { Double($0) } ?? 0) * 60 + (match.2.flatMap { Double($0) } ?? 0)
  }

  // MARK: 1

  /// A server that archives with `dr-wal`, with a base backup, good rows, and bad ones after the moment.
  private static func withPostgres(
    _ place: ScenarioPlace, _ body: (PostgresSandbox, _ config: String, _ moment: String) async throws -> Void
  ) async throws {
    let config = try place.configure("postgres/agent_orchestrator")
    let place = place.asServerUser
    try await place.done("dr-postgres", "init", "--config", config)
    let options = PostgresSandbox.Options(settings: [
      "archive_mode": "on", "archive_command": "\(place.folder)/bin/dr-wal push --config \(config) %p",
    ])
    try await PostgresSandbox.withSandbox(options, logger: ScenarioPlace.logger) { server in
      _ = try await server.query("CREATE TABLE agents (id int PRIMARY KEY, state text NOT NULL)")
      _ = try await server.query("INSERT INTO agents SELECT n, 'good' FROM generate_series(1, 1000) n")
      try await place.done(
        "dr-postgres", "backup", "--config", config, "--server", ReceiverProcess.conninfo(server.settings))
      _ = try await server.query("INSERT INTO agents SELECT n, 'later' FROM generate_series(1001, 1200) n")
      let moment = try #require(try await server.query("SELECT clock_timestamp()").single)
      try await Task.sleep(for: .milliseconds(50))
      _ = try await server.query("UPDATE agents SET state = 'bad'")
      _ = try await server.query("SELECT pg_switch_wal()")
      try await eventually("the archive to have the bad rows' WAL") {
        try await server.query(
          "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
        ).single == "0"
      }
      try await body(server, config, moment)
    }
  }

  private static let good = "SELECT 1 / (count(*) = 1200 AND bool_and(state <> 'bad'))::int FROM agents"

  private static func restart(_ place: ScenarioPlace, _ data: String) throws -> (command: String, server: String) {
    let socket = "\(place.folder)/run"
    try FileManager.default.createDirectory(atPath: socket, withIntermediateDirectories: true)
    try place.user?.own(socket)
    let user = place.isServerUser ? "" : place.setpriv.map { $0.joined(separator: " ") + " " } ?? ""
    return (
      "\(user)pg_ctl -D \(data) -w -t 120 -l \(place.folder)/server.log -o \"-c listen_addresses= -c unix_socket_directories=\(socket) "
        + "-c port=5499 -c archive_mode=off\" start >/dev/null",
      "host=\(socket) port=5499 user=postgres dbname=postgres"
    )
  }

  @Test("Scenario 1: a corrupt PostgreSQL goes back to before the corruption, in a new folder; its old files stay")
  func corruption() async throws {
    try await ScenarioPlace.with(["dr-postgres", "dr-wal"]) { place in
      let place = place.asServerUser
      try await Self.withPostgres(place) { server, config, moment in
        let data = "\(place.folder)/recovered"
        let (start, recovered) = try Self.restart(place, data)
        let values = [
          "config": config, "data": data, "moment": moment, "server": recovered, "start-server": start,
          "stop-application": "echo stopped >> \(place.folder)/application", "query": Self.good,
          "stop-server": "pg_ctl -D \(server.dataFolder) stop -m immediate",
          "start-application": "echo started >> \(place.folder)/application",
        ]
        defer { kill(data) }
        let answer = try await place.recover("1-postgres-corruption", values)
        #expect(answer.status == 0 && answer.output.contains("passed: "), "\(answer)")
        let rows = try await place.run(
          "psql", ["-qXAtd", recovered, "-c", "SELECT count(*), min(state), max(state) FROM agents"])
        #expect(rows.output.contains("1200|good|later"), "\(rows)")
        #expect(FileManager.default.fileExists(atPath: server.dataFolder + "/PG_VERSION"))
        let application = try String(contentsOfFile: "\(place.folder)/application", encoding: .utf8)
        #expect(application == "stopped\nstarted\n")
        // Done is done.
        let again = try await place.recover("1-postgres-corruption", values)
        #expect(again.status == 0 && again.output.contains("restore: done before"), "\(again)")
        _ = try await place.asServerUser.run("pg_ctl", ["-D", data, "stop", "-m", "immediate"])
      }
    }
  }

  /// Ends a server that a failed test left.
  private func kill(_ data: String) {
    guard let text = try? String(contentsOfFile: "\(data)/postmaster.pid", encoding: .utf8),
      let process = text.split(separator: "\n").first.flatMap({ Int32($0) })
    else { return }
    _ = Foundation.kill(process, SIGKILL)
  }

  // MARK: 2

  private static func address(_ server: RedisSandbox) throws -> String {
    guard case .unix(let socket) = server.settings.address else {
      throw DRError(.invalidConfiguration, "the server has no socket")
    }
    return "unix://\(socket)"
  }

  private static let persistent = RedisSandbox.Options(settings: ["appendonly": "yes", "appendfsync": "everysec"])

  /// Keys before a snapshot, and after it in the log.
  private static func withRedis(
    _ place: ScenarioPlace, _ body: (_ config: String, _ moment: String) async throws -> Void
  ) async throws {
    let config = try place.configure("redis/cache")
    try await place.done("dr-redis", "init", "--config", config)
    var moment = ""
    try await RedisSandbox.withSandbox(persistent, logger: ScenarioPlace.logger) { server in
      let address = try Self.address(server)
      try await server.command("SET", "session:1", "before")
      try await place.whileRunning("dr-redis", ["receive", "--config", config, "--server", address]) { receiver in
        try await eventually("the snapshot") { receiver.said.contains("committed") }
        try await server.command("SET", "session:2", "after")
        try await Task.sleep(for: .milliseconds(1500))
        moment = Timestamp.postgres(Date())
        try await Task.sleep(for: .milliseconds(1500))
        try await server.command("SET", "session:1", "too late")
        try await Task.sleep(for: .milliseconds(1500))
      }
    }
    try await body(config, moment)
  }

  @Test("Scenario 2: a lost Redis has its sessions again, of the moment that was asked for")
  func redisFailure() async throws {
    try await ScenarioPlace.with(["dr-redis"]) { place in
      try await Self.withRedis(place) { config, moment in
        try await RedisSandbox.withSandbox(Self.persistent, logger: ScenarioPlace.logger) { target in
          let address = try Self.address(target)
          let socket = address.dropFirst("unix://".count)
          let answer = try await place.recover(
            "2-redis-failure",
            [
              "config": config, "server": address, "moment": moment,
              "probe": "test \"$(redis-cli -s \(socket) GET session:2)\" = after",
            ])
          #expect(answer.status == 0 && answer.output.contains("passed: "), "\(answer)")
          #expect(try await target.command("GET", "session:1").text == "before")
        }
      }
    }
  }

  // MARK: 3

  @Test("Scenario 3: lost queues are defined again, and hold what they held")
  func queueLoss() async throws {
    try await ScenarioPlace.with(["dr-rabbitmq"]) { place in
      let config = try place.configure("rabbitmq/platform")
      try await RabbitMQSandbox.withSandbox(logger: ScenarioPlace.logger) { broker in
        var place = place
        place.environment.merge(Self.access(broker.settings)) { $1 }
        try await Self.fill(broker, place, config)
        let journal = "\(place.folder)/restore-journal"
        try FileManager.default.createDirectory(atPath: journal, withIntermediateDirectories: false)
        try await broker.kill()
        try await broker.wipe()
        try await broker.start()
        let address = "127.0.0.1:\(broker.settings.port)"
        let answer = try await place.recover(
          "3-queue-loss",
          [
            "config": config, "broker": address, "management-port": "\(broker.settings.managementPort)",
            "journal": journal,
          ])
        #expect(answer.status == 0 && answer.output.contains("passed: "), "\(answer)")
        #expect(try await Self.depth(broker.settings) == 200)
      }
    }
  }

  private static func access(_ broker: RabbitMQSettings) -> [String: String] {
    ["RABBITMQ_USER": broker.user, "RABBITMQ_PASSWORD": broker.password]
  }

  private static func depth(_ settings: RabbitMQSettings) async throws -> Int {
    try await RabbitMQTapTests.connected(settings) { connection -> Int in
      try await connection.depth(of: "orders").ready
    }
  }

  private static func fill(_ broker: RabbitMQSandbox, _ place: ScenarioPlace, _ config: String) async throws {
    let settings = broker.settings
    try await RabbitMQTapTests.connected(settings) { connection in
      try await connection.declareQueue("orders", arguments: ["x-queue-type": .string("quorum")])
    }
    try await RabbitMQTapTests.publish(0..<200, settings, exchange: "")
    try await place.done("dr-rabbitmq", "init", "--config", config)
    try await place.done(
      "dr-rabbitmq", "backup", "--config", config, "--allow-clear-secrets", "--broker", "127.0.0.1:\(settings.port)",
      "--management-port", "\(settings.managementPort)")
  }

  // MARK: 4

  @Test("Scenario 4: a node is made, deployed and waited for, with stand-ins for the infrastructure")
  func nodeFailure() async throws {
    try await ScenarioPlace.with([]) { place in
      for tool in ["terraform", "docker-compose"] {
        try place.write(
          "#!/bin/sh\necho \(tool) \"$@\" >> \(place.folder)/tools\ntouch \(place.folder)/serving\n",
          to: "bin/\(tool)", mode: 0o755)
      }
      // Files of the folder are what answers: one from the beginning, one that the deployment makes.
      try place.write("", to: "always")
      let answer = try await place.whileRunning(
        "python3", ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", place.folder], ending: SIGKILL
      ) {
        server -> ProgramAnswer in
        try await eventually("the health checks' server") { server.said.contains("port ") }
        let port = server.said.firstMatch(of: /port ([0-9]+)/).map { String($0.1) } ?? ""
        let values = [
          "balancer": "http://127.0.0.1:\(port)/always", "node": "http://127.0.0.1:\(port)/serving",
          "infrastructure": place.folder, "joined": "test -e \(place.folder)/serving",
        ]
        return try await place.recover("4-node-failure", values)
      }
      #expect(answer.status == 0 && answer.output.contains("passed: "), "\(answer)")
      let tools = try String(contentsOfFile: "\(place.folder)/tools", encoding: .utf8)
      #expect(tools.contains("apply -input=false -auto-approve -target=aws_instance.app_node_3"), "\(tools)")
      #expect(tools.contains("docker-compose -f deployment/production.yml up -d"), "\(tools)")
    }
  }

  // MARK: 5

  @Test("Scenario 5: with the data centre gone, three systems come from another region's bucket, to one moment")
  func dataCentreLoss() async throws {
    let store = try await S3TestServer.shared(.ceph)
    try await store.withBucket { bucket in
      let access = [
        "AWS_ENDPOINT_URL": store.endpoint, "AWS_ACCESS_KEY_ID": store.credentials.accessKeyID,
        "AWS_SECRET_ACCESS_KEY": store.credentials.secretAccessKey,
      ]
      try await ScenarioPlace.with(
        ["dr-postgres", "dr-wal", "dr-redis", "dr-rabbitmq", "dr-repository"], environment: access
      ) { place in
        try place.write("#!/bin/sh\necho \"$@\" >> \(place.folder)/tools\n", to: "bin/terraform", mode: 0o755)
        try await RabbitMQSandbox.withSandbox(logger: ScenarioPlace.logger) { broker in
          var place = place
          place.environment.merge(Self.access(broker.settings)) { $1 }
          let rabbit = try place.configure("rabbitmq/platform")
          try await Self.fill(broker, place, rabbit)
          try await Self.withRedis(place) { _, _ in }
          try await Self.withPostgres(place) { server, _, moment in
            try await server.kill()
            // The region's copies are all that is left.
            for (name, component) in [
              ("postgres-agent_orchestrator", "postgres/agent_orchestrator"), ("redis-cache", "redis/cache"),
              ("rabbitmq-platform", "rabbitmq/platform"),
            ] {
              let near = "\(place.folder)/repository-\(name)"
              try await place.done("dr-repository", "replicate", "--from", near, "--to", "s3://\(bucket)/\(name)")
              try FileManager.default.removeItem(atPath: near)
              _ = try place.configure(component, repository: "s3://\(bucket)/\(name)")
            }
            try await broker.kill()
            try await broker.wipe()
            try await broker.start()
            try await RedisSandbox.withSandbox(Self.persistent, logger: ScenarioPlace.logger) { redis in
              let data = "\(place.folder)/recovered"
              let (start, recovered) = try Self.restart(place, data)
              defer { kill(data) }
              let journal = "\(place.folder)/restore-journal"
              try FileManager.default.createDirectory(atPath: journal, withIntermediateDirectories: false)
              let socket = try Self.address(redis).dropFirst("unix://".count)
              let answer = try await place.recover(
                "5-data-centre-loss",
                [
                  "infrastructure": place.folder, "postgres-config": "\(place.folder)/postgres-agent_orchestrator.json",
                  "redis-config": "\(place.folder)/redis-cache.json",
                  "rabbitmq-config": "\(place.folder)/rabbitmq-platform.json", "data": data, "start-postgres": start,
                  "postgres": recovered, "redis": try Self.address(redis),
                  "rabbitmq": "127.0.0.1:\(broker.settings.port)",
                  "rabbitmq-management-port": "\(broker.settings.managementPort)",
                  "journal": journal, "owner": place.user?.name ?? "",
                  "verify":
                    "redis-cli -s \(socket) GET session:2 | grep after && psql -qXAtd '\(recovered)' -c 'SELECT count(*) FROM agents' | grep 1200",
                ])
              #expect(answer.status == 0 && answer.output.contains("passed: "), "\(moment): \(answer)")
              #expect(try await Self.depth(broker.settings) == 200)
              _ = try await place.asServerUser.run("pg_ctl", ["-D", data, "stop", "-m", "immediate"])
            }
          }
        }
      }
    }
  }
}
