import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

/// Everything that asks a broker. One serves them all: a node takes ten seconds to start.
@Suite(BrokerTrait()) struct RabbitMQTests {}

/// Makes a broker for a suite, and removes it after its last test.
struct BrokerTrait: SuiteTrait, TestScoping {
  func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
  ) async throws {
    var options = RabbitMQSandbox.Options()
    options.plugins = ["rabbitmq_consistent_hash_exchange"]
    try await RabbitMQSandbox.withSandbox(options, logger: TestBroker.logger) { sandbox in
      try await TestBroker.$current.withValue(sandbox) { try await function() }
    }
  }
}

/// A vhost of a test's own, and what tests do to it.
struct TestBroker: Sendable {
  @TaskLocal static var current: RabbitMQSandbox?

  static let logger: Logger = {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    return logger
  }()

  let settings: RabbitMQSettings
  let vhost: String
  var api: ManagementAPI { ManagementAPI(settings) }

  /// Makes a vhost, runs the body, and removes the vhost with all that is in it.
  static func with(_ body: (TestBroker) async throws -> Void) async throws {
    let sandbox = try #require(current)
    try await with(sandbox.settings, body)
  }

  static func with(_ settings: RabbitMQSettings, _ body: (TestBroker) async throws -> Void) async throws {
    let broker = TestBroker(settings: settings, vhost: "test-\(UUID().uuidString.prefix(8))")
    try await broker.makeVHost()
    do {
      try await body(broker)
    } catch {
      try? await broker.removeVHost()
      throw error
    }
    try await broker.removeVHost()
  }

  func makeVHost() async throws {
    try await api.put("vhosts/\(ManagementAPI.escape(vhost))", [:])
    try await permit()
  }

  func permit() async throws {
    try await api.put(
      "permissions/\(ManagementAPI.escape(vhost))/\(settings.user)", ["configure": ".*", "write": ".*", "read": ".*"])
  }

  func removeVHost() async throws { try await api.delete("vhosts/\(ManagementAPI.escape(vhost))") }

  func connected<Result>(_ body: (AMQPConnection) async throws -> Result) async throws -> Result {
    try await AMQPConnection.withConnection(settings, vhost: vhost, logger: Self.logger, body)
  }

  /// Makes a durable queue.
  func declare(_ queue: String, _ type: String = "classic", _ arguments: AMQPTable = [:]) async throws {
    var all = arguments
    if type != "classic" { all.entries.append(.init("x-queue-type", .string(type))) }
    try await connected { try await $0.declareQueue(queue, arguments: all) }
  }

  /// Publishes with confirms.
  func publish(
    _ messages: [ArchivedMessage], to queue: String, exchange: String = "", window limit: Int = 500
  ) async throws {
    try await connected { connection in
      try await connection.selectConfirms()
      var window = PublishWindow(limit: limit)
      let republishing = Republishing(exchange: exchange, routingKey: queue)
      try await connection.publish(messages, as: republishing, window: &window) { _ in }
      try await connection.settle(&window) { _ in }
      try #require(window.failures.isEmpty, "\(window.failures)")
    }
  }

  /// Persistent messages with their numbers as bodies.
  static func numbered(
    _ numbers: Range<Int>, size: Int = 0, _ change: (Int, inout AMQPProperties) -> Void = { _, _ in }
  ) -> [ArchivedMessage] {
    numbers.map { number in
      var properties = AMQPProperties()
      properties.deliveryMode = 2
      properties.messageID = "m-\(number)"
      change(number, &properties)
      var body = ByteBuffer(string: "\(number)")
      if size > body.readableBytes { body.writeRepeatingByte(UInt8(ascii: "."), count: size - body.readableBytes) }
      return message(properties, body, UInt64(number))
    }
  }

  static func message(_ properties: AMQPProperties, _ body: ByteBuffer, _ number: UInt64 = 0) -> ArchivedMessage {
    var encoded = ByteBuffer()
    properties.encode(into: &encoded)
    return ArchivedMessage(
      number: number, redelivered: false, exchange: "", routingKey: ByteBuffer(), properties: encoded, body: body)
  }

  func depth(_ queue: String) async throws -> Int { try await connected { try await $0.depth(of: queue).ready } }

  func find(_ queue: String) async throws -> RabbitMQQueue { try await RabbitMQQueue.find(vhost, queue, api) }

  /// Reads a queue as a dump does.
  func dump(_ queue: String, fromOffset: Int64 = 0) async throws -> [ArchivedMessage] {
    let dump = try await QueueDump.begin(
      find(queue), broker: settings, brokerVersion: nil, fromOffset: fromOffset, logger: Self.logger)
    var messages: [ArchivedMessage] = []
    try await MessageArchiveReader.read(dump.stream, object: queue) { event in
      if case .message(let message) = event { messages.append(message) }
    }
    return messages
  }

  func source(_ selection: RabbitMQQueueSelection? = nil) throws -> RabbitMQMessageSource {
    var source = RabbitMQMessageSource(
      component: try Component(.rabbitmq, "test"), broker: settings,
      queues: selection ?? RabbitMQQueueSelection(vhosts: [vhost]))
    source.definitions?.vhosts = [vhost]
    return source
  }

  static func withRepository<Result>(_ body: (Repository, String) async throws -> Result) async throws -> Result {
    try await withTemporaryFolder { folder in
      let tier = try await LocalTier(root: folder + "/repository", creating: true)
      return try await body(Repository(tier: tier), folder)
    }
  }

  static func backUp(
    _ source: any BackupSource, to repository: Repository, encoding: Encoding = Encoding()
  ) async throws -> BackupManifest {
    try await repository.backUp(source, cadence: .daily, encoding: encoding, logger: logger)
  }

  func restorer() -> RabbitMQMessageRestorer { RabbitMQMessageRestorer(broker: settings) }

  /// Waits for a condition of a broker that may not answer yet, and says what it answered last.
  static func eventuallyAnswers<Answer: Equatable>(
    _ what: String, _ expected: Answer, within limit: Duration = .seconds(60), _ ask: () async throws -> Answer
  ) async throws {
    let deadline = ContinuousClock.now + limit
    while true {
      var last: String
      do {
        let answer = try await ask()
        if answer == expected { return }
        last = "\(answer)"
      } catch let error as DRError {
        last = "\(error)"
      }
      guard ContinuousClock.now < deadline else { throw DRError(.timedOut, "waited for: \(what). At last: \(last)") }
      try await Task.sleep(for: .milliseconds(100))
    }
  }

  /// Waits for a condition.
  static func eventually(
    _ what: String, within limit: Duration = .seconds(60), _ condition: () async throws -> Bool
  ) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
      guard ContinuousClock.now < deadline else { throw DRError(.timedOut, "waited for: \(what)") }
      try await Task.sleep(for: .milliseconds(50))
    }
  }
}

extension ArchivedMessage {
  var text: String { String(buffer: body) }
}

/// Expects an error that is as described.
func expectError<Result>(
  _ body: () async throws -> Result, sourceLocation: SourceLocation = #_sourceLocation,
  matching matches: (any Error) -> Bool
) async {
  do {
    _ = try await body()
    Issue.record("nothing was thrown", sourceLocation: sourceLocation)
  } catch {
    #expect(matches(error), "\(error)", sourceLocation: sourceLocation)
  }
}
