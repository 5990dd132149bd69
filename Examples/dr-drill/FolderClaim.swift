import DRCore
import Foundation

/// The claim to a drill's folder: a file with the process's number, locked for as long as the process lives. The kernel drops the lock however it
/// ends, so that nothing depends on the number, which is used again.
final class FolderClaim: Sendable {
  private let lock: Int32

  private init(_ lock: Int32) { self.lock = lock }

  deinit { close(lock) }

  /// A folder that was kept has none.
  static let file = "owner.pid"

  /// Of a folder that was just made: whoever sees the file sees it locked.
  static func make(_ folder: String) throws -> FolderClaim {
    let new = "\(folder)/\(file).new"
    let claim = try open(new, O_CREAT | O_EXCL, in: folder)
    try claim.sign(folder)
    guard rename(new, "\(folder)/\(file)") == 0 else { throw failed(folder) }
    return claim
  }

  /// Of a folder that a drill has left.
  ///
  /// - Throws: ``DRError``: `destinationInUse` if that drill still runs.
  static func take(_ folder: String) throws -> FolderClaim {
    let claim = try open("\(folder)/\(file)", O_CREAT, in: folder)
    try claim.sign(folder)
    return claim
  }

  /// Of a folder whose drill is gone; nil: somebody has it, or it was kept.
  static func abandoned(_ folder: String) -> FolderClaim? {
    guard access("\(folder)/\(file)", F_OK) == 0 else { return nil }
    return try? open("\(folder)/\(file)", 0, in: folder)
  }

  private static func open(_ path: String, _ how: Int32, in folder: String) throws -> FolderClaim {
    let descriptor = Foundation.open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | how, 0o644)
    guard descriptor >= 0 else { throw failed(folder) }
    let claim = FolderClaim(descriptor)
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      throw DRError(.destinationInUse, "this drill runs right now", advice: "wait for it, or end it", object: folder)
    }
    var status = stat()
    // Whoever had it may have removed the folder meanwhile.
    guard fstat(descriptor, &status) == 0, status.st_nlink > 0 else { throw failed(folder) }
    return claim
  }

  private func sign(_ folder: String) throws {
    let number = Array("\(getpid())".utf8)
    guard ftruncate(lock, 0) == 0, pwrite(lock, number, number.count, 0) == number.count else {
      throw FolderClaim.failed(folder)
    }
  }

  private static func failed(_ folder: String) -> DRError {
    DRError(.notWritable, "the drill's folder cannot be claimed", object: folder)
  }
}
