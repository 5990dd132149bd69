/// Any field of an object.
private struct AnyKey: CodingKey {
  var stringValue: String
  var intValue: Int? { nil }

  init(stringValue: String) { self.stringValue = stringValue }
  init?(intValue: Int) { nil }
}

extension Decoder {
  /// The fields of an object, if all of them are known: what was mistyped must not be taken for left out.
  ///
  /// - Throws: `DecodingError` naming the field that is not known, and those that are.
  package func known<Key: CodingKey & CaseIterable>(_: Key.Type) throws -> KeyedDecodingContainer<Key> {
    let names = Key.allCases.map(\.stringValue)
    let fields = try container(keyedBy: AnyKey.self)
    if let unknown = fields.allKeys.first(where: { !names.contains($0.stringValue) }) {
      throw DecodingError.dataCorruptedError(
        forKey: unknown, in: fields,
        debugDescription:
          "the field '\(unknown.stringValue.prefix(40))' is not known; these are: \(names.joined(separator: ", "))")
    }
    return try container(keyedBy: Key.self)
  }
}

extension DecodingError {
  /// Where and why, in a line.
  package var reason: String {
    switch self {
    case .dataCorrupted(let context), .typeMismatch(_, let context), .valueNotFound(_, let context): context.line
    case .keyNotFound(let key, let context): context.line(saying: "the field '\(key.stringValue)' is missing")
    @unknown default: "\(self)"
    }
  }
}

extension DecodingError.Context {
  fileprivate var line: String { line(saying: debugDescription) }

  fileprivate func line(saying what: String) -> String {
    let path = codingPath.map { $0.intValue.map { "\($0 + 1)." } ?? $0.stringValue }.joined(separator: " ")
    return path.isEmpty ? what : "\(path): \(what)"
  }
}
