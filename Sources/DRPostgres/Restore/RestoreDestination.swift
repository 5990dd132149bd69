import DRCore
import DRStorage
import Foundation

/// The folder that a restore writes into.
///
/// A folder that is absent or empty is written in place. One that holds anything is refused; when it may be replaced, or holds what a restore
/// has left that was killed, the restore goes into a new folder beside it, and only when that is whole the two change places by rename. What
/// was there before is kept beside, never removed. While it is written, the folder holds a ``RestoreMarker``.
struct RestoreDestination: Sendable {
  let path: String
  /// Where the restore writes.
  let workPath: String
  /// Says that a restore is at work here, until it is removed.
  let marker: RestoreMarker
  private let created: Bool

  /// Looks at the destination and prepares the folder to write into.
  ///
  /// - Parameter backup: What is restored into it.
  /// - Throws: ``DRError``: `destinationInUse`, `notWritable`.
  init(path: String, backup: String, replacing: Bool, owner: FileOwner?, now: Date) throws {
    guard path.hasPrefix("/"), path.count > 1, !path.contains("\0") else {
      throw DRError(
        .invalidConfiguration, "the destination must be the absolute path of a folder below the root", object: path)
    }
    self.path = RestoreDestination.followingLink(path.hasSuffix("/") ? String(path.dropLast()) : path)
    try RestoreDestination.refuseRunningServer(self.path)
    try RestoreMarker.refuseRunning(in: self.path)
    // A repository is neither replaced nor written into, nor is a folder below one.
    if let tier = LocalTier.enclosing(self.path) {
      throw DRError(
        .destinationInUse, "the destination lies in the repository \(tier): nothing was touched",
        advice: "restore into a folder of its own", object: self.path)
    }
    let entries = try RestoreDestination.entries(self.path)
    switch entries {
    case nil:
      workPath = self.path
      created = true
      try RestoreDestination.createParents(of: self.path)
      try RestoreDestination.create(self.path)
    case .some(let names) where names.allSatisfy({ $0 == "lost+found" }):
      workPath = self.path
      created = false
      guard chmod(self.path, 0o700) == 0 else { throw FileError.make("chmod", self.path) }
    case .some(let names):
      // Whoever runs a killed restore again wants what it was to bring, and no server starts on what it has left.
      guard replacing || RestoreMarker.backup(leftIn: self.path) != nil else {
        throw DRError(
          .destinationInUse, "the destination holds \(names.count) entries: nothing was touched",
          advice: "choose an empty folder, or give --replace: what is there is then kept beside it as ….before-<time>",
          object: self.path)
      }
      try RestoreDestination.refuseMountPoint(self.path)
      workPath = self.path + ".restoring-" + Timestamp.compact(now)
      created = true
      try RestoreDestination.create(workPath)
    }
    if let owner, chown(workPath, owner.user, owner.group) != 0 {
      throw FileError.make("chown", workPath)
    }
    marker = try RestoreMarker(in: workPath, backup: backup, owner: owner)
  }

  /// Puts a whole restore in its place. Returns where the former folder is now, if there was one.
  func commit(now: Date) throws -> String? {
    guard workPath != path else { return nil }
    try RestoreDestination.refuseRunningServer(path)
    let aside = path + ".before-" + Timestamp.compact(now)
    guard rename(path, aside) == 0 else { throw FileError.make("rename", path) }
    guard rename(workPath, path) == 0 else {
      let error = FileError.make("rename", workPath)
      // Back as it was.
      _ = rename(aside, path)
      throw error
    }
    let parent = open((path as NSString).deletingLastPathComponent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if parent >= 0 {
      fsync(parent)
      close(parent)
    }
    return aside
  }

  /// Removes what a failed restore wrote: it was all made by the restore.
  func discard() {
    if created {
      try? FileManager.default.removeItem(atPath: workPath)
    } else {
      for name in (try? RestoreDestination.entries(workPath)) ?? [] where name != "lost+found" {
        try? FileManager.default.removeItem(atPath: workPath + "/" + name)
      }
    }
  }

  /// A link to a folder stands for that folder: put in the link's place, the data would be on another disk.
  private static func followingLink(_ path: String) -> String {
    var (own, behind) = (stat(), stat())
    guard lstat(path, &own) == 0, own.st_mode & S_IFMT == S_IFLNK, stat(path, &behind) == 0,
      behind.st_mode & S_IFMT == S_IFDIR, let resolved = realpath(path, nil)
    else { return path }
    defer { free(resolved) }
    return String(cString: resolved)
  }

  private static func entries(_ path: String) throws -> [String]? {
    var status = stat()
    guard lstat(path, &status) == 0 else {
      if errno == ENOENT { return nil }
      throw FileError.make("stat", path)
    }
    do {
      return try FileManager.default.contentsOfDirectory(atPath: path)
    } catch {
      throw DRError(
        .destinationInUse, "the destination cannot be listed as a folder: nothing was touched",
        advice: "name a folder that is absent or empty", object: path, cause: error)
    }
  }

  /// What cannot be renamed is refused before anything is read.
  private static func refuseMountPoint(_ path: String) throws {
    var (own, above) = (stat(), stat())
    let parent = (path as NSString).deletingLastPathComponent
    guard stat(path, &own) == 0, stat(parent, &above) == 0, own.st_dev != above.st_dev else { return }
    throw DRError(
      .destinationInUse, "the destination is a mount point that holds something, which cannot be moved aside",
      advice: "restore into a folder below it, or empty it first", object: path)
  }

  /// What restores that were killed have left beside the destination.
  static func leftovers(beside path: String, except own: String) -> [String] {
    let parent = (path as NSString).deletingLastPathComponent
    let start = (path as NSString).lastPathComponent + ".restoring-"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
    return names.filter { $0.hasPrefix(start) }.map { (parent as NSString).appendingPathComponent($0) }
      .filter {
        $0 != own && RestoreMarker.backup(leftIn: $0) != nil && (try? RestoreMarker.refuseRunning(in: $0)) != nil
      }
      .sorted()
  }

  private static func refuseRunningServer(_ path: String) throws {
    guard let text = try? String(contentsOfFile: path + "/postmaster.pid", encoding: .utf8),
      let pid = text.split(separator: "\n").first.flatMap({ Int32($0) }), pid > 0
    else { return }
    guard kill(pid, 0) == 0 || errno == EPERM else { return }
    throw DRError(
      .destinationInUse, "a server (process \(pid)) runs on the destination: nothing was touched",
      advice: "stop it with pg_ctl stop, or restore elsewhere", object: path)
  }

  private static func createParents(of path: String) throws {
    let parent = (path as NSString).deletingLastPathComponent
    do {
      try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
    } catch {
      throw DRError(.notWritable, "the folder above the destination cannot be created", object: parent, cause: error)
    }
  }

  private static func create(_ path: String) throws {
    guard mkdir(path, 0o700) == 0 else { throw FileError.make("mkdir", path) }
  }
}
