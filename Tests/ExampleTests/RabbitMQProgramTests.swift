import DRCore
import DRRabbitMQ
import DRSandbox
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

/// `dr-rabbitmq backup` and `tap`: what they say of plain text, and how they end when they are told to stop.
struct RabbitMQProgramTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
  private static let messages = 300

  @Test(
    "Plain text is said once unless it is meant; a backup that is told to stop leaves repository and queue as they were"
  )
  func backup() async throws {
    try await RabbitMQSandbox.withSandbox(logger: Self.logger) { broker in
      try await Self.fill(broker.settings)
      for (fields, warnings) in [("", 1), (", \"plaintext\": true", 0)] {
        try await ProgramPlace.with("dr-rabbitmq", component: "rabbitmq/test", fields: fields) { place in
          #expect(try await place.run("init").status == 0)
          let to = try Self.arguments(broker.settings, place)
          for command in [["backup", "--definitions-only", "--allow-clear-secrets"], ["tap", "--prepare-only"]] {
            let result = try await place.run(command + to)
            let said = result.error.components(separatedBy: "warning: nothing is encrypted").count - 1
            #expect(result.status == 0 && said == warnings, "\(command): \(result.error)")
          }
          let removed = try await place.run(["tap", "--remove"] + to)
          #expect(removed.status == 0 && !removed.error.contains("encrypted"), "\(removed.error)")
        }
      }
      try await ProgramPlace.with("dr-rabbitmq", component: "rabbitmq/test") { place in
        #expect(try await place.run("init").status == 0)
        let empty = try place.plainFiles()
        let backup = ["backup", "--allow-clear-secrets"] + (try Self.arguments(broker.settings, place))
        let running = try RunningProgram(
          place.arguments(backup), of: place.program, in: place.folder)
        try await eventually("messages to be written") {
          try place.plainFiles().contains { !empty.contains($0) && Self.size($0) > 1_000_000 }
        }
        let told = ContinuousClock.now
        running.send(SIGTERM)
        let ended = try await running.end(within: .seconds(30))
        #expect(ended.status == 128 + SIGTERM, "\(ended.said)")
        #expect(told.duration(to: .now) < .seconds(10))
        let lines = ended.said.split(separator: "\n").filter { !$0.hasPrefix("backup ") }
        #expect(lines == ["ended by SIGTERM: nothing was committed"], "\(ended.said)")
        #expect(try place.plainFiles() == empty)
        try await eventually("the queue to be as it was") {
          try await Self.connected(broker.settings) { try await $0.depth(of: "orders").ready } == Int64(Self.messages)
        }
      }
    }
  }

  @Test("A queue that is nowhere, and another cluster in a component, are refused")
  func mistakes() async throws {
    try await RabbitMQSandbox.withSandbox(logger: Self.logger) { broker in
      try await Self.connected(broker.settings) { try await $0.declareQueue("orders") }
      try await ProgramPlace.with("dr-rabbitmq", component: "rabbitmq/test") { place in
        #expect(try await place.run("init").status == 0)
        let to = try Self.arguments(broker.settings, place)
        let backup = ["backup", "--allow-clear-secrets"]
        let first = try await place.run(backup + to)
        #expect(first.status == 0, "\(first)")
        for command in ["restore", "tap"] {
          let more = command == "tap" ? ["--prepare-only"] : []
          let wrong = try await place.run([command, "--queue", "nosuch"] + more + to)
          #expect(wrong.status != 0 && wrong.error.contains("nosuch"), "\(wrong)")
        }
        let messages = try await place.run(["restore", "--messages-only", "--queue", "nosuch"] + to)
        #expect(messages.status != 0 && messages.error.contains("nosuch"), "\(messages)")
        for command in [["restore"], ["restore", "--messages-only"], ["diff"], ["tap", "--prepare-only"]] {
          let wrong = try await place.run(command + ["--vhost", "nosuch"] + to)
          #expect(wrong.status == 2 && wrong.error.contains("no vhost 'nosuch'"), "\(command): \(wrong)")
        }
        let only = try await place.run(["backup", "--definitions-only", "--queue", "nosuch"] + to)
        #expect(only.status == 64 && only.error.contains("not with --definitions-only"), "\(only)")
        for address in [
          "amqp://admin:TopSecret9@127.0.0.1:5672", "admin:TopSecret9@host", "host:TopSecret9", "a:b:TopSecret9",
        ] {
          let refused = try await place.run(backup + ["--broker", address] + to.dropFirst(2))
          #expect(refused.status == 64 && refused.error.contains("a host, or host:port"), "\(refused)")
          #expect(!"\(refused)".contains("TopSecret9"))
        }
        let exact = try await place.run(["restore", "--exact", "--queue", "orders"] + to)
        #expect(exact.status == 64, "\(exact)")
        try await RabbitMQSandbox.withSandbox(logger: Self.logger) { other in
          let at = try Self.arguments(other.settings, place)
          let refused = try await place.run(backup + at)
          #expect(refused.status != 0 && refused.error.contains("--new-cluster"), "\(refused)")
          let meant = try await place.run(backup + ["--new-cluster"] + at)
          #expect(meant.status == 0, "\(meant)")
        }
      }
    }
  }

  @Test(
    "Over TLS, with a certificate of its own where the broker asks for one; to no broker that another authority vouches for"
  )
  func overTLS() async throws {
    try await withTemporaryFolder { folder in
      chmod(folder, 0o755)
      let made = try await runCommand("bash", ["-c", Self.certificates, "bash", folder])
      try #require(made.status == 0, "\(made.error)")
      var options = RabbitMQSandbox.Options()
      options.certificates = folder
      for prefix in ["ssl_options", "management.ssl"] {
        options.configuration["\(prefix).verify"] = "verify_peer"
        options.configuration["\(prefix).fail_if_no_peer_cert"] = "true"
      }
      try await RabbitMQSandbox.withSandbox(options, logger: Self.logger) { broker in
        try await Self.fill(broker.settings)
        let settings = try #require(broker.tlsSettings)
        try await ProgramPlace.with("dr-rabbitmq", component: "rabbitmq/test", fields: ", \"plaintext\": true") {
          place in
          #expect(try await place.run("init").status == 0)
          var to = try Self.arguments(settings, place)
          to[1] = "localhost:\(settings.port)"
          func backUp(_ authority: String, _ more: [String] = []) async throws -> (status: Int32, error: String) {
            let result = try await place.run(
              ["backup", "--allow-clear-secrets", "--ca-file", "\(folder)/\(authority).pem"] + to + more)
            return (result.status, result.error)
          }
          let own = ["--client-certificate", "\(folder)/client.pem", "--client-key", "\(folder)/client.key"]
          let taken = try await backUp("ca", own)
          #expect(taken.status == 0, "\(taken.error)")
          let nameless = try await backUp("ca")
          #expect(nameless.status == 2, "\(nameless.error)")
          let stranger = try await backUp("client", own)
          #expect(stranger.status == 2 && stranger.error.contains("--ca-file"), "\(stranger.error)")
          let half = try await backUp("ca", ["--client-key", "\(folder)/client.key"])
          #expect(half.status == 64 && half.error.contains("belong together"), "\(half.error)")
          let listed = try await place.run("list", "--queues")
          #expect(listed.output.contains("orders"), "\(listed.output)")
        }
      }
    }
  }

  /// An authority, and what it vouches for: the broker at localhost, and a client.
  private static let certificates = """
    set -e; cd "$1"
    openssl ecparam -genkey -name prime256v1 -noout -out ca.key
    openssl req -x509 -new -key ca.key -sha256 -days 2 -subj /CN=test -addext basicConstraints=critical,CA:TRUE -out ca.pem
    printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' > leaf.ext
    for name in server client; do
      openssl ecparam -genkey -name prime256v1 -noout | openssl pkcs8 -topk8 -nocrypt -out $name.key
      openssl req -new -key $name.key -subj /CN=$name -out $name.csr
      openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -sha256 -extfile leaf.ext -out $name.pem
    done
    chmod 644 *.key
    """

  private static func size(_ path: String) -> Int {
    // It may be renamed meanwhile.
    (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? 0
  }

  private static func arguments(_ broker: RabbitMQSettings, _ place: ProgramPlace) throws -> [String] {
    let file = place.folder + "/password"
    try broker.password.write(toFile: file, atomically: true, encoding: .utf8)
    return [
      "--broker", "127.0.0.1:\(broker.port)", "--management-port", "\(broker.managementPort)", "--user", broker.user,
      "--password-file", file,
    ]
  }

  private static func connected<Result>(
    _ broker: RabbitMQSettings, _ body: (AMQPConnection) async throws -> Result
  ) async throws -> Result {
    try await AMQPConnection.withConnection(broker, vhost: "/", logger: logger, body)
  }

  /// A queue whose dump takes a while.
  private static func fill(_ broker: RabbitMQSettings) async throws {
    try await connected(broker) { connection in
      try await connection.declareQueue("orders", arguments: ["x-queue-type": .string("classic")])
      try await connection.selectConfirms()
      var window = PublishWindow(limit: 20)
      var random = TestData.Random(seed: 1)
      var properties = AMQPProperties()
      properties.deliveryMode = 2
      var encoded = ByteBuffer()
      properties.encode(into: &encoded)
      for number in 0..<messages {
        // Nothing that could be compressed.
        let body = ByteBuffer(integers: (0..<125_000).map { _ in random.next() })
        let message = ArchivedMessage(
          number: UInt64(number), redelivered: false, exchange: "", routingKey: ByteBuffer(), properties: encoded,
          body: body)
        let republishing = Republishing(exchange: "", routingKey: "orders")
        try await connection.publish([message], as: republishing, window: &window) { _ in }
      }
      try await connection.settle(&window) { _ in }
      try #require(window.failures.isEmpty)
    }
  }
}

extension ByteBuffer {
  fileprivate init(integers: [UInt64]) {
    self = ByteBufferAllocator().buffer(capacity: integers.count * 8)
    for integer in integers { writeInteger(integer) }
  }
}
