import DRCore
import DRRabbitMQ
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

/// What `dr-rabbitmq restore` says, and how it ends, when not all comes back.
struct RabbitMQRestoreProgramTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  @Test(
    "Definitions that cannot be restored: the messages that were not are named; a queue that refuses: exit 1, and the others are there"
  )
  func partsOfARestore() async throws {
    try await RabbitMQSandbox.withSandbox(logger: Self.logger) { broker in
      let names = ["a", "full", "z"]
      try await Self.fill(names, broker.settings)
      try await ProgramPlace.with("dr-rabbitmq", component: "rabbitmq/test", fields: ", \"plaintext\": true") { place in
        #expect(try await place.run("init").status == 0)
        let to = try Self.arguments(broker.settings, place)
        let taken = try await place.run(["backup", "--allow-clear-secrets"] + to)
        try #require(taken.status == 0, "\(taken)")
        let exported = try await place.run("export", "//a")
        #expect(exported.status == 0 && exported.output.contains(#""body":"a 7""#), "\(exported)")
        let api = ManagementAPI(broker.settings)
        for name in names { try await api.delete("queues/%2F/\(name)") }
        // Another one of that name.
        try await api.put("queues/%2F/full", ["durable": true, "arguments": ["x-max-length": 40]])
        let conflict = try await place.run(["restore"] + to)
        #expect(conflict.status == 2 && conflict.error.contains("it is there and is another"), "\(conflict)")
        for name in names {
          #expect(conflict.output.contains("not restored: //\(name), with 100 messages"), "\(conflict)")
        }
        #expect(conflict.output.contains("restore --messages-only"), "\(conflict)")
        // Its limit is a policy's, which is younger than any statistics.
        try await api.delete("queues/%2F/full")
        try await api.put(
          "policies/%2F/limit", ["pattern": "^full$", "apply-to": "queues", "definition": ["max-length": 40]])
        let dropping = try await place.run(["restore"] + to)
        #expect(dropping.status == 2 && dropping.error.contains("max-length: it holds 40 messages"), "\(dropping)")
        try await api.put(
          "policies/%2F/limit",
          ["pattern": "^full$", "apply-to": "queues", "definition": ["max-length": 40, "overflow": "reject-publish"]])
        let refusing = try await place.run(["restore", "--journal", place.folder] + to)
        #expect(refusing.status == 1 && refusing.error.contains("1 of 3 queues"), "\(refusing)")
        #expect(
          refusing.output.contains("not restored: //full: ") && refusing.output.contains("//z: 100 messages confirmed"))
        try await api.delete("policies/%2F/limit")
        try await Self.eventually("the policy is gone") {
          try await RabbitMQQueue.find("/", "full", api).policy.isEmpty
        }
        let rest = try await place.run(["restore", "--journal", place.folder] + to)
        #expect(rest.status == 0, "\(rest)")
        #expect(rest.output.contains("//full: 60 messages confirmed, from number 40 on"), "\(rest)")
        #expect(rest.output.contains("//a: 100 messages were confirmed before"), "\(rest)")
        let word = try await place.run(["restore", "--override", "nonsense"] + to)
        #expect(word.status == 64 && word.error.contains("is no refusal of a restore"), "\(word)")
      }
    }
  }

  @Test(
    "A password in --user is refused unseen; a port that is none, and one that speaks another tongue, is advised of")
  func wrongPlaces() async throws {
    try await withTemporaryFolder { folder in
      chmod(folder, 0o755)
      let made = try await runCommand("bash", ["-c", Self.certificates, "bash", folder])
      try #require(made.status == 0, "\(made.error)")
      var options = RabbitMQSandbox.Options()
      options.certificates = folder
      try await RabbitMQSandbox.withSandbox(options, logger: Self.logger) { broker in
        try await Self.fill(["a"], broker.settings)
        let secure = try #require(broker.tlsSettings)
        let plain = broker.settings
        try await ProgramPlace.with("dr-rabbitmq", component: "rabbitmq/test", fields: ", \"plaintext\": true") {
          place in
          #expect(try await place.run("init").status == 0)
          let base = try Self.arguments(plain, place)
          let named = try await place.run(["backup", "--user", "guest:s3cret"] + base.dropLast(4) + base.suffix(2))
          #expect(named.status == 64 && named.error.contains("has no colon"), "\(named)")
          #expect(!"\(named)".contains("s3cret"))
          func backUp(_ port: UInt16, _ management: UInt16, _ more: [String] = []) async throws -> String {
            let result = try await place.run(
              [
                "backup", "--allow-clear-secrets", "--broker", "localhost:\(port)", "--management-port",
                "\(management)",
              ] + base.suffix(4) + more)
            #expect(result.status == 2, "\(result)")
            return result.error
          }
          let tls = ["--ca-file", "\(folder)/ca.pem"]
          // The discard port: nobody listens there.
          for (error, words) in [
            (try await backUp(9, plain.managementPort), "whether the broker runs and listens for AMQP"),
            (try await backUp(secure.port, plain.managementPort), "--ca-file"),
            (try await backUp(plain.port, secure.managementPort), "--ca-file"),
            (try await backUp(plain.port, secure.managementPort, tls), "the broker's port for TLS"),
            (try await backUp(secure.port, plain.managementPort, tls), "the broker's port for TLS"),
          ] { #expect(error.contains(words), "\(error)") }
          let both = try await place.run(
            [
              "backup", "--allow-clear-secrets", "--broker", "localhost:\(secure.port)", "--management-port",
              "\(secure.managementPort)",
            ] + base.suffix(4) + tls)
          #expect(both.status == 0, "\(both)")
        }
      }
    }
  }

  private static let certificates = """
    set -e; cd "$1"
    openssl ecparam -genkey -name prime256v1 -noout -out ca.key
    openssl req -x509 -new -key ca.key -sha256 -days 2 -subj /CN=test -addext basicConstraints=critical,CA:TRUE -out ca.pem
    printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' > leaf.ext
    openssl ecparam -genkey -name prime256v1 -noout | openssl pkcs8 -topk8 -nocrypt -out server.key
    openssl req -new -key server.key -subj /CN=server -out server.csr
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -sha256 -extfile leaf.ext -out server.pem
    chmod 644 *.key
    """

  private static func arguments(_ broker: RabbitMQSettings, _ place: ProgramPlace) throws -> [String] {
    let file = place.folder + "/password"
    try broker.password.write(toFile: file, atomically: true, encoding: .utf8)
    return [
      "--broker", "127.0.0.1:\(broker.port)", "--management-port", "\(broker.managementPort)", "--user", broker.user,
      "--password-file", file,
    ]
  }

  private static func eventually(_ what: String, _ condition: () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(30)
    while try await !condition() {
      guard ContinuousClock.now < deadline else { throw DRError(.timedOut, "waited for: \(what)") }
      try await Task.sleep(for: .milliseconds(100))
    }
  }

  /// Durable queues of 100 messages each.
  private static func fill(_ names: [String], _ broker: RabbitMQSettings) async throws {
    try await AMQPConnection.withConnection(broker, vhost: "/", logger: logger) { connection in
      try await connection.selectConfirms()
      for name in names {
        try await connection.declareQueue(name)
        var window = PublishWindow(limit: 100)
        let messages = (0..<100).map { number in
          ArchivedMessage(
            number: UInt64(number), redelivered: false, exchange: "", routingKey: ByteBuffer(),
            properties: ByteBuffer(integer: UInt16(0)), body: ByteBuffer(string: "\(name) \(number)"))
        }
        try await connection.publish(messages, as: Republishing(exchange: "", routingKey: name), window: &window) { _ in
        }
        try await connection.settle(&window) { _ in }
        try #require(window.failures.isEmpty)
      }
    }
  }
}
