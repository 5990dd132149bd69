public import DRCore
public import DRPlan
import Foundation

/// What restores were measured to take, as a file says it: a JSON object by component.
public enum MeasuredRestores {
  /// - Throws: ``DRError`` with `invalidConfiguration`.
  public static func read(_ file: String) throws -> [Component: MeasuredRestore] {
    var facts: [Component: MeasuredRestore] = [:]
    do {
      let data = try Data(contentsOf: URL(fileURLWithPath: file))
      for (name, value) in try JSONDecoder().decode([String: MeasuredRestore].self, from: data) {
        facts[try Component(parsing: name)] = value
      }
    } catch let error as DecodingError {
      throw DRError(.invalidConfiguration, "what was measured cannot be read: \(error.reason)", object: file)
    } catch let error as DRError {
      throw error
    } catch {
      throw DRError(.invalidConfiguration, "what was measured cannot be read", object: file, cause: error)
    }
    return facts
  }
}
