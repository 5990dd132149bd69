import DRCore
import DRStorage
import Foundation
import NIOCore

/// Writes a tree into a folder that is this restore's own, without the files that lie in the destination already as they should.
///
/// Blocking. `@unchecked Sendable`: one task uses it at a time, on its `BlockingExecutor`.
final class TreeExtractor: TreeSink, @unchecked Sendable {
  private(set) var files = 0
  private(set) var links = 0
  private(set) var bytes: Int64 = 0
  /// Files that are in the destination already, and were not written.
  var kept: Int { unwritten.count }
  /// Folders that were asked for themselves, not only on the way to something.
  private(set) var selectedFolders: Set<[UInt8]> = []
  let policy: AttributePolicy

  private let chain: FolderChain
  private let present: PresentFiles?
  private var unwritten: [[UInt8]: FileStatus] = [:]
  private var hasWritten = false
  private let judge: SecretJudge
  private var archive: TreeArchive
  /// What the archive says of folders; given to those that were made, at the end.
  private var described: [[UInt8]: TarMember] = [:]
  private var made: [[UInt8]] = []
  private var current: Writing?
  /// For less the call costs more than it brings.
  private static let smallestWriteback: Int64 = 128 << 10
  #if os(Linux)
    private let syncsEachFile = false
  #else
    private let syncsEachFile = true
  #endif

  private struct Writing {
    var content: ContentCursor
    /// Nil: it is compared with what is there before it is written, if at all.
    var file: Descriptor?
    var present: PresentFiles.Candidate?
    var held = ByteBuffer()
    /// Bytes of content that came.
    var done: Int64 = 0
    var started: Int64 = 0

    var member: TarMember { content.member }
  }

  init(
    root: Descriptor, object: String, selection: PathSelection, judge: SecretJudge, policy: AttributePolicy,
    foldsCase: Bool, present: PresentFiles? = nil
  ) {
    self.present = present
    chain = FolderChain(root: root)
    archive = TreeArchive(object: object, foldsCase: foldsCase, selection: selection)
    self.judge = judge
    self.policy = policy
  }

  func write(_ frame: ByteBuffer) throws { try archive.read(frame, into: self) }

  /// Settles folders and makes everything durable. To be called once every digest was seen to be right.
  func finish() throws {
    try archive.finish()
    made.append([])
    // From the deepest: what is written into a folder changes its time.
    for path in made.reversed() {
      guard let member = described[path], let folder = try chain.folder(path) else { continue }
      try located(path) {
        try policy.attributes(of: member, isSecret: false).apply(to: folder)
      }
    }
    // Where every file was there, the disk is not waited for.
    guard present == nil || hasWritten else { return }
    guard !syncsEachFile, !DiskSync.syncFileSystem(chain.root.number) else { return }
    if !syncsEachFile { throw SystemError("syncfs").restoring([]) }
  }

  func folder(_ member: TarMember, isSelected: Bool) throws {
    described[member.rawPath] = member
    guard isSelected else { return }
    selectedFolders.insert(member.rawPath)
    _ = try parent(ofChildIn: member.rawPath)
  }

  func begin(_ member: TarMember, isRepeated: Bool) throws {
    if isRepeated {
      files -= 1
      if unwritten.removeValue(forKey: member.rawPath) == nil {
        let folder = try parent(ofChildIn: FileName.parent(member.rawPath))
        try located(member.rawPath) { try folder.unlink(FileName.last(member.rawPath)) }
      }
    }
    var writing = Writing(content: ContentCursor(member))
    writing.present = try present?.candidate(for: member)
    if writing.present == nil { writing.file = try create(member.rawPath) }
    current = writing
  }

  private func create(_ path: [UInt8]) throws -> Descriptor {
    let folder = try parent(ofChildIn: FileName.parent(path))
    hasWritten = true
    return try located(path) { try folder.create(FileName.last(path)) }
  }

  func data(_ slice: ByteBuffer) throws {
    guard var writing = current else { throw DRError(.malformedData, "content without a file") }
    let path = writing.member.rawPath
    try slice.withUnsafeReadableBytes { bytes in
      writing.content.scan(bytes)
      guard let file = writing.file else { return }
      var rest = bytes
      while !rest.isEmpty {
        guard let (offset, part) = writing.content.next(of: &rest) else {
          throw DRError(.malformedData, "content behind a file's end")
        }
        try located(path) { try file.write(part, at: offset) }
      }
    }
    writing.done += Int64(slice.readableBytes)
    bytes += Int64(slice.readableBytes)
    if writing.file == nil { writing.held.writeImmutableBuffer(slice) }
    if let file = writing.file, writing.done - writing.started >= 8 << 20 {
      startWriteback(of: file, &writing)
    }
    current = writing
  }

  /// So that the sync at the end has little left to do: by itself the system waits longer than most restores take.
  private func startWriteback(of file: Descriptor, _ writing: inout Writing) {
    file.startWriteback(offset: writing.started, count: writing.done - writing.started)
    writing.started = writing.done
  }

  func end() throws {
    guard var writing = current else { return }
    current = nil
    let path = writing.member.rawPath
    let isSecret = writing.content.holdsSecret || judge.isSecret(path)
    let attributes = policy.attributes(of: writing.member, isSecret: isSecret)
    files += 1
    if let candidate = writing.present, let present,
      writing.held.withUnsafeReadableBytes({ present.isThere(candidate, attributes, $0) })
    {
      unwritten[path] = candidate.status
      return
    }
    let file = try writing.file ?? create(path)
    let syncs = syncsEachFile
    try located(path) {
      if writing.file == nil { try writing.held.withUnsafeReadableBytes { try file.write($0, at: 0) } }
      if let sparse = writing.member.sparse {
        try systemCall("ftruncate") { ftruncate(file.number, off_t(sparse.length)) }
      }
      try attributes.apply(to: file)
      if syncs { try file.sync() }
    }
    if writing.done - writing.started >= TreeExtractor.smallestWriteback { startWriteback(of: file, &writing) }
  }

  func symbolicLink(_ member: TarMember) throws {
    let name = FileName.last(member.rawPath)
    let folder = try parent(ofChildIn: FileName.parent(member.rawPath))
    let attributes = policy.attributes(of: member, isSecret: false)
    let target = member.rawLinkTarget ?? []
    hasWritten = true
    try located(member.rawPath) {
      try folder.makeSymbolicLink(name, to: target)
      try attributes.apply(toLink: name, in: folder)
    }
    links += 1
  }

  func hardLink(_ member: TarMember) throws {
    let target = member.rawLinkTarget ?? []
    if let status = unwritten.removeValue(forKey: target), let present {
      // It has one name in the destination, and is to have several.
      let file = try create(target)
      try located(target) { try present.copy(target, status, to: file) }
    }
    let source = try parent(ofChildIn: FileName.parent(target))
    let folder = try parent(ofChildIn: FileName.parent(member.rawPath))
    let isSecret = judge.isSecret(member.rawPath)
    try located(member.rawPath) {
      try source.link(FileName.last(target), in: folder, to: FileName.last(member.rawPath))
      let status = try folder.fileStatus(FileName.last(member.rawPath))
      if isSecret, status.kind == .file {
        // The content came under a name that hides what it is.
        let file = try folder.file(FileName.last(member.rawPath))
        try systemCall("fchmod") { fchmod(file.number, mode_t(FileAttributes.secretMode(status.mode))) }
      }
    }
    links += 1
  }

  /// The folder of a path, made if it is missing.
  private func parent(ofChildIn path: [UInt8]) throws -> Descriptor {
    do {
      let folder = try chain.folder(path) { path, _ in self.made.append(path) }
      guard let folder else { throw SystemError("openat", ENOENT) }
      return folder
    } catch let error as SystemError {
      throw error.restoring(path)
    }
  }

  private func located<Result>(
    _ path: [UInt8], _ work: () throws -> Result
  ) throws -> Result {
    do {
      return try work()
    } catch let error as SystemError {
      throw error.restoring(path)
    }
  }
}
