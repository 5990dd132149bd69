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

  /// Reads each artifact from the nearest place that has it whole, and goes on at the next one where it is missing there, fails
  /// or is damaged.
  public func reader(for manifest: BackupManifest, logger: Logger) -> any BackupReader {
    copies.isEmpty
      ? repository.reader(for: manifest, decoding: decoding)
      : repository.reader(for: manifest, further: copies, decoding: decoding, logger: logger)
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
