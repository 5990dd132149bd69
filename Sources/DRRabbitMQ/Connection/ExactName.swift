package import DRCore

/// A name as a broker compares it: by its bytes.
///
/// Swift takes texts for equal that are so after Unicode normalisation: `"\u{e9}"` and `"e\u{301}"`. To a broker these are two queues,
/// two vhosts, two users, two message-ids. So whatever tells one thing of a broker from another compares names as this type does.
package struct ExactName: Hashable, Comparable, Sendable {
  package let text: String

  package init(_ text: String) { self.text = text }

  package static func == (left: ExactName, right: ExactName) -> Bool { left.text.utf8.elementsEqual(right.text.utf8) }

  package static func < (left: ExactName, right: ExactName) -> Bool {
    left.text.utf8.lexicographicallyPrecedes(right.text.utf8)
  }

  package func hash(into hasher: inout Hasher) {
    var text = text
    text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    // So that of two names one after another the border counts.
    hasher.combine(UInt8.max)
  }
}

extension String {
  /// This text, compared by its bytes.
  package var exact: ExactName { ExactName(self) }
}

extension Sequence<String> {
  package func containsExactly(_ name: String) -> Bool { contains { $0.exact == name.exact } }
}

extension Dictionary where Key == String {
  /// The value of this very name; not of one that is equal to it after Unicode normalisation.
  package subscript(exactly name: String) -> Value? {
    guard let index = index(forKey: name), self[index].key.exact == name.exact else { return nil }
    return self[index].value
  }
}

extension JSONValue {
  /// Whether both are the same where texts are compared by their bytes.
  package func isExactly(_ other: JSONValue) -> Bool {
    switch (self, other) {
    case (.string(let left), .string(let right)): left.exact == right.exact
    case (.array(let left), .array(let right)):
      left.count == right.count && zip(left, right).allSatisfy { $0.isExactly($1) }
    case (.object(let left), .object(let right)):
      left.count == right.count
        && zip(Self.ordered(left), Self.ordered(right)).allSatisfy {
          $0.key.exact == $1.key.exact && $0.value.isExactly($1.value)
        }
    default: self == other
    }
  }

  package func hashExactly(into hasher: inout Hasher) {
    switch self {
    case .string(let text): hasher.combine(text.exact)
    case .array(let values):
      hasher.combine(values.count)
      for value in values { value.hashExactly(into: &hasher) }
    case .object(let members):
      hasher.combine(members.count)
      for (name, value) in Self.ordered(members) {
        hasher.combine(name.exact)
        value.hashExactly(into: &hasher)
      }
    default: hasher.combine(self)
    }
  }

  private static func ordered(_ members: [String: JSONValue]) -> [(key: String, value: JSONValue)] {
    members.sorted { $0.key.exact < $1.key.exact }
  }
}
