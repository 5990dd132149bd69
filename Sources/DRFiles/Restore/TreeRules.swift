import DRCore
import Foundation

/// What an archive may do to a folder, decided from its members alone: bytes in, verdicts out.
///
/// ``DRCore/TarReader`` has refused devices, absolute paths and `..`. Here are the tricks that need more than one
/// member: to go through a link, to replace one thing by another, to link to what is not in the archive, names that a
/// file system takes for one.
struct TreeRules {
  /// The most members that an archive may have.
  static let limit = 20_000_000

  private struct Known {
    var kind: TarMember.Kind
    /// As the archive has it; nil: as the key.
    var spelled: [UInt8]?
  }

  private let foldsCase: Bool
  private var known: [[UInt8]: Known] = [:]

  /// - Parameter foldsCase: Whether the file system takes names for one that differ in case or in composition.
  init(foldsCase: Bool) { self.foldsCase = foldsCase }

  /// Takes a member. Returns whether its path was there already: a file that is stored once more replaces the former,
  /// a folder stays.
  ///
  /// - Throws: ``DRError`` with `invalidKey`.
  mutating func admit(_ member: TarMember) throws -> Bool {
    let path = member.rawPath
    if FileName.isOwn(path) { throw refuse(member, "has a name that a restore uses itself") }
    guard path.isEmpty || known.count < TreeRules.limit else { throw refuse(member, "is one of too many") }
    if path.isEmpty { return false }
    try admitParents(of: member)
    switch member.kind {
    case .symbolicLink:
      guard let target = member.rawLinkTarget, !target.isEmpty, !target.contains(0), target.count < 4096 else {
        throw refuse(member, "points nowhere")
      }
    case .hardLink:
      guard let target = member.rawLinkTarget, let known = known[key(target)], (known.spelled ?? target) == target
      else {
        throw refuse(member, "is a hard link to what the archive does not hold before it")
      }
      guard known.kind != .folder else { throw refuse(member, "is a hard link to a folder") }
      guard target != path else { throw refuse(member, "is a hard link to itself") }
    case .file, .folder: break
    }
    let key = key(path)
    guard let former = known[key] else {
      // A further name of a link is a link.
      let kind: TarMember.Kind = member.kind == .hardLink && isLink(member.rawLinkTarget) ? .symbolicLink : member.kind
      known[key] = Known(kind: kind, spelled: foldsCase ? path : nil)
      return false
    }
    guard (former.spelled ?? path) == path else {
      throw refuse(member, "and another path are one for this file system")
    }
    guard former.kind == member.kind, member.kind == .file || member.kind == .folder else {
      throw refuse(member, "would replace another member")
    }
    return true
  }

  private func isLink(_ target: [UInt8]?) -> Bool { target.flatMap { known[key($0)] }?.kind == .symbolicLink }

  /// Whatever lies above a member is a folder.
  private mutating func admitParents(of member: TarMember) throws {
    var parent = FileName.parent(member.rawPath)
    var missing: [[UInt8]] = []
    while !parent.isEmpty {
      if let found = known[key(parent)] {
        guard found.kind == .folder else { throw refuse(member, "lies below a file or a link") }
        guard (found.spelled ?? parent) == parent else {
          throw refuse(member, "and another path are one for this file system")
        }
        break
      }
      missing.append(parent)
      parent = FileName.parent(parent)
    }
    for parent in missing { known[key(parent)] = Known(kind: .folder, spelled: foldsCase ? parent : nil) }
  }

  private func key(_ path: [UInt8]) -> [UInt8] {
    guard foldsCase else { return path }
    let text = String(decoding: path, as: UTF8.self).precomposedStringWithCanonicalMapping
    return [UInt8](text.lowercased().utf8)
  }

  private func refuse(_ member: TarMember, _ why: String) -> DRError {
    DRError(
      .invalidKey, "the archive holds a member that \(why): nothing of it was put in place",
      advice: "do not trust this archive", object: FileName.text(member.rawPath.prefix(300)))
  }
}
