import Foundation

/// Calls of the operating system on the files of a restore; a failed one is an error that says what to do.
package struct RestoreFiles: Sendable {
  /// Where the restore writes, in words: "the destination".
  private let place: String
  /// What to do where there is no space.
  private let noSpace: String
  /// What to do where something is in the way.
  private let inTheWay: String

  package init(place: String, noSpace: String, inTheWay: String) {
    self.place = place
    self.noSpace = noSpace
    self.inTheWay = inTheWay
  }

  /// - Parameter number: What `errno` was when the call had failed.
  package func failure(_ call: String, _ path: String, _ number: Int32) -> DRError {
    let message = "\(call) failed: \(String(cString: strerror(number)))"
    switch number {
    case ENOSPC, EDQUOT:
      return DRError(.noSpace, message, advice: noSpace, object: path)
    case EROFS, EACCES, EPERM:
      return DRError(
        .notWritable, message, advice: "see who owns \(place), and whether it is mounted read-only", object: path)
    case EEXIST, ELOOP, ENOTDIR:
      return DRError(.destinationInUse, message, advice: inTheWay, object: path)
    default:
      return DRError(.notWritable, message, object: path)
    }
  }

  /// Writes with a ``DiskWriter``.
  ///
  /// - Parameter path: Whose file it is, for an error.
  package func writing(_ path: String, _ work: () throws(DiskWriter.Failure) -> Void) throws {
    do {
      try work()
    } catch {
      throw failure(error.call, path, error.number)
    }
  }
}
