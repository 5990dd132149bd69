import DRCore
import Foundation
package import Logging

/// The folder of one sandbox, and the claim to it.
///
///     drpg-k3F9xQ/          its kind's prefix; 0700, or 0711 when the server runs as another user
///       owner.json          locked (`flock`) for as long as the process that made it lives
///       data/               the data folder, unless it is the caller's
///       run/                0700, the server's: socket, log, configuration
///
/// The kernel drops the lock when the process ends in whatever way. So a home whose lock can be had is abandoned, and
/// nothing depends on process numbers, which are used again. The name is in the command line or the title of each of the
/// server's processes, which is how they are found.
package final class SandboxHome: Sendable {
  /// What the homes of one kind of server have in common.
  package struct Kind: Sendable {
    /// What their names start with, for example `drpg-`.
    package var prefix: String
    /// Ends every process of an abandoned sandbox's server.
    package var endServers: @Sendable (Remains) throws -> Void

    package init(prefix: String, endServers: @escaping @Sendable (Remains) throws -> Void) {
      self.prefix = prefix
      self.endServers = endServers
    }
  }

  /// An abandoned home.
  package struct Remains: Sendable {
    package var name: String
    package var runFolder: String
    package var dataFolder: String

    package init(name: String, runFolder: String, dataFolder: String) {
      self.name = name
      self.runFolder = runFolder
      self.dataFolder = dataFolder
    }
  }

  package let path: String
  private let lock: Int32

  package var name: String { (path as NSString).lastPathComponent }
  package var runFolder: String { "\(path)/run" }
  package var ownDataFolder: String { "\(path)/data" }

  /// What the file says to the person who finds it; only `dataFolder` is read.
  private struct Owner: Codable {
    var process: Int32
    var dataFolder: String
    var made: Date
  }

  /// Makes a home under the first folder that will do.
  ///
  /// - Parameter dataFolder: The caller's data folder; nil: the home's own.
  /// - Throws: ``DRError``: `notWritable`, `invalidConfiguration`.
  package init(_ kind: Kind, under parent: String, dataFolder: String? = nil, user: ServerUser?) throws {
    var template = Array("\(parent)/\(kind.prefix)XXXXXX".utf8CString)
    guard let made = mkdtemp(&template) else {
      throw DRError(.notWritable, "no sandbox folder can be made: \(lastError())", object: parent)
    }
    path = String(cString: made)
    do {
      let unfinished = "\(path)/owner.json.new"
      lock = open(unfinished, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
      guard lock >= 0 else { throw DRError(.notWritable, "no file can be made: \(lastError())", object: path) }
      guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
        throw DRError(.notWritable, "the sandbox folder cannot be locked: \(lastError())", object: path)
      }
      let owner = Owner(process: getpid(), dataFolder: dataFolder ?? "\(path)/data", made: Date())
      let encoder = JSONEncoder()
      encoder.dateEncodingStrategy = .iso8601
      try FileHandle(fileDescriptor: lock, closeOnDealloc: false).write(contentsOf: encoder.encode(owner))
      // Only now does it have its name: whoever sees it sees it locked.
      guard rename(unfinished, "\(path)/owner.json") == 0 else {
        throw DRError(.notWritable, "the sandbox folder cannot be claimed: \(lastError())", object: path)
      }
      for folder in ["\(path)/run"] + (dataFolder == nil ? ["\(path)/data"] : []) {
        guard mkdir(folder, 0o700) == 0 else {
          throw DRError(.notWritable, "no folder can be made: \(lastError())", object: folder)
        }
        try user?.own(folder)
      }
      guard user == nil || chmod(path, 0o711) == 0 else {
        throw DRError(.notWritable, "the folder's mode cannot be set: \(lastError())", object: path)
      }
    } catch {
      try? FileManager.default.removeItem(atPath: path)
      throw error
    }
  }

  deinit { if lock >= 0 { close(lock) } }

  /// Removes it, the claim last: a process that is killed meanwhile leaves what the next one knows for abandoned. May be called again.
  package func remove() throws { try Self.remove(path) }

  private static func remove(_ home: String) throws {
    let manager = FileManager.default
    guard manager.fileExists(atPath: home) else { return }
    for name in try manager.contentsOfDirectory(atPath: home) where name != "owner.json" {
      try manager.removeItem(atPath: "\(home)/\(name)")
    }
    try manager.removeItem(atPath: home)
  }

  /// Where a home can be: short enough for a socket in it, and to be entered by the server's user.
  package static func parent(_ wanted: String?, user: ServerUser?) throws -> String {
    let choices = wanted.map { [$0] } ?? [ProcessInfo.processInfo.environment["TMPDIR"] ?? "", "/tmp"]
    for choice in choices where choice.hasPrefix("/") {
      let folder = choice.count > 1 && choice.hasSuffix("/") ? String(choice.dropLast()) : choice
      // A socket's path has 107 bytes (103 on macOS): this leaves room for `/drpg-XXXXXX/run/.s.PGSQL.65535`.
      guard folder.utf8.count <= 64, user?.obstacle(onTheWayTo: folder + "/x") == nil else { continue }
      return folder
    }
    throw DRError(
      .invalidConfiguration, "no folder for a sandbox among: \(choices.filter { !$0.isEmpty }.joined(separator: ", "))",
      advice: "name one by an absolute path of at most 64 bytes"
        + (user.map { " that the user \($0.name) may enter" } ?? ""))
  }

  /// Ends the servers and removes the homes whose processes are gone.
  ///
  /// Only folders and files of this process's own user are looked at, so that nobody else can point this at a server
  /// by laying out a folder.
  ///
  /// - Returns: The homes that were removed.
  package static func removeAbandoned(_ kind: Kind, under parent: String, logger: Logger) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
    return names.filter { $0.hasPrefix(kind.prefix) }.compactMap { name in
      let home = "\(parent)/\(name)"
      guard isMine(home, S_IFDIR), let dataFolder = abandonedDataFolder(home) else { return nil }
      defer { if dataFolder.lock >= 0 { close(dataFolder.lock) } }
      do {
        try kind.endServers(Remains(name: name, runFolder: "\(home)/run", dataFolder: dataFolder.path))
        try remove(home)
        logger.info("removed an abandoned sandbox", metadata: ["sandbox.folder": "\(home)"])
        return home
      } catch {
        logger.info(
          "an abandoned sandbox could not be removed",
          metadata: ["sandbox.folder": "\(home)", "error": "\(error)"])
        return nil
      }
    }
  }

  /// The data folder of a home that nobody holds, with the lock that now is ours; nil if somebody does.
  private static func abandonedDataFolder(_ home: String) -> (path: String, lock: Int32)? {
    let file = open("\(home)/owner.json", O_RDWR | O_NOFOLLOW | O_CLOEXEC)
    guard file >= 0 else {
      // A process that died while it made the home, unless it is about to claim it now.
      var status = stat()
      guard errno == ENOENT, stat(home, &status) == 0 else { return nil }
      return time(nil) - modified(status) > 3600 ? ("\(home)/data", -1) : nil
    }
    guard isMine("\(home)/owner.json", S_IFREG), flock(file, LOCK_EX | LOCK_NB) == 0 else {
      close(file)
      return nil
    }
    let data = try? FileHandle(fileDescriptor: file, closeOnDealloc: false).readToEnd()
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    let owner = data.flatMap { try? decoder.decode(Owner.self, from: $0) }
    return (owner?.dataFolder ?? "\(home)/data", file)
  }

  private static func isMine(_ path: String, _ kind: mode_t) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0 && mode_t(status.st_mode) & S_IFMT == kind && status.st_uid == geteuid()
  }

  private static func modified(_ status: stat) -> Int {
    #if canImport(Darwin)
      status.st_mtimespec.tv_sec
    #else
      status.st_mtim.tv_sec
    #endif
  }
}
