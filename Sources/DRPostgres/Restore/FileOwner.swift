import Foundation

/// Who owns restored files. Only root can give files away.
struct FileOwner: Sendable {
  struct IDs: Hashable, Sendable {
    var user: UInt32
    var group: UInt32
  }

  /// The same for everything.
  var fixed: IDs

  func ids(of member: TarMember?) -> IDs { fixed }

  /// The owner of a folder.
  static func ids(of path: String) -> IDs? {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    return IDs(user: status.st_uid, group: status.st_gid)
  }

  /// A user by name or number.
  static func user(_ name: String) -> IDs? {
    if let entry = getpwnam(name) { return IDs(user: entry.pointee.pw_uid, group: entry.pointee.pw_gid) }
    guard let id = UInt32(name), let entry = getpwuid(id) else { return nil }
    return IDs(user: id, group: entry.pointee.pw_gid)
  }
}
