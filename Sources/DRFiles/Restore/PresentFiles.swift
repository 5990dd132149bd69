import DRCore
import DRStorage
import Foundation

/// The files of a destination, to be compared with what is restored there, so that one that is as it should be is not written again:
/// to write, to sync and to remove as many files takes many times longer than to compare them.
///
/// Of small files only, whose content is held until it is whole. Blocking, and not thread-safe: belongs to one executor.
final class PresentFiles {
  /// A file that may be the one that is restored.
  struct Candidate: Sendable {
    var folder: Descriptor
    var name: [UInt8]
    var status: FileStatus
  }

  private static let largest: Int64 = 8 << 20
  private let chain: FolderChain
  private var scratch: [UInt8] = []

  init(_ root: Descriptor) { chain = FolderChain(root: root) }

  /// The file in a member's place, if it has one name, and the member's length and time; a larger one, or one with holes, is none.
  func candidate(for member: TarMember) throws -> Candidate? {
    guard member.sparse == nil, member.length <= PresentFiles.largest else { return nil }
    let name = FileName.last(member.rawPath)
    do {
      guard let folder = try chain.folder(FileName.parent(member.rawPath)),
        let status = try folder.statusIfPresent(name)
      else { return nil }
      let time = FileStatus.Moment(seconds: member.modified, nanoseconds: member.nanoseconds)
      guard status.kind == .file, status.links == 1, status.size == member.length, status.modified == time else {
        return nil
      }
      return Candidate(folder: folder, name: name, status: status)
    } catch let error as SystemError {
      throw error.restoring(member.rawPath)
    }
  }

  /// Whether it is the file with these attributes and this content. What cannot be told is none.
  func isThere(_ candidate: Candidate, _ attributes: FileAttributes, _ content: UnsafeRawBufferPointer) -> Bool {
    let status = candidate.status
    let owner = attributes.owner ?? (user: geteuid(), group: getegid())
    guard status.mode == attributes.mode, status.userID == owner.user, status.groupID == owner.group else {
      return false
    }
    do {
      let file = try candidate.folder.file(candidate.name)
      guard try file.fileStatus().isSame(as: status) else { return false }
      let known = try ExtendedAttributes.all(file).filter { !FileAttributes.foreign.contains($0.name) }
      guard PresentFiles.table(known) == PresentFiles.table(attributes.extended) else { return false }
      if scratch.count <= content.count { scratch = [UInt8](repeating: 0, count: max(64 << 10, content.count + 1)) }
      return try scratch.withUnsafeMutableBytes { memory in
        let part = UnsafeMutableRawBufferPointer(rebasing: memory[...content.count])
        guard try file.read(at: 0, into: part) == content.count else { return false }
        guard let left = part.baseAddress, let right = content.baseAddress else { return true }
        return memcmp(left, right, content.count) == 0
      }
    } catch {
      return false
    }
  }

  private static func table(_ attributes: [(name: String, value: [UInt8])]) -> [String: [UInt8]] {
    attributes.isEmpty ? [:] : Dictionary(attributes.map { ($0.name, $0.value) }, uniquingKeysWith: { $1 })
  }

  /// Copies a file that was found to be there, with its attributes.
  ///
  /// - Throws: ``DRError`` with `destinationInUse` if it has changed since.
  func copy(_ path: [UInt8], _ status: FileStatus, to new: Descriptor) throws {
    let name = FileName.last(path)
    guard let folder = try chain.folder(FileName.parent(path)), let file = try? folder.file(name) else {
      throw changed(path)
    }
    var content = [UInt8](repeating: 0, count: Int(status.size) + 1)
    let count = try content.withUnsafeMutableBytes { try file.read(at: 0, into: $0) }
    try content.withUnsafeBytes { try new.write(UnsafeRawBufferPointer(rebasing: $0[..<count]), at: 0) }
    let attributes = FileAttributes(
      mode: status.mode, owner: (status.userID, status.groupID), modified: status.modified,
      extended: try ExtendedAttributes.all(file).filter { !FileAttributes.foreign.contains($0.name) })
    try attributes.apply(to: new)
    guard try file.fileStatus().isSame(as: status), Int64(count) == status.size else { throw changed(path) }
  }

  private func changed(_ path: [UInt8]) -> DRError {
    DRError(
      .destinationInUse, "it changed while the restore compared it: nothing was put in place", advice: "restore again",
      object: FileName.text(path))
  }
}
