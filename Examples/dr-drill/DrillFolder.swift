import DRCore
import DRPostgres
import DRSandbox
import ExampleSupport
import Foundation

/// Where a drill keeps everything: the repository, the key, the restored data folders, and a copy of `dr-wal`.
///
/// When root runs the drill, the servers run as an unprivileged user, who must reach `dr-wal`, read the repository and the
/// key: so these belong to him.
struct DrillFolder: Sendable {
  let path: String
  let user: ServerUser?

  var repository: String { path + "/repository" }
  var program: String { path + "/bin/dr-wal" }
  var configuration: String { path + "/dr-wal.json" }
  var identity: String { path + "/identity.txt" }
  /// Of the second tier.
  var credentials: String { path + "/s3-credentials" }

  init() throws {
    user = try ServerUser.needed("postgres")
    DrillFolder.removeAbandoned()
    path = FileManager.default.temporaryDirectory.path + "/dr-drill-" + UUID().uuidString.prefix(8)
    try DrillFolder.make(path, mode: 0o711)
    try Data("\(getpid())".utf8).write(to: URL(fileURLWithPath: path + "/" + DrillFolder.owner))
    try DrillFolder.make(repository, mode: 0o700)
    try give(repository)
    try DrillFolder.make(path + "/bin", mode: 0o755)
    // The server's user may not reach the folder that this program was built in.
    let source = DrillFolder.besideThisProgram("dr-wal")
    do {
      try FileManager.default.copyItem(atPath: source, toPath: program)
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
    } catch {
      throw DRError(
        .programFailed, "dr-wal is not beside dr-drill", advice: "build it: swift build -c release", object: source,
        cause: error)
    }
  }

  /// Writes a file that only the server's user can read.
  func write(_ text: String, to file: String) throws {
    guard
      FileManager.default.createFile(
        atPath: file, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600])
    else { throw DRError(.notWritable, "a file of the drill cannot be written", object: file) }
    try give(file)
  }

  /// Keeps the folder when later drills clean up.
  func keep() { try? FileManager.default.removeItem(atPath: path + "/" + DrillFolder.owner) }

  /// The file that says which process a folder belongs to; a folder that was kept has none.
  private static let owner = "owner.pid"

  /// Removes what drills that were killed have left.
  private static func removeAbandoned() {
    let parent = FileManager.default.temporaryDirectory.path
    for name in (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? [] where name.hasPrefix("dr-drill-") {
      let folder = parent + "/" + name
      guard let text = try? String(contentsOfFile: folder + "/" + owner, encoding: .utf8), let pid = Int32(text),
        pid > 0,
        kill(pid, 0) != 0, errno == ESRCH
      else { continue }
      try? FileManager.default.removeItem(atPath: folder)
    }
  }

  func remove() { try? FileManager.default.removeItem(atPath: path) }

  private func give(_ path: String) throws {
    guard let user else { return }
    guard chown(path, user.userID, user.groupID) == 0 else {
      throw DRError(.notWritable, "a file of the drill cannot be given to \(user.name)", object: path)
    }
  }

  private static func make(_ path: String, mode: mode_t) throws {
    guard mkdir(path, 0o700) == 0, chmod(path, mode) == 0 else {
      throw DRError(.notWritable, "a folder of the drill cannot be made", object: path)
    }
  }

  private static func besideThisProgram(_ name: String) -> String {
    let this =
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    return (this as NSString).deletingLastPathComponent + "/" + name
  }
}
