import DRCore

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
