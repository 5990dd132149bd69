import ArgumentParser
import DRCore
import DRRabbitMQ
import DRStorage
import ExampleSupport
import Foundation
import Logging

/// Backs up and restores a RabbitMQ broker.
@main
struct RabbitMQCommand: AsyncParsableCommand, BackupProgram {
  static let kind = Component.Kind.rabbitmq
  static let configuration = CommandConfiguration(
    commandName: "dr-rabbitmq",
    abstract: "Backs up and restores a RabbitMQ broker: definitions, and messages without taking them.",
    discussion: ProgramExit.codes(),
    subcommands: [
      InitializeRepository<RabbitMQCommand>.self, Backup.self, Tap.self, List.self, Diff.self, Restore.self,
      Export.self, Verify.self, Clean<RabbitMQCommand>.self,
    ])
}

/// What every subcommand that works on a repository is told.
typealias RepositoryArguments = ExampleSupport.RepositoryArguments<RabbitMQCommand>

/// How to reach the broker.
struct BrokerArguments: ParsableArguments {
  @Option(help: "The broker: a host, or host:port. Unless said: RABBITMQ_BROKER, else localhost.")
  var broker: String?

  @Option(
    parsing: .unconditional,
    help: "The port of the management API. Unless said: RABBITMQ_MANAGEMENT_PORT, else 15672, or 15671 with TLS.")
  var managementPort: UInt16?

  @Option(
    help: """
      The user, an administrator. Unless said: RABBITMQ_USER, else guest. The password is read from RABBITMQ_PASSWORD or a \
      file: an argument list is public.
      """)
  var user: String?

  @Option(help: "A file with the password.", completion: .file())
  var passwordFile: String?

  @Option(help: "Use TLS and trust the certificates of this file (PEM).", completion: .file())
  var caFile: String?

  @Option(
    help: "With TLS: the client's certificate (PEM), for a broker that asks for one. Needs --client-key.",
    completion: .file())
  var clientCertificate: String?

  @Option(help: "The private key of --client-certificate (PEM, not encrypted).", completion: .file())
  var clientKey: String?

  func validate() throws {
    guard (clientCertificate == nil) == (clientKey == nil) else {
      throw ValidationError("--client-certificate and --client-key belong together")
    }
    guard clientCertificate == nil || caFile != nil else {
      throw ValidationError("--client-certificate is for TLS, which --ca-file asks for")
    }
  }

  func settings() throws -> RabbitMQSettings {
    let environment = ProcessInfo.processInfo.environment
    let broker = broker ?? environment["RABBITMQ_BROKER"] ?? "localhost"
    let user = user ?? environment["RABBITMQ_USER"] ?? "guest"
    let managementPort = managementPort ?? environment["RABBITMQ_MANAGEMENT_PORT"].flatMap { UInt16($0) }
    let parts = broker.split(separator: ":", omittingEmptySubsequences: false)
    // What was given is not shown: a URL, or what is meant for one, may hold a password.
    guard !broker.contains("@"), !broker.contains("/") else {
      throw ValidationError(
        "a broker is a host, or host:port, and no URL: give the user by --user or RABBITMQ_USER, and the password by --password-file or "
          + "RABBITMQ_PASSWORD")
    }
    guard !user.contains(":") else {
      throw ValidationError(
        "a user's name has no colon: give the password by --password-file or RABBITMQ_PASSWORD, for an argument list is public"
      )
    }
    let port = parts.count == 2 ? UInt16(parts[1]) : nil
    guard let host = parts.first, !host.isEmpty, parts.count <= 2, parts.count == 1 || port != nil else {
      throw ValidationError("this is no broker: give a host, or host:port")
    }
    let tls = caFile.map {
      RabbitMQSettings.TLS(rootCertificates: $0, certificate: clientCertificate, privateKey: clientKey)
    }
    return RabbitMQSettings(
      host: String(host), port: port, managementPort: managementPort, user: user, password: try password(), tls: tls,
      managementTLS: tls)
  }

  private func password() throws -> String {
    if let passwordFile {
      do {
        return try String(contentsOfFile: passwordFile, encoding: .utf8).trimmingCharacters(in: .newlines)
      } catch {
        throw DRError(.invalidConfiguration, "the password file cannot be read", object: passwordFile, cause: error)
      }
    }
    guard let password = ProcessInfo.processInfo.environment["RABBITMQ_PASSWORD"] else {
      throw DRError(
        .invalidConfiguration, "there is no password", advice: "set RABBITMQ_PASSWORD, or give --password-file")
    }
    return password
  }
}

/// Which queues.
struct QueueArguments: ParsableArguments {
  @Option(name: .customLong("vhost"), help: "Only this vhost. May be given several times.")
  var vhosts: [String] = []

  @Option(name: .customLong("queue"), help: "Only queues of this name; * is any text. May be given several times.")
  var patterns: [String] = []

  @Option(
    name: .customLong("type"), help: "Only queues of this type: classic, quorum, stream. May be given several times.")
  var types: [String] = []

  @Flag(help: "Also queues that do not survive a restart of the broker.")
  var includeTransient = false

  func selection() throws -> RabbitMQQueueSelection {
    if let unknown = types.first(where: { !["classic", "quorum", "stream"].contains($0) }) {
      throw ValidationError("'\(unknown.prefix(20))' is no type of queue: classic, quorum, stream")
    }
    return RabbitMQQueueSelection(
      vhosts: vhosts.isEmpty ? nil : vhosts, patterns: patterns.isEmpty ? nil : patterns,
      types: types.isEmpty ? nil : types, includesTransient: includeTransient)
  }
}

extension RepositoryArguments where Program == RabbitMQCommand {
  /// The backup of this name, or the newest that was taken by a moment.
  func backup(
    _ id: String?, in repository: Repository, holding property: String, by moment: Date = .distantFuture
  ) async throws -> BackupManifest {
    let settings = try settings()
    let catalog = try await repository.catalog(of: settings.component)
    if let id { return try catalog.backup(id: id, of: settings.component) }
    catalog.warnOfUnreadable()
    guard
      let newest = catalog.backups.last(where: {
        $0.properties[property] != nil && $0.recoveryPoint.time <= moment
      })
    else {
      if let oldest = catalog.backups.first(where: { $0.properties[property] != nil }) {
        throw DRError(
          .targetUnreachable,
          "no backup of \(settings.component) that holds \(property) had been begun by then: the oldest, \(oldest.id), was begun at "
            + Timestamp.format(oldest.recoveryPoint.time),
          advice: "choose a later moment: what was in the queues before a backup nothing tells")
      }
      throw DRError(
        .targetUnreachable, "there is no backup of \(settings.component) that holds \(property)",
        advice: "dr-rabbitmq list shows what there is")
    }
    return newest
  }
}
