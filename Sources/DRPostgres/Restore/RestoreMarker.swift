import DRCore
import Foundation

/// The file by which a folder is known that a restore has begun to write: removed before `global/pg_control` is written, it
/// is left by a restore that was killed. For as long as the restore runs, the file is locked.
final class RestoreMarker: Sendable {
  static let name = ".dr-restoring"

  let folder: String
  private let descriptor: Int32

  /// Puts it into a folder. Blocking.
  ///
  /// - Parameter folder: As good as empty.
  /// - Throws: ``DRError``: `destinationInUse` if another restore has just begun to write it.
  init(in folder: String, backup: String, owner: FileOwner?) throws {
    let path = "\(folder)/\(RestoreMarker.name)"
    let descriptor = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw FileError.make("create", path) }
    self.folder = folder
    self.descriptor = descriptor
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else { throw RestoreMarker.runs(on: folder) }
    let text = backup + "\n"
    guard ftruncate(descriptor, 0) == 0, write(descriptor, text, text.utf8.count) == text.utf8.count else {
      throw FileError.make("write", path)
    }
    if let owner, fchown(descriptor, owner.user, owner.group) != 0 { throw FileError.make("chown", path) }
  }

  deinit { close(descriptor) }

  /// When this returns, it is gone for good. Blocking.
  func remove() throws {
    let path = "\(folder)/\(RestoreMarker.name)"
    guard unlink(path) == 0 || errno == ENOENT else { throw FileError.make("unlink", path) }
    try RestoreMarker.sync(folder)
  }

  /// Makes the names in a folder durable. Blocking.
  static func sync(_ folder: String) throws {
    let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError.make("open", folder) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw FileError.make("fsync", folder) }
  }

  /// Of which backup a restore was killed, or still runs, that has written this folder; nil if it is something else.
  static func backup(leftIn folder: String) -> String? {
    // A server that runs on it has a control file.
    guard access("\(folder)/global/pg_control", F_OK) != 0,
      let content = FileManager.default.contents(atPath: "\(folder)/\(name)"),
      content.count <= 256, let text = String(data: content, encoding: .utf8)
    else { return nil }
    return text.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// Refuses a folder that a restore writes right now; one that a killed restore has left is not refused.
  static func refuseRunning(in folder: String) throws {
    let descriptor = open("\(folder)/\(name)", O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    guard flock(descriptor, LOCK_SH | LOCK_NB) == 0 else { throw runs(on: folder) }
  }

  private static func runs(on folder: String) -> DRError {
    DRError(
      .destinationInUse, "another restore writes into this folder right now: nothing was touched",
      advice: "wait until it has ended, or restore elsewhere", object: folder)
  }
}
