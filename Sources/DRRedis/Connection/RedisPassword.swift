import DRCore
import Foundation

/// Where a password is. The password itself is read when a connection is made, and shown by no description, no mirror
/// and no error.
public struct RedisPassword: Sendable, Hashable, CustomStringConvertible, CustomReflectable {
  private enum Source: Sendable, Hashable {
    case file(String)
    case environment(String)
    case value(String)
  }

  private let source: Source

  /// The first line of a file. A file that everybody may read is refused.
  public static func file(_ path: String) -> RedisPassword { RedisPassword(source: .file(path)) }
  /// An environment variable.
  public static func environment(_ name: String) -> RedisPassword { RedisPassword(source: .environment(name)) }
  /// One that the caller holds in memory.
  public static func value(_ text: String) -> RedisPassword { RedisPassword(source: .value(text)) }

  /// The file that it is in; nil: it cannot change while this process runs.
  var file: String? { if case .file(let path) = source { path } else { nil } }

  /// - Throws: ``DRError`` with `invalidConfiguration`.
  package func read() throws -> String {
    switch source {
    case .value(let text): return text
    case .environment(let name):
      guard let text = ProcessInfo.processInfo.environment[name], !text.isEmpty else {
        throw DRError(.invalidConfiguration, "the environment has no \(name)", advice: "set it, or use a password file")
      }
      return text
    case .file(let path):
      var status = stat()
      guard stat(path, &status) == 0 else {
        throw DRError(.invalidConfiguration, "the password file cannot be read: \(lastErrorText())", object: path)
      }
      guard mode_t(status.st_mode) & 0o007 == 0 else {
        throw DRError(
          .invalidConfiguration, "everybody may read the password file", advice: "chmod 600 it", object: path)
      }
      guard let text = try? String(contentsOfFile: path, encoding: .utf8),
        let line = text.split(whereSeparator: \.isNewline).first
      else { throw DRError(.invalidConfiguration, "the password file is empty or cannot be read", object: path) }
      return String(line)
    }
  }

  public var description: String {
    switch source {
    case .file(let path): "password file \(path)"
    case .environment(let name): "password in \(name)"
    case .value: "password"
    }
  }

  public var customMirror: Mirror { Mirror(self, children: ["source": description]) }
}

/// What `errno` says.
func lastErrorText() -> String { String(cString: strerror(errno)) }
