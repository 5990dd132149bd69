import DRCore

/// What a walk through a tree saw.
struct TreeReport: Sendable {
  /// The first so many of something, and how many there were.
  struct Some<Element: Sendable>: Sendable {
    private(set) var kept: [Element] = []
    private(set) var count = 0

    mutating func add(_ element: Element) {
      count += 1
      if kept.count < 1000 { kept.append(element) }
    }
  }

  /// A file that changed while it was read.
  struct Change: Sendable {
    var path: String
    var readings: Int
    /// Whether it stood still at last.
    var settled: Bool
  }

  var files = 0
  var folders = 0
  /// Symbolic links and further names of files.
  var links = 0
  var bytes: Int64 = 0
  var secrets = Some<String>()
  var certificates = CertificateInventory()
  /// Of an incremental capture: what the next one needs to know.
  var index = TreeIndex()
  /// Files whose content a backup before has.
  var unchanged = 0
  private var changes = Some<Change>()
  private var omissions = Some<BackupManifest.Omission>()
  private var unmatched: Set<Int>

  init(patterns: Int) { unmatched = Set(0..<patterns) }

  var changed: [Change] { changes.kept }
  var changedCount: Int { changes.count }

  mutating func changed(_ path: [UInt8], readings: Int, settled: Bool) {
    let text = FileName.text(path)
    changes.add(Change(path: text, readings: readings, settled: settled))
    if !settled {
      omit(path, "it changed each of the \(readings) times that it was read: what is stored may mix two of its states")
    }
  }

  mutating func omit(_ path: [UInt8], _ reason: String) {
    omissions.add(BackupManifest.Omission(what: path.isEmpty ? "." : FileName.text(path), reason: reason))
  }

  mutating func matched(_ patterns: [Int]) { unmatched.subtract(patterns) }

  func leftOut(patterns: PathSelection) -> [BackupManifest.Omission] {
    var all = unmatched.sorted().map {
      BackupManifest.Omission(what: patterns.text($0), reason: "there is nothing that this pattern matches")
    }
    all += omissions.kept
    if omissions.count > omissions.kept.count {
      all.append(
        BackupManifest.Omission(
          what: "\(omissions.count - omissions.kept.count) more",
          reason: "only the first \(omissions.kept.count) are listed"))
    }
    return all
  }
}
