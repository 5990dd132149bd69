import DRCore
import DRStorage
import Foundation

/// What a restored file, folder or link is given beside its content.
struct FileAttributes: Sendable {
  /// Labels of a system's own policy: what another system has stays there.
  static let foreign: Set = ["security.selinux", "security.ima", "security.evm", "security.apparmor"]

  /// At most readable and writable by its owner.
  static func secretMode(_ mode: UInt32) -> UInt32 { mode & 0o600 }

  var mode: UInt32
  /// Nil: whose it is stays as it is.
  var owner: (user: UInt32, group: UInt32)?
  var modified: FileStatus.Moment
  /// Extended attributes, access control lists among them.
  var extended: [(name: String, value: [UInt8])]

  /// What differs in a file that is there, in words; empty: nothing.
  func differences(from status: FileStatus, _ present: [(name: String, value: [UInt8])]) -> [String] {
    var differences: [String] = []
    if status.kind != .symbolicLink, status.mode != mode {
      differences.append("mode \(octal(status.mode)) instead of \(octal(mode))")
    }
    if let owner, status.userID != owner.user || status.groupID != owner.group {
      differences.append("owner \(status.userID):\(status.groupID) instead of \(owner.user):\(owner.group)")
    }
    if status.kind != .folder, status.modified != modified { differences.append("time of modification") }
    if status.kind != .symbolicLink {
      let known = Dictionary(present.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
      for (name, value) in extended where known[name] != value { differences.append("attribute \(name)") }
      let wanted = Set(extended.map(\.name))
      for name in known.keys.sorted() where !wanted.contains(name) && FileAttributes.isCompared(name) {
        differences.append("attribute \(name)")
      }
    }
    return differences
  }

  private static func isCompared(_ name: String) -> Bool {
    name.hasPrefix("user.") || name == AccessControlList.access || name == AccessControlList.inherited
  }

  private func octal(_ mode: UInt32) -> String { "0" + String(mode, radix: 8) }

  /// Gives them to an open file or folder.
  func apply(to file: Descriptor) throws(SystemError) {
    // First the owner: a change of it takes set-user-ID and capabilities away.
    if let owner {
      let status = try file.fileStatus()
      if status.userID != owner.user || status.groupID != owner.group {
        try systemCall("fchown") { fchown(file.number, owner.user, owner.group) }
      }
    }
    for (name, value) in extended where !name.hasPrefix("system.") {
      try ExtendedAttributes.set(name, value, of: file)
    }
    try systemCall("fchmod") { fchmod(file.number, mode_t(mode)) }
    // After the mode, of which it is a part.
    for (name, value) in extended where name.hasPrefix("system.") {
      try ExtendedAttributes.set(name, value, of: file)
    }
    try systemCall("futimens") { futimens(file.number, times) }
  }

  /// Gives them to a symbolic link.
  func apply(toLink name: [UInt8], in folder: Descriptor) throws(SystemError) {
    let text = name.map { CChar(bitPattern: $0) } + [0]
    if let owner {
      try systemCall("fchownat") { fchownat(folder.number, text, owner.user, owner.group, AT_SYMLINK_NOFOLLOW) }
    }
    try systemCall("utimensat") { utimensat(folder.number, text, times, AT_SYMLINK_NOFOLLOW) }
  }

  private var times: [timespec] {
    let time = timespec(tv_sec: Int(modified.seconds), tv_nsec: Int(modified.nanoseconds))
    return [time, time]
  }
}
