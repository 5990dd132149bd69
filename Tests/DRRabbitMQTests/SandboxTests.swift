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

  @Test(
    "TLS on both ways, with the broker's name, its certificate and the client's verified; a kill and a start keep durable messages"
  )
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
        openssl ecparam -genkey -name prime256v1 -noout | openssl pkcs8 -topk8 -nocrypt -out client.key
        openssl req -new -key client.key -subj /CN=client -out client.csr
        openssl x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -sha256 -extfile server.ext -out client.pem
        openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout other.key -days 2 -subj /CN=other -out other.pem
        chmod 644 *.key
        """
      let made = try await runCommand("bash", ["-c", script, "bash", folder])
      try #require(made.status == 0, "\(made.error)")
      var options = RabbitMQSandbox.Options()
      options.certificates = folder
      for prefix in ["ssl_options", "management.ssl"] {
        options.configuration["\(prefix).verify"] = "verify_peer"
        options.configuration["\(prefix).fail_if_no_peer_cert"] = "true"
      }
      try await RabbitMQSandbox.withSandbox(options, logger: TestBroker.logger) { sandbox in
        let nameless = try #require(sandbox.tlsSettings)
        var settings = nameless
        settings.tls?.certificate = "\(folder)/client.pem"
        settings.tls?.privateKey = "\(folder)/client.key"
        settings.managementTLS = settings.tls
        try await TestBroker.with(settings) { broker in
          try await broker.declare("secret", "quorum")
          try await broker.publish(TestBroker.numbered(0..<500), to: "secret")
          #expect(try await broker.dump("secret").count == 500)
          await #expect(throws: DRError.self) {
            try await AMQPConnection.withConnection(nameless, vhost: "/", logger: TestBroker.logger) { _ in }
          }
          await #expect(throws: DRError.self) { try await ManagementAPI(nameless).get("overview") }
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
      try await Self.expectWaitForBoot(of: 1, in: sandbox)
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
        try await TestBroker.withRepository { repository, _ in
          let manifest = try await TestBroker.backUp(broker.source(), to: repository)
          try await sandbox.kill(node: 2)
          try await TestBroker.eventually("a restore of definitions warns of the smaller cluster") {
            let plan = try await RabbitMQDefinitionsRestorer(broker: broker.settings, vhosts: [broker.vhost])
              .plan(from: repository.reader(for: manifest), logger: TestBroker.logger)
            return plan.findings.contains {
              $0.check == "definitions-cluster-size" && $0.evidence.hasPrefix("2 nodes run here and 3 ran")
            }
          }
        }
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

        // The leader and one more hang: their machines are there, and nobody answers. The third is asked.
        try await broker.declare("far", "quorum")
        try await broker.publish(TestBroker.numbered(0..<150), to: "far")
        let leader = try await Self.leader(of: "far", in: broker.vhost, of: sandbox)
        let survivor = leader == 0 ? 1 : 0
        let silent = [leader, 3 - leader - survivor]
        var settings = sandbox.nodes[survivor]
        settings.timeLimit = .seconds(6)
        let hasty = TestBroker(settings: settings, vhost: broker.vhost)
        for node in silent { await sandbox.suspend(node: node) }
        do {
          let queue = try #require(
            RabbitMQQueue(.object(["vhost": .string(broker.vhost), "name": "far", "type": "quorum"])))
          await expectError {
            let dump = try await QueueDump.begin(
              queue, broker: settings, brokerVersion: nil, logger: TestBroker.logger)
            for try await _ in dump.stream {}
          } matching: {
            ($0 as? DRError)?.code == .timedOut && "\($0)".contains("does not say how many messages")
          }
          try await TestBroker.withRepository { repository, _ in
            await expectError {
              try await TestBroker.backUp(hasty.source(), to: repository)
            } matching: {
              $0 is DRError
            }
            let none = try await repository.catalog(of: Component(.rabbitmq, "test")).backups
            #expect(none.isEmpty)
          }
        } catch {
          for node in silent { await sandbox.resume(node: node) }
          throw error
        }
        for node in silent { await sandbox.resume(node: node) }
        try await TestBroker.eventuallyAnswers("the queue answers again", 150, within: .seconds(60)) {
          try await broker.connected { try await $0.depth(of: "far", .quorum).ready }
        }
        #expect(try await broker.dump("far").map(\.text) == (0..<150).map(String.init))
      }
    }
  }

  /// A node that listens and has not booted: what starts the cluster goes on waiting until it has.
  private static func expectWaitForBoot(of node: Int, in sandbox: RabbitMQSandbox) async throws {
    func set(_ state: String) async throws {
      let result = try await sandbox.run("rabbitmqctl", ["eval", "rabbit_boot_state:set(\(state))."], node: node)
      try #require(result.status == 0, "\(result)")
    }
    try await set("core_started")
    let isReady = MutableBox(false)
    let start = Task {
      try await sandbox.start()
      isReady.withLock { $0 = true }
    }
    // Long enough for what a cluster that is ready takes to say so.
    try await Task.sleep(for: .seconds(8))
    #expect(!isReady.value)
    try await set("ready")
    try await start.value
    #expect(isReady.value)
  }

  /// The index of the node that leads a quorum queue, by the word of its members: the statistics may be of another time.
  private static func leader(of queue: String, in vhost: String, of sandbox: RabbitMQSandbox) async throws -> Int {
    let code = "{ok, _, {_, Leader}} = ra:members({'\(vhost)_\(queue)', node()}), Leader."
    let asked = try await sandbox.run("rabbitmqctl", ["eval", code])
    try #require(asked.status == 0, "\(asked)")
    let number = try #require(asked.output.firstMatch(of: /n([1-3])@localhost/)?.output.1)
    return try #require(Int(number)) - 1
  }

  @Test(
    "A dump longer than consumer_timeout ends with that reason, unless all was handed out before; a broker with an alarm is left alone"
  )
  func shortConsumerTimeout() async throws {
    try await RabbitMQSandbox.withSandbox(logger: TestBroker.logger) { sandbox in
      // How often a channel looks at it: a minute, which no file can change.
      try await Self.set("channel_tick_interval", 500, in: sandbox)
      // A classic queue hands out 200 messages more than the sockets have room for, so all of these must be more than that.
      let room = try Self.largestSocketBuffers()
      try await Self.expectTimeout("classic", count: 6000, size: max(16 << 10, room * 2 / 6000), in: sandbox)
      // A quorum queue hands out whatever one consumer may hold: the time is over when the second one is to begin.
      try await Self.expectTimeout("quorum", count: 70_000, size: 0, in: sandbox)
      try await TestBroker.with(sandbox.settings) { broker in
        // All was on its way when the time was over: it still comes.
        try await broker.declare("handed-out", "quorum")
        try await broker.publish(TestBroker.numbered(0..<5000, size: 1024), to: "handed-out", window: 2000)
        try await Self.set("consumer_timeout", 2000, in: sandbox)
        let dump = try await Self.untilTimeout("handed-out", on: broker, in: sandbox)
        try await Self.set("consumer_timeout", 1_800_000, in: sandbox)
        while try await dump.next() != nil {}
        #expect(dump.summary.messages == 5000)
        await dump.end()
        try await TestBroker.eventually("everything is back") { try await broker.depth("handed-out") == 5000 }
        let numbers = try await broker.dump("handed-out").map { Int($0.text.prefix { $0 != "." }) }
        #expect(numbers == (0..<5000).map { $0 })

        try await Self.setMemoryLimit("1MB", in: sandbox)
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

  @Test("A restore that an alarm has stopped and that is killed then goes on after the alarm, and repeats nothing")
  func killedUnderAlarm() async throws {
    try await RabbitMQSandbox.withSandbox(logger: TestBroker.logger) { sandbox in
      try await TestBroker.with(sandbox.settings) { broker in
        let count = 60_000
        try await broker.withJournaledRestore(count: count, size: 1024, { $0.window = 10_000 }) { restore in
          var depth = -1
          try await restore.kill(when: "an alarm has stopped it half way") {
            guard try await broker.depth("destination") > 0 else { return false }
            try await Self.setMemoryLimit("1MB", in: sandbox)
            var since = ContinuousClock.now
            try await TestBroker.eventually("the broker takes nothing more") {
              let now = try await broker.depth("destination")
              if now != depth { (depth, since) = (now, .now) }
              return since.duration(to: .now) > .seconds(1)
            }
            return true
          }
          try await Self.setMemoryLimit("2GB", in: sandbox)
          try await restore.run()
          let outcome = try #require(restore.outcomes.first)
          #expect(outcome.resumedFrom >= depth)
          #expect(outcome.mayBeRepeated == 0 && outcome.depth == Int64(count))
        }
        let numbers = try await broker.numbers("destination")
        #expect(numbers == (0..<count).map { $0 })
      }
    }
  }

  private static func setMemoryLimit(_ limit: String, in sandbox: RabbitMQSandbox) async throws {
    let result = try await sandbox.run("rabbitmqctl", ["set_vm_memory_high_watermark", "absolute", limit])
    try #require(result.status == 0, "\(result)")
  }

  /// Sets a number of the broker's, for channels that are opened from then on.
  private static func set(_ name: String, _ value: Int, in sandbox: RabbitMQSandbox) async throws {
    let result = try await sandbox.run("rabbitmqctl", ["eval", "application:set_env(rabbit, \(name), \(value))."])
    try #require(result.status == 0, "\(result)")
  }

  /// Bytes that the kernel lets wait between two sockets of this machine, at most.
  private static func largestSocketBuffers() throws -> Int {
    try ["tcp_rmem", "tcp_wmem"].reduce(0) { sum, name in
      let words = try String(contentsOfFile: "/proc/sys/net/ipv4/\(name)", encoding: .utf8).split { $0.isWhitespace }
      return sum + (try #require(words.last.flatMap { Int($0) }))
    }
  }

  /// A dump that has taken its first frame and then slept until the broker had ended its channel, as its log says.
  private static func untilTimeout(
    _ queue: String, on broker: TestBroker, in sandbox: RabbitMQSandbox
  ) async throws -> QueueDump {
    let dump = try await QueueDump.begin(
      broker.find(queue), broker: broker.settings, brokerVersion: nil, logger: TestBroker.logger)
    _ = try await dump.next()
    try await TestBroker.eventually("the broker's time is over") {
      let log = await sandbox.logTail()
      return log.contains(broker.vhost) && log.contains("delivery acknowledgement on channel 1 timed out")
    }
    return dump
  }

  private static func expectTimeout(
    _ type: String, count: Int, size: Int, in sandbox: RabbitMQSandbox
  ) async throws {
    try await TestBroker.with(sandbox.settings) { broker in
      try await broker.declare("slow", type)
      try await broker.publish(TestBroker.numbered(0..<count, size: size), to: "slow", window: 2000)
      try await set("consumer_timeout", 2000, in: sandbox)
      let dump = try await untilTimeout("slow", on: broker, in: sandbox)
      try await set("consumer_timeout", 1_800_000, in: sandbox)
      await expectError {
        while try await dump.next() != nil {}
      } matching: { error in
        (error as? DRError)?.rabbitMQCode == 406 && "\(error)".contains("consumer_timeout")
      }
      await dump.end()
      try await TestBroker.eventually("everything is back") { try await broker.depth("slow") == count }
      let numbers = try await broker.dump("slow").map { Int($0.text.prefix { $0 != "." }) }
      #expect(numbers == (0..<count).map { $0 }, "\(type)")
    }
  }
}
