public import DRCore

import class Foundation.FileManager

/// A folder of a file system as a tier.
///
/// - An object is a file of the same path below the root. Files have mode 0600, folders 0700.
/// - A put writes a temporary file in the object's folder, syncs it, renames it, and syncs the folder and those above it.
///   Killed at any moment, it leaves the previous object and at most a temporary file, which no call shows.
/// - With ``DRCore/PutOptions/onlyIfAbsent`` the file is linked to its name instead: of two writers one wins.
/// - It cannot compare and swap: that would need a lock that a stopped process goes on holding. ``Lease`` needs only
///   ``DRCore/PutOptions/onlyIfAbsent``.
/// - No symbolic link below the root is followed, neither for reading nor for writing. The root itself may be one.
/// - The root holds a marker file, `.dr-tier`, compared at each operation: a volume that is not mounted, or another one
///   in its place, is `tierUnavailable`, never an absent object.
/// - When the process is root, new files and folders are given to the owner and the group of the root folder. So a
///   repository that belongs to the database's user stays readable by it, whoever wrote the backup.
/// - Names that cannot be keys (not UTF-8, control characters) are foreign and not shown; neither is `lost+found` in
///   the root. A key and a key below it (`a` and `a/b`) cannot both exist.
public struct LocalTier: StorageTier {
  public let name: String
  public let capabilities: TierCapabilities = [.conditionalPut, .conditionalLargePut]

  let root: LocalRoot

  /// Opens a tier.
  ///
  /// - Parameters:
  ///   - root: The folder. A relative path is taken from the current folder, once, here.
  ///   - creating: Make the folder and its marker if they are missing. To be told so each time would defeat the marker:
  ///     say it when a tier is set up, not when it is used. A folder that holds something and has no marker is refused.
  ///   - adopting: With `creating`: make the marker in a folder that holds something too. For a tier whose marker was lost;
  ///     what is in the folder becomes its objects.
  /// - Throws: ``DRCore/DRError``: `tierUnavailable` if the folder or its marker is missing, `notWritable` or `noSpace`
  ///   if it cannot be created, `invalidConfiguration` for a path that cannot be one, and for a folder that is not empty.
  public init(root path: String, creating: Bool = false, adopting: Bool = false) async throws {
    guard !path.isEmpty, !path.utf8.contains(0) else {
      throw DRError(.invalidConfiguration, "the root of a local tier is a path, not '\(path.debugDescription)'")
    }
    let absolute = LocalTier.absolute(path)
    let tier = "local:\(absolute)"
    name = tier
    root = try await LocalTier.blocking(tier, creating ? .writing : .reading) {
      try LocalRoot(path: absolute, creating: creating, adopting: adopting)
    }
  }

  /// Without slashes at its end.
  private static func absolute(_ path: String) -> String {
    var path = path
    if path.utf8.first != UInt8(ascii: "/") { path = "\(FileManager.default.currentDirectoryPath)/\(path)" }
    while path.utf8.count > 1, path.utf8.last == UInt8(ascii: "/") { path.removeLast() }
    return path
  }

  /// Runs blocking work on a queue of its own, so that no operation waits for another, and says its errors in the tier's
  /// words.
  static func blocking<Result: Sendable>(
    _ tier: String, _ intent: SystemError.Intent, object: String? = nil,
    on executor: BlockingExecutor = BlockingExecutor(label: "disaster-recovery.local-tier"),
    _ work: @escaping @Sendable () throws -> Result
  ) async throws -> Result {
    do {
      return try await executor.run(work)
    } catch let error as SystemError {
      throw error.translated(intent, tier: tier, object: object)
    } catch var error as DRError {
      error.object = error.object ?? object
      throw error
    }
  }

  /// The folders and the file name of a key.
  ///
  /// - Throws: ``DRCore/DRError`` with `invalidKey` for the marker's own name.
  static func split(_ key: ObjectKey) throws -> (folders: ArraySlice<String>, file: String) {
    guard key.rawValue != LocalRoot.marker else {
      throw DRError(.invalidKey, "this name belongs to the tier itself", object: key.rawValue)
    }
    return (key.components.dropLast(), key.lastComponent)
  }
}

extension Descriptor.Status {
  func info(_ key: ObjectKey) -> ObjectInfo {
    ObjectInfo(key: key, size: size, modified: modified, entityTag: entityTag)
  }
}
