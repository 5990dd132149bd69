import DRCore
import DRPlan
import DRSandbox
import ExampleSupport
import Foundation

/// Ends and removes what the drill has made. It may be done again after it was killed anywhere.
struct DrillCleanUp: Sendable {
  let run: DrillRun
  let systems: [any DrillSystem]
  let watch: DrillWatch
  /// False leaves files, and what was copied to a second tier.
  let isRemoving: Bool

  /// Programs that have the drill's folder in their command line.
  private static let programs = ["postgres", "dr-wal", "redis-server", "beam.smp", "pg_restore", "pg_dump", "psql"]

  func perform() async -> RunReport.Step {
    let begun = Date()
    var failures: [String] = []
    func attempt(_ what: String, _ body: () async throws -> Void) async {
      do {
        try await body()
      } catch {
        failures.append("\(what): \(DRError.text(of: error))")
      }
    }
    await watch.stop()
    for system in systems {
      await attempt("the servers of \(system.component.kind)") { try await system.close() }
      await attempt("what was left of \(system.component.kind)") { try await system.endAbandoned(run.logger) }
    }
    await run.store.endReplication()
    var bytes: Int64 = 0
    var copied = 0
    if isRemoving {
      await attempt("the copy on the second tier") { copied = try await run.store.removeCopy() }
      await attempt("the drill's files") { bytes = try removeFiles() }
    }
    let left = ProcessTable.processes(of: Self.programs, marked: run.folder.path)
    if !left.isEmpty { failures.append("processes are left: \(left.map(String.init).joined(separator: ", "))") }
    let removed =
      isRemoving ? "\(Format.bytes(bytes)) of files and \(copied) copied objects are removed" : "files are kept"
    return RunReport.Step(
      "clean-up", "The drill's servers and files are removed", from: begun, to: Date(),
      failures.isEmpty ? .done : .failed,
      evidence: failures.isEmpty ? "its servers are gone, \(removed)" : failures.joined(separator: "; "))
  }

  /// All but the record and the keys to what it speaks of, which go with the folder.
  private func removeFiles() throws -> Int64 {
    let manager = FileManager.default
    let folder = run.folder
    let kept = [folder.record.path, folder.identity, folder.credentials, "\(folder.path)/\(FolderClaim.file)"]
    var bytes: Int64 = 0
    for name in try manager.contentsOfDirectory(atPath: folder.path) where !kept.contains("\(folder.path)/\(name)") {
      let path = "\(folder.path)/\(name)"
      let inside = (try? manager.subpathsOfDirectory(atPath: path)) ?? []
      for file in [path] + inside.map({ "\(path)/\($0)" }) {
        var status = stat()
        if lstat(file, &status) == 0, mode_t(status.st_mode) & S_IFMT == S_IFREG { bytes += Int64(status.st_size) }
      }
      try manager.removeItem(atPath: path)
    }
    return bytes
  }
}
