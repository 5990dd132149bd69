import DRCore
import Foundation

/// The unprivileged user that a server runs as when this process is root: some refuse root, none needs it.
package struct ServerUser: Sendable, Hashable {
  package let name: String
  package let userID: UInt32
  package let groupID: UInt32

  /// The server's own user if there is such a one, else `nobody`; nil when this process is not root and a server runs as
  /// the same user.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` when there is neither.
  package static func needed(_ name: String) throws -> ServerUser? {
    guard geteuid() == 0 else { return nil }
    guard let user = find(name) ?? find("nobody") else {
      throw DRError(
        .invalidConfiguration, "a server does not run as root here, and there is no user '\(name)' or 'nobody'",
        advice: "run as another user, or create the user \(name)")
    }
    return user
  }

  private static func find(_ name: String) -> ServerUser? {
    var entry = passwd()
    var found: UnsafeMutablePointer<passwd>?
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16 << 10) { buffer in
      guard let start = buffer.baseAddress, getpwnam_r(name, &entry, start, buffer.count, &found) == 0, found != nil
      else { return nil }
      return ServerUser(name: name, userID: entry.pw_uid, groupID: entry.pw_gid)
    }
  }

  /// Gives a folder and all in it to this user. Symbolic links are not followed.
  ///
  /// - Throws: ``DRError`` with `notWritable`.
  package func own(_ folder: String) throws {
    for path in [folder] + (try FileManager.default.subpathsOfDirectory(atPath: folder).map { "\(folder)/\($0)" }) {
      guard lchown(path, userID, groupID) == 0 || errno == ENOENT else {
        throw DRError(.notWritable, "cannot give the file to \(name): \(lastError())", object: path)
      }
    }
  }

  /// The first folder on the way to a path that this user may not enter.
  package func obstacle(onTheWayTo path: String) -> String? {
    var folder = path
    var obstacle: String?
    while folder != "/", !folder.isEmpty {
      folder = (folder as NSString).deletingLastPathComponent
      var status = stat()
      guard stat(folder, &status) == 0 else { continue }
      let may: mode_t =
        status.st_uid == userID ? S_IXUSR : status.st_gid == groupID ? S_IXGRP : S_IXOTH
      if mode_t(status.st_mode) & may == 0 { obstacle = folder }
    }
    return obstacle
  }
}
