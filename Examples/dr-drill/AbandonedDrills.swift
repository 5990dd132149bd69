import Foundation

/// What drills that were killed have left. One that can be resumed is kept for a day, and removed by the next drill after that; one whose disaster
/// was still to come is removed by the next drill.
enum AbandonedDrills {
  /// In seconds.
  private static let keptFor: TimeInterval = 86_400

  static func remove() {
    let parent = FileManager.default.temporaryDirectory.path
    for name in (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? [] where name.hasPrefix("dr-drill-") {
      let folder = parent + "/" + name
      // As long as this is held, nobody resumes it.
      guard let claim = FolderClaim.abandoned(folder) else { continue }
      let record = DrillFolderRecord(path: folder + "/record")
      if record.holds(DrillFolderRecord.memory), let seen = record.lastSeen, -seen.timeIntervalSinceNow < keptFor {
        continue
      }
      withExtendedLifetime(claim) { try? remove(folder) }
    }
  }

  /// What makes it one that can be resumed goes first, the claim last: one that is killed meanwhile leaves what the next drill removes.
  static func remove(_ folder: String) throws {
    let manager = FileManager.default
    let memory = DrillFolderRecord(path: folder + "/record").file(DrillFolderRecord.memory)
    if manager.fileExists(atPath: memory) { try manager.removeItem(atPath: memory) }
    for name in try manager.contentsOfDirectory(atPath: folder) where name != FolderClaim.file {
      try manager.removeItem(atPath: folder + "/" + name)
    }
    try manager.removeItem(atPath: folder)
  }
}
