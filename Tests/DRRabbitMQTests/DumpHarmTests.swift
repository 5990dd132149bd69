import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

/// A dump leaves a queue as it was, or refuses.
extension RabbitMQTests {
  @Test("Four dumps in a row of a quorum queue with a delivery-limit of 3 lose nothing: the later ones are refused")
  func deliveryLimit() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("limited", "quorum", ["x-delivery-limit": .int32(3)])
      try await broker.publish(TestBroker.numbered(0..<50), to: "limited")
      // The broker's counts come every five seconds.
      try await TestBroker.eventually("the broker counts") { try await broker.find("limited").publishes == 50 }
      var outcomes: [String] = []
      try await TestBroker.withRepository { repository, _ in
        for _ in 0..<4 {
          do {
            let manifest = try await TestBroker.backUp(broker.source(), to: repository)
            outcomes.append("\(RabbitMQQueueRecord.all(of: manifest)[0].summary.messages)")
          } catch let error as DRError where error.message.contains("delivery-limit") {
            outcomes.append("refused")
            #expect(error.message.contains("its delivery-limit is 3"), "\(error)")
          }
          #expect(try await broker.depth("limited") == 50)
        }
      }
      #expect(outcomes == ["50", "50", "refused", "refused"])
      // What it would have cost, seen once: after the third return there is no fourth.
      _ = try await broker.dump("limited")
      try await TestBroker.eventually("the broker has what was returned") { try await broker.depth("limited") == 50 }
      _ = try await broker.dump("limited")
      try await TestBroker.eventually("the broker drops what was returned too often") {
        try await broker.depth("limited") == 0
      }
    }
  }

  @Test(
    "A delivery-limit that a policy gave a moment ago is known, though the broker's statistics are not",
    arguments: [true, false])
  func youngPolicy(byOperator: Bool) async throws {
    try await TestBroker.with { broker in
      try await broker.declare("young", "quorum")
      try await broker.publish(TestBroker.numbered(0..<5), to: "young")
      try await broker.api.put(
        "\(byOperator ? "operator-policies" : "policies")/\(broker.vhost)/limit",
        ["pattern": "^you", "apply-to": "queues", "priority": 3, "definition": ["delivery-limit": 1]])
      // One that does not hold beside it, and one of others.
      try await broker.api.put(
        "policies/\(broker.vhost)/low",
        ["pattern": ".*", "apply-to": "queues", "priority": 1, "definition": ["delivery-limit": 100]])
      try await TestBroker.withRepository { repository, _ in
        for _ in 0..<3 {
          do {
            _ = try await TestBroker.backUp(broker.source(), to: repository)
          } catch let error as DRError where error.message.contains("its delivery-limit is 1") {}
          try await TestBroker.eventually("everything is back") { try await broker.depth("young") == 5 }
        }
      }
      #expect(try await broker.depth("young") == 5)
    }
  }

  /// A max-length that comes while all messages are held drops what is put back: no reading of before could tell.
  @Test("A queue that is less deep after its dump is said to be harmed, and its messages are in the backup")
  func harmedByADump() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("shrunk")
      try await broker.publish(TestBroker.numbered(0..<50), to: "shrunk")
      try await TestBroker.withRepository { repository, _ in
        let source = Interrupted(source: try broker.source()) { artifact in
          guard artifact.hasPrefix("messages-") else { return }
          try await broker.api.put(
            "policies/\(broker.vhost)/small",
            ["pattern": "^shr", "apply-to": "queues", "definition": ["max-length": 10, "overflow": "drop-head"]])
          // The policy takes a moment to reach the queue; its messages are held until this returns.
          try await TestBroker.eventually("the policy holds") {
            try await broker.find("shrunk").policy["max-length"]?.integer == 10
          }
        }
        let manifest = try await TestBroker.backUp(source, to: repository)
        let record = try #require(RabbitMQQueueRecord.all(of: manifest).first)
        #expect(record.summary.messages == 50)
        #expect(record.harm?.contains("less deep after its dump than before: 10 messages of 50") == true, "\(record)")
      }
      #expect(try await broker.depth("shrunk") == 10)
    }
  }

  /// Does something when an artifact was read whole, before the source goes on.
  private struct Interrupted: BackupSource, BackupWriter {
    let source: RabbitMQMessageSource
    var writer: (any BackupWriter)?
    let after: @Sendable (String) async throws -> Void

    init(source: RabbitMQMessageSource, after: @escaping @Sendable (String) async throws -> Void) {
      self.source = source
      self.after = after
    }

    var component: Component { source.component }
    var backupID: String { writer?.backupID ?? "" }
    var encrypts: Bool { writer?.encrypts ?? false }

    func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
      var own = self
      own.writer = writer
      return try await source.capture(into: own, logger: logger)
    }

    func write(_ name: String, _ content: ByteStream, expectedLength: Int64?) async throws -> BackupManifest.Artifact {
      let artifact = try await #require(writer).write(name, content, expectedLength: expectedLength)
      try await after(name)
      return artifact
    }
  }

  @Test("Of the policies that match, the one with the highest priority holds; of two numbers the smaller")
  func policies() throws {
    func policy(_ pattern: String, _ priority: Int64, _ kind: String, _ settings: [String: JSONValue])
      -> QueuePolicies.Policy
    {
      QueuePolicies.Policy(vhost: "v", pattern: pattern, appliesTo: kind, priority: priority, settings: settings)
    }
    let policies = QueuePolicies(
      policies: [
        policy("^a", 1, "queues", ["delivery-limit": 3, "max-length": 7]),
        policy("^ab", 2, "all", ["delivery-limit": 9, "overflow": "reject-publish"]),
        policy("^ab", 9, "exchanges", ["delivery-limit": 1]), policy("^abz", 9, "queues", ["delivery-limit": 1]),
        policy("^tie", 0, "queues", ["delivery-limit": 8]), policy("tie$", 0, "queues", ["delivery-limit": 6]),
        policy("^free", 0, "queues", ["delivery-limit": -1]),
      ], operators: [policy("c$", 0, "quorum_queues", ["delivery-limit": 5]), policy("d$", 0, "streams", ["x": 1])])
    func limit(_ name: String, _ vhost: String = "v") throws -> Int64? {
      let queue = try #require(
        RabbitMQQueue(["vhost": .string(vhost), "name": .string(name), "type": "quorum", "durable": true]))
      return policies.applied(to: queue).deliveryLimit(brokerVersion: "3.10.8")
    }
    #expect(try limit("a") == 3 && limit("ab") == 9 && limit("abc") == 5 && limit("xc") == 5 && limit("abd") == 9)
    #expect(try limit("tie") == 6 && limit("free") == nil && limit("x") == nil && limit("ab", "other") == nil)
  }

  @Test("Who may not make a queue of his own has a queue with a delivery-limit refused, and is told what he lacks")
  func deliveryLimitUnwatched() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("limited", "quorum", ["x-delivery-limit": .int32(3)])
      try await broker.publish(TestBroker.numbered(0..<5), to: "limited")
      let name = "reader-\(broker.vhost)"
      try await broker.api.put("users/\(name)", ["password": "secret", "tags": "administrator"])
      try await broker.api.put("permissions/\(broker.vhost)/\(name)", ["configure": "", "write": "", "read": ".*"])
      var settings = broker.settings
      (settings.user, settings.password) = (name, "secret")
      let reader = TestBroker(settings: settings, vhost: broker.vhost)
      try await TestBroker.withRepository { repository, _ in
        await expectError {
          try await TestBroker.backUp(try reader.source(), to: repository)
        } matching: { error in
          let text = "\(error)"
          return text.contains("delivery-limit") && text.contains("cannot be known") && text.contains("dr[.]probe[.]")
        }
        var source = try reader.source()
        source.overrides = [.deliveryLimit]
        let manifest = try await TestBroker.backUp(source, to: repository)
        #expect(RabbitMQQueueRecord.all(of: manifest).map(\.summary.messages) == [5])
      }
      try await broker.api.delete("users/\(name)")
    }
  }

  @Test("Backups one after another leave a queue in its order", arguments: ["classic", "quorum"])
  func orderAfterBackups(type: String) async throws {
    try await TestBroker.with { broker in
      // More than what a backup compares afterwards.
      try await broker.declare("orders", type)
      try await broker.publish(TestBroker.numbered(0..<350), to: "orders")
      try await TestBroker.withRepository { repository, _ in
        for _ in 0..<2 { _ = try await TestBroker.backUp(broker.source(), to: repository) }
      }
      try await TestBroker.eventually("everything is back") { try await broker.depth("orders") == 350 }
      let texts = try await broker.dump("orders").map(\.text)
      #expect(texts == (0..<350).map(String.init))
    }
  }

  @Test("A quorum queue of more messages than one prefetch keeps their order", arguments: ["classic", "quorum"])
  func manyConsumers(type: String) async throws {
    try await TestBroker.with { broker in
      try await broker.declare("deep", type)
      try await broker.publish(TestBroker.numbered(0..<70_000), to: "deep", window: 2000)
      for _ in 0..<2 {
        let numbers = try await broker.dump("deep").map(\.text)
        #expect(numbers.count == 70_000)
        #expect(numbers == (0..<70_000).map(String.init))
        try await TestBroker.eventually("everything is back") { try await broker.depth("deep") == 70_000 }
      }
    }
  }

  @Test(
    "A quorum queue of more returned messages than one consumer can hold is refused: a dump cut short would turn it round"
  )
  func manyReturned() async throws {
    try await TestBroker.with { broker in
      let count = 70_000
      let inOrder = (0..<count).map(String.init)
      try await broker.declare("deep", "quorum")
      try await broker.publish(TestBroker.numbered(0..<count), to: "deep", window: 2000)
      func cutShort() async throws {
        let dump = try await QueueDump.begin(
          broker.find("deep"), broker: broker.settings, brokerVersion: nil, logger: TestBroker.logger)
        _ = try await dump.next()
        await dump.end()
        try await TestBroker.eventually("everything is back") { try await broker.depth("deep") == count }
      }
      // Of what was never returned, what is taken back is before the others.
      try await cutShort()
      try await TestBroker.withRepository { repository, _ in
        var source = try broker.source()
        let first = try await Self.onceKnown { try await TestBroker.backUp(source, to: repository) }
        #expect(RabbitMQQueueRecord.all(of: first).map(\.summary.messages) == [Int64(count)])
        await expectError {
          try await TestBroker.backUp(source, to: repository)
        } matching: {
          // A loaded broker's statistics may be too old to say how many; then it is refused as well.
          "\($0)".contains("order: of 70000 messages ") && "\($0)".contains("override 'order'")
        }
        source.overrides = [.order]
        let second = try await TestBroker.backUp(source, to: repository)
        #expect(RabbitMQQueueRecord.all(of: second).map(\.summary.messages) == [Int64(count)])
      }
      let whole = try await broker.dump("deep").map(\.text)
      #expect(whole == inOrder)
      try await TestBroker.eventually("everything is back") { try await broker.depth("deep") == count }
      // Why it is refused.
      try await cutShort()
      let turned = try await broker.dump("deep").map(\.text)
      #expect(turned == Array(inOrder[65_535...] + inOrder[..<65_535]))
    }
  }

  /// Again, while a loaded broker's statistics are too old to say what was returned before: a dump is refused then.
  private static func onceKnown(_ body: () async throws -> BackupManifest) async throws -> BackupManifest {
    let deadline = ContinuousClock.now + .seconds(120)
    while true {
      do {
        return try await body()
      } catch let error as DRError where "\(error)".contains("cannot be known") && ContinuousClock.now < deadline {
        try await Task.sleep(for: .seconds(2))
      }
    }
  }

  @Test("A consumer that leaves while a deep quorum queue is dumped changes its order no more than by its leaving")
  func leavingConsumer() async throws {
    try await TestBroker.with { broker in
      let count = 70_000
      try await broker.declare("deep", "quorum")
      try await broker.publish(TestBroker.numbered(0..<count, size: 100), to: "deep", window: 2000)
      let dump = try await QueueDump.begin(
        broker.find("deep"), broker: broker.settings, brokerVersion: nil, logger: TestBroker.logger)
      // What it takes is missing from what the first consumer of the dump may hold.
      let consumer = try await AMQPConnection.connect(
        broker.settings, vhost: broker.vhost, logger: TestBroker.logger)
      try await consumer.setPrefetch(20_000)
      try await consumer.consume("deep", tag: "app")
      try await TestBroker.eventually("it holds them") { try await broker.depth("deep") == count - 20_000 }
      let stream = ByteStream {
        let frame = try await dump.next()
        if (40_000..<50_000).contains(dump.summary.messages) { await consumer.abort() }
        return frame
      }
      var numbers: [Int?] = []
      try await MessageArchiveReader.read(stream, object: "deep") { event in
        if case .message(let message) = event { numbers.append(Int(message.text.prefix { $0 != "." })) }
      }
      await dump.end()
      let expected = Array(20_000..<count) + Array(0..<20_000)
      #expect(numbers == expected)
      try await TestBroker.eventually("everything is back") { try await broker.depth("deep") == count }
      let after = try await broker.dump("deep").map { Int($0.text.prefix { $0 != "." }) }
      #expect(after == expected)
    }
  }

  @Test("Messages that a consumer holds are left out and counted; those of an active consumer's queue are still read")
  func unacknowledged() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("busy")
      try await broker.publish(TestBroker.numbered(0..<100), to: "busy")
      let consumer = try await AMQPConnection.connect(
        broker.settings, vhost: broker.vhost, logger: TestBroker.logger)
      try await consumer.setPrefetch(10)
      try await consumer.consume("busy", tag: "app")
      try await TestBroker.eventually("the broker counts what is held") {
        let queue = try await broker.find("busy")
        return queue.unacknowledged == 10 && queue.consumers == 1
      }
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        let record = try #require(RabbitMQQueueRecord.all(of: manifest).first)
        #expect(record.summary.messages == 90 && record.unacknowledged == 10 && record.consumers == 1)
        #expect(manifest.leftOut.contains { $0.what.contains("10 messages") && $0.reason.contains("acknowledgement") })
        await consumer.abort()
        try await TestBroker.eventually("everything is back") { try await broker.depth("busy") == 100 }
        // The broker's statistics still tell of what was held, for some seconds.
        let next = try await TestBroker.backUp(broker.source(), to: repository)
        #expect(next.leftOut.allSatisfy { !$0.reason.contains("acknowledgement") }, "\(next.leftOut)")
        #expect(RabbitMQQueueRecord.all(of: next).first?.summary.messages == 100)
      }
      #expect(try await broker.dump("busy").map(\.text) == (0..<100).map(String.init))
    }
  }

  @Test("What would harm a queue is refused by its name, left out on request, and overridden where that can be")
  func refusals() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("short", "classic", ["x-max-length": .int32(10)])
      try await broker.publish(TestBroker.numbered(0..<9), to: "short")
      try await broker.declare("single", "quorum", ["x-single-active-consumer": .bool(true)])
      let consumer = try await AMQPConnection.connect(
        broker.settings, vhost: broker.vhost, logger: TestBroker.logger)
      try await consumer.setPrefetch(1)
      try await consumer.consume("single", tag: "app")
      try await TestBroker.eventually("the broker counts the consumer") {
        try await broker.find("single").consumers == 1
      }
      try await TestBroker.withRepository { repository, _ in
        var source = try broker.source()
        await expectError {
          try await TestBroker.backUp(source, to: repository)
        } matching: { error in
          let text = "\(error)"
          return text.contains("max-length") && text.contains("single-active-consumer")
            && text.contains("2 of 2 queues")
        }
        source.refused = .leaveOut
        let first = try await Self.onceKnown { try await TestBroker.backUp(source, to: repository) }
        #expect(RabbitMQQueueRecord.all(of: first).isEmpty)
        #expect(first.leftOut.map(\.reason).contains { $0.hasPrefix("max-length: 9 of at most 10") })
        source.overrides = [.maxLength]
        let second = try await TestBroker.backUp(source, to: repository)
        #expect(RabbitMQQueueRecord.all(of: second).map(\.name) == ["short"])
        #expect(try await broker.depth("short") == 9)
      }
      await consumer.abort()
    }
  }

  @Test("A queue or a consumer that is another connection's alone is refused, and left as it was")
  func exclusive() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("sole")
      try await broker.publish(TestBroker.numbered(0..<5), to: "sole")
      let owner = try await AMQPConnection.connect(broker.settings, vhost: broker.vhost, logger: TestBroker.logger)
      try await owner.declareQueue("mine", isExclusive: true)
      try await owner.setPrefetch(1)
      try await owner.consume("sole", tag: "app", isExclusive: true)
      try await TestBroker.eventually("the broker tells of both") {
        let (mine, sole) = (try await broker.find("mine"), try await broker.find("sole"))
        return mine.exclusive && sole.hasExclusiveConsumer
      }
      try await TestBroker.withRepository { repository, _ in
        // An exclusive queue is never durable, whatever was asked for.
        var source = try broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], includesTransient: true))
        source.refused = .leaveOut
        // Neither can be overridden: the broker itself would refuse.
        source.overrides = [.exclusiveQueue, .exclusiveConsumer]
        let manifest = try await TestBroker.backUp(source, to: repository)
        #expect(RabbitMQQueueRecord.all(of: manifest).isEmpty)
        let reasons = manifest.leftOut.map { omission in String(omission.reason.prefix { $0 != ":" }) }
        #expect(reasons == ["exclusive-queue", "exclusive-consumer"])
      }
      // Where the statistics do not tell yet, the broker says so.
      var queue = try await broker.find("sole")
      queue.hasExclusiveConsumer = false
      let dump = try await QueueDump.begin(
        queue, broker: broker.settings, brokerVersion: nil, logger: TestBroker.logger)
      await expectError {
        try await dump.next()
      } matching: {
        ($0 as? DRError)?.rabbitMQCode == 403
      }
      await dump.end()
      await owner.abort()
      try await TestBroker.eventually("everything is back") { try await broker.depth("sole") == 5 }
    }
  }

  @Test("A dump that is cancelled at any moment leaves the queue whole and in order", arguments: ["classic", "quorum"])
  func cancelledReader(type: String) async throws {
    try await TestBroker.with { broker in
      let count = 4000
      try await broker.declare("target", type)
      try await broker.publish(TestBroker.numbered(0..<count, size: 1024), to: "target", window: 2000)
      var random = TestData.Random(seed: 11)
      for _ in 0..<15 {
        let limit = Duration.milliseconds(Int.random(in: 0...120, using: &random))
        let reader = Task {
          let dump = try await QueueDump.begin(
            broker.find("target"), broker: broker.settings, brokerVersion: nil, logger: TestBroker.logger)
          for try await _ in dump.stream {}
        }
        try await Task.sleep(for: limit)
        reader.cancel()
        _ = try? await reader.value
        try await TestBroker.eventually("everything is back") { try await broker.depth("target") == count }
      }
      let messages = try await broker.dump("target")
      #expect(messages.map { Int($0.text.prefix { $0 != "." }) } == (0..<count).map { $0 })
    }
  }

  /// A process that reads a queue is ended with SIGKILL; after each of 50 kills the queue is read whole.
  @Test("A reading process that is killed at 50 random moments leaves the queue whole and in order after each")
  func killedProcess() async throws {
    try await TestBroker.with { broker in
      let count = 5000
      let expected = (0..<count).map { $0 }
      var kills: [String: (all: Int, within: Int)] = [:]
      var random = TestData.Random(seed: 23)
      for (type, rounds) in [("classic", 20), ("quorum", 20), ("stream", 10)] {
        try await broker.declare(type, type)
        try await broker.publish(TestBroker.numbered(0..<count, size: 2048), to: type, window: 2000)
        for _ in 0..<rounds {
          let frames = Int.random(in: 0...8, using: &random)
          let microseconds = Int.random(in: 0...60_000, using: &random)
          let seen = try await Self.killReader(broker, type, afterFrames: frames, microseconds: microseconds)
          kills[type, default: (0, 0)].all += 1
          if seen { kills[type, default: (0, 0)].within += 1 }
          if type != "stream" {
            try await TestBroker.eventually("everything is back") { try await broker.depth(type) == count }
          }
          let messages = try await broker.dump(type)
          #expect(messages.map { Int($0.text.prefix { $0 != "." }) } == expected, "\(type) after \(kills)")
        }
      }
      for (type, count) in kills.sorted(by: { $0.key < $1.key }) {
        print(
          "\(type): whole and in order after \(count.all) kills, \(count.within) of them between first and last frame")
      }
      #expect(kills.values.reduce(0) { $0 + $1.all } == 50)
      // Else the moments would prove nothing.
      #expect(kills.values.allSatisfy { $0.within > 0 })
    }
  }

  /// Lets a process read a queue and kill itself: so many microseconds after so many frames.
  ///
  /// - Returns: Whether it had received messages and not all of them.
  private static func killReader(
    _ broker: TestBroker, _ queue: String, afterFrames frames: Int, microseconds: Int
  ) async throws -> Bool {
    // The process cannot be given values: it finds the file by its parent's number.
    let words = [
      "\(broker.settings.port)", "\(broker.settings.managementPort)", broker.settings.password, broker.vhost, queue,
      "\(frames)", "\(microseconds)",
    ]
    let file = "/tmp/drt-reader-\(getpid())"
    try words.joined(separator: " ").write(toFile: file, atomically: true, encoding: .utf8)
    defer { for name in [file, file + ".seen"] { try? FileManager.default.removeItem(atPath: name) } }
    await #expect(processExitsWith: .signal(SIGKILL)) {
      let file = "/tmp/drt-reader-\(getppid())"
      let words = try String(contentsOfFile: file, encoding: .utf8).split(separator: " ")
      let settings = RabbitMQSettings(
        host: "127.0.0.1", port: UInt16(words[0]), managementPort: UInt16(words[1]), user: "dr-sandbox",
        password: String(words[2]))
      let (frames, microseconds) = (Int(words[5]) ?? 0, UInt32(words[6]) ?? 0)
      let queue = try await RabbitMQQueue.find(String(words[3]), String(words[4]), ManagementAPI(settings))
      func die() {
        Thread.detachNewThread {
          usleep(microseconds)
          kill(getpid(), SIGKILL)
        }
      }
      if frames == 0 { die() }
      let dump = try await QueueDump.begin(queue, broker: settings, brokerVersion: nil, logger: TestBroker.logger)
      var seen = 0
      for try await _ in dump.stream {
        seen += 1
        try "\(seen)".write(toFile: file + ".seen", atomically: true, encoding: .utf8)
        if seen == frames { die() }
        // A frame holds as many messages as the test wants moments between.
        try await Task.sleep(for: .milliseconds(5))
      }
      try "all".write(toFile: file + ".seen", atomically: true, encoding: .utf8)
      // It was too fast for its end.
      try await Task.sleep(for: .seconds(1))
      kill(getpid(), SIGKILL)
    }
    let seen = try? String(contentsOfFile: file + ".seen", encoding: .utf8)
    return seen != nil && seen != "all"
  }
}
