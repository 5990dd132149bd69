import DRCore

/// What a recovery plan is written with: names and their values.
struct PlanVariables {
  private let values: [String: String]

  /// - Parameters:
  ///   - declared: By the plan; nil: a value must be given.
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` naming every variable that has no value, and one that the plan has not.
  init(declared: [String: String?], given: [String: String]) throws {
    for name in declared.keys.sorted() where name.wholeMatch(of: /[a-z][a-z0-9-]{0,62}/) == nil {
      throw DRError(
        .invalidConfiguration,
        "'\(name.prefix(64))' cannot be the name of a variable (lower-case letters, digits, hyphens)")
    }
    for name in given.keys.sorted() where declared[name] == nil {
      throw DRError(
        .invalidConfiguration, "the recovery plan has no variable '\(name.prefix(64))'",
        advice: "it has \(declared.keys.sorted().joined(separator: ", "))")
    }
    var values: [String: String] = [:]
    var missing: [String] = []
    for (name, value) in declared {
      if let value = given[name] ?? value { values[name] = value } else { missing.append(name) }
    }
    guard missing.isEmpty else {
      throw DRError(
        .invalidConfiguration,
        "the recovery plan has variables without a value: \(missing.sorted().joined(separator: ", "))",
        advice: "give each: --set \(missing.sorted()[0])=…")
    }
    self.values = values
  }

  /// A text with the values in place of `${name}`; `$${` stands for `${`.
  ///
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` for a name that the plan does not declare.
  func filled(_ text: String) throws -> String { try fill(text).text }

  /// A word of a program; nil: to be left out, for something in it is empty.
  func word(_ text: String) throws -> String? {
    let (filled, isComplete) = try fill(text)
    return isComplete ? filled : nil
  }

  private func fill(_ text: String) throws -> (text: String, isComplete: Bool) {
    var (rest, filled, isComplete) = (Substring(text), "", true)
    while let mark = rest.firstRange(of: "${") {
      if rest[..<mark.lowerBound].hasSuffix("$") {
        // A shell's own.
        filled += rest[..<mark.lowerBound].dropLast() + "${"
        rest = rest[mark.upperBound...]
        continue
      }
      guard let end = rest[mark.upperBound...].firstIndex(of: "}"),
        let value = values[String(rest[mark.upperBound..<end])]
      else {
        throw DRError(
          .invalidConfiguration,
          "the recovery plan says '\(rest[mark.lowerBound...].prefix(64))', and declares no such variable",
          advice: "declare it under \"variables\"; for a variable of a shell, write $${…}")
      }
      if value.isEmpty { isComplete = false }
      filled += rest[..<mark.lowerBound] + value
      rest = rest[rest.index(after: end)...]
    }
    return (filled + rest, isComplete)
  }
}
