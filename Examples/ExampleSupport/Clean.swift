public import ArgumentParser
public import DRCore
public import DRStorage

/// Removes what interrupted backups left.
public struct Clean<Program: BackupProgram>: AsyncParsableCommand {
  public static var configuration: CommandConfiguration {
    CommandConfiguration(commandName: "clean", abstract: "Removes what interrupted backups left.")
  }

  @OptionGroup var repository: RepositoryArguments<Program>

  @Option(parsing: .unconditional, help: "Only what has shown no sign of life for so many hours.")
  var olderThanHours = 24.0

  public init() {}

  public func validate() throws {
    // A backup renews its sign of life: what is younger may be at work.
    guard olderThanHours >= 1 else { throw ValidationError("--older-than-hours is 1 or more") }
  }

  public func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      let outcome = try await Repository(tier: try await settings.tier(creating: false, probing: .reading))
        .cleanInterrupted(olderThan: .seconds(olderThanHours * 3600), logger: repository.logger)
      CleanReport.say(outcome, olderThanHours: olderThanHours)
    }
  }
}

/// What a cleaning did, as the programs say it.
public enum CleanReport {
  public static func say(_ outcome: CleaningOutcome, olderThanHours: Double) {
    print(
      "removed \(outcome.backups.count) interrupted backups, \(outcome.objects.count) objects, "
        + "\(outcome.uploads) unfinished uploads")
    for young in outcome.young {
      print(
        "left \(young.id) (\(young.objects) objects): its last sign of life was at \(Timestamp.format(young.alive)), it may be "
          + "at work; a cleaning removes it from \(Timestamp.format(young.removable)) on")
    }
    say(removed: outcome.removedUploads, left: outcome.youngUploads, olderThanHours: olderThanHours)
  }

  /// What puts, and trials of a server, that did not end have left: each by its name.
  public static func say(removed: [UnfinishedUpload], left: [UnfinishedUpload], olderThanHours: Double) {
    for upload in removed { print("removed \(upload)") }
    for upload in left {
      print(
        "left \(upload): it may be at work; a cleaning removes it from "
          + "\(Timestamp.format(upload.alive.addingTimeInterval(olderThanHours * 3600))) on")
    }
  }
}
