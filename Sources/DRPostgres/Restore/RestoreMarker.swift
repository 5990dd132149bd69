import DRCore
import Foundation

/// The file by which a folder is known that a restore has begun to write: removed before `global/pg_control` is written, it
/// is left by a restore that was killed.
enum RestoreMarker {
  static let name = ".dr-restoring"

  /// Blocking.
  ///
  /// - Parameter folder: As good as empty.
  static func put(in folder: String, backup: String, owner: FileOwner?) throws {
    let path = "\(folder)/\(name)"
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw FileError.make("create", path) }
    defer { close(descriptor) }
    let text = backup + "\n"
    guard write(descriptor, text, text.utf8.count) == text.utf8.count else { throw FileError.make("write", path) }
    if let owner, fchown(descriptor, owner.user, owner.group) != 0 { throw FileError.make("chown", path) }
  }

  /// When this returns, it is gone for good. Blocking.
  static func remove(from folder: String) throws {
    let path = "\(folder)/\(name)"
    guard unlink(path) == 0 || errno == ENOENT else { throw FileError.make("unlink", path) }
    let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError.make("open", folder) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw FileError.make("fsync", folder) }
  }

  /// Of which backup a restore was killed that has left this folder; nil if it is something else.
  static func backup(leftIn folder: String) -> String? {
    // A server that runs on it has a control file.
    guard access("\(folder)/global/pg_control", F_OK) != 0,
      let content = FileManager.default.contents(atPath: "\(folder)/\(name)"),
      content.count <= 256, let text = String(data: content, encoding: .utf8)
    else { return nil }
    return text.trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
