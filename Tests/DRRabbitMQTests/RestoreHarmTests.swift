import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// A restore loses nothing without a word: of what a queue cannot hold, of what is gone afterwards, of a queue that refuses.
extension RabbitMQTests {
  @Test(
    "A limit of the length that a policy gave a moment ago is known, also for a queue that was just made",
    arguments: [true, false], ["max-length", "max-length-bytes"])
  func youngMaxLength(byOperator: Bool, setting: String) async throws {
    try await TestBroker.with { broker in
      try await broker.declare("source")
      try await broker.publish(TestBroker.numbered(0..<10), to: "source")
      try await broker.declare("there")
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(
          broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["source"])), to: repository)
        // The statistics know of this one, and not of its policy.
        try await Task.sleep(for: .seconds(6))
        try await broker.api.put(
          "\(byOperator ? "operator-policies" : "policies")/\(broker.vhost)/limit",
          ["pattern": "^(there|new)$", "apply-to": "queues", "definition": .object([setting: 3])])
        try await broker.declare("new")
        for name in ["there", "new"] {
          var restorer = broker.restorer()
          restorer.renames["\(broker.vhost)/source"] = name
          await expectError {
            try await restorer.restore(from: repository.reader(for: manifest), to: .latest, logger: TestBroker.logger)
          } matching: {
            "\($0)".contains("max-length: it holds 3 \(setting == "max-length" ? "messages" : "bytes") at most")
          }
          #expect(try await broker.depth(name) == 0)
        }
      }
    }
  }

  @Test("What a tap brings counts for a queue's limit, and what is in the dump as well counts once")
  func maxLengthWithTap() async throws {
    try await Self.withTap { tapped in
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      let manifest = try await tapped.capture(tap, until: 80) {
        try await tapped.publish(0..<20)
        let manifest = try await tapped.backUp()
        try await tapped.publish(20..<80)
        return manifest
      }
      // 10 bodies of one byte, 70 of two.
      let limits: [(String, AMQPTable, String?)] = [
        ("short", ["x-max-length": .int32(79)], "79 messages at most, and would confirm and drop of 80"),
        ("small", ["x-max-length-bytes": .int32(149)], "149 bytes at most, and would confirm and drop of 150"),
        ("room", ["x-max-length": .int32(80), "x-max-length-bytes": .int32(150)], nil),
      ]
      for (name, arguments, refusal) in limits {
        try await tapped.broker.declare(name, "classic", arguments)
        var restorer = tapped.broker.restorer()
        restorer.tap = try await tapped.log()
        restorer.renames["\(tapped.broker.vhost)/orders"] = name
        let reader = tapped.repository.reader(for: manifest)
        if let refusal {
          await expectError {
            try await restorer.restore(from: reader, to: .latest, logger: TestBroker.logger)
          } matching: {
            "\($0)".contains(refusal) && "\($0)".contains("(60 of them captured by the tap)")
          }
          #expect(try await tapped.broker.depth(name) == 0)
        } else {
          let outcome = try await restorer.restore(from: reader, to: .latest, logger: TestBroker.logger)
          #expect(outcome.items == 80)
          #expect(try await tapped.broker.dump(name).map(\.text) == (0..<80).map(String.init))
        }
      }
    }
  }

  @Test(
    "A queue that holds less than it has confirmed fails the restore, with the reason where there is one, unless its messages expire",
    arguments: ["purge", "max-length", "message-ttl"])
  func lessThanConfirmed(reason: String) async throws {
    try await TestBroker.with { broker in
      try await broker.declare("source")
      try await broker.declare("copy", "classic", reason == "message-ttl" ? ["x-message-ttl": .int32(1)] : [:])
      let count = 60_000
      try await broker.publish(TestBroker.numbered(0..<count, size: 200), to: "source", window: 2000)
      try await TestBroker.withRepository { repository, folder in
        let manifest = try await TestBroker.backUp(
          broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["source"])), to: repository)
        var restorer = broker.restorer()
        restorer.renames["\(broker.vhost)/source"] = "copy"
        restorer.journalFolder = folder
        let restore = try JournaledRestore(manifest, of: repository, by: restorer)
        let running = Task { try await restore.run() }
        if reason != "message-ttl" {
          try await TestBroker.eventually("some have arrived") { try await broker.depth("copy") > 500 }
        }
        if reason == "purge" {
          try await broker.api.delete("queues/\(broker.vhost)/copy/contents")
        } else if reason == "max-length" {
          try await broker.api.put(
            "policies/\(broker.vhost)/young",
            ["pattern": "^copy$", "apply-to": "queues", "definition": ["max-length": 100]])
        }
        let result = await running.result
        let finding = try #require(restore.outcomes.first?.findings.first { $0.check == "restored-depth" })
        #expect(finding.subject == "\(broker.vhost)/copy" && finding.evidence.hasPrefix("\(count) messages"))
        guard reason != "message-ttl" else {
          #expect(finding.severity == .notice && finding.evidence.contains("after 1 ms"), "\(finding)")
          _ = try result.get()
          return
        }
        #expect(finding.severity == .failure && !finding.evidence.contains("expired"), "\(finding)")
        let words = reason == "purge" ? "no consumer was seen" : "it holds 100: it has a max-length of 100"
        await expectError {
          try result.get()
        } matching: {
          ($0 as? DRError)?.code == .sourceFailed && "\($0)".contains(words)
        }
        // One that goes on does not take it for finished.
        await expectError {
          try await restore.run()
        } matching: {
          "\($0)".contains("journal-mismatch") || "\($0)".contains("max-length: ")
        }
      }
    }
  }

  @Test(
    "One queue that refuses does not keep the others from being restored; each that was not is named, and gone on with")
  func oneQueueRefuses() async throws {
    try await TestBroker.with { broker in
      let names = ["a", "full", "z"]
      for name in names {
        try await broker.declare(name)
        try await broker.publish(TestBroker.numbered(0..<100), to: name)
      }
      try await TestBroker.withRepository { repository, folder in
        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        for name in names { try await broker.api.delete("queues/\(broker.vhost)/\(name)") }
        for name in names { try await broker.declare(name) }
        let policy = "policies/\(broker.vhost)/limit"
        try await broker.api.put(
          policy,
          [
            "pattern": "^full$", "apply-to": "queues", "definition": ["max-length": 40, "overflow": "reject-publish"],
          ])
        try await TestBroker.eventually("the policy holds") {
          try await broker.find("full").policy["overflow"] == "reject-publish"
        }
        var restorer = broker.restorer()
        restorer.journalFolder = folder
        let failed = MutableBox<[String]>([])
        restorer.onFailure = { queue, error in failed.withLock { $0.append("\(queue): \(error)") } }
        let restore = try JournaledRestore(manifest, of: repository, by: restorer)
        await expectError {
          try await restore.run()
        } matching: {
          "\($0)".contains("1 of 3 queues are not restored as they should be: \(broker.vhost)/full: message 40 of")
            && "\($0)".contains("basic.nack")
        }
        #expect(restore.outcomes.map(\.queue) == ["a", "z"])
        #expect(failed.value.count == 1 && failed.value[0].hasPrefix("\(broker.vhost)/full: "))
        for (name, depth) in [("a", 100), ("full", 40), ("z", 100)] { #expect(try await broker.depth(name) == depth) }
        try await broker.api.delete(policy)
        // What it brings then must not be refused by what still holds.
        try await TestBroker.eventually("the policy does not hold") { try await broker.find("full").policy.isEmpty }
        try await restore.run()
        #expect(restore.outcomes.dropFirst(2).map(\.wasFinished) == [true, false, true])
        for name in names { #expect(try await broker.numbers(name) == (0..<100).map { $0 }) }
      }
    }
  }

  @Test(
    "A quorum queue that would refuse by its argument and drops by its policy is known to drop; so is reject-publish-dlx"
  )
  func overflow() async throws {
    try await TestBroker.with { broker in
      try await broker.api.put(
        "policies/\(broker.vhost)/drop", ["pattern": "^drop", "definition": ["overflow": "drop-head"]])
      let cases: [(String, String, String, Bool)] = [
        ("drop-quorum", "quorum", "reject-publish", false), ("drop-classic", "classic", "reject-publish", true),
        ("letters-quorum", "quorum", "reject-publish-dlx", false),
        ("letters-classic", "classic", "reject-publish-dlx", true),
        ("plain-quorum", "quorum", "reject-publish", true),
      ]
      for (name, type, overflow, refuses) in cases {
        try await broker.declare(name, type, ["x-max-length": .int32(3), "x-overflow": .string(overflow)])
        let queue = try await QueuePolicies.read(broker.api).applied(to: broker.find(name))
        #expect(queue.refusesWhenFull == refuses, "\(name)")
        // What the broker makes of it.
        let failures = try await broker.connected { connection in
          try await connection.selectConfirms()
          var window = PublishWindow(limit: 1)
          let republishing = Republishing(exchange: "", routingKey: name)
          try await connection.publish(TestBroker.numbered(0..<50), as: republishing, window: &window) { _ in }
          try await connection.settle(&window) { _ in }
          return window.failures.count
        }
        #expect((failures > 0) == refuses, "\(name)")
      }
    }
  }

  @Test("Of an argument and a policy the smaller limit holds; what may refuse and may not is taken to drop")
  func limitsTogether() throws {
    func queue(_ type: String, _ arguments: [String: JSONValue], _ policy: [String: JSONValue]) throws -> RabbitMQQueue
    {
      try #require(
        RabbitMQQueue([
          "vhost": "v", "name": "q", "type": .string(type), "arguments": .object(arguments),
          "effective_policy_definition": .object(policy),
        ]))
    }
    let limits = try [(7, 3), (3, 7), (-1, 5), (5, -1)].map { argument, policy in
      try queue("quorum", ["x-delivery-limit": .integer(argument)], ["delivery-limit": .integer(policy)])
        .limit("delivery-limit")
    }
    #expect(limits == [3, 3, 5, 5])
    func policy(_ overflow: String?, _ pattern: String = "q") -> QueuePolicies.Policy {
      QueuePolicies.Policy(
        vhost: "v", pattern: pattern, appliesTo: "queues", priority: 0,
        settings: overflow.map { ["overflow": .string($0)] } ?? ["max-length": 1])
    }
    let refusing = "reject-publish"
    let plain = try queue("classic", [:], [:])
    let sets: [(policies: [QueuePolicies.Policy], operators: [QueuePolicies.Policy], refuses: Bool)] = [
      ([policy(refusing)], [], true), ([policy(refusing), policy(nil)], [], false),
      ([policy(refusing)], [policy("drop-head")], false), ([policy("drop-head")], [policy(refusing)], true),
    ]
    for set in sets {
      let policies = QueuePolicies(policies: set.policies, operators: set.operators)
      #expect(policies.applied(to: plain).refusesWhenFull == set.refuses, "\(set)")
    }
    // What it was said to do some seconds ago.
    let former = try queue("classic", [:], ["overflow": .string(refusing), "max-length": 9])
    let now = QueuePolicies(policies: [policy(nil)], operators: []).applied(to: former)
    #expect(!now.refusesWhenFull && now.limit("max-length") == 1)
  }

  @Test("What policies let a tap's own queue lose is said")
  func policiesOfTaps() async throws {
    try await Self.withTap { tapped in
      try await tapped.broker.api.put(
        "policies/\(tapped.broker.vhost)/all",
        ["pattern": ".*", "apply-to": "queues", "definition": ["max-length": 7, "expires": 60_000]])
      let coverage = try #require(try await tapped.tap().prepare(logger: TestBroker.logger).first)
      #expect(coverage.description.contains("(max-length 7, expires 60000)"), "\(coverage)")
      try await tapped.broker.api.delete("policies/\(tapped.broker.vhost)/all")
    }
  }

  @Test(
    "Headers that are nested without end, and what is no text, come through a tap, a backup, an export and a restore")
  func strangeProperties() async throws {
    try await Self.withTap { tapped in
      let messages = try Self.strangeMessages()
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      let manifest = try await tapped.capture(tap, until: 2 * messages.count) {
        try await tapped.broker.publish(messages, to: "", exchange: "sales")
        let manifest = try await tapped.backUp()
        try await Task.sleep(for: .milliseconds(2500))
        try await tapped.broker.publish(messages, to: "", exchange: "sales")
        return manifest
      }
      let record = try #require(RabbitMQQueueRecord.all(of: manifest).first)
      let archive = try await tapped.repository.reader(for: manifest).read(manifest.artifact(record.artifact))
      var lines: [[String: JSONValue]] = []
      try await MessageArchiveReader.read(archive, object: "test") { event in
        let line = try MessageJSON.line(event)
        lines.append(try JSONDecoder().decode([String: JSONValue].self, from: Data(line.readableBytesView)))
      }
      try #require(lines.count == messages.count + 2)
      let deep = lines[1]["propertiesBase64"]?.string.flatMap { Data(base64Encoded: $0) }
      #expect(deep.map { ByteBuffer(bytes: $0) } == messages[0].properties && lines[1]["properties"] == nil)
      for (line, expected) in [(lines[2], "/w=="), (lines[3], "/g==")] {
        let properties = line["properties"]?.object ?? [:]
        #expect(properties["messageId"] == ["base64": .string(expected)])
        let pairs: JSONValue = [
          ["twice", ["int32": 1]], ["twice", ["string": ["base64": "/w=="]]], [["base64": "/w=="], ["bool": true]],
        ]
        #expect(properties["headers"] == pairs)
      }
      let (texts, outcome) = try await tapped.restore(manifest) {
        $0.leavesOutDuplicates = true
      }
      // Those without an id come again; ids that are other bytes are other ids.
      #expect(texts == ["0", "1", "2", "0"] && outcome.duplicates == 2)
      let restored = try await tapped.broker.dump("orders")
      #expect(Array(restored.map(\.properties).prefix(3)) == messages.map(\.properties))
    }
  }

  /// One with headers that are nested 70 deep; two of equal properties but for one byte of the message-id, which is no text.
  private static func strangeMessages() throws -> [ArchivedMessage] {
    var nested = AMQPValue.table(["end": .bool(true)])
    for _ in 0..<70 { nested = .table(["in": nested]) }
    var properties = AMQPProperties()
    properties.headers = ["deep": nested]
    var messages = [TestBroker.message(properties, ByteBuffer(string: "0"), 0)]
    for (number, id) in [UInt8(0xFF), 0xFE].enumerated() {
      var raw = RawProperties()
      let twice = [5] + Array("twice".utf8)
      let fields: [[UInt8]] = [
        twice + [UInt8(ascii: "I"), 0, 0, 0, 1], twice + [UInt8(ascii: "S"), 0, 0, 0, 1, 0xFF],
        [1, 0xFF, UInt8(ascii: "t"), 1],
      ]
      raw.headers = try RawProperties.fields(ofTable: ByteBuffer(bytes: fields.joined()))
      raw.texts[.messageID] = ByteBuffer(integer: id)
      var message = TestBroker.message(AMQPProperties(), ByteBuffer(string: "\(number + 1)"), UInt64(number + 1))
      message.properties = ByteBuffer()
      raw.encode(into: &message.properties)
      messages.append(message)
    }
    return messages
  }
}

extension RabbitMQSandboxTests {
  @Test("A restore whose broker dies in the midst goes on when the broker is back, and repeats nothing")
  func brokerDiesInTheMidst() async throws {
    try await RabbitMQSandbox.withSandbox(logger: TestBroker.logger) { sandbox in
      try await TestBroker.with(sandbox.settings) { broker in
        let count = 60_000
        try await broker.withJournaledRestore(count: count, size: 1024) { restore in
          let running = Task { try await restore.run() }
          try await TestBroker.eventually("some have arrived") { try await broker.depth("destination") > 3000 }
          try await sandbox.kill()
          let result = await running.result
          await expectError {
            try result.get()
          } matching: {
            $0 is DRError
          }
          try await sandbox.start()
          try await restore.run()
          let outcome = try #require(restore.outcomes.first)
          #expect(outcome.resumedFrom > 1000 && outcome.mayBeRepeated == 0 && outcome.depth == Int64(count))
        }
        let numbers = try await broker.numbers("destination")
        #expect(numbers == (0..<count).map { $0 })
      }
    }
  }
}
