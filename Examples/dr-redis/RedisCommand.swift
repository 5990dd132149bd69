import ArgumentParser
import DRCore
import DRRedis
import DRStorage
import ExampleSupport
import Foundation
import Logging

/// Backs up, follows and restores a Redis server.
@main
struct RedisCommand: AsyncParsableCommand, BackupProgram {
  static let kind = Component.Kind.redis
  static let configuration = CommandConfiguration(
    commandName: "dr-redis",
    abstract: "Backs up, follows and restores a Redis server.",
    discussion: ProgramExit.codes(wrong: "not verified"),
    subcommands: [
      InitializeRepository<RedisCommand>.self, Backup.self, Receive.self, Restore.self, RestoreFile.self,
      RestoreKeys.self,
      Inspect.self, Check.self, List.self, Clean<RedisCommand>.self, RewriteAppendOnlyFile.self,
    ])
}

/// What every subcommand that works on a repository is told.
typealias RepositoryArguments = ExampleSupport.RepositoryArguments<RedisCommand>

extension RepositoryConfiguration {
  /// - Parameter decoding: Nil: by the configuration.
  func archive(_ tier: any StorageTier, _ decoding: Decoding? = nil) throws -> RedisLogArchive {
    RedisLogArchive(
      tier: tier, component: component, encoding: try encoding(), decoding: try decoding ?? self.decoding())
  }
}

/// How to reach the server.
struct ServerArguments: ParsableArguments {
  @Option(help: "redis://user@host:port, rediss://… for TLS, or unix:///path.")
  var server = "redis://127.0.0.1:6379"

  @Option(help: "A file with the password. Without, the environment's REDISCLI_AUTH, if it is there.")
  var passwordFile: String?

  @Option(help: "TLS: the certificates of who signed the server's, in PEM.")
  var ca: String?

  @Option(help: "TLS: this client's certificate, in PEM.")
  var cert: String?

  @Option(help: "TLS: this client's key, in PEM.")
  var key: String?

  @Option(
    help: ArgumentHelp(
      "Sentinels that know the master, with commas between: host:port, or user@host:port.",
      discussion: "Whoever is the master is reached as --server says, but for its address."))
  var sentinel: String?

  @Option(help: "The name by which the Sentinels know the master.")
  var masterName: String?

  @Option(help: "A file with the Sentinels' password. Without, the environment's REDIS_SENTINEL_AUTH, if it is there.")
  var sentinelPasswordFile: String?

  func validate() throws {
    _ = try usage { try RedisConnectionSettings(url: server) }
    guard (sentinel == nil) == (masterName == nil) else {
      throw ValidationError("--sentinel and --master-name belong together")
    }
    guard sentinel != nil || sentinelPasswordFile == nil else {
      throw ValidationError("--sentinel-password-file belongs to --sentinel")
    }
  }

  /// The server; if Sentinels are named, the one that is the master now.
  func connection(_ logger: Logger) async throws -> RedisConnectionSettings {
    let settings = try settings()
    return try await sentinels()?.master(settings, logger: logger) ?? settings
  }

  /// As whom to reach the server, and where it is if no Sentinel says.
  func settings() throws -> RedisConnectionSettings {
    var settings = try RedisConnectionSettings(url: server)
    settings.password = password(passwordFile, "REDISCLI_AUTH")
    if let tls { settings.tls = tls }
    return settings
  }

  /// Nil if none are named.
  func sentinels() throws -> RedisSentinel? {
    guard let sentinel, let masterName else { return nil }
    let isSecure = try settings().tls != nil
    let password = password(sentinelPasswordFile, "REDIS_SENTINEL_AUTH")
    let all = try sentinel.split(separator: ",").map { text in
      var one = try RedisConnectionSettings(url: text.contains("://") ? String(text) : "redis://\(text)")
      if case .tcp(let host, 6379) = one.address, !text.hasSuffix(":6379") { one = one.with(host: host, port: 26379) }
      one.password = password
      if isSecure { one.tls = tls ?? RedisConnectionSettings.TLS() }
      // There are others to ask.
      one.connectTimeout = .seconds(3)
      return one
    }
    return RedisSentinel(sentinels: all, masterName: masterName)
  }

  private var tls: RedisConnectionSettings.TLS? {
    guard ca != nil || cert != nil || key != nil else { return nil }
    return RedisConnectionSettings.TLS(authorityFile: ca, certificateFile: cert, keyFile: key)
  }

  private func password(_ file: String?, _ variable: String) -> RedisPassword? {
    if let file { return .file(file) }
    return ProcessInfo.processInfo.environment[variable] == nil ? nil : .environment(variable)
  }
}

/// Lists the snapshots, and how far the change log goes on from each.
struct List: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Lists the snapshots, and how far the change log reaches.")

  @OptionGroup var repository: RepositoryArguments

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      let tier = try await settings.tier(creating: false, probing: .reading)
      let catalog = try await Repository(tier: tier).catalog(of: settings.component)
      let archive = try settings.archive(tier)
      let reaches = try await archive.reaches(of: catalog.backups)
      for backup in catalog.backups {
        let shards = backup.artifacts.count { $0.name.hasPrefix("dump-") && $0.name.hasSuffix(".rdb") }
        let place = shards > 0 ? "\(shards) shards of a cluster" : "offset \(backup.recoveryPoint.position)"
        let reach = reaches[backup.id].map {
          " to \($0.offset)" + ($0.moment.map { ", \(Timestamp.format($0))" } ?? "")
        }
        print(
          "\(backup.id)  \(backup.cadence)  \(Format.bytes(backup.rawSize)) as \(Format.bytes(backup.storedSize))  "
            + "\(backup.properties["keys"]?.integer ?? 0) keys  from \(Timestamp.format(backup.recoveryPoint.time))  "
            + place + (reach ?? (shards > 0 ? "" : ", no change log")))
      }
      if catalog.backups.isEmpty { print("no backups of \(settings.component)") }
      for broken in catalog.unreadable { print("UNREADABLE \(broken.id): \(broken.error)") }
      if !catalog.unreadable.isEmpty { throw ExitCode(1) }
    }
  }
}
