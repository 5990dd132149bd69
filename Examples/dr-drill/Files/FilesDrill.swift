import DRCore
import DRFiles
import DRStorage
import DRVerify
import ExampleSupport
import Foundation

/// Configuration, secrets and certificates in the drill: captured whenever they change, and brought back first, for nothing answers
/// without its TLS.
actor FilesDrill: DrillSystem {
  nonisolated let component: Component
  private var tree: ConfigurationTree?
  private var watch: Task<Void, any Error>?
  private var writer: Task<Void, any Error>?
  private let gate = Gate()
  private var known: [Int: Int64] = [:]

  init() throws { component = try Component(.config, "drill") }

  private func source(_ tree: ConfigurationTree) -> FileTreeSource {
    FileTreeSource(component: component, root: tree.root, excluded: [".new-*"])
  }

  // MARK: Before the disaster

  func start(_ run: DrillRun) async throws {
    let tree = ConfigurationTree(root: run.folder.path + "/configuration")
    self.tree = tree
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

  // MARK: After it

  func recover(to moment: Date, _ run: DrillRun) async throws {
    let place = run.folder.path + "/configuration-at-target"
    let found = try await run.measure(self, "find the backup", counts: true) {
      try await run.repository.catalog(of: component).backup(of: component, for: .time(moment))
    }
    let number = try await restore(found, place, counts: true, run)
    run.answered(self)
    let target = Int64((moment.timeIntervalSince1970 * 1_000_000).rounded())
    let newest = known.filter { $0.value <= target }.keys.max() ?? 0
    // Of the changes before the target, the first that is not there had been unprotected since it was made.
    let lost = (number ?? 0) + 1 <= newest ? max(0, target - (known[(number ?? 0) + 1] ?? 0)) : 0
    let allowed = DrillTargets.of(.config).rpo
    run.check(
      self, "the tree is as it was at the target, or shortly before",
      number.map { $0 <= newest && known[$0] != nil } ?? false && Duration.microseconds(lost) <= allowed,
      "change \(number.map(String.init) ?? "unknown") of \(newest) by then; \(lost / 1000) ms before the target are lost, "
        + "\(Format.duration(allowed)) allowed")
    try FileManager.default.removeItem(atPath: place)
  }

  func recoverLatest(_ run: DrillRun) async throws {
    let place = run.folder.path + "/configuration-latest"
    let found = try await run.repository.catalog(of: component).backup(of: component, for: .latest)
    let number = try await restore(found, place, counts: false, run) ?? 0
    let newest = known.keys.max() ?? 0
    let last = known[newest] ?? 0
    let lost = number < newest ? last - (known[number + 1] ?? 0) : 0
    run.lost(.microseconds(max(0, lost)), "\(max(0, newest - number)) of \(known.count) changes", self)
    try FileManager.default.removeItem(atPath: place)
  }

  /// - Returns: The change that came back.
  private func restore(_ manifest: BackupManifest, _ place: String, counts: Bool, _ run: DrillRun) async throws -> Int?
  {
    let reader = run.repository.reader(for: manifest, decoding: run.decoding)
    let report = try await run.measure(self, "read, decrypt, check, write", counts: counts) {
      try await FileTreeRestorer(destination: place).run(from: reader, logger: run.logger)
    }
    guard counts else { return ConfigurationTree.number(in: place) }
    // TLS first: the certificate that is live, of the restored files, and its key.
    let live = try FileManager.default.destinationOfSymbolicLink(atPath: place + "/certs/live")
    let certificates = try await FileTreeSource(component: component, root: place).certificates()
    let certificate = certificates.first { $0.path == "certs/\(live)/tls.crt" }
    let fits = run.isEncrypted ? certificate?.keyMatches == true : certificate != nil
    run.check(
      self, "the certificate is valid and its key fits", fits && certificate.map { $0.validUntil > Date() } ?? false,
      certificate.map { "\($0.title), until \(Timestamp.format($0.validUntil)), key \($0.key ?? "left out")" }
        ?? "there is no certificate in certs/\(live)")
    let modes = try (run.isEncrypted ? [".env", "certs/\(live)/tls.key"] : []).map { path in
      try FileManager.default.attributesOfItem(atPath: "\(place)/\(path)")[.posixPermissions] as? Int ?? -1
    }
    run.check(
      self, "secrets are there, for their owner alone", modes.allSatisfy { $0 & 0o077 == 0 && $0 >= 0 },
      run.isEncrypted
        ? "\(modes.count) looked at, of \(report.outcome.items) files" : "none were captured: nothing is encrypted")
    return ConfigurationTree.number(in: place)
  }

  func refuseDamage(_ run: DrillRun) async throws {
    let manifest = try await run.repository.catalog(of: component).backup(of: component, for: .latest)
    let sound = await VerificationReport.run(
      manifest.id, BackupVerifier(manifest, in: run.repository, decoding: run.decoding), logger: run.logger)
    run.check(
      self, "the backup's bytes", sound.verdict == .passed,
      sound.obstacle ?? "\(sound.findings.filter { $0.severity == .passed }.count) findings passed")
    let damaged = run.damaged(try manifest.artifact(FileTreeSource.artifact))
    let verdict = await VerificationReport.run(
      manifest.id, BackupVerifier(manifest, in: damaged, decoding: run.decoding), logger: run.logger)
    let finding = verdict.findings.first { $0.severity == .failure }
    run.check(
      self, "the verifier notices a flipped bit", verdict.verdict == .failed, finding?.evidence ?? "it noticed nothing")
    let place = run.folder.path + "/configuration-damaged"
    do {
      _ = try await FileTreeRestorer(destination: place)
        .run(from: damaged.reader(for: manifest, decoding: run.decoding), logger: run.logger)
      run.check(self, "the restore refuses it", false, "it restored a damaged backup")
    } catch let error as DRError {
      run.check(
        self, "the restore refuses it", !FileManager.default.fileExists(atPath: place) && error.code == .corruptData,
        error.message)
    }
  }

  func openingCommands(_ run: DrillRun) async throws -> [String] {
    let manifest = try await run.repository.catalog(of: component).backup(of: component, for: .latest)
    let open = run.isEncrypted ? "age -d -i \(run.folder.identity)" : "cat"
    let key = try manifest.artifact(FileTreeSource.artifact).key
    return ["\(open) \(run.folder.repository)/\(key) | zstd -d | tar tvf -"]
  }

  func close() async {
    watch?.cancel()
    writer?.cancel()
    _ = await writer?.result
    _ = await watch?.result
  }
}
