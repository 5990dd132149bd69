import DRCore
import Foundation

/// Calls of the operating system, and how they fail.
enum FileFailure {
  static let files = RestoreFiles(
    place: "the data folder", noSpace: "free space in the data folder", inTheWay: "see what lies in the data folder")

  static func exists(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
  }

  static func syncFolder(_ path: String) throws {
    let folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { throw make("open", path) }
    defer { close(folder) }
    guard fsync(folder) == 0 else { throw make("fsync", path) }
  }

  /// Of the call that has just failed: `errno` is still its own.
  static func make(_ call: String, _ path: String) -> DRError {
    let number = errno
    return files.failure(call, path, number)
  }
}
