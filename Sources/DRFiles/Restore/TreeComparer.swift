import DRCore
import DRStorage
import Foundation
import NIOCore

/// Compares a tree with what lies in a folder, and writes nothing.
///
/// Blocking. `@unchecked Sendable`: one task uses it at a time, on its `BlockingExecutor`.
final class TreeComparer: TreeSink, @unchecked Sendable {
  private let chain: FolderChain?
  private let judge: SecretJudge
  private let policy: AttributePolicy
  private var archive: TreeArchive
  private var entries: [[UInt8]: FileTreeDiff.Entry] = [:]
  private var same = 0
  private var current: Reading?
  private var scratch = [UInt8](repeating: 0, count: 1 << 16)

  private struct Reading {
    var content: ContentCursor
    /// Nil: it need not be read, for it differs already.
    var file: Descriptor?
    var status: FileStatus?
    /// Up to where the file was compared.
    var position: Int64 = 0

    var member: TarMember { content.member }
  }

  /// - Parameter root: Nil: there is nothing yet.
  init(
    root: Descriptor?, object: String, selection: PathSelection, judge: SecretJudge, policy: AttributePolicy,
    foldsCase: Bool
  ) {
    chain = root.map { FolderChain(root: $0) }
    archive = TreeArchive(object: object, foldsCase: foldsCase, selection: selection)
    self.judge = judge
    self.policy = policy
  }

  func write(_ frame: ByteBuffer) throws { try archive.read(frame, into: self) }

  func finish() throws -> FileTreeDiff {
    try archive.finish()
    var diff = FileTreeDiff()
    diff.entries = entries.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map(\.value)
    diff.same = same
    return diff
  }

  func folder(_ member: TarMember, isSelected: Bool) throws {
    guard isSelected else { return }
    guard let (_, status) = try found(member) else { return note(member, .added) }
    guard status.kind == .folder, let folder = try chain?.folder(member.rawPath) else {
      return note(member, .conflict, "\(status.kind.text) is there")
    }
    let attributes = policy.attributes(of: member, isSecret: false)
    let present = try reading(member.rawPath) { try ExtendedAttributes.all(folder) }
    let differences = attributes.differences(from: status, present)
    if differences.isEmpty { same += 1 } else { note(member, .attributes, differences.joined(separator: ", ")) }
  }

  func begin(_ member: TarMember, isRepeated: Bool) throws {
    if isRepeated, entries.removeValue(forKey: member.rawPath) == nil { same -= 1 }
    var now = Reading(content: ContentCursor(member))
    defer { current = now }
    guard let (folder, status) = try found(member) else { return note(member, .added) }
    guard status.kind == .file else {
      return note(member, status.kind == .folder ? .conflict : .content, "\(status.kind.text) is there")
    }
    now.status = status
    guard status.size == member.length else {
      return note(member, .content, "\(status.size) bytes instead of \(member.length)")
    }
    now.file = try reading(member.rawPath) { try folder.file(FileName.last(member.rawPath)) }
  }

  func data(_ slice: ByteBuffer) throws {
    guard var now = current else { return }
    defer { current = now }
    try slice.withUnsafeReadableBytes { bytes in
      now.content.scan(bytes)
      guard let file = now.file else { return }
      var rest = bytes
      while !rest.isEmpty {
        guard let (offset, part) = now.content.next(of: &rest) else { return }
        let areSame = try zeroes(file, now.position..<offset) && equal(file, offset, part)
        guard areSame else {
          now.file = nil
          return note(now.member, .content)
        }
        now.position = offset + Int64(part.count)
      }
    }
  }

  func end() throws {
    guard let now = current else { return }
    current = nil
    guard let file = now.file, let status = now.status else { return }
    guard try zeroes(file, now.position..<now.member.length) else { return note(now.member, .content) }
    let isSecret = now.content.holdsSecret || judge.isSecret(now.member.rawPath)
    let present = try reading(now.member.rawPath) { try ExtendedAttributes.all(file) }
    let differences = policy.attributes(of: now.member, isSecret: isSecret).differences(from: status, present)
    if differences.isEmpty { same += 1 } else { note(now.member, .attributes, differences.joined(separator: ", ")) }
  }

  func symbolicLink(_ member: TarMember) throws {
    guard let (folder, status) = try found(member) else { return note(member, .added) }
    guard status.kind == .symbolicLink else {
      return note(member, status.kind == .folder ? .conflict : .content, "\(status.kind.text) is there")
    }
    let target = try reading(member.rawPath) {
      try folder.linkTarget(FileName.last(member.rawPath))
    }
    guard target == member.rawLinkTarget else { return note(member, .content, "points to \(FileName.text(target))") }
    let differences = policy.attributes(of: member, isSecret: false).differences(from: status, [])
    if differences.isEmpty { same += 1 } else { note(member, .attributes, differences.joined(separator: ", ")) }
  }

  func hardLink(_ member: TarMember) throws {
    guard let (_, status) = try found(member) else { return note(member, .added) }
    let target = member.rawLinkTarget ?? []
    if entries[target] == nil, let folder = try chain?.folder(FileName.parent(target)),
      try folder.statusIfPresent(FileName.last(target))?.identity == status.identity
    {
      same += 1
    } else if status.kind == .folder {
      note(member, .conflict, "\(status.kind.text) is there")
    } else {
      note(member, .content, "a further name of \(FileName.text(target))")
    }
  }

  /// What lies in a member's place.
  private func found(_ member: TarMember) throws -> (folder: Descriptor, status: FileStatus)? {
    guard let chain else { return nil }
    return try reading(member.rawPath) {
      if member.rawPath.isEmpty { return (chain.root, try chain.root.fileStatus()) }
      guard let folder = try chain.folder(FileName.parent(member.rawPath)) else { return nil }
      return try folder.statusIfPresent(FileName.last(member.rawPath)).map { (folder, $0) }
    }
  }

  private func note(_ member: TarMember, _ change: FileTreeDiff.Change, _ detail: String = "") {
    let path = member.rawPath.isEmpty ? "." : FileName.text(member.rawPath)
    entries[member.rawPath] = FileTreeDiff.Entry(path: path, change: change, detail: detail)
  }

  private func equal(_ file: Descriptor, _ offset: Int64, _ bytes: UnsafeRawBufferPointer) throws -> Bool {
    var done = 0
    while done < bytes.count {
      let count = min(scratch.count, bytes.count - done)
      let position = offset + Int64(done)
      let got = try scratch.withUnsafeMutableBytes { memory in
        try file.read(at: position, into: UnsafeMutableRawBufferPointer(rebasing: memory[..<count]))
      }
      guard got == count,
        scratch.withUnsafeBytes({ memory in
          guard let left = memory.baseAddress, let right = bytes.baseAddress else { return false }
          return memcmp(left, right + done, count) == 0
        })
      else { return false }
      done += count
    }
    return true
  }

  private func zeroes(_ file: Descriptor, _ range: Range<Int64>) throws -> Bool {
    var position = range.lowerBound
    while position < range.upperBound {
      let count = Int(min(Int64(scratch.count), range.upperBound - position))
      let offset = position
      let got = try scratch.withUnsafeMutableBytes { memory in
        try file.read(at: offset, into: UnsafeMutableRawBufferPointer(rebasing: memory[..<count]))
      }
      guard got == count, scratch[..<count].allSatisfy({ $0 == 0 }) else { return false }
      position += Int64(count)
    }
    return true
  }

  private func reading<Result>(_ path: [UInt8], _ work: () throws -> Result) throws -> Result {
    do {
      return try work()
    } catch let error as SystemError {
      throw error.reading(path)
    }
  }
}
