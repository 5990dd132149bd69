public import DRCore
public import DRStorage
public import Logging

/// Verifies the stored bytes of one backup.
public struct BackupVerifier: Verifier {
  public enum Level: String, Sendable, CaseIterable {
    /// Every artifact is there with its size.
    case metadata
    /// Every byte is read, decrypted, decompressed and digested.
    case data
  }

  private let manifest: BackupManifest
  private let reader: any BackupReader
  private let tier: any StorageTier
  private let level: Level
  private let progress: ProgressHandler?

  /// - Parameters:
  ///   - decoding: With the identities that open the backup; needed for the level `data` of an encrypted one.
  public init(
    _ manifest: BackupManifest, in repository: Repository, level: Level = .data, decoding: Decoding = Decoding(),
    progress: ProgressHandler? = nil
  ) {
    self.manifest = manifest
    self.level = level
    self.progress = progress
    reader = repository.reader(for: manifest, decoding: decoding)
    tier = repository.tier
  }

  /// One finding for each artifact and check. Damage is a finding that names the object, and the frame and offset where
  /// it can be located.
  ///
  /// - Throws: ``DRError`` when it could not look: the tier cannot be reached, or no identity opens the backup.
  public func verify(logger: Logger) async throws -> [Finding] {
    var findings: [Finding] = []
    let meter = progress.map { ProgressMeter(manifest.id, total: manifest.rawSize, handler: $0) }
    for artifact in manifest.artifacts {
      let stored = try await presence(of: artifact)
      findings.append(stored)
      guard level == .data, stored.severity == .passed else { continue }
      findings.append(try await content(of: artifact, by: reader, meter))
    }
    if manifest.artifacts.isEmpty {
      findings.append(
        Finding("artifact-present", .failure, subject: manifest.id, evidence: "the backup has no artifact at all"))
    }
    meter?.finish()
    if manifest.parent != nil { findings += try await chain() }
    return findings
  }

  /// Whether all is there that the backup goes on from, and with the level `data` what is in it.
  private func chain() async throws -> [Finding] {
    do {
      var contents: [Finding] = []
      let ancestors = try await reader.chain().dropLast()
      for ancestor in ancestors {
        for artifact in ancestor.manifest.artifacts {
          let finding = try await presence(of: artifact)
          guard finding.severity == .passed else {
            return [
              Finding(
                "backup-chain", .failure, subject: ancestor.manifest.id,
                evidence: "\(manifest.id) needs \(artifact.key): \(finding.evidence)", advice: finding.advice)
            ]
          }
          if level == .data { contents.append(try await content(of: artifact, by: ancestor, nil)) }
        }
      }
      let names = ancestors.map(\.manifest.id).joined(separator: ", ")
      let looked = level == .data ? "" : " (looked at by presence and size)"
      return contents
        + [Finding("backup-chain", .passed, subject: manifest.id, evidence: "it goes on from \(names)\(looked)")]
    } catch let error as DRError where BackupVerifier.damage.contains(error.code) {
      return [
        Finding(
          "backup-chain", .failure, subject: manifest.id, evidence: error.message,
          advice: error.advice ?? "copy it from another tier, or take a new backup")
      ]
    }
  }

  private func presence(of artifact: BackupManifest.Artifact) async throws -> Finding {
    let subject = artifact.key.rawValue
    guard let info = try await tier.head(artifact.key) else {
      return Finding(
        "artifact-present", .failure, subject: subject, evidence: "it is not in \(tier.name)",
        advice: "copy it from another tier, or take a new backup")
    }
    guard info.size == artifact.storedSize else {
      return Finding(
        "artifact-present", .failure, subject: subject,
        evidence: "\(info.size) bytes stored, the manifest states \(artifact.storedSize)",
        advice: "copy it from another tier, or take a new backup")
    }
    return Finding("artifact-present", .passed, subject: subject, evidence: "\(info.size) bytes stored")
  }

  private func content(
    of artifact: BackupManifest.Artifact, by reader: any BackupReader, _ meter: ProgressMeter?
  ) async throws -> Finding {
    let subject = artifact.key.rawValue
    do {
      for try await buffer in try await reader.read(artifact) { meter?.add(buffer.readableBytes) }
    } catch let error as DRError where BackupVerifier.damage.contains(error.code) {
      return Finding(
        "artifact-digest", .failure, subject: subject, evidence: error.message,
        advice: error.advice ?? "read it from another tier, or choose another backup")
    }
    return Finding(
      "artifact-digest", .passed, subject: subject,
      evidence: "\(artifact.rawSize) raw bytes, SHA-256 \(artifact.rawSHA256) raw and \(artifact.storedSHA256) stored")
  }

  /// What says that the bytes are wrong; every other error says that they could not be looked at.
  static let damage: Set<DRError.Code> = [.corruptData, .malformedData, .truncatedData, .objectNotFound]
}
