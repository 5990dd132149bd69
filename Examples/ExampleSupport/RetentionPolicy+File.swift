import DRCore
public import DRStorage
import Foundation

extension RetentionPolicy {
  /// As a file has it.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`.
  public init(file: String) throws {
    do {
      self = try JSONDecoder().decode(RetentionPolicy.self, from: Data(contentsOf: URL(fileURLWithPath: file)))
    } catch {
      throw DRError(
        .invalidConfiguration,
        "the policy cannot be read: \((error as? DecodingError)?.reason ?? DRError.text(of: error))",
        advice: "as in the README: {\"rules\": [{\"days\": 7}, {\"newest\": 12, \"each\": \"month\"}]}",
        object: file)
    }
  }
}
