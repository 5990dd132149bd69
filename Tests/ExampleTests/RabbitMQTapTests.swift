import DRCore
import DRRabbitMQ
import DRSandbox
import DRTestSupport
import ExampleSupport
import Foundation
import Logging
import NIOCore
import Testing

/// `dr-rabbitmq tap`, as a person runs it: made before a backup, killed, started again, stopped, restored from, removed.
struct RabbitMQTapTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  @Test("A tap that is killed and stopped captures what is published, by the default exchange too, and brings it back")
  func tap() async throws {
    try await withTemporaryFolder { folder in
      try await RabbitMQSandbox.withSandbox(logger: Self.logger) { broker in
        let program = try await Self.prepare(folder, broker.settings)
        try await Self.connected(broker.settings) { connection in
          try await connection.declareQueue("orders", arguments: ["x-queue-type": .string("quorum")])
          try await connection.declareExchange("sales", type: "fanout", durable: true, autoDelete: false)
          try await connection.bind(queue: "orders", to: "sales")
        }
        try await Self.publish(0..<50, broker.settings, exchange: "sales")
        let tap = ["tap", "--firehose", "--queue", "orders", "--lease-seconds", "2"]
        let prepared = try await program.run(tap + ["--prepare-only"])
        #expect(prepared.contains("//orders: captured through sales, the firehose (default exchange, at most once)"))
        #expect(try await program.run(["backup", "--queue", "orders"]).contains("50 messages of 1 queues"))

        // Killed once, then stopped in good order.
        var sent = 50
        for isKilled in [true, false] {
          let process = try program.start(tap + ["--segment-interval", "0.3", "--verbose"])
          defer { process.end(SIGKILL) }
          try await Self.publish(sent..<(sent + 100), broker.settings, exchange: "sales")
          try await Self.publish((sent + 100)..<(sent + 150), broker.settings, exchange: "")
          sent += 150
          if isKilled {
            try await Self.eventually("the tap works", process) { process.said.contains("//orders: captured") }
            process.end(SIGKILL)
          } else {
            let published = Date()
            try await Self.eventually("everything is durable", process) {
              process.durable.map { $0 > published } ?? false
            }
            process.end(SIGTERM)
            #expect(process.status == 0, "\(process.said)")
          }
        }

        let api = ManagementAPI(broker.settings)
        try await api.delete("queues/%2F/orders/contents")
        try await Self.eventually("the queue is empty", nil) {
          try await Self.connected(broker.settings) { try await $0.depth(of: "orders").ready } == 0
        }
        let restored = try await program.run(["restore", "--messages-only", "--with-tap"])
        #expect(
          restored.contains("//orders: 350 messages confirmed, 300 of them captured since the backup"), "\(restored)")
        #expect(try await Self.read(broker.settings) == (0..<350).map(String.init))
        #expect(try await program.run(["verify"]).contains("passed tap-segments //orders"))

        #expect(try await program.run(tap + ["--remove"]).contains("1 taps removed"))
        let left = (try await api.get("queues").array ?? []).compactMap { $0.object?["name"]?.string }
        #expect(left == ["orders"])
        #expect(try await api.get("vhosts/%2F").object?["tracing"] == .bool(false))
      }
    }
  }

  // MARK: The program

  private struct Program {
    var config: String
    var log: String
    var environment: [String: String]

    func run(_ arguments: [String]) async throws -> String {
      let result = try await runCommand(
        ReceiverProcess.built("dr-rabbitmq"), arguments + ["--config", config], environment: environment)
      let said = String(decoding: result.output, as: UTF8.self) + result.error
      #expect(result.status == 0, "\(arguments): \(said)")
      return said
    }

    func start(_ arguments: [String]) throws -> Running {
      try? FileManager.default.removeItem(atPath: log)
      _ = FileManager.default.createFile(atPath: log, contents: nil)
      let process = Process()
      process.executableURL = URL(filePath: ReceiverProcess.built("dr-rabbitmq"))
      process.arguments = arguments + ["--config", config]
      process.environment = environment
      let handle = FileHandle(forWritingAtPath: log)
      process.standardOutput = handle
      process.standardError = handle
      process.standardInput = FileHandle.nullDevice
      try process.run()
      return Running(process: process, log: log)
    }
  }

  private struct Running {
    let process: Process
    let log: String

    var said: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }
    var status: Int32 { process.terminationStatus }
    /// Through which moment it last said that everything is durable.
    var durable: Date? {
      said.matches(of: /durable through (\S+),/).last.flatMap { Timestamp.parse(String($0.1)) }
    }

    func end(_ signal: Int32) {
      guard process.isRunning else { return }
      kill(process.processIdentifier, signal)
      process.waitUntilExit()
    }
  }

  private static func prepare(_ folder: String, _ broker: RabbitMQSettings) async throws -> Program {
    let settings = RepositoryConfiguration(
      repository: folder + "/repository", component: try Component(.rabbitmq, "test"))
    let config = folder + "/dr.json"
    try JSONEncoder().encode(settings).write(to: URL(filePath: config))
    _ = try await settings.tier(creating: true)
    return Program(
      config: config, log: folder + "/tap.log",
      environment: [
        "PATH": ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin",
        "RABBITMQ_BROKER": "127.0.0.1:\(broker.port)", "RABBITMQ_MANAGEMENT_PORT": "\(broker.managementPort)",
        "RABBITMQ_USER": broker.user, "RABBITMQ_PASSWORD": broker.password,
      ])
  }

  // MARK: The broker

  static func connected<Result>(
    _ broker: RabbitMQSettings, _ body: (AMQPConnection) async throws -> Result
  ) async throws -> Result {
    try await AMQPConnection.withConnection(broker, vhost: "/", logger: logger, body)
  }

  static func publish(_ numbers: Range<Int>, _ broker: RabbitMQSettings, exchange: String) async throws {
    try await connected(broker) { connection in
      try await connection.selectConfirms()
      var window = PublishWindow(limit: 100)
      let messages = numbers.map { number in
        var properties = AMQPProperties()
        properties.deliveryMode = 2
        properties.messageID = "m-\(number)"
        var encoded = ByteBuffer()
        properties.encode(into: &encoded)
        return ArchivedMessage(
          number: UInt64(number), redelivered: false, exchange: "", routingKey: ByteBuffer(), properties: encoded,
          body: ByteBuffer(string: "\(number)"))
      }
      let republishing = Republishing(exchange: exchange, routingKey: "orders")
      try await connection.publish(messages, as: republishing, window: &window) { _ in }
      try await connection.settle(&window) { _ in }
      try #require(window.failures.isEmpty)
    }
  }

  private static func read(_ broker: RabbitMQSettings) async throws -> [String] {
    let queue = try await RabbitMQQueue.find("/", "orders", ManagementAPI(broker))
    let dump = try await QueueDump.begin(queue, broker: broker, brokerVersion: nil, logger: logger)
    var texts: [String] = []
    try await MessageArchiveReader.read(dump.stream, object: "orders") { event in
      if case .message(let message) = event { texts.append(String(buffer: message.body)) }
    }
    return texts
  }

  private static func eventually(
    _ what: String, _ process: Running?, _ condition: () async throws -> Bool
  ) async throws {
    let deadline = ContinuousClock.now + .seconds(60)
    while try await !condition() {
      guard ContinuousClock.now < deadline else {
        throw DRError(.timedOut, "waited for: \(what). \(process?.said ?? "")")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }
}
