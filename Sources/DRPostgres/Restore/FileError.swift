import DRCore
import Foundation

/// A failed call of the operating system, as an error that says what to do.
enum FileError {
  static let files = RestoreFiles(
    place: "the destination", noSpace: "free space, or choose another destination",
    inTheWay: "choose an empty destination")

  /// Of the call that has just failed: `errno` is still its own.
  static func make(_ call: String, _ path: String) -> DRError {
    let number = errno
    return files.failure(call, path, number)
  }
}
