public import DRCore
public import DRStorage
import Foundation
public import Logging

/// Where a restore reads: the repository, and its artifacts also from the copies that the configuration names.
public struct RestoreSource: Sendable {
  public let repository: Repository
  /// The nearest first.
  private let copies: [any StorageTier]
  private let decoding: Decoding

  init(_ repository: Repository, copies: [any StorageTier], decoding: Decoding) {
    self.repository = repository
    self.copies = copies
    self.decoding = decoding
  }

  /// Finds a backup in the repository.
  ///
  /// - Throws: What `find` throws; where the repository has it not and a copy has, with the advice to bring it back.
  public func backup(
    _ find: @escaping @Sendable (Repository) async throws -> BackupManifest
  ) async throws -> BackupManifest {
    do {
      let found = try await find(repository)
      await warnOfNewer(than: found, find)
      return found
    } catch var error as DRError where [.objectNotFound, .targetUnreachable].contains(error.code) {
      for copy in copies {
        guard let found = try? await find(Repository(tier: copy)) else { continue }
        error.advice =
          "the copy \(copy.name) has \(found.id): bring it back (dr-repository replicate --from \(copy.place) --to "
          + "\(repository.tier.place)), then restore"
        break
      }
      throw error
    }
  }

  /// A copy that has a newer one is better known before the restore than after it.
  private func warnOfNewer(
    than found: BackupManifest, _ find: @escaping @Sendable (Repository) async throws -> BackupManifest
  ) async {
    for copy in copies {
      // A copy that is away must not hold up a restore.
      let other = try? await withTimeLimit(.seconds(15), "the copy") { try await find(Repository(tier: copy)) }
      guard let other, other.id != found.id,
        other.recoveryPoint.time > found.recoveryPoint.time
      else { continue }
      FileHandle.standardError.write(
        Data(
          """
          warning: the copy \(copy.name) has a newer backup, \(other.id), which is not in the repository: to restore that one, bring it back \
          first (dr-repository replicate --from \(copy.place) --to \(repository.tier.place))

          """.utf8))
    }
  }

  /// Reads each artifact from the nearest place that has it whole, and goes on at the next one where it is missing there, fails
  /// or is damaged.
  ///
  /// - Throws: ``DRError`` with `objectArchived` if something of the backup, or of those that it goes on from, can be read nowhere before
  ///   it is thawed: all of it is named, so that one thaw is enough.
  public func reader(for manifest: BackupManifest, logger: Logger) async throws -> any BackupReader {
    let reader =
      copies.isEmpty
      ? repository.reader(for: manifest, decoding: decoding)
      : repository.reader(for: manifest, further: copies, decoding: decoding, logger: logger)
    if ([repository.tier] + copies).contains(where: { !($0 is LocalTier) }) { try await checkThawed(reader) }
    return reader
  }

  private func checkThawed(_ reader: any BackupReader) async throws {
    var folders: [String: Set<String>] = [:]
    var count = 0
    for link in try await reader.chain() {
      for artifact in link.manifest.artifacts {
        guard let tier = try await archive(of: artifact.key) else { continue }
        count += 1
        folders[tier, default: []].insert(String(artifact.key.rawValue.dropLast(artifact.key.lastComponent.count)))
      }
    }
    guard count > 0 else { return }
    for folder in try await archivedLogs(of: reader.manifest) {
      folders[repository.tier.place, default: []].insert(folder)
    }
    let thaws = folders.sorted { $0.key < $1.key }.map { tier, folders in
      "dr-tier thaw --tier '\(tier)' \(folders.sorted().map { "'\($0)'" }.joined(separator: " "))"
    }
    throw DRError(
      .objectArchived, "\(count) objects of \(reader.manifest.id), and of what it goes on from, are archived",
      advice: "thaw all of it, then restore: \(thaws.joined(separator: " && "))", component: reader.manifest.component,
      object: reader.manifest.id)
  }

  /// The tier on which an object waits to be thawed; nil if it can be read somewhere, or is nowhere.
  private func archive(of key: ObjectKey) async throws -> String? {
    var archive: String?
    for tier in [repository.tier] + copies {
      do {
        guard let info = try await tier.head(key) else { continue }
        if info.archive?.isReadable ?? true { return nil }
        archive = archive ?? tier.place
      } catch is DRError {
        // Whoever reads will say it.
        continue
      }
    }
    return archive
  }

  /// Folders of the component's logs in which something is archived.
  private func archivedLogs(of manifest: BackupManifest) async throws -> [String] {
    var folders: [String] = []
    for rule in ChangeLogRule.all {
      let log = "\(repository.layout.folder(of: manifest.component))/\(rule.log)/"
      let prefix = rule.scope == .system ? "\(log)\(manifest.systemIdentifier ?? "")/" : log
      let newest = try await repository.tier.listAll(prefix: prefix).last { $0.storageClass?.isArchive ?? false }
      guard let newest, try await archive(of: newest.key) != nil else { continue }
      folders.append(prefix)
    }
    return folders
  }
}

extension RepositoryConfiguration {
  /// Opens the repository for a restore, and its copies. A copy that cannot be opened is named on standard error, and left out.
  ///
  /// The catalog and the logs are the repository's alone: a copy may be behind, and a log that ends early must not look like one that
  /// ended.
  ///
  /// - Throws: ``DRError`` if the repository cannot be opened.
  public func restoreSource() async throws -> RestoreSource {
    let tier: any StorageTier
    do {
      tier = try await self.tier(creating: false, probing: .reading)
    } catch var error as DRError where !(copies ?? []).isEmpty {
      let advice =
        "if it is lost, restore with a configuration whose repository is \((copies ?? []).joined(separator: " or "))"
      error.advice = error.advice.map { "\($0). \(advice)" } ?? advice
      throw error
    }
    var opened: [any StorageTier] = []
    for place in copies ?? [] {
      do {
        opened.append(try await TierPlace.open(place, creating: false, s3: s3, probing: .nothing))
      } catch let error as DRError {
        FileHandle.standardError.write(Data("warning: the copy \(place) cannot be read from: \(error)\n".utf8))
      }
    }
    return RestoreSource(Repository(tier: tier), copies: opened, decoding: try decoding())
  }
}
