import DRCore
import DRRabbitMQ
import DRSandbox
import DRTestSupport
import Foundation
import NIOCore
import Testing

private let programs = ["beam.smp", "epmd", "erl_child_setup", "inet_gethost"]

/// Throw-away brokers of their own. Serialized: each starts nodes.
@Suite(.serialized) struct RabbitMQSandboxTests {
  @Test("A sandbox whose process was killed is found running by the next one, which ends it; then nothing is left")
  func abandoned() async throws {
    let parent = "/tmp/drt-rabbit-\(getpid())"
    try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: parent) }
    chmod(parent, 0o755)
    await #expect(processExitsWith: .signal(SIGKILL)) {
      var options = RabbitMQSandbox.Options()
      options.parentFolder = "/tmp/drt-rabbit-\(getppid())"
      _ = try await RabbitMQSandbox.create(options, logger: TestBroker.logger)
      kill(getpid(), SIGKILL)
    }
    let name = try #require(try FileManager.default.contentsOfDirectory(atPath: parent).first)
    #expect(ProcessTable.processes(of: ["beam.smp"], marked: name).count == 1)
    #expect(ProcessTable.processes(of: ["epmd"], marked: name).count == 1)
    let cookie = "\(parent)/\(name)/data/home/.erlang.cookie"
    #expect(try FileManager.default.attributesOfItem(atPath: cookie)[.posixPermissions] as? Int == 0o400)

    let removed = try await RabbitMQSandbox.removeAbandoned(in: parent, logger: TestBroker.logger)
    #expect(removed == ["\(parent)/\(name)"])
    #expect(ProcessTable.processes(of: programs, marked: name).isEmpty)
    #expect(try FileManager.default.contentsOfDirectory(atPath: parent).isEmpty)
  }

  @Test("TLS on both ways, with the broker's name and certificate verified; a kill and a start keep durable messages")
  func encryptedAndKilled() async throws {
    try await withTemporaryFolder { folder in
      chmod(folder, 0o755)
      let script = """
        set -e; cd "$1"
        openssl ecparam -genkey -name prime256v1 -noout -out ca.key
        openssl req -x509 -new -key ca.key -sha256 -days 2 -subj /CN=test -addext basicConstraints=critical,CA:TRUE -out ca.pem
        openssl ecparam -genkey -name prime256v1 -noout | openssl pkcs8 -topk8 -nocrypt -out server.key
        openssl req -new -key server.key -subj /CN=server -out server.csr
        printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' > server.ext
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -sha256 -extfile server.ext -out server.pem
        openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout other.key -days 2 -subj /CN=other -out other.pem
        chmod 644 *.key
        """
      let made = try await runCommand("bash", ["-c", script, "bash", folder])
      try #require(made.status == 0, "\(made.error)")
      var options = RabbitMQSandbox.Options()
      options.certificates = folder
      try await RabbitMQSandbox.withSandbox(options, logger: TestBroker.logger) { sandbox in
        let settings = try #require(sandbox.tlsSettings)
        try await TestBroker.with(settings) { broker in
          try await broker.declare("secret", "quorum")
          try await broker.publish(TestBroker.numbered(0..<500), to: "secret")
          #expect(try await broker.dump("secret").count == 500)
          var wrong = settings
          wrong.tls?.rootCertificates = "\(folder)/other.pem"
          wrong.managementTLS?.rootCertificates = "\(folder)/other.pem"
          await #expect(throws: DRError.self) {
            try await AMQPConnection.withConnection(wrong, vhost: "/", logger: TestBroker.logger) { _ in }
          }
          await #expect(throws: DRError.self) { try await ManagementAPI(wrong).get("overview") }
          var otherName = settings
          otherName.host = "127.0.0.1"
          await #expect(throws: DRError.self) {
            try await AMQPConnection.withConnection(otherName, vhost: "/", logger: TestBroker.logger) { _ in }
          }
          // Which quorum queues there are, the broker writes down some time after a declaration: one that is killed before
          // has lost the queue.
          let saved = try await sandbox.run("rabbitmqctl", ["eval", "[dets:sync(Table) || Table <- dets:all()]."])
          #expect(saved.status == 0, "\(saved)")
          try await sandbox.kill()
          #expect(await sandbox.processIDs.isEmpty)
          await #expect(throws: DRError.self) {
            try await AMQPConnection.withConnection(settings, vhost: "/", logger: TestBroker.logger) { _ in }
          }
          try await sandbox.start()
          try await TestBroker.eventuallyAnswers("the queue is back", 500, within: .seconds(90)) {
            try await broker.depth("secret")
          }
        }
      }
    }
  }

  @Test("A cluster of three survives the loss of a node, and the probes say what is missing")
  func cluster() async throws {
    var options = RabbitMQSandbox.Options()
    options.nodes = 3
    options.startLimit = .seconds(240)
    try await RabbitMQSandbox.withSandbox(options, logger: TestBroker.logger) { sandbox in
      try await TestBroker.with(sandbox.settings) { broker in
        try await broker.declare("votes", "quorum")
        try await broker.publish(TestBroker.numbered(0..<200), to: "votes")
        func look() async throws -> [Finding] {
          try await RabbitMQProbes(broker.settings, probes: [.cluster, .quorum], vhost: broker.vhost)
            .verify(logger: TestBroker.logger)
        }
        try await TestBroker.eventually("all members are listed") {
          try await look().allSatisfy { $0.severity == .passed }
        }
        try await sandbox.kill(node: 2)
        try await TestBroker.eventually("the loss is seen") {
          let findings = try await look()
          return findings.contains { $0.check == "cluster" && $0.severity == .failure }
            && findings.contains { $0.check == "quorum" && $0.evidence.contains("2 of 3") }
        }
        #expect(try await broker.dump("votes").map(\.text) == (0..<200).map(String.init))
        try await sandbox.start(node: 2)
        try await TestBroker.eventually("the node is back", within: .seconds(60)) {
          try await look().allSatisfy { $0.severity == .passed }
        }

        // Two members hang, wherever the leader is: their machines are there, and nobody answers.
        let second = TestBroker(settings: sandbox.nodes[1], vhost: broker.vhost)
        try await second.declare("far", "quorum")
        try await second.publish(TestBroker.numbered(0..<150), to: "far")
        var settings = broker.settings
        settings.timeLimit = .seconds(6)
        let hasty = TestBroker(settings: settings, vhost: broker.vhost)
        for node in [1, 2] { await sandbox.suspend(node: node) }
        do {
          let queue = try #require(
            RabbitMQQueue(.object(["vhost": .string(broker.vhost), "name": "far", "type": "quorum"])))
          await expectError {
            let dump = try await QueueDump.begin(
              queue, broker: settings, brokerVersion: nil, logger: TestBroker.logger)
            for try await _ in dump.stream {}
          } matching: {
            $0 is DRError
          }
          try await TestBroker.withRepository { repository, _ in
            await expectError {
              try await TestBroker.backUp(hasty.source(), to: repository)
            } matching: {
              $0 is DRError
            }
          }
        } catch {
          for node in [1, 2] { await sandbox.resume(node: node) }
          throw error
        }
        for node in [1, 2] { await sandbox.resume(node: node) }
        try await TestBroker.eventuallyAnswers("the queue answers again", 150, within: .seconds(60)) {
          try await broker.connected { try await $0.depth(of: "far", .quorum).ready }
        }
        #expect(try await broker.dump("far").map(\.text) == (0..<150).map(String.init))
      }
    }
  }

  @Test(
    "A dump longer than consumer_timeout is whole, or ends with that reason; a broker with an alarm is left alone")
  func shortConsumerTimeout() async throws {
    var options = RabbitMQSandbox.Options()
    options.configuration["consumer_timeout"] = "2000"
    try await RabbitMQSandbox.withSandbox(options, logger: TestBroker.logger) { sandbox in
      // How often a channel looks at it: a minute, which no file can change.
      let looks = try await sandbox.run(
        "rabbitmqctl", ["eval", "application:set_env(rabbit, channel_tick_interval, 500)."])
      try #require(looks.status == 0, "\(looks)")
      try await TestBroker.with(sandbox.settings) { broker in
        let count = 20_000
        for type in ["classic", "quorum"] {
          try await broker.declare(type, type)
          try await broker.publish(TestBroker.numbered(0..<count, size: 2048), to: type, window: 2000)
          let dump = try await QueueDump.begin(
            broker.find(type), broker: broker.settings, brokerVersion: nil, logger: TestBroker.logger)
          // What the broker had handed out comes before its word that it took too long; then there may be nothing left to wait for.
          do {
            var frames = 0
            while try await dump.next() != nil {
              frames += 1
              if frames == 1 { try await Task.sleep(for: .seconds(5)) }
            }
            #expect(dump.summary.messages == Int64(count), "\(type)")
          } catch {
            #expect((error as? DRError)?.rabbitMQCode == 406, "\(error)")
            #expect("\(error)".contains("consumer_timeout"), "\(error)")
          }
          await dump.end()
          try await TestBroker.eventually("everything is back") { try await broker.depth(type) == count }
          let numbers = try await broker.dump(type).map { Int($0.text.prefix { $0 != "." }) }
          #expect(numbers == (0..<count).map { $0 }, "\(type)")
        }

        let low = try await sandbox.run("rabbitmqctl", ["set_vm_memory_high_watermark", "absolute", "1MB"])
        try #require(low.status == 0, "\(low)")
        try await TestBroker.eventually("the alarm is on") {
          try await NodeRoom.read(broker.api).values.contains { $0.hasAlarm }
        }
        try await TestBroker.withRepository { repository, _ in
          await expectError {
            try await TestBroker.backUp(broker.source(), to: repository)
          } matching: {
            "\($0)".contains("alarm: a node has a memory or disk alarm")
          }
        }
      }
    }
  }
}
