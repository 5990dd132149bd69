import DRCore
import DRStorage
import DRVerify
import Foundation

/// Something that is wrong with a repository or its copy, and which check must say so.
enum Damage: String, CaseIterable, Sendable {
  case flippedByte, flippedByteOnCopy, wrongRawDigest, missingArtifact, missingArtifactOnCopy, shortArtifact
  case tooOld, ofTheFuture, tooSmall, tooLarge, empty
  case damagedManifest, cutManifest, manifestAgainstSchema, otherManifestOnCopy
  case refusedRead, refusedReadOfSegment, brokenOffRead
  case flippedSegment, flippedSegmentOnCopy, missingSegment, missingSegmentOnCopy, olderHole, logEndsEarlier
  case lostParent, tornOldBackup, newestOnCopyOnly, absentOnCopy, emptyCopy, noBackup, unreachableCopy

  /// The check that says so, and how.
  var expected: (check: String, severity: Finding.Severity) {
    switch self {
    case .flippedByte, .flippedByteOnCopy: ("artifact-digest", .failure)
    case .wrongRawDigest: ("artifact-codec", .failure)
    case .missingArtifact, .missingArtifactOnCopy: ("artifact-present", .failure)
    case .shortArtifact: ("artifact-size", .failure)
    case .tooOld, .ofTheFuture: ("backup-age", .failure)
    case .tooSmall, .tooLarge, .empty: ("backup-size", .failure)
    case .damagedManifest, .cutManifest: ("manifest-readable", .failure)
    case .manifestAgainstSchema: ("manifest-schema", .failure)
    case .otherManifestOnCopy: ("manifest-same", .failure)
    case .refusedRead: ("artifact-readable", .couldNotVerify)
    case .refusedReadOfSegment: ("segment-readable", .couldNotVerify)
    case .brokenOffRead: ("artifact-readable", .failure)
    case .flippedSegment, .flippedSegmentOnCopy: ("segment-digest", .failure)
    case .missingSegment, .olderHole: ("log-complete", .failure)
    case .missingSegmentOnCopy: ("log-on-copy", .failure)
    case .logEndsEarlier: ("log-in-repository", .failure)
    case .lostParent: ("backup-chain", .failure)
    case .tornOldBackup: ("backup-whole", .failure)
    case .newestOnCopyOnly: ("backup-in-repository", .failure)
    case .absentOnCopy: ("backup-on-copy", .failure)
    case .emptyCopy: ("copy-present", .failure)
    case .noBackup: ("backup-present", .failure)
    case .unreachableCopy: ("tier-reachable", .couldNotVerify)
    }
  }

  /// Does it to a healthy place.
  ///
  /// - Returns: The tiers through which the place is seen.
  func apply(to place: VerifiedPlace) async throws -> [any StorageTier] {
    let newest = try await place.newest(place.database)
    let artifact = newest.artifacts[0].key
    switch self {
    case .flippedByte: try await place.change(artifact, on: 0) { $0[$0.count / 2] ^= 1 }
    case .flippedByteOnCopy: try await place.change(artifact, on: 1) { $0[$0.count / 2] ^= 1 }
    case .wrongRawDigest:
      try await place.rewrite(newest, on: 0) { $0.artifacts[0].rawSHA256 = String(repeating: "0", count: 64) }
    case .missingArtifact: try await place.tiers[0].delete(artifact)
    case .missingArtifactOnCopy: try await place.tiers[1].delete(artifact)
    case .shortArtifact: try await place.change(artifact, on: 0) { $0.removeLast(10) }
    case .tooOld: place.clock.withLock { $0 += VerifiedPlace.day }
    case .ofTheFuture: place.clock.withLock { $0 -= 7200 }
    case .tooSmall: try await place.backUp(place.database, size: 80_000)
    case .tooLarge: try await place.backUp(place.database, size: 120_000)
    case .empty: try await place.backUp(place.database, size: 0)
    case .damagedManifest: try await place.change(try place.manifestKey(newest), on: 0) { $0[100] ^= 1 }
    case .cutManifest: try await place.change(try place.manifestKey(newest), on: 1) { $0.removeLast(200) }
    case .manifestAgainstSchema: try await place.rewrite(newest, on: 0) { $0.artifacts[0].recipients = ["nobody"] }
    case .otherManifestOnCopy: try await place.rewrite(newest, on: 1) { $0.serverVersion = "another" }
    case .missingSegment: try await place.tiers[0].delete(try await place.segment(3, on: 0))
    case .missingSegmentOnCopy: try await place.tiers[1].delete(try await place.segment(3, on: 1))
    case .olderHole:
      // The newest backup needs only what comes behind the hole; moments before it are lost.
      try await place.tiers[0].delete(try await place.segment(2, on: 0))
      try await place.backUp(place.database, size: 102_000, from: "0/4000028")
    case .flippedSegment: try await place.change(try await place.segment(2, on: 0), on: 0) { $0[$0.count / 2] ^= 1 }
    case .flippedSegmentOnCopy:
      try await place.change(try await place.segment(2, on: 1), on: 1) { $0[$0.count / 2] ^= 1 }
    case .logEndsEarlier: try await place.log(6, on: place.tiers[1])
    case .lostParent:
      let child = try await place.newest(place.tree)
      try await place.tiers[0].delete(try ObjectKey("config/metadata/\(child.parent ?? "").json"))
    case .tornOldBackup:
      let oldest = try await place.repository(0).catalog(of: place.database).backups[0]
      try await place.tiers[0].delete(oldest.artifacts[0].key)
    case .newestOnCopyOnly: try await place.tiers[0].delete(try place.manifestKey(newest))
    case .absentOnCopy:
      try await place.tiers[1].delete(try place.manifestKey(newest))
      place.clock.withLock { $0 += 7200 }
    case .emptyCopy: return [place.tiers[0], InMemoryTier(name: "copy")]
    case .noBackup: return [InMemoryTier(name: "repository"), InMemoryTier(name: "copy")]
    case .refusedRead: return [refusing(place.tiers[0], artifact.rawValue), place.tiers[1]]
    case .refusedReadOfSegment:
      return [refusing(place.tiers[0], try await place.segment(2, on: 0).rawValue), place.tiers[1]]
    case .brokenOffRead:
      return [
        FaultInjectingTier(place.tiers[0]) { $0.kind == .get && $0.subject == artifact.rawValue ? .truncate : nil },
        place.tiers[1],
      ]
    case .unreachableCopy: return [place.tiers[0], FaultInjectingTier(place.tiers[1]) { _ in .before }]
    }
    return place.tiers
  }

  private func refusing(_ tier: InMemoryTier, _ key: String) -> any StorageTier {
    FaultInjectingTier(tier) { $0.kind == .get && $0.subject == key ? .before : nil }
  }

  /// What a verification of the damaged place works on.
  func verification(_ settings: VerificationSettings = VerificationSettings()) async throws -> DailyVerification {
    let place = try await VerifiedPlace.healthy()
    let tiers = try await apply(to: place)
    let now = place.clock.value
    let repositories = tiers.map { Repository(tier: $0) }
    return DailyVerification(
      repositories[0], copies: Array(repositories.dropFirst()), settings: settings, now: { now })
  }
}
