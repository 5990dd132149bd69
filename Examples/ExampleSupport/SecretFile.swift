import DRCore
import Foundation

/// A file that holds a secret.
public enum SecretFile {
  /// More is no secret of ours, but a file that was named by mistake.
  private static let limit = 1 << 20

  /// - Parameter what: What the file is, for messages.
  /// - Throws: ``DRError`` with `invalidConfiguration`.
  public static func read(_ path: String, _ what: String) throws -> [UInt8] {
    do {
      let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
      defer { try? file.close() }
      let content = try file.read(upToCount: limit) ?? Data()
      warnIfOpen(path, what)
      return Array(content)
    } catch {
      throw DRError(
        .invalidConfiguration, "\(what) cannot be read", advice: "see that it is there, who owns it, and its mode",
        object: path, cause: error)
    }
  }

  /// Says on standard error, once, that others on this host can read it.
  static func warnIfOpen(_ path: String, _ what: String) {
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & 0o077 != 0 else { return }
    let isFirst = warned.withLock { $0.insert(path).inserted }
    guard isFirst else { return }
    FileHandle.standardError.write(
      Data("warning: others can read \(what) \(path): chmod 600 it, or 640 for the server's group\n".utf8))
  }

  private static let warned = MutableBox<Set<String>>([])
}
