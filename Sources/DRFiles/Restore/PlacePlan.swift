import DRCore
import DRStorage
import Foundation

/// Puts a tree that was written aside in the place of what is there, file by file.
///
/// | killed | is left |
/// | --- | --- |
/// | before the first rename | everything as it was, and perhaps second names of old files in the folder for them |
/// | between two renames | each file either the old or the new one, whole; what was replaced has its second name |
/// | after the last | everything new; of folders perhaps not yet mode, owner and time |
///
/// Another restore goes on from each of them. What is not in the archive stays.
///
/// Blocking, and not thread-safe: belongs to one executor.
struct PlacePlan {
  private enum Step {
    /// It is not there, with all below it.
    case add([UInt8])
    case replace([UInt8])
    /// Of a folder: what it is given at the end.
    case settle([UInt8], FileAttributes)
  }

  /// Of a file with several names: in both trees, and whether all agree.
  private struct Group {
    var paths: [[UInt8]] = []
    var others: Set<FileStatus.Identity> = []
    var differs = false
  }

  private let staged: Descriptor
  private let destination: Descriptor
  private let device: UInt64
  private let settled: Set<[UInt8]>
  private var steps: [Step] = []
  private var groups: [FileStatus.Identity: Group] = [:]
  private(set) var same = 0
  private(set) var added = 0
  private(set) var replaced: [[UInt8]] = []

  /// Compares, and changes nothing.
  ///
  /// - Parameter settled: The folders whose own mode, owner and time are restored.
  /// - Throws: ``DRError``: `destinationInUse` if a folder is in the place of a file or the reverse; `unsupported` if
  ///   there are several file systems.
  init(staged: Descriptor, destination: Descriptor, settled: Set<[UInt8]>) throws {
    self.staged = staged
    self.destination = destination
    self.settled = settled
    device = try destination.fileStatus().identity.device
    try compare(staged, destination, [])
    for group in groups.values {
      if group.differs || group.others.count > 1 {
        steps += group.paths.map { .replace($0) }
      } else {
        same += group.paths.count
      }
    }
    replaced = steps.compactMap { if case .replace(let path) = $0 { path } else { nil } }
      .sorted { $0.lexicographicallyPrecedes($1) }
    if settled.contains([]) { steps.insert(.settle([], try PlacePlan.attributes(of: staged)), at: 0) }
  }

  private mutating func compare(_ staged: Descriptor, _ present: Descriptor, _ path: [UInt8]) throws {
    for name in try staged.names() {
      let path = FileName.join(path, name)
      let new = try staged.fileStatus(name)
      guard let old = try present.statusIfPresent(name) else {
        steps.append(.add(path))
        added += 1
        continue
      }
      guard (new.kind == .folder) == (old.kind == .folder) else {
        throw DRError(
          .destinationInUse, "\(old.kind.text) is in the place of \(new.kind.text): nothing was touched",
          advice: "move it away, or restore into a new folder", object: FileName.text(path))
      }
      if new.kind == .folder {
        guard old.identity.device == device else { throw SystemError("renameat", EXDEV).restoring(path) }
        let folder = try staged.folder(name)
        // Before what is in it, for they are settled in reverse: what happens in a folder changes its time.
        if settled.contains(path) { steps.append(.settle(path, try PlacePlan.attributes(of: folder))) }
        try compare(folder, present.folder(name), path)
        continue
      }
      let isSame = try PlacePlan.isSame(staged, new, present, old, name)
      if new.links > 1 {
        groups[new.identity, default: Group()].paths.append(path)
        groups[new.identity]?.others.insert(old.identity)
        if !isSame || old.links < new.links { groups[new.identity]?.differs = true }
      } else if isSame {
        same += 1
      } else {
        steps.append(.replace(path))
      }
    }
  }

  /// Does it. Returns the name of the folder with what was replaced, if anything was.
  func run(stamp: String) throws -> String? {
    let source = FolderChain(root: staged)
    let target = FolderChain(root: destination)
    let aside = try keepOld(target, stamp)
    var done = 0
    do {
      for step in steps {
        switch step {
        case .add(let path):
          try move(path, source, target) { old, name, folder in
            try PlacePlan.addWritable(name, in: old) { try old.rename(name, in: folder, to: name) }
          }
        case .replace(let path):
          try move(path, source, target) { old, name, folder in try old.rename(name, in: folder, to: name) }
        case .settle: continue
        }
        done += 1
      }
      for case .settle(let path, let attributes) in steps.reversed() {
        guard let folder = try target.folder(path) else { continue }
        do {
          let (status, present) = (try folder.fileStatus(), try ExtendedAttributes.all(folder))
          guard
            status.modified != attributes.modified || !attributes.differences(from: status, present).isEmpty
          else { continue }
          try attributes.apply(to: folder)
          if done == 0 { try folder.syncFolder() }
        } catch {
          throw error.restoring(path)
        }
      }
    } catch var error as DRError {
      error.message += "; \(done) of \(added + replaced.count) changes were made, each whole"
      error.advice = "put that in order and restore again" + (aside.map { ": what was replaced is in \($0)" } ?? "")
      throw error
    }
    if done > 0 { try sync() }
    return aside
  }

  /// Gives everything that will be replaced a second name.
  private func keepOld(_ target: FolderChain, _ stamp: String) throws -> String? {
    guard !replaced.isEmpty else { return nil }
    var name = FileName.asidePrefix + stamp
    var number = 1
    while try !destination.makeFolder([UInt8](name.utf8)) {
      number += 1
      guard number < 1000 else { throw SystemError("mkdirat", EEXIST).restoring(name.utf8) }
      name = FileName.asidePrefix + stamp + "-\(number)"
    }
    let kept = FolderChain(root: try destination.folder([UInt8](name.utf8)))
    for path in replaced {
      let (parent, last) = (FileName.parent(path), FileName.last(path))
      do {
        guard let old = try target.folder(parent), let new = try kept.folder(parent, creating: { _, _ in }) else {
          throw SystemError("openat", ENOENT)
        }
        try old.link(last, in: new, to: last)
      } catch let error as SystemError {
        try? destination.removeTree([UInt8](name.utf8))
        if [EPERM, ENOTSUP, EMLINK, ENOSYS].contains(error.number) {
          throw DRError(
            .notWritable, "the old file cannot be kept by a second name (\(error.call)): nothing was touched",
            advice: "restore as its owner, onto a file system with hard links, or into a new folder",
            object: FileName.text(path))
        }
        throw error.restoring(path)
      }
    }
    try sync()
    return name
  }

  private func move(
    _ path: [UInt8], _ source: FolderChain, _ target: FolderChain,
    _ rename: (Descriptor, [UInt8], Descriptor) throws -> Void
  ) throws {
    let (parent, name) = (FileName.parent(path), FileName.last(path))
    do {
      guard let new = try source.folder(parent), let old = try target.folder(parent) else {
        throw SystemError("openat", ENOENT)
      }
      try rename(new, name, old)
    } catch let error as SystemError {
      throw error.restoring(path)
    }
  }

  /// A folder that its owner may not write cannot be moved by him: its entry for the folder above changes.
  private static func addWritable(_ name: [UInt8], in folder: Descriptor, _ move: () throws -> Void) throws {
    let status = try folder.fileStatus(name)
    guard status.kind == .folder, status.mode & 0o200 == 0 else { return try move() }
    let moved = try folder.folder(name)
    try systemCall("fchmod") { fchmod(moved.number, mode_t(status.mode | 0o700)) }
    try move()
    try systemCall("fchmod") { fchmod(moved.number, mode_t(status.mode)) }
  }

  private func sync() throws {
    #if os(Linux)
      guard DiskSync.syncFileSystem(destination.number) else { throw SystemError("syncfs").restoring([]) }
    #else
      do { try destination.syncFolder() } catch { throw error.restoring([]) }
    #endif
  }

  private static func attributes(of folder: Descriptor) throws(SystemError) -> FileAttributes {
    let status = try folder.fileStatus()
    return FileAttributes(
      mode: status.mode, owner: (status.userID, status.groupID), modified: status.modified,
      extended: try ExtendedAttributes.all(folder).filter { !FileAttributes.foreign.contains($0.name) })
  }

  private static func isSame(
    _ staged: Descriptor, _ new: FileStatus, _ present: Descriptor, _ old: FileStatus, _ name: [UInt8]
  ) throws -> Bool {
    guard new.kind == old.kind, new.modified == old.modified, new.userID == old.userID, new.groupID == old.groupID
    else {
      return false
    }
    if new.kind == .symbolicLink { return try staged.linkTarget(name) == present.linkTarget(name) }
    guard new.kind == .file, new.size == old.size, new.mode == old.mode else { return false }
    let (left, right) = (try staged.file(name), try present.file(name))
    let (first, second) = (try ExtendedAttributes.all(left), try ExtendedAttributes.all(right))
    func compared(_ attributes: [(name: String, value: [UInt8])]) -> [String: [UInt8]] {
      Dictionary(
        attributes.filter { !FileAttributes.foreign.contains($0.name) }.map { ($0.name, $0.value) },
        uniquingKeysWith: { $1 })
    }
    guard compared(first) == compared(second) else { return false }
    return try haveSameContent(left, right, new.size)
  }

  private static func haveSameContent(_ left: Descriptor, _ right: Descriptor, _ size: Int64) throws -> Bool {
    let part = Int(min(size, 256 << 10))
    var (one, other) = ([UInt8](repeating: 0, count: part), [UInt8](repeating: 0, count: part))
    var offset: Int64 = 0
    while offset < size {
      let position = offset
      let count = try one.withUnsafeMutableBytes { try left.read(at: position, into: $0) }
      let got = try other.withUnsafeMutableBytes { try right.read(at: position, into: $0) }
      guard count == got, count > 0, one[..<count] == other[..<count] else { return false }
      offset += Int64(count)
    }
    return true
  }
}
