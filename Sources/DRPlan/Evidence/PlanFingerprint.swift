import DRCore
import Foundation
import NIOCore

extension RecoveryPlan {
  /// What evidence holds the plan by: the SHA-256 of everything in it. Whatever is changed, a budget or a title too, it is another one, and
  /// what was verified before counts no more.
  ///
  /// Of a plan that is written as JSON it is that of the JSON, with sorted keys and without comments: the values of its variables (a
  /// moment, a folder) are each run's own.
  public var fingerprint: String {
    if let writtenDigest { return writtenDigest }
    let fields = steps.map { step in
      [
        step.id, step.title, step.component.map { "\($0)" } ?? "", step.needs.joined(separator: ","),
        "\(step.priority)", "\(step.budget)", "\(step.limit)", "\(step.attempts)", "\(step.pause)",
        step.action.summary, step.condition?.summary ?? "", step.compensation?.summary ?? "",
      ] + (step.verifies ? ["verifies"] : [])
    }
    return StreamDigest.hex(of: [[name, "\(budget)"]] + fields)
  }
}

extension ProtectionPlan {
  /// What evidence holds the plan by: the SHA-256 of its JSON with sorted keys.
  public var fingerprint: String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // A plan holds nothing that JSON cannot.
    guard let json = try? encoder.encode(self) else { return "" }
    return StreamDigest.hex(ByteBuffer(bytes: json))
  }
}

extension StreamDigest {
  /// As JSON, so that no field can run into the next.
  fileprivate static func hex(of fields: [[String]]) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.withoutEscapingSlashes]
    guard let json = try? encoder.encode(fields) else { return "" }
    return hex(ByteBuffer(bytes: json))
  }
}
