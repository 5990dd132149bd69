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
}
