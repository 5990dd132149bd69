import DRCore
import NIOCore

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// The root folder of a local tier, and the marker by which it is known.
///
/// A volume that is not mounted leaves an empty folder in its place. To look there would find no object, and to write
/// there would fill the wrong disk. So the root holds a small file with a random identity, and every operation compares
/// it first: no marker, or another one, means that the tier cannot be reached.
struct LocalRoot: Sendable {
  /// Also ``LocalTier/marker``.
  static let marker = ".dr-tier"

  /// Absolute.
  let path: String
  let identity: String

  var tier: String { "local:\(path)" }

  /// Finds the root, or makes it when told to.
  init(path: String, creating: Bool, adopting: Bool = false) throws {
    self.path = path
    if creating { try LocalRoot.create(path) }
    let folder = try LocalRoot.folder(path)
    if creating {
      if !adopting { try LocalRoot.refuseForeign(folder, path) }
      try LocalRoot.createMarker(in: folder, path)
    }
    identity = try LocalRoot.readMarker(in: folder, path)
  }

  /// Opens the root for one operation, having made sure that it is this tier's.
  func open() throws -> OpenFolder {
    let folder = try LocalRoot.folder(path)
    guard try LocalRoot.readMarker(in: folder, path) == identity else {
      throw DRError(
        .tierUnavailable, "\(path) holds another tier than when it was opened",
        advice: "mount the right volume, or open the tier again if the change was meant")
    }
    var owner: OpenFolder.Owner?
    if geteuid() == 0 {
      let status = try folder.status()
      owner = OpenFolder.Owner(user: status.user, group: status.group)
    }
    return OpenFolder(chain: [folder], names: [], owner: owner)
  }

  private static func folder(_ path: String) throws -> Descriptor {
    guard
      let folder = try allowing(ENOENT, ENOTDIR, call: { () throws(SystemError) in try Descriptor.folder(path: path) })
    else {
      throw DRError(
        .tierUnavailable, "there is no folder \(path)",
        advice: "is the volume mounted? A new tier must be created first")
    }
    return folder
  }

  /// Creates the folder and those above it, and makes each durable.
  private static func create(_ path: String) throws {
    var made = ""
    for component in path.split(separator: "/") {
      let parent = made.isEmpty ? "/" : made
      made += "/\(component)"
      // Looked at first: where nothing may be written, mkdir says so even of a folder that is there.
      if access(made, F_OK) == 0 { continue }
      try allowing(EEXIST) { () throws(SystemError) in
        try systemCall("mkdir") { mkdir(made, Descriptor.folderMode) }
      }
      try Descriptor.folder(path: parent).syncFolder()
    }
  }

  /// A folder without a marker that holds something is another one than meant, or has lost its marker: which of the two, only
  /// a person knows.
  private static func refuseForeign(_ folder: Descriptor, _ path: String) throws {
    let names = try folder.entries().map(\.name)
    let foreign = names.filter { $0 != "lost+found" && !$0.hasPrefix(ObjectKey.temporaryPrefix) }
    guard !names.contains(marker), let first = foreign.min() else { return }
    // Another process may have made it while this looked, and stored something.
    guard try allowing(ENOENT, call: { () throws(SystemError) in try folder.status(marker) }) == nil else { return }
    throw DRError(
      .invalidConfiguration,
      "\(path) holds \(foreign.count) entries ('\(first.prefix(80))') and no marker \(marker) of a tier: nothing was touched",
      advice:
        "give a folder that is empty or not there. If this is a repository whose marker was lost, and on the right "
        + "volume, adopt it: init --adopt")
  }

  /// Leaves the marker of another process alone: of two creators one wins, and both read the same identity.
  private static func createMarker(in folder: Descriptor, _ path: String) throws {
    guard try allowing(ENOENT, call: { () throws(SystemError) in try folder.status(marker) }) == nil else { return }
    let temporary = temporaryName()
    let file = try folder.createFile(temporary)
    do {
      if geteuid() == 0 {
        let owner = try folder.status()
        try file.give(to: owner.user, owner.group)
      }
      try file.write(ByteBuffer(string: RandomName.hex() + "\n"))
      try file.sync()
      try allowing(EEXIST) { () throws(SystemError) in try folder.link(temporary, to: marker) }
    } catch {
      try? folder.unlink(temporary)
      throw error
    }
    try folder.unlink(temporary)
    try folder.syncFolder()
  }

  private static func readMarker(in folder: Descriptor, _ path: String) throws -> String {
    guard let file = try allowing(ENOENT, call: { () throws(SystemError) in try folder.openFile(marker) }) else {
      throw DRError(
        .tierUnavailable, "\(path) does not hold the marker \(marker) of a tier",
        advice: "is the volume mounted? A new tier must be created first")
    }
    let text = String(buffer: try file.read(at: 0, count: 64)).trimmingSuffix(while: \.isNewline)
    guard text.utf8.count == 32 else {
      throw DRError(
        .tierUnavailable, "the marker \(marker) in \(path) is damaged",
        advice: "look at the disk; if it is the right one, remove the marker and adopt the folder: init --adopt")
    }
    return String(text)
  }

  /// A name that no object can have.
  static func temporaryName() -> String { ObjectKey.temporaryPrefix + RandomName.hex() }
}

extension String {
  fileprivate func trimmingSuffix(while predicate: (Character) -> Bool) -> Substring {
    var end = endIndex
    while end > startIndex, predicate(self[index(before: end)]) { end = index(before: end) }
    return self[..<end]
  }
}

extension LocalTier {
  /// The name of the file by which a folder is known as a tier's root.
  package static var marker: String { LocalRoot.marker }
}
