import DRCore
import DRStorage
import DRVerify
import Testing

/// What a negative control says: it passes only if the verification was seen to fail for what was done.
@Suite struct NegativeControlTests {
  private static func verification() async throws -> (VerifiedPlace, DailyVerification) {
    let place = try await VerifiedPlace.healthy()
    return (place, DailyVerification(place.repository(0), now: { VerifiedPlace.now }))
  }

  @Test("A flipped byte, a missing segment and a truncated object are noticed; the repository is as it was")
  func noticed() async throws {
    let (place, verification) = try await Self.verification()
    let sound = await verification.report(logger: VerifiedPlace.logger)
    let artifact = try await place.newest(place.database).artifacts[0]
    let damages: [(NegativeControl.Damage, ObjectKey, DamagedTier.Damage)] = [
      (.flippedByte, artifact.key, .flippedBit(at: artifact.storedSize / 3)),
      (.missingSegment, try await place.segment(2, on: 0), .missing),
      (.truncatedDump, artifact.key, .truncated(to: artifact.storedSize / 2)),
      (.truncatedDump, artifact.key, .truncated(to: 0)),
    ]
    for (damage, key, change) in damages {
      let finding = await NegativeControl.finding(
        damage, to: key, as: change, of: verification, sound: sound, logger: VerifiedPlace.logger)
      #expect(finding.severity == .passed && finding.evidence.hasPrefix("noticed by "), "\(finding)")
    }
    let again = await verification.report(logger: VerifiedPlace.logger)
    #expect(again.findings == sound.findings)
  }

  @Test("A verification that notices nothing fails its control; a failure that was there before is no notice")
  func blind() async throws {
    let (place, verification) = try await Self.verification()
    let artifact = try await place.newest(place.database).artifacts[0]
    var blind = verification
    blind.rules.removeAll { ["artifact-digest", "artifact-codec"].contains($0.name) }
    blind.settings.maximumAge = .seconds(60)
    let sound = await blind.report(logger: VerifiedPlace.logger)
    #expect(sound.verdict == .failed)
    let finding = await NegativeControl.finding(
      .flippedByte, to: artifact.key, as: .flippedBit(at: 100), of: blind, sound: sound, logger: VerifiedPlace.logger)
    #expect(finding.severity == .failure && finding.evidence == "the verification noticed nothing")
    var obstructed = sound
    obstructed.obstacle = "no answer"
    let unknown = NegativeControl.finding(.lostMessage, "q", sound: obstructed, damaged: sound)
    #expect(unknown.severity == .couldNotVerify)
  }
}
