public import DRCore

/// What is known to be wrong, and is to fail no report until it is mended. The report prints it with its reason.
///
/// Only failures and warnings can be suppressed: what did not run does not pass for having been expected not to.
public struct Suppression: Hashable, Sendable {
  /// The name of the check, exactly.
  public let check: String
  /// Which subjects; `*` is any text.
  public let subject: String
  /// Why. At least ten characters, so that it says something.
  public let reason: String

  /// - Throws: ``DRError`` with `invalidConfiguration` without a reason, or if it would suppress more than one check.
  public init(check: String, subject: String = "*", reason: String) throws {
    guard !check.isEmpty, !check.contains("*") else {
      throw DRError(
        .invalidConfiguration, "a suppression names one check", advice: "give its name, as the report has it")
    }
    guard reason.count(where: { !$0.isWhitespace }) >= 10 else {
      throw DRError(
        .invalidConfiguration, "the suppression of \(check) has no reason",
        advice: "say why, in at least ten characters")
    }
    self.check = check
    self.subject = subject
    self.reason = reason
  }

  /// Reads `check=backup-size,subject=postgres/*,reason=…`; the reason goes on to the end, commas included.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`.
  public init(parsing text: String) throws {
    var rest = Substring(text)
    var fields: [String: String] = [:]
    while !rest.isEmpty {
      guard let equal = rest.firstIndex(of: "=") else { throw Suppression.noForm(text) }
      let name = String(rest[..<equal])
      guard ["check", "subject", "reason"].contains(name), fields[name] == nil else { throw Suppression.noForm(text) }
      let value = rest[rest.index(after: equal)...]
      let end = name == "reason" ? value.endIndex : value.firstIndex(of: ",") ?? value.endIndex
      fields[name] = String(value[..<end])
      rest = end == value.endIndex ? "" : value[value.index(after: end)...]
    }
    try self.init(check: fields["check"] ?? "", subject: fields["subject"] ?? "*", reason: fields["reason"] ?? "")
  }

  private static func noForm(_ text: String) -> DRError {
    DRError(
      .invalidConfiguration, "'\(text.prefix(80))' is no suppression",
      advice: "write check=NAME,subject=PATTERN,reason=TEXT")
  }

  /// Whether a finding falls under it.
  package func covers(_ finding: Finding) -> Bool {
    guard finding.severity == .failure || finding.severity == .warning, finding.check == check else { return false }
    let pattern = Glob(subject.utf8, .starsOnly)
    return Array(finding.subject.utf8).withUnsafeBytes { pattern.matches($0) }
  }
}

extension Suppression: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable { case check, subject, reason }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    do {
      try self.init(
        check: try fields.decode(String.self, forKey: .check),
        subject: try fields.decodeIfPresent(String.self, forKey: .subject) ?? "*",
        reason: try fields.decodeIfPresent(String.self, forKey: .reason) ?? "")
    } catch let error as DRError {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: error.message, underlyingError: error))
    }
  }
}

/// A finding that fails nothing, and why.
public struct SuppressedFinding: Hashable, Sendable, Codable {
  public var finding: Finding
  public var reason: String

  public init(_ finding: Finding, reason: String) {
    self.finding = finding
    self.reason = reason
  }
}
