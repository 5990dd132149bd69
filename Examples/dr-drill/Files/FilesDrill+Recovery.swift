import DRCore
import DRFiles
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging

/// What is done after the disaster.
extension FilesDrill {
  func remember(_ memory: Data) throws {
    let memory = try JSONDecoder().decode(Memory.self, from: memory)
    (root, known) = (memory.root, memory.known)
  }

  func look(_ logger: Logger) throws -> String {
    guard let number = ConfigurationTree.number(in: root) else {
      throw DRError(.sourceFailed, "the configuration tree cannot be read", object: root)
    }
    return "change \(number) is in place"
  }

  func recover(to moment: Date, _ run: DrillRun) async throws {
    back = try await bringBack(to: moment, counts: true, run)
    run.answered(self)
  }

  func bringBack(to moment: Date, counts: Bool, _ run: DrillRun) async throws -> Back {
    let found = try await run.measure(self, "find the backup", counts: counts) {
      try await run.repository.catalog(of: component).backup(of: component, for: .time(moment))
    }
    return try await restore(found, place("at-target", run), counts: counts, run)
  }

  func verify(_ moment: Date, _ run: DrillRun) async throws {
    let back: Back
    if let there = self.back { back = there } else { back = try await bringBack(to: moment, counts: false, run) }
    // TLS first: the certificate that is live, of the restored files, and its key.
    let live = try FileManager.default.destinationOfSymbolicLink(atPath: back.place + "/certs/live")
    let certificates = try await FileTreeSource(component: component, root: back.place).certificates()
    let certificate = certificates.first { $0.path == "certs/\(live)/tls.crt" }
    let fits = run.isEncrypted ? certificate?.keyMatches == true : certificate != nil
    run.check(
      self, "the certificate is valid and its key fits", fits && certificate.map { $0.validUntil > Date() } ?? false,
      certificate.map { "\($0.title), until \(Timestamp.format($0.validUntil)), key \($0.key ?? "left out")" }
        ?? "there is no certificate in certs/\(live)")
    let modes = try (run.isEncrypted ? [".env", "certs/\(live)/tls.key"] : []).map { path in
      try FileManager.default.attributesOfItem(atPath: "\(back.place)/\(path)")[.posixPermissions] as? Int ?? -1
    }
    run.check(
      self, "secrets are there, for their owner alone", modes.allSatisfy { $0 & 0o077 == 0 && $0 >= 0 },
      run.isEncrypted ? "\(modes.count) looked at, of \(back.files) files" : "none were captured: nothing is encrypted")
    let target = Int64((moment.timeIntervalSince1970 * 1_000_000).rounded())
    let newest = known.filter { $0.value <= target }.keys.max() ?? 0
    // Of the changes before the target, the first that is not there had been unprotected since it was made.
    let number = back.number ?? 0
    let lost = number + 1 <= newest ? max(0, target - (known[number + 1] ?? 0)) : 0
    let allowed = DrillTargets.of(.config).rpo
    run.check(
      self, "the tree is as it was at the target, or shortly before",
      back.number.map { $0 <= newest && known[$0] != nil } ?? false && Duration.microseconds(lost) <= allowed,
      "change \(back.number.map(String.init) ?? "unknown") of \(newest) by then; \(lost / 1000) ms before the target are lost, "
        + "\(Format.duration(allowed)) allowed")
    try clear(back.place)
    self.back = nil
  }

  func recoverLatest(_ run: DrillRun) async throws {
    let found = try await run.repository.catalog(of: component).backup(of: component, for: .latest)
    let back = try await restore(found, place("latest", run), counts: false, run)
    let number = back.number ?? 0
    let newest = known.keys.max() ?? 0
    let last = known[newest] ?? 0
    let lost = number < newest ? last - (known[number + 1] ?? 0) : 0
    run.lost(.microseconds(max(0, lost)), "\(max(0, newest - number)) of \(known.count) changes", self)
    try clear(back.place)
  }

  func restore(_ manifest: BackupManifest, _ place: String, counts: Bool, _ run: DrillRun) async throws -> Back {
    try clear(place)
    let reader = run.repository.reader(for: manifest, decoding: run.decoding)
    let report = try await run.measure(self, "read, decrypt, check, write", counts: counts) {
      try await FileTreeRestorer(destination: place).run(from: reader, logger: run.logger)
    }
    return Back(place: place, number: ConfigurationTree.number(in: place), files: Int(report.outcome.items))
  }

  func refuseDamage(_ run: DrillRun) async throws {
    let manifest = try await run.repository.catalog(of: component).backup(of: component, for: .latest)
    let place = place("damaged", run)
    try clear(place)
    try await run.control(self, of: manifest, damaging: try manifest.artifact(FileTreeSource.artifact)) { reader in
      _ = try await FileTreeRestorer(destination: place).run(from: reader, logger: run.logger)
    } isUntouched: {
      !FileManager.default.fileExists(atPath: place)
    }
  }
}
