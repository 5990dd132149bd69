import DRCore
public import DRPlan
import Foundation

extension RunReport.Plan {
  /// A recovery plan as it is written now.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` for one that cannot be read.
  public init(file: String) throws {
    let json: Data
    do {
      json = try Data(contentsOf: URL(fileURLWithPath: file))
    } catch {
      throw DRError(.invalidConfiguration, "the recovery plan cannot be read", object: file, cause: error)
    }
    do {
      try self.init(json: json)
    } catch var error as DRError {
      error.object = error.object ?? file
      throw error
    }
  }
}
