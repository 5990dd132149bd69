import ArgumentParser
import DRCore
public import Foundation

/// A moment among a program's options.
public enum MomentArgument {
  /// - Throws: `ValidationError` for what is no moment with a time zone.
  public static func parse(_ text: String) throws -> Date {
    guard let moment = Timestamp.parse(text) else {
      throw ValidationError(
        "'\(text.prefix(60))' is no moment with a time zone: write it as '2026-11-23 12:00:00+00'")
    }
    return moment
  }

  /// - Parameter zone: The name of the time zone in which a text without one is meant.
  /// - Throws: Also for what in that zone there is twice, or never, because clocks are changed.
  public static func parse(_ text: String, in zone: String) throws -> Date {
    guard Timestamp.parse(text) == nil, let wall = Timestamp.parse(text + "Z"), let zone = TimeZone(identifier: zone)
    else { return try parse(text) }
    let offsets = Set([-86_400.0, 86_400].map { zone.secondsFromGMT(for: wall.addingTimeInterval($0)) })
    let moments = offsets.map { wall.addingTimeInterval(-Double($0)) }.filter {
      wall == $0.addingTimeInterval(Double(zone.secondsFromGMT(for: $0)))
    }
    guard let moment = moments.first, moments.count == 1 else {
      throw ValidationError(
        "'\(text.prefix(60))' is \(moments.isEmpty ? "never" : "twice") in \(zone.identifier), where clocks are changed: write it with its zone, "
          + "as '2026-11-23 12:00:00+00'")
    }
    return moment
  }
}
