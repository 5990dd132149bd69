import DRCore
public import Foundation

/// The shared files of the AWS tools: `~/.aws/credentials` and `~/.aws/config`, or where `AWS_SHARED_CREDENTIALS_FILE` and
/// `AWS_CONFIG_FILE` point. What a profile has in the first one goes before what it has in the second.
///
/// Only keys that are written there are used. A profile that needs a role, single sign-on or a program is refused by name.
public struct ProfileS3Credentials: S3CredentialsSource {
  private let profile: String
  private let isNamed: Bool
  private let credentialsFile: String
  private let configFile: String

  /// - Parameter profile: Nil: `AWS_PROFILE`, else `default`.
  public init(profile: String? = nil, environment: [String: String] = ProcessInfo.processInfo.environment) {
    let home = environment["HOME"] ?? FileManager.default.homeDirectoryForCurrentUser.path
    let named = profile ?? environment["AWS_PROFILE"]
    self.profile = named ?? "default"
    isNamed = named != nil
    credentialsFile = environment["AWS_SHARED_CREDENTIALS_FILE"] ?? "\(home)/.aws/credentials"
    configFile = environment["AWS_CONFIG_FILE"] ?? "\(home)/.aws/config"
  }

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` for a profile that was named and is not there, or is of a
  ///   kind that cannot be used here.
  public func credentials() throws -> S3Credentials? {
    guard let settings = try settings() else {
      guard isNamed else { return nil }
      throw DRError(
        .invalidConfiguration, "there is no profile '\(profile)'",
        advice: "look at \(credentialsFile) and \(configFile)")
    }
    if let id = settings["aws_access_key_id"], let secret = settings["aws_secret_access_key"] {
      return S3Credentials(accessKeyID: id, secretAccessKey: secret, sessionToken: settings["aws_session_token"])
    }
    for kind in ["role_arn", "sso_session", "sso_start_url", "credential_process"] where settings[kind] != nil {
      throw DRError(
        .invalidConfiguration, "the profile '\(profile)' takes its credentials from \(kind), which is not supported",
        advice: "export them into the environment: aws configure export-credentials --profile \(profile) --format env")
    }
    guard isNamed else { return nil }
    throw DRError(
      .invalidConfiguration, "the profile '\(profile)' has no aws_access_key_id with its aws_secret_access_key",
      advice: "add both to \(credentialsFile)")
  }

  /// The profile's `region`, if it has one.
  public func region() throws -> String? { try settings()?["region"] }

  private func settings() throws -> [String: String]? {
    let shared = try ProfileFile(path: credentialsFile)?.sections[profile]
    let sections = try ProfileFile(path: configFile)?.sections
    let config = sections?["profile \(profile)"] ?? (profile == "default" ? sections?[profile] : nil)
    guard shared != nil || config != nil else { return nil }
    return (config ?? [:]).merging(shared ?? [:]) { $1 }
  }
}

/// An INI file of the AWS tools: sections in brackets, `name = value`, comments after `#` or `;`, indented lines are nested
/// settings and of no interest here.
package struct ProfileFile: Sendable {
  package let sections: [String: [String: String]]

  package init(_ text: String) {
    var sections: [String: [String: String]] = [:]
    var current: String?
    for line in text.split(whereSeparator: \.isNewline) {
      guard let first = line.first, !first.isWhitespace, first != "#", first != ";" else { continue }
      if first == "[", let end = line.firstIndex(of: "]") {
        let words = line[line.index(after: line.startIndex)..<end].split(whereSeparator: \.isWhitespace)
        let name = words.joined(separator: " ")
        current = name
        sections[name] = sections[name] ?? [:]
      } else if let section = current, let equals = line.firstIndex(of: "=") {
        let name = ProfileFile.trim(line[..<equals]).lowercased()
        var value = ProfileFile.trim(line[line.index(after: equals)...])
        for comment in [" #", " ;", "\t#"] {
          if let start = value.range(of: comment) { value = ProfileFile.trim(value[..<start.lowerBound]) }
        }
        if !value.isEmpty { sections[section]?[name] = value }
      }
    }
    self.sections = sections
  }

  /// Nil if there is no such file.
  init?(path: String) throws {
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    do {
      self.init(String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self))
    } catch {
      throw DRError(
        .invalidConfiguration, "the file cannot be read", advice: "see who owns it, and its mode", object: path,
        cause: error)
    }
  }

  private static func trim(_ text: Substring) -> String {
    var text = text
    while text.first?.isWhitespace == true { text.removeFirst() }
    while text.last?.isWhitespace == true { text.removeLast() }
    return String(text)
  }

  private static func trim(_ text: String) -> String { trim(Substring(text)) }
}
