import DRCore
import Foundation

/// Who owns restored files, and who may read them: as it was with the former ones.
struct FileAttributes: Sendable {
  private(set) var fileMode: UInt32 = 0o600
  private(set) var folderMode: UInt32 = 0o700
  private var user: UInt32
  private var group: UInt32

  /// - Throws: ``DRError`` with `invalidConfiguration` if there is no such user.
  init(_ layout: RedisDataLayout, name: String, owner: String?) throws {
    user = geteuid()
    group = getegid()
    var folder = layout.folder
    while folder != "/", FileAttributes.status(folder) == nil {
      folder = (folder as NSString).deletingLastPathComponent
    }
    if let status = FileAttributes.status(folder) {
      (user, group) = (status.st_uid, status.st_gid)
    }
    if let former = FileAttributes.status("\(layout.folder)/\(name)") {
      (user, group) = (former.st_uid, former.st_gid)
      if former.st_mode & S_IFMT == S_IFDIR {
        folderMode = UInt32(former.st_mode) & 0o7777
        if let file = FileAttributes.firstFile(in: "\(layout.folder)/\(name)") {
          fileMode = UInt32(file.st_mode) & 0o666
        }
      } else {
        fileMode = UInt32(former.st_mode) & 0o666
      }
    }
    if let owner {
      guard let entry = getpwnam(owner) else {
        throw DRError(.invalidConfiguration, "there is no user '\(owner.prefix(60))'", advice: "name the server's user")
      }
      (user, group) = (entry.pointee.pw_uid, entry.pointee.pw_gid)
    }
  }

  func own(_ descriptor: Int32, _ path: String) throws {
    guard geteuid() == 0 else { return }
    guard fchown(descriptor, user, group) == 0 else { throw FileFailure.make("chown", path) }
  }

  func own(path: String) throws {
    guard geteuid() == 0 else { return }
    guard lchown(path, user, group) == 0 else { throw FileFailure.make("chown", path) }
  }

  private static func status(_ path: String) -> stat? {
    var status = stat()
    return lstat(path, &status) == 0 ? status : nil
  }

  private static func firstFile(in folder: String) -> stat? {
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
    return names.lazy.compactMap { status("\(folder)/\($0)") }.first { $0.st_mode & S_IFMT == S_IFREG }
  }
}
