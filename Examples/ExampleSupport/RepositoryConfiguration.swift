public import DRCore
public import DRPostgres
public import DRStorage
import Foundation
import Logging

/// Where a program finds its repository, and who can open it: a small JSON file, so that no secret is in an argument list.
///
///     {
///       "repository": "/backups",
///       "component": "postgres/agent_orchestrator",
///       "recipients": ["age1…"],
///       "identityFile": "/etc/dr/identity.txt"
///     }
///
/// The repository may be in a bucket: `s3://bucket/prefix`, with what ``S3Settings`` says in a field `s3`.
///
/// `recipients` and `identityFile` may be left out: then nothing is encrypted, which `"plaintext": true` says is meant, or
/// nothing encrypted can be opened. A backup host needs only the recipients. A field that is not known is an error.
public struct RepositoryConfiguration: Codable, Sendable {
  /// The folder of the local tier, absolute; or `s3://bucket/prefix`.
  public var repository: String
  public var component: Component
  /// age public keys.
  public var recipients: [String]?
  /// A file of age identities, as `age-keygen` writes it.
  public var identityFile: String?
  /// Nothing is to be encrypted.
  public var plaintext: Bool?
  /// Where else the repository is, as `dr-repository replicate` copies it: folders and buckets, the nearest first. Restores read
  /// an artifact there that is missing here, or damaged.
  public var copies: [String]?
  /// For a repository in a bucket.
  public var s3: S3Settings?
  /// Where it was read from.
  private var file: String?

  private enum CodingKeys: String, CodingKey, CaseIterable {
    case repository, component, recipients, identityFile, plaintext, copies, s3
  }

  static let fields = Set(CodingKeys.allCases.map(\.rawValue))

  public init(
    repository: String, component: Component, recipients: [String]? = nil, identityFile: String? = nil,
    s3: S3Settings? = nil
  ) {
    self.repository = repository
    self.s3 = s3
    self.component = component
    self.recipients = recipients
    self.identityFile = identityFile
  }

  /// Reads a configuration file.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` naming the file and the field.
  public init(file: String) throws {
    func refuse(
      _ what: String, _ cause: (any Error)? = nil,
      advice: String =
        "it is a JSON object with repository, component, recipients, identityFile, plaintext, copies and s3"
    ) -> DRError {
      DRError(
        .invalidConfiguration, "the configuration file \(what)", advice: advice, object: file, cause: cause)
    }
    let data: Data
    do {
      data = try Data(contentsOf: URL(fileURLWithPath: file))
    } catch {
      throw refuse("cannot be read", error, advice: "see that it is there, who owns it, and its mode")
    }
    guard String(decoding: data, as: UTF8.self).uppercased().range(of: "AGE-SECRET-KEY-") == nil else {
      throw refuse(
        "holds a secret key itself", advice: "put the key into a file that only its reader can read, and name that")
    }
    let fields: [String: JSONValue]
    do {
      fields = try JSONDecoder().decode([String: JSONValue].self, from: data)
      self = try JSONDecoder().decode(RepositoryConfiguration.self, from: data)
    } catch let error as DRError {
      throw refuse("is not right: \(error.message)")
    } catch {
      throw refuse("is not right", error)
    }
    self.file = file
    var unknown = fields.keys.filter { CodingKeys(rawValue: $0) == nil }
    if case .object(let s3)? = fields["s3"] { unknown += s3.keys.filter { !S3Settings.fields.contains($0) } }
    if let unknown = unknown.first { throw refuse("has a field '\(unknown.prefix(40))' that is not known") }
    guard repository.hasPrefix("/") || TierPlace.isBucket(repository) else {
      throw refuse("must name the repository's folder by an absolute path, or a bucket as s3://bucket/prefix")
    }
    for copy in copies ?? [] where !copy.hasPrefix("/") && !TierPlace.isBucket(copy) {
      throw refuse("must name each copy by an absolute path, or a bucket as s3://bucket/prefix")
    }
  }

  /// Says on standard error that what is stored can be read by whoever reads the repository, unless that is meant. For a
  /// command that stores, once.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` if plain text is asked for, and recipients are named.
  public func warnOfPlaintext() throws {
    let isEncrypted = !(recipients ?? []).isEmpty
    guard plaintext != true else {
      guard !isEncrypted else {
        throw DRError(
          .invalidConfiguration, "the configuration names recipients, and says plaintext",
          advice: "remove one of the two")
      }
      return
    }
    guard !isEncrypted else { return }
    let line =
      "warning: nothing is encrypted: whoever reads the repository reads the data. Name age public keys as recipients in "
      + "the configuration (dr-postgres keygen makes a pair), or say \"plaintext\": true there\n"
    FileHandle.standardError.write(Data(line.utf8))
  }

  /// Opens the tier.
  ///
  /// - Parameters:
  ///   - creating: Make the folder if there is none. A bucket is never made.
  ///   - adopting: With `creating`: also in a folder that holds something (``LocalTier``).
  ///   - probing: What is tried out of a bucket's server.
  public func tier(
    creating: Bool, adopting: Bool = false, probing: S3Configuration.Probing = .everything
  ) async throws -> any StorageTier {
    try await TierPlace.open(
      repository, creating: creating, adopting: adopting, command: initialization, s3: s3, probing: probing)
  }

  /// The command that makes the repository.
  private var initialization: String? {
    let program: String? =
      switch component.kind {
      case .postgres: "dr-postgres"
      case .redis: "dr-redis"
      case .rabbitmq: "dr-rabbitmq"
      case .config: "dr-files"
      default: nil
      }
    return program.map { "\($0) init" + (file.map { " --config '\($0)'" } ?? "") }
  }

  public func encoding(compression: Compression = .zstd()) throws -> Encoding {
    Encoding(compression: compression, recipients: try (recipients ?? []).map { try AgeRecipient(parsing: $0) })
  }

  public func decoding() throws -> Decoding {
    guard let identityFile else { return Decoding() }
    guard identityFile.uppercased().range(of: "AGE-SECRET-KEY-") == nil else {
      throw DRError(
        .invalidConfiguration, "identityFile is a secret key itself, where the path of a file belongs",
        advice: "put the key into a file that only its reader can read, name that file, and take the key out of here")
    }
    let text: String
    do {
      text = try String(contentsOfFile: identityFile, encoding: .utf8)
    } catch {
      throw DRError(
        .invalidConfiguration, "the identity file cannot be read", advice: "see who owns it, and its mode",
        object: identityFile, cause: error)
    }
    SecretFile.warnIfOpen(identityFile, "the identity file")
    return Decoding(identities: try AgeIdentity.parseFile(text))
  }

  /// The archive that holds the WAL of a backup's cluster, or nil if the manifest does not name the cluster.
  public func archive(of backup: BackupManifest, in tier: any StorageTier) throws -> WALArchive? {
    try backup.systemIdentifier.map {
      try WALArchive(tier: tier, component: component, systemIdentifier: $0, decoding: try decoding())
    }
  }

  /// The newest backup that can reach a target, of the newest system if several have lived here: of those that lead to
  /// the timeline, if any does. Warns on standard error of manifests that cannot be read; and, where no target and no
  /// timeline was chosen, of a newer backup that does not lead to the newest timeline.
  public func backup(
    in repository: Repository, for target: RecoveryTarget, following timeline: RecoverySettings.Timeline? = nil
  ) async throws -> BackupManifest {
    let catalog = try await repository.catalog(of: component)
    catalog.warnOfUnreadable()
    let latest = catalog.latest(for: component)
    var chosen = catalog
    if let latest, let archive = try archive(of: latest, in: repository.tier) {
      let leading = try await RecoveryCheck(archive: archive, timeline: timeline)
        .leading(catalog.backups.filter { $0.component == component }, to: target)
      if !leading.isEmpty { chosen = Catalog(leading, unreadable: catalog.unreadable) }
      if case .name = target, let found = try await first(of: leading, leadingTo: target, archive, timeline) {
        return found
      }
    }
    let found = try chosen.backup(of: component, for: target, systemIdentifier: latest?.systemIdentifier) {
      point, position in
      guard let wanted = LSN(position), let end = LSN(point.position) else {
        throw DRError(.invalidConfiguration, "'\(position.prefix(40))' is no LSN", advice: "write it as 0/3000148")
      }
      return end <= wanted
    }
    if let latest, target == .latest, timeline == nil { RepositoryConfiguration.warn(of: latest, besides: found) }
    return found
  }

  /// The newest on whose way a restore point is: only the WAL says where that is.
  private func first(
    of backups: [BackupManifest], leadingTo target: RecoveryTarget, _ archive: WALArchive,
    _ timeline: RecoverySettings.Timeline?
  ) async throws -> BackupManifest? {
    let check = RecoveryCheck(archive: archive, timeline: timeline)
    for backup in backups.sorted(by: { $0.recoveryPoint.time > $1.recoveryPoint.time }) {
      do {
        try await check.check(
          backup, reaches: target, logger: Logger(label: "choice", factory: { _ in SwiftLogNoOpLogHandler() }))
        return backup
      } catch let error as DRError where error.code == .targetUnreachable {
        continue
      }
    }
    return nil
  }

  /// The newest timeline is not where the newest data is when a test copy has written into the archive.
  private static func warn(of latest: BackupManifest, besides chosen: BackupManifest) {
    guard latest.id != chosen.id, latest.recoveryPoint.time > chosen.recoveryPoint.time,
      let timeline = latest.recoveryPoint.history
    else { return }
    FileHandle.standardError.write(
      Data(
        ("warning: the newest timeline is followed, and \(latest.id) on timeline \(timeline) is newer than what leads to "
          + "it; if production went on there, restore with --timeline \(timeline)\n").utf8))
  }
}
