import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import DRVerify
import Foundation
import NIOCore
import Testing

/// A restore brings each message once, in order, or says which one it could not bring.
extension RabbitMQTests {
  @Test(
    "A restore that is killed again and again, and goes on at once each time, repeats nothing where the queue tells",
    arguments: [("classic", 40, 120_000), ("quorum", 5, 30_000), ("stream", 5, 30_000)])
  func killedRestore(type: String, kills: Int, count: Int) async throws {
    try await TestBroker.with { broker in
      try await broker.withJournaledRestore(type: type, count: count, size: 100, { $0.readsFirst = false }) { restore in
        var random = TestData.Random(seed: 5)
        for _ in 0..<kills {
          // Each line stands for some messages that were confirmed: more are on their way.
          let due = try restore.journalLines + Int.random(in: 1...2, using: &random)
          let moment = Duration.milliseconds(Int.random(in: 0...20, using: &random))
          try await restore.kill(when: "more was confirmed") {
            guard try restore.journalLines >= due else { return false }
            try await Task.sleep(for: moment)
            return true
          }
        }
        try await restore.run()
        let outcome = try #require(restore.outcomes.last)
        #expect(outcome.resumedFrom > 0 && outcome.mayBeRepeated == 0)
        #expect(outcome.depth == (type == "stream" ? nil : Int64(count)))
      }
      let numbers = try await broker.numbers("destination")
      #expect(numbers == (0..<count).map { $0 })
    }
  }

  @Test(
    "A resumed restore waits for what the killed one's connection, which the broker still has open, is to bring",
    arguments: ["classic", "quorum"])
  func connectionStillOpen(type: String) async throws {
    try await TestBroker.with { direct in
      try await HoldingRelay.with(to: direct.settings.port) { relay in
        var settings = direct.settings
        settings.port = relay.port
        let broker = TestBroker(settings: settings, vhost: direct.vhost)
        let count = 60_000
        // Into the queue that it came from: this goes through the default exchange, which a killed restore cannot remove.
        try await broker.withJournaledRestore(type: type, count: count, size: 100, { $0.renames = [:] }) { restore in
          try await direct.api.delete("queues/\(direct.vhost)/source/contents")
          // The statistics tell for some seconds of what the dump held.
          try await TestBroker.eventually("the queue is empty") {
            let queue = try await direct.find("source")
            let depth = try await direct.depth("source")
            return depth == 0 && queue.ready == 0 && queue.unacknowledged == 0
          }
          try await restore.kill(when: "some have arrived, and more are kept back") {
            guard try await direct.depth("source") > 1000 else { return false }
            relay.hold()
            // Without a confirmation nothing more is sent after a while.
            var (bytes, since) = (-1, ContinuousClock.now)
            try await TestBroker.eventually("the window is full") {
              let now = relay.heldBytes
              if now != bytes { (bytes, since) = (now, .now) }
              return now > 0 && since.duration(to: .now) > .milliseconds(500)
            }
            return true
          }
          let resumed = Task { try await restore.run() }
          // Longer than a restore looks whether its queue is still.
          try await Task.sleep(for: .seconds(4))
          #expect(restore.outcomes.isEmpty)
          relay.release()
          _ = try await resumed.value
          let outcome = try #require(restore.outcomes.first)
          #expect(outcome.resumedFrom > 1000 && outcome.mayBeRepeated == 0 && outcome.depth == Int64(count))
          // What had been kept back is there by now, whoever waited for it.
          try await Task.sleep(for: .seconds(1))
          let numbers = try await direct.numbers("source")
          #expect(numbers.count == count)
          #expect(numbers == (0..<count).map { $0 })
        }
      }
    }
  }

  @Test("Where the end of a killed restore's connection cannot be seen, a resumed one claims nothing, nor the next")
  func unseenEnd() async throws {
    try await TestBroker.with { whole in
      var settings = whole.settings
      settings.timeLimit = .seconds(10)
      let broker = TestBroker(settings: settings, vhost: whole.vhost)
      let count = 20_000
      try await broker.withJournaledRestore(count: count, size: 256, { $0.window = 200 }) { restore in
        try await restore.kill(when: "some have arrived") { try await broker.depth("destination") > 1000 }
        // Somebody who does not go has what the killed connection would have.
        let mark = RestoreMark(try await broker.find("destination"), broker.settings, TestBroker.logger)
        var found: AMQPConnection?
        try await TestBroker.eventually("the killed connection is gone") {
          let connection = try await AMQPConnection.connect(
            broker.settings, vhost: broker.vhost, logger: TestBroker.logger)
          guard try await mark.put(on: connection) == nil else { return false }
          found = connection
          return true
        }
        let stranger = try #require(found)
        let start = ContinuousClock.now
        let depth = try await broker.depth("destination")
        try await restore.kill(when: "more have arrived") { try await broker.depth("destination") > depth + 1000 }
        #expect(start.duration(to: .now) > .seconds(29))
        await stranger.close()
        try await restore.run()
        let outcome = try #require(restore.outcomes.first)
        #expect((1...200).contains(outcome.mayBeRepeated))
      }
      // No message is missing; of each of the two that went on, a window may be there twice.
      let numbers = try await broker.numbers("destination").compactMap { $0 }
      #expect((count...(count + 400)).contains(numbers.count))
      #expect(Set(numbers).count == count)
    }
  }

  @Test(
    "A journal is not believed against a queue that was purged, or made anew: it is refused", arguments: [true, false])
  func purgedBeforeResume(isMadeAnew: Bool) async throws {
    try await TestBroker.with { broker in
      try await broker.withJournaledRestore(count: 20_000, size: 256, { $0.window = 200 }) { restore in
        try await restore.kill(when: "some have arrived") { try await broker.depth("destination") > 1000 }
        let place = "queues/\(broker.vhost)/destination"
        try await broker.api.delete(isMadeAnew ? place : place + "/contents")
        if isMadeAnew { try await broker.declare("destination") }
        await expectError {
          try await restore.run()
        } matching: {
          "\($0)".contains("journal-mismatch: it holds 0 messages")
        }
        #expect(try await broker.depth("destination") == 0)
        // Begun anew.
        let folder = try #require(restore.restorer.journalFolder)
        try FileManager.default.removeItem(atPath: "\(folder)/\(restore.record.artifact).journal")
        try await restore.run()
        let numbers = try await broker.numbers("destination")
        #expect(numbers == (0..<20_000).map { $0 })
      }
    }
  }

  @Test("Where consumers may have taken messages, a resumed restore repeats at most a window and says how many")
  func resumedRestoreSaysWhatItRepeats() async throws {
    try await TestBroker.with { broker in
      func settings(_ restorer: inout RabbitMQMessageRestorer) {
        restorer.window = 200
        restorer.overrides = [.journalMismatch]
      }
      try await broker.withJournaledRestore(count: 20_000, size: 256, settings) { restore in
        try await restore.kill(when: "some have arrived") { try await broker.depth("destination") > 1000 }
        // Somebody takes what is there.
        try await broker.api.delete("queues/\(broker.vhost)/destination/contents")
        try await restore.run()
        let outcome = try #require(restore.outcomes.first)
        #expect(outcome.resumedFrom > 500)
        #expect((1...200).contains(outcome.mayBeRepeated))
        let numbers = try await broker.numbers("destination")
        #expect(numbers == (Int(outcome.resumedFrom)..<20_000).map { $0 })
      }
    }
  }

  @Test("A killed restore of several queues goes on, and passes over those that it had finished")
  func severalQueues() async throws {
    try await TestBroker.with { broker in
      let counts = ["first": 3000, "second": 40_000]
      for (name, count) in counts {
        try await broker.declare(name)
        try await broker.publish(TestBroker.numbered(0..<count, size: 100), to: name, window: 2000)
      }
      try await TestBroker.withRepository { repository, folder in
        let journals = folder + "/journals"
        try FileManager.default.createDirectory(atPath: journals, withIntermediateDirectories: false)
        func left() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: journals) }
        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        var restorer = broker.restorer()
        restorer.journalFolder = journals
        let restore = try JournaledRestore(manifest, of: repository, by: restorer)
        try await broker.api.delete("queues/\(broker.vhost)/first/contents")
        await expectError {
          try await restore.run()
        } matching: {
          "\($0)".contains("not-empty: it holds 40000 messages")
        }
        // What was refused leaves no journal that would say that it was begun.
        #expect(try left().isEmpty)
        try await broker.api.delete("queues/\(broker.vhost)/second/contents")
        for name in counts.keys {
          try await TestBroker.eventually("the queue is empty") {
            let (queue, depth) = (try await broker.find(name), try await broker.depth(name))
            return depth == 0 && queue.ready == 0 && queue.unacknowledged == 0
          }
        }
        try await restore.kill(when: "the second is half way") { try await broker.depth("second") > 3000 }
        #expect(restore.outcomes.map(\.published) == [3000])
        #expect(try left().count == 2)
        try await restore.run()
        let outcomes = restore.outcomes.dropFirst()
        #expect(outcomes.map(\.queue) == ["first", "second"] && outcomes.map(\.wasFinished) == [true, false])
        #expect(outcomes.map(\.mayBeRepeated) == [0, 0] && outcomes.last?.resumedFrom ?? 0 > 1000)
        #expect(try left().isEmpty)
      }
      for (name, count) in counts {
        let numbers = try await broker.numbers(name)
        #expect(numbers == (0..<count).map { $0 })
      }
    }
  }

  @Test("What was published to a queue by its name goes that way again, unless it names copies or the user may not")
  func defaultExchange() async throws {
    try await TestBroker.with { broker in
      for queue in ["orders", "copies"] { try await broker.declare(queue) }
      try await broker.publish(
        TestBroker.numbered(0..<3) { number, properties in
          if number == 1 { properties.headers = ["CC": .array([.string("copies")])] }
        }, to: "orders")
      let name = "writer-\(broker.vhost)"
      try await broker.api.put("users/\(name)", ["password": "secret", "tags": "administrator"])
      try await broker.api.put(
        "permissions/\(broker.vhost)/\(name)",
        ["configure": ".*", "write": "^(orders|dr[.]restore[.].*)$", "read": ".*"])
      var settings = broker.settings
      (settings.user, settings.password) = (name, "secret")
      let writer = TestBroker(settings: settings, vhost: broker.vhost)
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(
          broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["orders"])), to: repository)
        for (restorer, expected) in [
          (broker.restorer(), ["", "dr.restore", ""]),
          (writer.restorer(), ["dr.restore", "dr.restore", "dr.restore"]),
        ] {
          for queue in ["orders", "copies"] { try await broker.api.delete("queues/\(broker.vhost)/\(queue)/contents") }
          _ = try await restorer.restore(
            from: repository.reader(for: manifest), to: .latest, logger: TestBroker.logger)
          let messages = try await broker.dump("orders")
          #expect(messages.map(\.text) == ["0", "1", "2"])
          #expect(messages.map { String($0.exchange.prefix(10)) } == expected)
          #expect(messages.allSatisfy { String(buffer: $0.routingKey) == "orders" })
          #expect(try await broker.depth("copies") == 0)
          try await TestBroker.eventually("everything is back") { try await broker.depth("orders") == 3 }
        }
      }
      try await broker.api.delete("users/\(name)")
    }
  }

  @Test("A queue that refuses messages ends the restore with the first one's number")
  func refusedMessages() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("source")
      try await broker.declare(
        "full", "classic", ["x-max-length": .int32(40), "x-overflow": .string("reject-publish")])
      try await broker.publish(TestBroker.numbered(0..<100), to: "source")
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(
          broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["source"])), to: repository)
        var restorer = broker.restorer()
        restorer.renames["\(broker.vhost)/source"] = "full"
        await expectError {
          try await restorer.restore(from: repository.reader(for: manifest), to: .latest, logger: TestBroker.logger)
        } matching: { error in
          "\(error)".contains("message 40 of") && "\(error)".contains("basic.nack")
        }
        #expect(try await broker.depth("full") == 40)
        // No exchange of the restore's is left.
        let exchanges = try await broker.api.get("exchanges/\(broker.vhost)").array ?? []
        #expect(!exchanges.contains { $0.object?["name"]?.string?.hasPrefix("dr.restore") ?? false })
      }
    }
  }

  @Test("A damaged archive is noticed before anything is published")
  func damagedArchive() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("source")
      try await broker.declare("copy")
      try await broker.publish(TestBroker.numbered(0..<20_000, size: 300), to: "source", window: 2000)
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(
          broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["source"])), to: repository)
        let record = try #require(RabbitMQQueueRecord.all(of: manifest).first)
        let artifact = try manifest.artifact(record.artifact)
        let damaged = Repository(
          tier: DamagedTier(repository.tier, damaging: artifact.key, at: artifact.storedSize * 3 / 4))
        var restorer = broker.restorer()
        restorer.renames["\(broker.vhost)/source"] = "copy"
        await expectError {
          try await restorer.restore(from: damaged.reader(for: manifest), to: .latest, logger: TestBroker.logger)
        } matching: {
          ($0 as? DRError)?.code == .corruptData
        }
        #expect(try await broker.depth("copy") == 0)
      }
    }
  }

  @Test("A message that no queue takes is a failure with its number, though the broker confirms it")
  func unroutableMessages() async throws {
    try await TestBroker.with { broker in
      try await broker.connected { connection in
        try await connection.declareExchange("nowhere", type: "fanout", durable: false, autoDelete: false)
        try await connection.selectConfirms()
        var window = PublishWindow(limit: 100)
        let messages = TestBroker.numbered(0..<5)
        try await connection.publish(messages, as: Republishing(exchange: "nowhere"), window: &window) { _ in }
        try await connection.settle(&window) { _ in }
        #expect(window.failures.first?.number == 0)
        #expect(window.failures.first?.reason.contains("NO_ROUTE") == true)
      }
    }
  }

  @Test("A destination that is not fit is refused before anything is published, and overridden by name")
  func unfitDestinations() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("source")
      try await broker.declare("short", "classic", ["x-max-length": .int32(10)])
      try await broker.declare("other", "quorum")
      try await broker.publish(TestBroker.numbered(0..<20), to: "source")
      try await TestBroker.withRepository { repository, folder in
        let manifest = try await TestBroker.backUp(
          broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["source"])), to: repository)
        var restorer = broker.restorer()
        restorer.journalFolder = folder
        func refused(_ destination: String?, _ reason: String) async {
          restorer.renames["\(broker.vhost)/source"] = destination
          await expectError {
            try await restorer.restore(
              from: repository.reader(for: manifest), to: .latest, logger: TestBroker.logger)
          } matching: { error in
            "\(error)".contains(reason)
          }
        }
        await refused(nil, "not-empty: it holds 20 messages")
        await refused("short", "max-length: it holds 10 messages at most")
        await refused("other", "type: it is a quorum queue")
        await refused("missing", "restore the definitions first")
        #expect(try await broker.depth("short") == 0)
        restorer.renames["\(broker.vhost)/source"] = "other"
        restorer.overrides = [.type]
        _ = try await restorer.restore(from: repository.reader(for: manifest), to: .latest, logger: TestBroker.logger)
        #expect(try await broker.dump("other").map(\.text) == (0..<20).map(String.init))
      }
    }
  }

  @Test("CC headers route nothing, another's user_id is left out, time to live is as asked, duplicates are left out")
  func whatPropertiesWouldDo() async throws {
    try await TestBroker.with { broker in
      for queue in ["source", "copy", "bystander"] { try await broker.declare(queue) }
      let now = UInt64(Date().timeIntervalSince1970)
      try await broker.publish(
        TestBroker.numbered(0..<4) { number, properties in
          properties.messageID = number == 3 ? "m-0" : "m-\(number)"
          properties.expiration = "7200000"
          if number == 1 { properties.timestamp = now - 3600 }
          // An archive can hold it; a message that is published so would be copied at once.
          properties.headers = ["CC": .array([.string("bystander")])]
        }, to: "source")
      #expect(try await broker.depth("bystander") == 4)
      try await broker.api.delete("queues/\(broker.vhost)/bystander/contents")
      // Another user publishes with his name.
      let name = "publisher-\(broker.vhost)"
      try await broker.api.put("users/\(name)", ["password": "secret", "tags": ""])
      try await broker.api.put(
        "permissions/\(broker.vhost)/\(name)", ["configure": ".*", "write": ".*", "read": ".*"])
      var settings = broker.settings
      (settings.user, settings.password) = (name, "secret")
      try await TestBroker(settings: settings, vhost: broker.vhost).publish(
        TestBroker.numbered(4..<5) { $1.userID = name }, to: "source")
      try await broker.api.delete("users/\(name)")

      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(
          broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["source"])), to: repository)
        var restorer = broker.restorer()
        restorer.renames["\(broker.vhost)/source"] = "copy"
        restorer.leavesOutDuplicates = true
        let outcomes = MutableBox<[RabbitMQMessageRestorer.QueueOutcome]>([])
        restorer.onQueue = { outcome in outcomes.withLock { $0.append(outcome) } }
        for (choice, expected) in [
          (RabbitMQMessageRestorer.TimeToLive.fresh, ["7200000", "7200000"]), (.none, [nil, nil]),
          (.remaining, ["7200000", "3600000"]),
        ] as [(RabbitMQMessageRestorer.TimeToLive, [String?])] {
          restorer.timeToLive = choice
          _ = try await restorer.restore(
            from: repository.reader(for: manifest), to: .latest, logger: TestBroker.logger)
          let messages = try await broker.dump("copy")
          #expect(messages.map(\.text) == ["0", "1", "2", "4"])
          let properties = try messages.map { try $0.decodedProperties() }
          #expect(properties[0].expiration == expected[0])
          // Seconds go by between the two.
          let left = properties[1].expiration.flatMap { Int($0) }
          let wanted = expected[1].flatMap { Int($0) }
          #expect(left == wanted || (left ?? 0) > (wanted ?? 0) - 120_000 && (left ?? 0) <= (wanted ?? 0))
          #expect(properties[0].headers?["CC"] != nil)
          #expect(properties[3].userID == nil)
          try await broker.api.delete("queues/\(broker.vhost)/copy/contents")
          try await TestBroker.eventually("the queue is empty") { try await broker.depth("copy") == 0 }
        }
        #expect(outcomes.value.allSatisfy { $0.duplicates == 1 && $0.usersLeftOut == 1 })
        #expect(try await broker.depth("bystander") == 0)
      }
    }
  }
}
