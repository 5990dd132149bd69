import DRCore
import DRStorage
import Foundation

/// Where a restore goes.
///
/// Blocking. `@unchecked Sendable`: one task uses it at a time, on its `BlockingExecutor`.
final class RestorePlace: @unchecked Sendable {
  let staging: StagingFolder
  private let placement: FileTreeRestorer.Placement
  private let destination: String
  private let name: [UInt8]

  init(_ path: String, _ placement: FileTreeRestorer.Placement) throws {
    destination = try RestorePlace.checked(path)
    self.placement = placement
    // A repository is not written into.
    if let tier = LocalTier.enclosing(destination) {
      throw DRError(
        .destinationInUse, "the destination lies in the repository \(tier): nothing was touched",
        advice: "restore into a folder of its own", object: destination)
    }
    _ = try RestorePlace.look(destination, placement)
    do {
      switch placement {
      case .inPlace:
        name = []
        staging = try StagingFolder(in: .root(destination))
      case .newFolder:
        name = FileName.last([UInt8](destination.utf8))
        let parent = String(decoding: FileName.parent([UInt8](destination.utf8)), as: UTF8.self)
        do {
          try FileManager.default.createDirectory(
            atPath: parent.isEmpty ? "/" : parent, withIntermediateDirectories: true)
        } catch {
          throw DRError(
            .notWritable, "the folder above the destination cannot be created", object: parent, cause: error)
        }
        staging = try StagingFolder(in: .root(parent.isEmpty ? "/" : parent))
      }
    } catch let error as SystemError {
      throw error.restoring(destination.utf8)
    }
  }

  /// Looks at the destination. Gives it if it is to be compared; nil: everything is new there.
  static func look(_ path: String, _ placement: FileTreeRestorer.Placement) throws -> Descriptor? {
    let path = try checked(path)
    do {
      let root = try allowing(ENOENT) { () throws(SystemError) in try Descriptor.root(path) }
      switch placement {
      case .inPlace:
        guard let root else {
          throw DRError(
            .invalidConfiguration, "there is no folder to restore in place", advice: "restore it as a new folder",
            object: path)
        }
        return root
      case .newFolder:
        guard let root else { return nil }
        let names = try root.names()
        guard names.isEmpty else {
          throw DRError(
            .destinationInUse, "the destination holds \(names.count) entries: nothing was touched",
            advice: "choose a new folder, or restore in place", object: path)
        }
        return nil
      }
    } catch let error as SystemError {
      throw error.restoring(path.utf8)
    }
  }

  /// Puts what was written in place. Returns what that did, in place.
  func commit(
    settled: Set<[UInt8]>, stamp: String
  ) throws -> (added: Int, replaced: Int, same: Int, aside: String?)? {
    do {
      switch placement {
      case .newFolder:
        // It may have been filled meanwhile: then the rename fails, and nothing is lost.
        try staging.place(as: name)
        staging.remove()
        return nil
      case .inPlace:
        let plan = try PlacePlan(staged: staging.tree, destination: staging.parent, settled: settled)
        let aside = try plan.run(stamp: stamp)
        staging.remove()
        return (plan.added, plan.replaced.count, plan.same, aside.map { "\(destination)/\($0)" })
      }
    } catch let error as SystemError {
      throw error.restoring(destination.utf8)
    }
  }

  func discard() { staging.remove() }

  private static func checked(_ path: String) throws -> String {
    guard path.hasPrefix("/"), !path.utf8.contains(0) else {
      throw DRError(.invalidConfiguration, "the destination must be an absolute path", object: path)
    }
    var path = path
    while path.utf8.count > 1, path.utf8.last == UInt8(ascii: "/") { path.removeLast() }
    return path
  }
}
