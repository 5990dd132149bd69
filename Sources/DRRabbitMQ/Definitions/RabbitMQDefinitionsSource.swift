public import DRCore
import Foundation
public import Logging
import NIOCore

/// Captures a broker's definitions over the management API.
///
/// Artifacts: `definitions.json`, which `rabbitmqctl import_definitions` reads too; `broker.json` with what definitions do
/// not carry (descriptions and tags of vhosts, plugins, feature flags, nodes); `rabbitmq.conf` where it is given. Needs a
/// user with the tag `administrator`.
public struct RabbitMQDefinitionsSource: BackupSource {
  public let component: Component
  public var broker: RabbitMQSettings
  /// Nil: all.
  public var vhosts: [String]?
  /// A configuration file to keep with them.
  public var configurationFile: String?
  /// Store passwords that stand in clear (in the URIs of shovels and federation upstreams, in the configuration file)
  /// also when the backup is not encrypted.
  public var allowsClearSecrets = false

  public init(component: Component, broker: RabbitMQSettings) {
    self.component = component
    self.broker = broker
  }

  public func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
    try await locatingErrors(of: component) {
      let (facts, definitions) = try await store(into: writer, logger: logger)
      return Capture(
        recoveryPoint: RecoveryPoint(time: Date(), position: "definitions"), method: .dump,
        serverVersion: facts.rabbitMQVersion, systemIdentifier: facts.identifier,
        leftOut: [BackupManifest.Omission(what: "messages", reason: "only definitions were asked for")],
        properties: ["definitions": .object(definitions.counts.mapValues { .integer(Int64($0)) })])
    }
  }

  /// Stores the artifacts, as a part of a capture.
  func store(into writer: any BackupWriter, logger: Logger) async throws -> (BrokerFacts, RabbitMQDefinitions) {
    let api = ManagementAPI(broker)
    // Parsed whole before it is trusted.
    let (bytes, value) = try await api.bytes("definitions")
    var definitions = try RabbitMQDefinitions(value)
    let facts = try await BrokerFacts(api, definitions: value)
    var content = bytes
    if let vhosts {
      let known = Set(facts.vhosts.map(\.name.exact))
      if let missing = vhosts.first(where: { !known.contains($0.exact) }) {
        throw DRError(.invalidConfiguration, "the broker has no vhost '\(missing)'", advice: "see /api/vhosts")
      }
      definitions = definitions.only(vhosts)
      content = ByteBuffer(bytes: try JSONEncoder().encode(definitions.json()))
    }
    // This one holds no secret, and tells whether what is stored is encrypted.
    let first = try await writer.write("broker.json", ByteStream(try facts.encoded()), expectedLength: nil)
    if first.recipients.isEmpty, !allowsClearSecrets {
      try refuse(definitions.clearSecrets, "definitions hold passwords in clear")
      if let configurationFile { try refuse([configurationFile], "a configuration file can hold passwords") }
    }
    try await writer.write("definitions.json", ByteStream(content), expectedLength: Int64(content.readableBytes))
    if let configurationFile {
      let data: Data
      do {
        data = try Data(contentsOf: URL(fileURLWithPath: configurationFile))
      } catch {
        throw DRError(.sourceFailed, "the configuration file cannot be read", object: configurationFile, cause: error)
      }
      try await writer.write("rabbitmq.conf", ByteStream(ByteBuffer(bytes: data)), expectedLength: Int64(data.count))
    }
    logger.info("definitions captured", metadata: ["rabbitmq.version": "\(facts.rabbitMQVersion)"])
    return (facts, definitions)
  }

  private func refuse(_ places: [String], _ what: String) throws {
    guard !places.isEmpty else { return }
    throw DRError(
      .invalidConfiguration, "\(what), and the backup is not encrypted",
      advice: "set a recipient; or allow them in clear (--allow-clear-secrets)", component: component,
      object: places.prefix(5).joined(separator: ", "))
  }
}

/// Names the component in errors that do not.
func locatingErrors<Result>(
  of component: Component, isolation: isolated (any Actor)? = #isolation, _ work: () async throws -> Result
) async throws -> Result {
  do {
    return try await work()
  } catch var error as DRError {
    error.component = error.component ?? component
    throw error
  }
}
