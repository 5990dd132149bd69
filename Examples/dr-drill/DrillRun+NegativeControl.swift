import DRCore
import DRStorage
import DRVerify
import ExampleSupport

/// A verifier that was never seen to fail proves nothing: both it and the restore must notice a copy with one flipped bit, and the verifier must
/// pass what is whole.
extension DrillRun {
  /// - Parameters:
  ///   - artifact: Of the backup: a bit of it is flipped in what is restored.
  ///   - restore: Restores what it is given into an empty place.
  ///   - isUntouched: Whether that place is as empty as before.
  func control(
    _ system: any DrillSystem, of manifest: BackupManifest, damaging artifact: BackupManifest.Artifact,
    isolation: isolated (any Actor)? = #isolation, restore: (any BackupReader) async throws -> Void,
    isUntouched: () async throws -> Bool
  ) async throws {
    let sound = await verdict(manifest, repository)
    check(
      system, "the backup's bytes", sound.verdict == .passed,
      sound.obstacle ?? "\(sound.findings.filter { $0.severity == .passed }.count) findings passed")
    let damaged = damaged(artifact)
    let verdict = await verdict(manifest, damaged)
    check(
      system, "the verifier notices a flipped bit", verdict.verdict == .failed,
      verdict.findings.first { $0.severity == .failure }?.evidence ?? "it noticed nothing")
    do {
      try await restore(damaged.reader(for: manifest, decoding: decoding))
      check(system, "the restore refuses it", false, "it restored a damaged backup")
    } catch let error as DRError {
      let isUntouched = try await isUntouched()
      check(system, "the restore refuses it", isUntouched && error.code == .corruptData, error.message)
    }
  }

  private func verdict(_ manifest: BackupManifest, _ repository: Repository) async -> VerificationReport {
    await VerificationReport.run(
      manifest.id, BackupVerifier(manifest, in: repository, decoding: decoding), logger: logger)
  }
}
