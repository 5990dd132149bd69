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

/// Decides what of a member's attributes is restored.
///
/// Blocking (accounts are looked up), and not thread-safe: belongs to one executor.
final class AttributePolicy {
  private let restoresOwners: Bool
  private let restoresPrivileges: Bool
  private let accounts = Accounts()
  private(set) var withheldPrivileges = 0
  private(set) var unknownACLs = 0

  init(restoresOwners: Bool, restoresPrivileges: Bool) {
    self.restoresOwners = restoresOwners
    self.restoresPrivileges = restoresPrivileges
  }

  func attributes(of member: TarMember, isSecret: Bool) -> FileAttributes {
    var mode = member.mode
    var isWithheld = false
    if !restoresPrivileges, member.kind == .file, mode & 0o6000 != 0 {
      mode &= 0o1777
      isWithheld = true
    }
    if isSecret { mode = FileAttributes.secretMode(mode) }
    var extended: [(name: String, value: [UInt8])] = []
    for attribute in member.attributes where !FileAttributes.foreign.contains(attribute.name) {
      // An access control list comes as text, never as bytes under another name.
      if attribute.name.hasPrefix("system.") { continue }
      if !attribute.name.hasPrefix("user."), !restoresPrivileges {
        isWithheld = true
        continue
      }
      extended.append((attribute.name, attribute.value))
    }
    if isWithheld { withheldPrivileges += 1 }
    if !isSecret, let text = member.accessACL { add(text, AccessControlList.access, to: &extended) }
    if member.kind == .folder, let text = member.defaultACL { add(text, AccessControlList.inherited, to: &extended) }
    return FileAttributes(
      mode: mode, owner: restoresOwners ? owner(of: member) : nil,
      modified: FileStatus.Moment(seconds: member.modified, nanoseconds: member.nanoseconds), extended: extended)
  }

  private func add(_ text: String, _ name: String, to extended: inout [(name: String, value: [UInt8])]) {
    #if os(Linux)
      if text.isEmpty { return }
      if let value = AccessControlList.value(text, user: accounts.userNumber, group: accounts.groupNumber) {
        extended.append((name, value))
      } else {
        unknownACLs += 1
      }
    #else
      unknownACLs += 1
    #endif
  }

  /// By name where there is one of it here, else by number: on another system the numbers may be others'.
  private func owner(of member: TarMember) -> (user: UInt32, group: UInt32) {
    let user = member.userName.isEmpty ? nil : accounts.userNumber(member.userName)
    let group = member.groupName.isEmpty ? nil : accounts.groupNumber(member.groupName)
    return (user ?? member.userID, group ?? member.groupID)
  }
}
