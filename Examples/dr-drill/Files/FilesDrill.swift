import DRCore
import DRFiles
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging

/// Configuration, secrets and certificates in the drill: captured whenever they change, and brought back first, for nothing answers
/// without its TLS.
actor FilesDrill: DrillSystem {
  nonisolated let component: Component
  var tree: ConfigurationTree?
  var watch: Task<Void, any Error>?
  var writer: Task<Void, any Error>?
  let gate = Gate()
  var known: [Int: Int64] = [:]
  /// Where the tree was, and what came back of it.
  var root = ""
  var back: Back?

  struct Back {
    var place: String
    /// The change that came back.
    var number: Int?
    var files: Int
  }

  struct Memory: Codable {
    var root: String
    var known: [Int: Int64]
  }

  init() throws { component = try Component(.config, "drill") }

  func source(_ tree: ConfigurationTree) -> FileTreeSource {
    FileTreeSource(component: component, root: tree.root, excluded: [".new-*"])
  }

  // MARK: Before the disaster

  func start(_ run: DrillRun) async throws {
    let tree = ConfigurationTree(root: run.folder.path + "/configuration")
    self.tree = tree
    root = tree.root
    let holdsSecrets = run.isEncrypted
    try tree.make(holdingSecrets: holdsSecrets)
    var options = FileTreeChanges.Options()
    // This one never stands still.
    options.burst = .max
    let changes = FileTreeChanges(
      source(tree), to: run.repository, encoding: run.encoding, options: options, logger: run.logger)
    let logger = run.logger
    watch = Task { try await changes.follow(logger: logger) { _ in } }
    run.say("changing a configuration tree, and replacing its certificate now and then")
    writer = Task { [gate] in
      for number in 2... {
        try await Task.sleep(for: .milliseconds(700))
        try await gate.pass {
          try tree.change(number, rotating: number.isMultiple(of: 5), holdingSecrets: holdsSecrets)
        }
      }
    }
  }

  func backUp(_ run: DrillRun) async throws {
    guard let tree else { return }
    let manifest = try await run.measure(self, "capture") {
      try await run.repository.backUp(source(tree), cadence: .daily, encoding: run.encoding, logger: run.logger)
    }
    run.say(
      "\(manifest.id) of the configuration: \(manifest.properties["files"]?.integer ?? 0) files, "
        + "\(manifest.properties["secrets"]?.integer ?? 0) of them secrets, "
        + "\(CertificateFacts.all(of: manifest).count) certificates")
  }

  func betweenChanges(_ body: @escaping @Sendable () async throws -> Void) async throws {
    try await gate.whileClosed(body)
  }

  func destroy(_ run: DrillRun) async throws {
    guard let tree else { return }
    // The host goes, and what watched on it.
    watch?.cancel()
    writer?.cancel()
    _ = await writer?.result
    _ = await watch?.result
    try FileManager.default.removeItem(atPath: tree.root)
    known = tree.known
    run.say("the configuration had been changed \(known.count) times")
  }

  func memory() throws -> Data { try JSONEncoder().encode(Memory(root: root, known: known)) }

  // MARK: At the end

  func openingCommands(_ run: DrillRun) async throws -> [String] {
    let manifest = try await run.repository.catalog(of: component).backup(of: component, for: .latest)
    let open = run.isEncrypted ? "age -d -i \(run.folder.identity)" : "cat"
    let key = try manifest.artifact(FileTreeSource.artifact).key
    return ["\(open) \(run.folder.repository)/\(key) | zstd -d | tar tvf -"]
  }

  func endAbandoned(_ logger: Logger) {}

  func close() async {
    watch?.cancel()
    writer?.cancel()
    _ = await writer?.result
    _ = await watch?.result
  }
}
