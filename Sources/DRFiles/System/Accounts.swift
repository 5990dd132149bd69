import Foundation

/// Users and groups of this system, by number and by name; asked for once each.
///
/// Blocking, and not thread-safe: belongs to one executor.
final class Accounts {
  private var userNames: [UInt32: String] = [:]
  private var groupNames: [UInt32: String] = [:]
  private var users: [String: UInt32?] = [:]
  private var groups: [String: UInt32?] = [:]

  /// Empty if nobody has the number.
  func userName(_ number: UInt32) -> String {
    if let known = userNames[number] { return known }
    var entry = passwd()
    let name =
      Accounts.lookUp(&entry, { getpwuid_r(number, $0, $1, $2, $3) }, take: { String(cString: $0.pw_name) }) ?? ""
    userNames[number] = name
    return name
  }

  func groupName(_ number: UInt32) -> String {
    if let known = groupNames[number] { return known }
    var entry = group()
    let name =
      Accounts.lookUp(&entry, { getgrgid_r(number, $0, $1, $2, $3) }, take: { String(cString: $0.gr_name) }) ?? ""
    groupNames[number] = name
    return name
  }

  func userNumber(_ name: String) -> UInt32? {
    if let known = users[name] { return known }
    var entry = passwd()
    let number = Accounts.lookUp(&entry, { getpwnam_r(name, $0, $1, $2, $3) }, take: { $0.pw_uid })
    users[name] = .some(number)
    return number
  }

  func groupNumber(_ name: String) -> UInt32? {
    if let known = groups[name] { return known }
    var entry = group()
    let number = Accounts.lookUp(&entry, { getgrnam_r(name, $0, $1, $2, $3) }, take: { $0.gr_gid })
    groups[name] = .some(number)
    return number
  }

  /// Calls with a buffer that is large enough: the calls without one share theirs among all threads.
  private static func lookUp<Entry, Result>(
    _ entry: inout Entry,
    _ call: (
      UnsafeMutablePointer<Entry>, UnsafeMutablePointer<CChar>, Int, UnsafeMutablePointer<UnsafeMutablePointer<Entry>?>
    ) -> Int32, take: (Entry) -> Result
  ) -> Result? {
    var size = 4096
    while size <= 1 << 20 {
      let buffer = UnsafeMutablePointer<CChar>.allocate(capacity: size)
      defer { buffer.deallocate() }
      var found: UnsafeMutablePointer<Entry>?
      let status = call(&entry, buffer, size, &found)
      if status == 0 { return found == nil ? nil : take(entry) }
      guard status == ERANGE || status == EINTR else { return nil }
      size *= 4
    }
    return nil
  }
}
