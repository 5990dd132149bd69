import DRCore
import DRPostgres
import DRSandbox
import ExampleSupport
import Foundation

/// Where a drill keeps everything: the repository, the key, the restored data folders, a copy of `dr-wal`, and its record.
///
/// When root runs the drill, the servers run as an unprivileged user, who must reach `dr-wal`, read the repository and the
/// key: so these belong to him.
struct DrillFolder: Sendable {
  let path: String
  let user: ServerUser?
  private let claim: FolderClaim

  var repository: String { path + "/repository" }
  var program: String { path + "/bin/dr-wal" }
  var configuration: String { path + "/dr-wal.json" }
  var identity: String { path + "/identity.txt" }
  /// Of the second tier.
  var credentials: String { path + "/s3-credentials" }
  /// What a resumed drill goes on with.
  var record: DrillFolderRecord { DrillFolderRecord(path: path + "/record") }

  init() throws {
    user = try ServerUser.needed("postgres")
    AbandonedDrills.remove()
    path = FileManager.default.temporaryDirectory.path + "/dr-drill-" + UUID().uuidString.prefix(8)
    try DrillFolder.make(path, mode: 0o711)
    claim = try FolderClaim.make(path)
    try DrillFolder.make(record.path, mode: 0o700)
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

  /// That of a drill that was killed.
  ///
  /// - Throws: ``DRError``: `objectNotFound` for a folder that is none of a drill; `destinationInUse` if the drill still runs;
  ///   `targetUnreachable` if it was killed before its disaster.
  init(resuming folder: String) throws {
    user = try ServerUser.needed("postgres")
    path = URL(fileURLWithPath: folder).standardizedFileURL.path
    var status = stat()
    // Nobody else may have laid it out.
    guard lstat(path, &status) == 0, mode_t(status.st_mode) & S_IFMT == S_IFDIR, status.st_uid == geteuid(),
      mode_t(status.st_mode) & 0o022 == 0, FileManager.default.fileExists(atPath: path + "/record")
    else {
      throw DRError(
        .objectNotFound, "no drill has its folder there",
        advice: "a drill says at its start where its folder is; one that ended in good order has none any more",
        object: path)
    }
    claim = try FolderClaim.take(path)
    guard record.holds(DrillFolderRecord.memory) else {
      throw DRError(
        .targetUnreachable,
        "this drill was killed before its disaster was on record: its servers are gone with it, and there is nothing to bring back",
        advice: "begin anew: the next drill removes what this one has left", object: path)
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
  func keep() { try? FileManager.default.removeItem(atPath: path + "/" + FolderClaim.file) }

  func remove() throws { try AbandonedDrills.remove(path) }

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
