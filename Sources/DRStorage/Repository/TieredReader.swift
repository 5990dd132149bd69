public import DRCore
public import Logging
import NIOCore

/// Gives the artifacts of a backup that is on several tiers: each from the nearest that has it whole.
///
/// When one fails in the middle, whether it breaks, ends early or gives bytes that a frame's checksum or an authentication tag
/// refuses, reading goes on from the next tier at the raw byte where it stopped: the consumer sees one stream. The digest of
/// everything, whichever tier each byte came from, is compared with the manifest's at the end.
public struct TieredReader: BackupReader {
  public let manifest: BackupManifest
  private let tiers: [any StorageTier]
  private let layout: RepositoryLayout
  private let decoding: Decoding
  private let logger: Logger

  /// - Parameter tiers: The nearest first; at least one.
  public init(
    _ manifest: BackupManifest, tiers: [any StorageTier], layout: RepositoryLayout = .byKind,
    decoding: Decoding = Decoding(), logger: Logger
  ) {
    self.manifest = manifest
    self.tiers = tiers
    self.layout = layout
    self.decoding = decoding
    self.logger = logger
  }

  public func parent() async throws -> (any BackupReader)? {
    guard manifest.parent != nil else { return nil }
    var first: (any Error)?
    for tier in tiers {
      do {
        return try await Repository(tier: tier, layout: layout).parent(of: manifest).map {
          TieredReader($0, tiers: tiers, layout: layout, decoding: decoding, logger: logger)
        }
      } catch let error as DRError {
        first = first ?? error
      }
    }
    throw first ?? DRError(.objectNotFound, "there is no tier to read from", component: manifest.component)
  }

  /// Tiers where the artifact is, in its size and readable. Those that cannot be asked are stepped over.
  private func holders(of artifact: BackupManifest.Artifact) async throws -> [any StorageTier] {
    var (holders, obstacles) = ([any StorageTier](), [DRError]())
    for tier in tiers {
      do {
        guard let info = try await tier.head(artifact.key) else {
          obstacles.append(DRError(.objectNotFound, "it is not on \(tier.name)", object: artifact.key.rawValue))
          continue
        }
        guard info.size == artifact.storedSize else {
          obstacles.append(
            DRError(.corruptData, "it has \(info.size) bytes on \(tier.name)", object: artifact.key.rawValue))
          continue
        }
        guard info.archive?.isReadable ?? true else {
          obstacles.append(
            DRError(
              .objectArchived, "it is archived on \(tier.name)", advice: "thaw the backup there, then restore",
              object: artifact.key.rawValue))
          continue
        }
        holders.append(tier)
      } catch let error as DRError {
        obstacles.append(error)
      }
    }
    guard holders.isEmpty else { return holders }
    // The most hopeful obstacle says what to do.
    let codes: [DRError.Code] = [.objectArchived, .timedOut, .tierUnavailable, .corruptData, .objectNotFound]
    let told = codes.lazy.compactMap { code in obstacles.first { $0.code == code } }.first ?? obstacles.first
    throw DRError(
      told?.code ?? .objectNotFound, "no tier has the artifact \(artifact.name) of \(manifest.id) whole and readable",
      advice: told?.advice ?? "choose another backup", component: manifest.component, object: artifact.key.rawValue,
      cause: told)
  }

  public func read(_ artifact: BackupManifest.Artifact) async throws -> ByteStream {
    stream(artifact, 0..<artifact.rawSize, isWhole: true, from: try await holders(of: artifact))
  }

  public func read(_ artifact: BackupManifest.Artifact, range: Range<Int64>) async throws -> ByteStream {
    guard range.lowerBound >= 0, range.upperBound <= artifact.rawSize else {
      throw DRError(
        .invalidConfiguration, "bytes \(range) lie outside the \(artifact.rawSize) of \(artifact.name)",
        component: manifest.component, object: artifact.key.rawValue)
    }
    return stream(artifact, range, isWhole: false, from: try await holders(of: artifact))
  }

  private struct State: Sendable {
    /// The first is being read; never empty.
    var holders: [any StorageTier]
    var stream: ByteStream?
    /// The next raw byte to give.
    var offset: Int64
    var digest = StreamDigest()
  }

  private func stream(
    _ artifact: BackupManifest.Artifact, _ range: Range<Int64>, isWhole: Bool, from holders: [any StorageTier]
  ) -> ByteStream {
    let state = MutableBox(State(holders: holders, offset: range.lowerBound))
    return ByteStream {
      while true {
        do {
          if state.value.stream == nil {
            let opened = try await open(artifact, range, isWhole: isWhole, state.value)
            state.withLock { $0.stream = opened }
          }
          guard let stream = state.value.stream else { return nil }
          var iterator = stream.makeAsyncIterator()
          guard let buffer = try await iterator.next() else {
            try check(artifact, range, isWhole: isWhole, state.value)
            return nil
          }
          state.withLock {
            if isWhole { $0.digest.update(buffer) }
            $0.offset += Int64(buffer.readableBytes)
          }
          return buffer
        } catch let error as DRError where error.code != .noMatchingIdentity && state.value.holders.count > 1 {
          let (tier, offset) = state.withLock { state in
            state.stream = nil
            return (state.holders.removeFirst(), state.offset)
          }
          logger.warning(
            "reading goes on from another tier",
            metadata: [
              "artifact": "\(artifact.key)", "tier": "\(tier.name)", "offset": "\(offset)", "error": "\(error)",
            ])
        }
      }
    }
  }

  private func open(
    _ artifact: BackupManifest.Artifact, _ range: Range<Int64>, isWhole: Bool, _ state: State
  ) async throws -> ByteStream {
    guard let tier = state.holders.first else {
      throw DRError(.objectNotFound, "no tier has \(artifact.name)", object: artifact.key.rawValue)
    }
    // Everything was given, and only the stored bytes were wrong.
    if state.offset >= range.upperBound, range.upperBound > 0 { return ByteStream([]) }
    let reader = Repository(tier: tier).reader(for: manifest, decoding: decoding)
    // Read whole, the stored bytes have a digest too.
    if isWhole, state.offset == 0 { return try await reader.read(artifact) }
    return try await reader.read(artifact, range: state.offset..<range.upperBound)
  }

  private func check(
    _ artifact: BackupManifest.Artifact, _ range: Range<Int64>, isWhole: Bool, _ state: State
  ) throws {
    // Without frames, an early end is told by nothing else.
    guard state.offset == range.upperBound else {
      throw DRError(
        .truncatedData, "the artifact ends at raw byte \(state.offset), not at \(range.upperBound)",
        advice: "read this artifact from another tier, or choose another backup", component: manifest.component,
        object: artifact.key.rawValue)
    }
    guard !isWhole || state.digest.hex() == artifact.rawSHA256 else {
      throw DRError(
        .corruptData, "the SHA-256 of the raw bytes differs from the manifest's",
        advice: "read this artifact again without the nearest tier, or choose another backup",
        component: manifest.component, object: artifact.key.rawValue)
    }
  }
}

extension Repository {
  /// Gives the artifacts of a backup that is on further tiers too, the nearest first: this one.
  public func reader(
    for manifest: BackupManifest, further tiers: [any StorageTier], decoding: Decoding = Decoding(), logger: Logger
  ) -> any BackupReader {
    TieredReader(manifest, tiers: [tier] + tiers, layout: layout, decoding: decoding, logger: logger)
  }
}
