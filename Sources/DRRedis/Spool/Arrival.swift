package import Foundation

/// When something of a stream came, and whether that says when it was made.
package struct Arrival: Hashable, Sendable {
  package var moment: Date
  /// It may have been made long before: it waited at the server until it could come.
  package var isLate: Bool
  /// Of the first that is late: since when it may have waited, if that is later than what came before it.
  package var lateSince: Date?

  package init(moment: Date = Date(), isLate: Bool = false, lateSince: Date? = nil) {
    self.moment = moment
    self.isLate = isLate
    self.lateSince = lateSince
  }
}
