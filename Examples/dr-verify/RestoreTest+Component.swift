import DRCore
import DRStorage
import DRVerify
import ExampleSupport

/// The restore test of one component.
extension RestoreTest {
  /// What says that the backup, or the restored server, is not as it should be. All else says that it could not be tried.
  private static let wrong: Set<DRError.Code> = [
    .corruptData, .malformedData, .truncatedData, .objectNotFound, .targetUnreachable, .changeLogGap, .segmentConflict,
    .programFailed, .timedOut,
  ]

  /// With its line in the repository's audit trail; in a bucket what only looks writes nothing.
  static func audited(_ settings: RepositoryConfiguration, _ options: RestoreTestOptions) async -> [Finding] {
    let trail = AuditTrail(by: .current(program: "dr-verify")) {
      guard !TierPlace.isBucket(settings.repository) else { throw CancellationError() }
      return try await settings.tier(creating: false)
    }
    let isSilent = TierPlace.isBucket(settings.repository)
    var findings: [Finding] = []
    do {
      try await trail.record(
        "restore-test", of: settings.component, object: nil, logger: options.logger, level: isSilent ? .debug : .info
      ) { line in
        findings = await test(settings, options)
        if let restored = findings.first(where: { $0.check == "restore" && $0.severity == .passed }) {
          line.concerns(restored.subject)
        }
        if let wrong = findings.first(where: { $0.severity >= .couldNotVerify }) {
          throw NotAsItShouldBe(finding: wrong)
        }
      }
    } catch {
      // Said by the findings.
    }
    return findings
  }

  private static func test(_ settings: RepositoryConfiguration, _ options: RestoreTestOptions) async -> [Finding] {
    do {
      switch settings.component.kind {
      case .postgres: return try await PostgresRestoreTest(settings, options).run()
      case .redis: return try await RedisRestoreTest(settings, options).run()
      case .rabbitmq: return try await RabbitMQRestoreTest(settings, options).run()
      default:
        return [
          Finding(
            "restore", .notChecked, subject: "\(settings.component.kind)", evidence: "no sandbox is known for this kind"
          )
        ]
      }
    } catch let error as DRError where RestoreTest.wrong.contains(error.code) {
      return [Finding("restore", .failure, subject: "restore", evidence: "\(error)", advice: error.advice)]
    } catch {
      return [Finding("restore", .couldNotVerify, subject: "restore", evidence: "\(error)")]
    }
  }
}

/// For the audit trail.
private struct NotAsItShouldBe: Error, CustomStringConvertible {
  var finding: Finding

  var description: String { "\(finding.check) of \(finding.subject): \(finding.severity.rawValue)" }
}
