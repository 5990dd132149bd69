import DRCore
import DRStorage
import Foundation
import NIOCore

/// The files of a restore: written beside those of the server, then put in their place.
///
/// Blocking. `@unchecked Sendable`: one task uses it at a time, on its ``BlockingExecutor``.
final class RedisDataFiles: @unchecked Sendable {
  /// Files that were written.
  private(set) var count = 0
  /// What restores that were killed have left in the data folder, and maybe one that still runs.
  let leftovers: [String]

  private let layout: RedisDataLayout
  private let stamp: String
  private let attributes: FileAttributes
  /// What the restore makes, as a path, and the name that it takes in the end.
  private let work: String
  private let name: String
  private let nodesWork: String
  private let createdFolder: Bool
  private var hasChanges = false
  private var descriptor: Int32
  private let disk = DiskWriter()
  private var isPlaced = false

  init(_ layout: RedisDataLayout, owner: String?, now: Date) throws {
    try layout.check()
    self.layout = layout
    switch layout.appendOnly {
    case .off: name = layout.dumpFile
    case .folder: name = layout.appendFolder
    case .singleFile: name = layout.appendFile
    }
    stamp = RedisDataFiles.stamp(now, in: layout, name)
    work = "\(layout.folder)/\(name).restoring-\(stamp)"
    nodesWork = "\(layout.folder)/\(layout.clusterFile).restoring-\(stamp)"
    try RedisDataFiles.refuseRunningServer(layout.folder)
    if let tier = LocalTier.enclosing(layout.folder) {
      throw DRError(
        .destinationInUse, "the data folder lies in the repository \(tier): nothing was touched",
        advice: "restore into a folder of its own", object: layout.folder)
    }
    attributes = try FileAttributes(layout, name: name, owner: owner)
    leftovers = RedisDataFiles.leftovers(in: layout, except: [work, nodesWork])
    createdFolder = try RedisDataFiles.makeFolder(layout.folder, attributes)
    let path: String
    if layout.appendOnly == .folder {
      guard mkdir(work, 0o700) == 0 else {
        let error = FileFailure.make("mkdir", work)
        if createdFolder { rmdir(layout.folder) }
        throw error
      }
      path = "\(work)/\(layout.appendFile).1.base.rdb"
    } else {
      path = work
    }
    descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      let error = FileFailure.make("create", path)
      if layout.appendOnly == .folder { rmdir(work) }
      if createdFolder { rmdir(layout.folder) }
      throw error
    }
    disk.begin(descriptor, expecting: .max)
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// The second, with a number if a restore of the same second has left something under it.
  private static func stamp(_ now: Date, in layout: RedisDataLayout, _ name: String) -> String {
    let second = Timestamp.compact(now)
    let names = Set(layout.loadable + [name, layout.clusterFile])
    func isTaken(_ stamp: String) -> Bool {
      names.contains { name in
        ["restoring", "before"].contains { FileFailure.exists("\(layout.folder)/\(name).\($0)-\(stamp)") }
      }
    }
    var (stamp, number) = (second, 1)
    while isTaken(stamp) {
      number += 1
      stamp = "\(second)-\(number)"
    }
    return stamp
  }

  private static func leftovers(in layout: RedisDataLayout, except own: [String]) -> [String] {
    let starts = [layout.dumpFile, layout.appendFolder, layout.appendFile, layout.clusterFile].map {
      "\($0).restoring-"
    }
    let names = (try? FileManager.default.contentsOfDirectory(atPath: layout.folder)) ?? []
    return names.filter { name in starts.contains { name.hasPrefix($0) } }.map { "\(layout.folder)/\($0)" }
      .filter { !own.contains($0) }.sorted()
  }

  func write(_ frame: ByteBuffer) throws {
    try FileFailure.files.writing(work) { () throws(DiskWriter.Failure) in try disk.write(frame) }
  }

  /// Says that the snapshot is whole and the changes after it follow: in a file of their own, where there is one.
  func beginChanges() throws {
    hasChanges = true
    guard layout.appendOnly == .folder else { return }
    try closeFile()
    let path = "\(work)/\(layout.appendFile).1.incr.aof"
    descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw FileFailure.make("create", path) }
    disk.begin(descriptor, expecting: .max)
  }

  private func closeFile() throws {
    try FileFailure.files.writing(work) { () throws(DiskWriter.Failure) in try disk.end() }
    try settle(descriptor, work)
    close(descriptor)
    descriptor = -1
    count += 1
  }

  /// Makes everything durable and puts it in its place. Returns where that which was there is now.
  ///
  /// - Parameter nodes: What a node of a cluster knows of the others, for its own file.
  func commit(nodes: ByteBuffer? = nil) throws -> [String] {
    try closeFile()
    if let nodes { try create(nodesWork, nodes) }
    if layout.appendOnly == .folder {
      // The increments that the server goes on with, and the list of both. The list ends in a newline, or is refused.
      if !hasChanges { try create("\(work)/\(layout.appendFile).1.incr.aof", ByteBuffer()) }
      try create(
        "\(work)/\(layout.appendFile).manifest",
        ByteBuffer(
          string: """
            file \(layout.appendFile).1.base.rdb seq 1 type b
            file \(layout.appendFile).1.incr.aof seq 1 type i

            """))
      guard chmod(work, mode_t(attributes.folderMode)) == 0 else { throw FileFailure.make("chmod", work) }
      try attributes.own(path: work)
      try FileFailure.syncFolder(work)
    }
    try RedisDataFiles.refuseRunningServer(layout.folder)
    var aside: [String] = []
    if nodes != nil {
      // First: a node that starts with its old name and the new data is refused by nobody.
      let path = "\(layout.folder)/\(layout.clusterFile)"
      if FileFailure.exists(path) {
        guard rename(path, "\(path).before-\(stamp)") == 0 else { throw FileFailure.make("rename", path) }
        aside.append("\(path).before-\(stamp)")
      }
      guard rename(nodesWork, path) == 0 else { throw FileFailure.make("rename", path) }
    }
    if let former = try place() { aside.append(former) }
    // What a server would load if its settings were changed: stale from now on.
    for other in layout.loadable where other != name {
      let path = "\(layout.folder)/\(other)"
      guard FileFailure.exists(path) else { continue }
      guard rename(path, "\(path).before-\(stamp)") == 0 else { throw FileFailure.make("rename", path) }
      aside.append("\(path).before-\(stamp)")
    }
    try FileFailure.syncFolder(layout.folder)
    return aside
  }

  /// Removes what a failed restore wrote. What is in its place already stays.
  func discard() {
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
    guard !isPlaced else { return }
    try? FileManager.default.removeItem(atPath: work)
    unlink(nodesWork)
    if createdFolder { rmdir(layout.folder) }
  }

  /// Gives the new data its name. There is no moment without either the old or the new data under it, where the system
  /// can do that.
  private func place() throws -> String? {
    let path = "\(layout.folder)/\(name)"
    let former = "\(path).before-\(stamp)"
    guard FileFailure.exists(path) else {
      guard rename(work, path) == 0 else { throw FileFailure.make("rename", path) }
      isPlaced = true
      return nil
    }
    if AtomicExchange.exchange(work, path) {
      isPlaced = true
      guard rename(work, former) == 0 else { throw FileFailure.make("rename", work) }
      return former
    }
    guard rename(path, former) == 0 else { throw FileFailure.make("rename", path) }
    guard rename(work, path) == 0 else {
      let error = FileFailure.make("rename", work)
      // Back as it was.
      _ = rename(former, path)
      throw error
    }
    isPlaced = true
    return former
  }

  private func create(_ path: String, _ content: ByteBuffer) throws {
    let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw FileFailure.make("create", path) }
    defer { close(file) }
    disk.begin(file, expecting: Int64(content.readableBytes))
    try FileFailure.files.writing(path) { () throws(DiskWriter.Failure) in
      try disk.write(content)
      try disk.end()
    }
    try settle(file, path)
    count += 1
  }

  private func settle(_ file: Int32, _ path: String) throws {
    guard fchmod(file, mode_t(attributes.fileMode)) == 0 else { throw FileFailure.make("chmod", path) }
    try attributes.own(file, path)
    guard fsync(file) == 0 else { throw FileFailure.make("fsync", path) }
  }

  private static func makeFolder(_ path: String, _ attributes: FileAttributes) throws -> Bool {
    var status = stat()
    if stat(path, &status) == 0 {
      guard status.st_mode & S_IFMT == S_IFDIR else {
        throw DRError(.destinationInUse, "the data folder is no folder", object: path)
      }
      return false
    }
    guard errno == ENOENT else { throw FileFailure.make("stat", path) }
    do {
      try FileManager.default.createDirectory(
        atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    } catch {
      throw DRError(.notWritable, "the folder above the data folder cannot be created", object: path, cause: error)
    }
    guard mkdir(path, 0o700) == 0 else { throw FileFailure.make("mkdir", path) }
    try attributes.own(path: path)
    return true
  }

  /// A server is at home in its data folder: it is its working folder.
  private static func refuseRunningServer(_ folder: String) throws {
    guard let real = realpath(folder, nil) else { return }
    defer { free(real) }
    let path = String(cString: real)
    for process in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
      guard let number = Int32(process), number > 0,
        let place = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(number)/cwd"), place == path,
        let program = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(number)/exe")
      else { continue }
      let name = (program as NSString).lastPathComponent
      // Debian's redis-server is another name of redis-check-rdb.
      guard ["redis", "valkey", "keydb"].contains(where: { name.hasPrefix($0) }) else { continue }
      throw DRError(
        .destinationInUse, "a server (process \(number)) runs on the data folder: nothing was touched",
        advice: "stop it, with SHUTDOWN or by its service manager, and try again", object: folder)
    }
  }
}

/// Exchanges two names in one step.
enum AtomicExchange {
  #if os(Linux)
    private typealias Rename =
      @convention(c) (Int32, UnsafePointer<CChar>, Int32, UnsafePointer<CChar>, UInt32) -> Int32
    private static let renameat2 = dlsym(nil, "renameat2").map { unsafeBitCast($0, to: Rename.self) }
  #endif

  /// Returns false if the system cannot.
  static func exchange(_ one: String, _ other: String) -> Bool {
    #if os(Linux)
      let exchange: UInt32 = 2  // RENAME_EXCHANGE
      return renameat2.map { $0(AT_FDCWD, one, AT_FDCWD, other, exchange) == 0 } ?? false
    #elseif canImport(Darwin)
      return renamex_np(one, other, UInt32(RENAME_SWAP)) == 0
    #else
      return false
    #endif
  }
}
