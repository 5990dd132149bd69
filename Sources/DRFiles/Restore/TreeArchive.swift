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

  init(object: String, foldsCase: Bool, selection: PathSelection) {
    reader = TarReader(object: object, dialect: .everything)
    rules = TreeRules(foldsCase: foldsCase)
    self.selection = selection
  }

  mutating func read(_ frame: ByteBuffer, into sink: some TreeSink) throws {
    reader.append(frame)
    while let event = try reader.next() {
      switch event {
      case .file(let member):
        let isRepeated = try rules.admit(member)
        isSkipping = !isSelected(member)
        if !isSkipping { try sink.begin(member, isRepeated: isRepeated) }
      case .data(let slice): if !isSkipping { try sink.data(slice) }
      case .fileEnd:
        if !isSkipping { try sink.end() }
        isSkipping = false
      case .directory(let member):
        if try !rules.admit(member) { try sink.folder(member, isSelected: isSelected(member)) }
      case .symlink(let member):
        _ = try rules.admit(member)
        if isSelected(member) { try sink.symbolicLink(member) }
      case .hardLink(let member):
        _ = try rules.admit(member)
        if isSelected(member) { try sink.hardLink(member) }
      case .end: break
      }
    }
  }

  /// - Throws: ``DRError``: `truncatedData`; `objectNotFound` if the archive has nothing of what was selected.
  func finish() throws {
    try reader.finish()
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
