import DRCore
import Foundation

/// Where a secret is: never the secret itself, so that it may stand in a configuration.
public enum SecretReference: Hashable, Sendable, CustomStringConvertible {
  case environment(String)
  case file(String)

  /// - Parameter text: `env:NAME` or `file:/path`.
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`; the text, which may be the secret itself, is not in it.
  public init(_ text: String) throws {
    if text.hasPrefix("env:"), text.count > 4 {
      self = .environment(String(text.dropFirst(4)))
    } else if text.hasPrefix("file:/") {
      self = .file(String(text.dropFirst(5)))
    } else {
      throw DRError(
        .invalidConfiguration, "a secret is named by where it is",
        advice: "write env:NAME or file:/path, not the secret")
    }
  }

  public var description: String {
    switch self {
    case .environment(let name): "env:\(name)"
    case .file(let path): "file:\(path)"
    }
  }

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` if there is none, or every account of the host can read it.
  func read() throws -> String {
    switch self {
    case .environment(let name):
      guard let value = ProcessInfo.processInfo.environment[name], !value.isEmpty else {
        throw DRError(.invalidConfiguration, "there is nothing in the environment's \(name)", object: name)
      }
      return value
    case .file(let path):
      var status = stat()
      guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size < 1 << 16,
        let data = FileManager.default.contents(atPath: path)
      else {
        throw DRError(
          .invalidConfiguration, "the file of a secret cannot be read", advice: "see that it is there, and its mode",
          object: path)
      }
      guard status.st_mode & 0o007 == 0 else {
        throw DRError(
          .invalidConfiguration, "everybody on this host can read a secret", advice: "chmod 600 it", object: path)
      }
      return String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }
  }
}
