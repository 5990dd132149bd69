import Foundation

/// Makes a new folder (0700, under the system's temporary folder), gives its path, and removes it with all that it then
/// holds, whatever happens in between; a ``ChildProcess`` that keeps its output in it is ended first.
///
/// - Throws: What the body throws; else what kept the folder from being made or removed.
public func withTemporaryFolder<R>(
  isolation: isolated (any Actor)? = #isolation, _ body: (String) async throws -> R
) async throws -> R {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("dr-test-\(UUID().uuidString)").path
  try FileManager.default.createDirectory(
    atPath: folder, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
  let result: R
  do {
    result = try await body(folder)
  } catch {
    ChildProcess.endAll(below: folder)
    try? removeTree(folder)
    throw error
  }
  ChildProcess.endAll(below: folder)
  try removeTree(folder)
  return result
}

/// Removes a folder, also when a test has left folders in it that cannot be written.
private func removeTree(_ folder: String) throws {
  do {
    try FileManager.default.removeItem(atPath: folder)
  } catch {
    guard FileManager.default.fileExists(atPath: folder) else { return }
    unlock(folder)
    try FileManager.default.removeItem(atPath: folder)
  }
}

private func unlock(_ folder: String) {
  try? FileManager.default.setAttributes([.posixPermissions: 0o700], ofItemAtPath: folder)
  for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] {
    let path = folder + "/" + name
    let type = (try? FileManager.default.attributesOfItem(atPath: path))?[.type] as? FileAttributeType
    if type == .typeDirectory { unlock(path) }
  }
}
