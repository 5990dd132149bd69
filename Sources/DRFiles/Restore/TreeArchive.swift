import DRCore
import DRStorage
import NIOCore

/// Takes what an archive holds of a tree, after it was found harmless.
protocol TreeSink: AnyObject {
  /// A folder. One that is not selected is told too: it may lie above something that is.
  func folder(_ member: TarMember, isSelected: Bool) throws
  /// - Parameter isRepeated: It was there before, and is replaced by this.
  func begin(_ member: TarMember, isRepeated: Bool) throws
  func data(_ slice: ByteBuffer) throws
  func end() throws
  func symbolicLink(_ member: TarMember) throws
  func hardLink(_ member: TarMember) throws
}

/// Reads an archive of a tree: framing, rules, selection.
struct TreeArchive {
  private var reader: TarReader
  private var rules: TreeRules
  private let selection: PathSelection
  private var isSkipping = false
  private(set) var selected = 0
  /// Only of a part of an archive, which can hold a link without what it links to: the files and links of the part, and the links that
  /// are without.
  private var taken: Set<[UInt8]>?
  private var incomplete: [(link: [UInt8], target: [UInt8])] = []

  init(object: String, foldsCase: Bool, selection: PathSelection) {
    reader = TarReader(object: object, dialect: .everything)
    rules = TreeRules(foldsCase: foldsCase)
    self.selection = selection
    taken = selection.isEverything ? nil : []
  }

  mutating func read(_ frame: ByteBuffer, into sink: some TreeSink) throws {
    reader.append(frame)
    while let event = try reader.next() {
      switch event {
      case .file(let member):
        let isRepeated = try rules.admit(member)
        isSkipping = !isSelected(member)
        if !isSkipping {
          taken?.insert(member.rawPath)
          try sink.begin(member, isRepeated: isRepeated)
        }
      case .data(let slice): if !isSkipping { try sink.data(slice) }
      case .fileEnd:
        if !isSkipping { try sink.end() }
        isSkipping = false
      case .directory(let member):
        if try !rules.admit(member) { try sink.folder(member, isSelected: isSelected(member)) }
      case .symlink(let member):
        _ = try rules.admit(member)
        guard isSelected(member) else { continue }
        taken?.insert(member.rawPath)
        try sink.symbolicLink(member)
      case .hardLink(let member):
        _ = try rules.admit(member)
        guard isSelected(member) else { continue }
        let target = member.rawLinkTarget ?? []
        guard taken?.contains(target) ?? true else {
          incomplete.append((member.rawPath, target))
          continue
        }
        taken?.insert(member.rawPath)
        try sink.hardLink(member)
      case .end: break
      }
    }
  }

  /// - Throws: ``DRError``: `truncatedData`; `objectNotFound` if the archive has nothing of what was selected; `invalidConfiguration` if what
  ///   was selected holds a further name of a file that was not.
  func finish() throws {
    try reader.finish()
    if let first = incomplete.first {
      let targets = Set(incomplete.map(\.target)).sorted { $0.lexicographicallyPrecedes($1) }
      let some = targets.prefix(20).map { "'\(FileName.text($0))'" }.joined(separator: ", ")
      let others = incomplete.count > 1 ? ", as are \(incomplete.count - 1) others" : ""
      throw DRError(
        .invalidConfiguration, "it is a further name of a file that was not asked for\(others)",
        advice: "ask as well for \(some)\(targets.count > 20 ? " and \(targets.count - 20) more" : "")",
        object: FileName.text(first.link))
    }
    guard selection.isEverything || selected > 0 else {
      throw DRError(
        .objectNotFound, "the backup holds nothing of the paths that were asked for", advice: "list what it holds")
    }
  }

  private mutating func isSelected(_ member: TarMember) -> Bool {
    guard selection.isEverything || selection.contains(FileName.components(member.rawPath)) else { return false }
    selected += 1
    return true
  }
}
