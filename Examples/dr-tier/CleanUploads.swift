import ArgumentParser
import DRCore
import DRStorage
import ExampleSupport
import Foundation

/// Removes what puts that did not end have left.
struct CleanUploads: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "clean", abstract: "Removes what killed puts, and killed trials of a server, have left.",
    discussion: """
      Uploads in parts that were not completed, temporary files of a folder, and the objects by which a server is tried out. No other       command shows them, and a bucket is paid for them. What interrupted backups left, dr-repository clean removes.
      """)

  @OptionGroup var tier: TierArguments

  @Option(parsing: .unconditional, help: "Only what has shown no sign of life for so many hours.")
  var olderThanHours = 24.0

  @Flag(help: "Show what would be removed, and remove nothing.")
  var dryRun = false

  func validate() throws {
    // A put shows life with each part: what is younger may be at work.
    try allow("--older-than-hours", olderThanHours, 1...87_600)
  }

  func run() async throws {
    try await reporting {
      let tier = try await tier.open(.reading)
      let limit = Date(timeIntervalSinceNow: -olderThanHours * 3600)
      let all = try await tier.unfinishedUploads()
      let old = all.filter { $0.alive < limit }
      let removed = dryRun ? 0 : try await tier.removeAbandonedUploads(olderThan: limit)
      print(dryRun ? "would remove \(old.count)" : "removed \(removed)", terminator: " unfinished uploads\n")
      if dryRun {
        for upload in old { print("would remove \(upload)") }
      }
      CleanReport.say(
        removed: dryRun ? [] : old, left: all.filter { $0.alive >= limit }, olderThanHours: olderThanHours)
    }
  }
}
