public import DRCore
import Foundation

extension RecoveryTarget {
  /// The one target that was asked for among a program's options; none is the latest.
  ///
  /// - Parameter time: With a time zone: `2026-11-23 12:00:00+00`.
  /// - Throws: ``DRError`` with `invalidConfiguration` if there are several, or if the moment is none.
  public init(immediate: Bool, time: String?, position: String?, name: String? = nil) throws {
    var targets: [RecoveryTarget] = immediate ? [.immediate] : []
    if let time {
      guard let date = Timestamp.parse(time) else {
        throw DRError(
          .invalidConfiguration, "'\(time.prefix(60))' is no moment with a time zone",
          advice: "write it as '2026-11-23 12:00:00+00'")
      }
      targets.append(.time(date))
    }
    if let position { targets.append(.position(position)) }
    if let name { targets.append(.name(name)) }
    guard targets.count <= 1 else {
      throw DRError(.invalidConfiguration, "there is more than one target", advice: "give one")
    }
    self = targets.first ?? .latest
  }
}
