package import Foundation

extension Date {
  /// Since 1970.
  var milliseconds: Int64 { Int64((timeIntervalSince1970 * 1000).rounded(.down)) }

  /// Since 1970, rounded up: what came at it was not there before.
  package var millisecondsUp: Int64 { Int64((timeIntervalSince1970 * 1000).rounded(.up)) }

  init(milliseconds: Int64) { self.init(timeIntervalSince1970: Double(milliseconds) / 1000) }
}
