import DRCore
package import Foundation

/// The part of JSON Schema (draft 2020-12) that this package's own schemas are written in. A keyword that it does not know is
/// refused, lest a rule goes unchecked.
package struct JSONSchema: Sendable {
  private let root: JSONValue

  /// - Throws: `DecodingError` for what is no JSON.
  package init(_ json: Data) throws { root = try JSONDecoder().decode(JSONValue.self, from: json) }

  /// What of a document does not follow the schema, each with its place; empty: it follows.
  ///
  /// - Throws: ``DRError`` with `unsupported` for a schema with other keywords; `malformedData` for what is no JSON.
  package func violations(of json: Data) throws -> [String] {
    let document: JSONValue
    do {
      document = try JSONDecoder().decode(JSONValue.self, from: json)
    } catch {
      throw DRError(.malformedData, "this is no JSON", cause: error)
    }
    return try violations(of: document, root, "$")
  }

  private static let remarks: Set = ["$schema", "$id", "$defs", "title", "description", "format"]

  private func violations(of value: JSONValue, _ schema: JSONValue, _ path: String) throws -> [String] {
    guard let keywords = schema.object else { throw unsupported("a schema that is no object", path) }
    var found: [String] = []
    for (keyword, rule) in keywords.sorted(by: { $0.key < $1.key }) where !JSONSchema.remarks.contains(keyword) {
      switch keyword {
      case "$ref": found += try violations(of: value, referred(rule), path)
      case "type":
        if !isOf(value, rule.string ?? "") { found.append("\(path) is no \(rule.string ?? "?")") }
      case "enum":
        if rule.array?.contains(value) != true { found.append("\(path) is none of the values that it may have") }
      case "required":
        let missing = (rule.array ?? []).compactMap(\.string).filter { value.object != nil && value.object?[$0] == nil }
        found += missing.map { "\(path) lacks '\($0)'" }
      case "properties":
        for (name, member) in rule.object ?? [:] {
          if let inner = value.object?[name] { found += try violations(of: inner, member, "\(path).\(name)") }
        }
      case "items":
        for (index, element) in (value.array ?? []).enumerated() {
          found += try violations(of: element, rule, "\(path)[\(index)]")
        }
      case "pattern":
        if let text = value.string, try !matches(text, rule.string ?? "") { found.append("\(path) has not its form") }
      case "maxLength":
        if let text = value.string, text.unicodeScalars.count > rule.integer ?? 0 {
          found.append("\(path) is too long")
        }
      case "minimum":
        if let number = value.integer, number < rule.integer ?? 0 { found.append("\(path) is too small") }
      case "maximum":
        if let number = value.integer, number > rule.integer ?? 0 { found.append("\(path) is too large") }
      default: throw unsupported("the keyword '\(keyword)'", path)
      }
    }
    return found.sorted()
  }

  private func referred(_ reference: JSONValue) throws -> JSONValue {
    guard let text = reference.string, text.hasPrefix("#/$defs/"),
      let found = root.object?["$defs"]?.object?[String(text.dropFirst(8))]
    else { throw unsupported("the reference \(reference.string ?? "?")", "$defs") }
    return found
  }

  private func isOf(_ value: JSONValue, _ type: String) -> Bool {
    switch (type, value) {
    case ("object", .object), ("array", .array), ("string", .string), ("boolean", .bool), ("null", .null): true
    case ("integer", .integer), ("number", .integer), ("number", .number): true
    default: false
    }
  }

  private func matches(_ text: String, _ pattern: String) throws -> Bool {
    let expression = try NSRegularExpression(pattern: pattern)
    return expression.firstMatch(in: text, range: NSRange(text.startIndex..., in: text)) != nil
  }

  private func unsupported(_ what: String, _ path: String) -> DRError {
    DRError(.unsupported, "\(what) of a schema is not known here", object: path)
  }
}
