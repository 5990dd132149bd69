import Foundation

/// Who owns restored files, all of them. Only root can give files away.
struct FileOwner: Hashable, Sendable {
  var user: UInt32
  var group: UInt32

  init(user: UInt32, group: UInt32) {
    self.user = user
    self.group = group
  }

  /// The owner of a folder; nil if there is none.
  init?(of path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    self.init(user: status.st_uid, group: status.st_gid)
  }

  /// A user by name or number; nil if there is none.
  init?(named name: String) {
    if let entry = getpwnam(name) {
      self.init(user: entry.pointee.pw_uid, group: entry.pointee.pw_gid)
    } else if let id = UInt32(name), let entry = getpwuid(id) {
      self.init(user: id, group: entry.pointee.pw_gid)
    } else {
      return nil
    }
  }
}
