import DRCore
import DRVerify
import Foundation
import NIOCore

/// What is signed of a report: an in-toto statement (https://in-toto.io/Statement/v1) whose subjects are the report's files by their SHA-256.
struct ReportStatement: Codable, Hashable {
  struct Subject: Codable, Hashable {
    var name: String
    var digest: [String: String]
  }

  /// What a reader of the statement alone learns.
  struct Predicate: Codable, Hashable {
    var kind: RunReport.Kind
    var plan: RunReport.Plan
    var number: Int?
    var previous: String?
    var verdict: Verdict
    var sentence: String
  }

  static let type = "https://in-toto.io/Statement/v1"
  static let predicateType = "urn:swift-disaster-recovery:run-report:1"

  var type = ReportStatement.type
  /// The report first, then what was made of it for people.
  var subject: [Subject]
  var predicateType = ReportStatement.predicateType
  var predicate: Predicate

  private enum CodingKeys: String, CodingKey {
    case type = "_type"
    case subject, predicateType, predicate
  }

  init(_ report: RunReport, files: [(name: String, content: Data)]) {
    subject = files.map { Subject(name: $0.name, digest: ["sha256": $0.content.sha256]) }
    predicate = Predicate(report)
  }

  /// - Throws: ``DRError`` with `malformedData`.
  init(json: Data) throws {
    do {
      self = try JSONDecoder().decode(ReportStatement.self, from: json)
    } catch {
      throw DRError(.malformedData, "what was signed is no statement about a report", cause: error)
    }
    guard type == Self.type, predicateType == Self.predicateType else {
      throw DRError(.malformedData, "what was signed is a statement about something else: \(predicateType.prefix(80))")
    }
  }

  func json() throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(self)
  }
}

extension ReportStatement.Predicate {
  init(_ report: RunReport) {
    (kind, plan, number, previous) = (report.kind, report.plan, report.number, report.previous)
    (verdict, sentence) = (report.verdict, report.sentence)
  }
}

extension Data {
  var sha256: String { StreamDigest.hex(ByteBuffer(bytes: self)) }
}
