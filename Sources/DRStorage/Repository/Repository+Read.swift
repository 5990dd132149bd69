public import DRCore

extension Repository {
  /// Gives the artifacts of a backup.
  public func reader(for manifest: BackupManifest, decoding: Decoding = Decoding()) -> any BackupReader {
    RepositoryReader(manifest: manifest, repository: self, decoding: decoding)
  }

  /// - Throws: ``DRError``: `objectNotFound`; why it cannot be read.
  func parent(of manifest: BackupManifest) async throws -> BackupManifest? {
    guard let parent = manifest.parent else { return nil }
    let folder = folder(of: manifest.component)
    do {
      return try await readManifest(folder.manifest(parent), in: folder).get()
    } catch var error as DRError {
      if error.code == .objectNotFound {
        error.message = "\(parent), from which \(manifest.id) goes on, is not in \(tier.name)"
        error.advice = "read it from another tier, or choose another backup"
      }
      error.component = manifest.component
      throw error
    }
  }
}

/// Reads artifacts from a tier, checking them against the manifest.
private struct RepositoryReader: BackupReader {
  let manifest: BackupManifest
  let repository: Repository
  let decoding: Decoding

  private var tier: any StorageTier { repository.tier }

  func parent() async throws -> (any BackupReader)? {
    try await repository.parent(of: manifest).map {
      RepositoryReader(manifest: $0, repository: repository, decoding: decoding)
    }
  }

  func read(_ artifact: BackupManifest.Artifact) async throws -> ByteStream {
    explained(
      decoding.decode(
        try await get(artifact, range: nil), format: artifact.compression, encrypted: !artifact.recipients.isEmpty,
        expected: artifact.summary, object: artifact.key.rawValue), artifact)
  }

  func readWithoutRawDigest(_ artifact: BackupManifest.Artifact) async throws -> ByteStream {
    explained(
      decoding.decode(
        try await get(artifact, range: nil), format: artifact.compression, encrypted: !artifact.recipients.isEmpty,
        expected: artifact.summary, digestsRaw: false, object: artifact.key.rawValue), artifact)
  }

  /// Where no identity opens it, the digest of what is stored tells a damaged header from a wrong key.
  private func explained(_ content: ByteStream, _ artifact: BackupManifest.Artifact) -> ByteStream {
    ByteStream {
      do {
        var iterator = content.makeAsyncIterator()
        return try await iterator.next()
      } catch let error as DRError where error.code == .noMatchingIdentity && !decoding.identities.isEmpty {
        do {
          try await verify(artifact)
        } catch var damage as DRError where damage.code == .corruptData || damage.code == .truncatedData {
          damage.message = "it is damaged, maybe in its age header, and no wrong key: \(damage.message)"
          throw damage
        }
        var error = error
        error.message =
          "the stored bytes are as they were written, and none of the \(decoding.identities.count) given identities opens them"
        error.advice = "give the identity file of one of the recipients that the manifest lists"
        throw error
      }
    }
  }

  func read(_ artifact: BackupManifest.Artifact, range: Range<Int64>) async throws -> ByteStream {
    guard range.lowerBound >= 0, range.upperBound <= artifact.rawSize else {
      throw DRError(
        .invalidConfiguration, "bytes \(range) lie outside the \(artifact.rawSize) of \(artifact.name)",
        component: manifest.component, object: artifact.key.rawValue)
    }
    // The frames are found from the object's end: one of another size is damaged, and would be read as something else.
    let stored = try await tier.head(artifact.key)
    if let stored, stored.size != artifact.storedSize {
      throw DRError(
        .corruptData, "\(stored.size) stored bytes, and the manifest states \(artifact.storedSize)",
        advice: "read this artifact from another tier, or choose another backup", component: manifest.component,
        object: artifact.key.rawValue)
    }
    return try await decoding.decode(
      range: range, storedSize: artifact.storedSize, format: artifact.compression,
      encrypted: !artifact.recipients.isEmpty, object: artifact.key.rawValue
    ) { try await get(artifact, range: $0) }
  }

  func verify(_ artifact: BackupManifest.Artifact) async throws {
    var check = StreamCheck(
      "stored", size: artifact.storedSize, sha256: artifact.storedSHA256, object: artifact.key.rawValue)
    for try await buffer in try await get(artifact, range: nil) { check.add(buffer) }
    try check.finish()
  }

  private func get(_ artifact: BackupManifest.Artifact, range: Range<Int64>?) async throws -> ByteStream {
    do {
      return try await tier.get(artifact.key, range: range)
    } catch let error as DRError where error.code == .objectNotFound {
      throw DRError(
        .objectNotFound, "the artifact \(artifact.name) of backup \(manifest.id) is missing: the repository is torn",
        advice: "read it from another tier, or choose another backup", component: manifest.component,
        object: artifact.key.rawValue)
    }
  }
}

extension BackupManifest.Artifact {
  fileprivate var summary: EncodedStream.Summary {
    EncodedStream.Summary(
      rawSize: rawSize, storedSize: storedSize, rawSHA256: rawSHA256, storedSHA256: storedSHA256)
  }
}
