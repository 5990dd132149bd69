import ArgumentParser

/// For a program's `validate`: whether an option's number is one that can be meant. None is right.
///
/// - Throws: `ValidationError`, which names the range.
public func allow<Value: Comparable>(_ option: String, _ value: Value?, _ range: ClosedRange<Value>) throws {
  guard let value, !range.contains(value) else { return }
  func text(_ bound: Value) -> String {
    let text = "\(bound)"
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }
  throw ValidationError("\(option) is \(text(range.lowerBound)) to \(text(range.upperBound))")
}
