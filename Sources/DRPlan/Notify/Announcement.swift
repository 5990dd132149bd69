/// What is sent to people.
public struct Announcement: Hashable, Sendable {
  public var subject: String
  public var text: String
  /// For whom: roles or addresses.
  public var audience: [String]

  public init(subject: String, text: String, audience: [String] = []) {
    self.subject = subject
    self.text = text
    self.audience = audience
  }
}
