public import DRCore
public import Foundation

/// One line of the audit trail: who did what, to what, and how it went.
public struct AuditRecord: Hashable, Sendable {
  public enum Outcome: String, Hashable, Sendable, Codable {
    /// It was begun: without a line that ends it, nobody knows what became of it.
    case begun
    case done, failed, cancelled
  }

  public var when: Date
  public var by: Operator
  /// `backup`, `restore`, `verify`, `prune`, `replicate` …
  public var operation: String
  public var component: Component?
  /// The backup, the destination or the tier.
  public var object: String?
  public var outcome: Outcome
  /// Why it failed, or what there is to say.
  public var detail: String?
  /// Of what was done, in seconds.
  public var duration: Double?
  /// Whose chain it is in: the host.
  public var writer: String
  /// From 1, within the chain.
  public var sequence: Int
  /// The SHA-256 of the line before it: of each one, where two were written at the same time.
  public var previous: [String]
}

extension AuditRecord: Codable {
  private enum CodingKeys: String, CodingKey {
    case when, by, operation, component, object, outcome, detail, seconds, writer, sequence, previous
  }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    guard let when = Timestamp.parse(try fields.decode(String.self, forKey: .when)) else {
      throw DecodingError.dataCorruptedError(forKey: .when, in: fields, debugDescription: "it is no moment")
    }
    self.when = when
    by = try fields.decode(Operator.self, forKey: .by)
    operation = try fields.decode(String.self, forKey: .operation)
    component = try fields.decodeIfPresent(Component.self, forKey: .component)
    object = try fields.decodeIfPresent(String.self, forKey: .object)
    outcome = try fields.decode(Outcome.self, forKey: .outcome)
    detail = try fields.decodeIfPresent(String.self, forKey: .detail)
    duration = try fields.decodeIfPresent(Double.self, forKey: .seconds)
    writer = try fields.decode(String.self, forKey: .writer)
    sequence = try fields.decode(Int.self, forKey: .sequence)
    previous = try fields.decode([String].self, forKey: .previous)
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(Timestamp.format(when), forKey: .when)
    try fields.encode(by, forKey: .by)
    try fields.encode(operation, forKey: .operation)
    try fields.encodeIfPresent(component, forKey: .component)
    try fields.encodeIfPresent(object, forKey: .object)
    try fields.encode(outcome, forKey: .outcome)
    try fields.encodeIfPresent(detail, forKey: .detail)
    try fields.encodeIfPresent(duration.map { ($0 * 1000).rounded() / 1000 }, forKey: .seconds)
    try fields.encode(writer, forKey: .writer)
    try fields.encode(sequence, forKey: .sequence)
    try fields.encode(previous, forKey: .previous)
  }

  /// One line of JSON with sorted keys.
  ///
  /// - Throws: `EncodingError` for what JSON cannot hold.
  public func line() throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(self) + Data("\n".utf8)
  }
}

extension AuditRecord: CustomStringConvertible {
  public var description: String {
    let what = [operation, component.map { "\($0)" }, object].compactMap { $0 }.joined(separator: " ")
    let time = duration.map { " in \(($0 * 10).rounded() / 10) s" } ?? ""
    return
      "\(Timestamp.format(when).prefix(19).replacing("T", with: " "))  \(outcome.rawValue)\(time): \(what), by \(by)"
      + (detail.map { ": \($0)" } ?? "")
  }
}
