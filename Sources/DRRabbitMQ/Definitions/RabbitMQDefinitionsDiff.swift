import DRCore

/// What a restore of definitions would do to a broker, as a value to look at before anything is done.
public struct RabbitMQDefinitionsDiff: Hashable, Sendable {
  public struct Entry: Hashable, Sendable, Codable, CustomStringConvertible {
    public enum Change: String, Sendable, Codable {
      /// Not there yet.
      case add
      /// There, and other.
      case change
      /// There and other in what cannot be changed: the broker would keep its own and say nothing.
      case conflict
      /// Only on the broker; left, unless the restore is exact.
      case extra
    }

    public var kind: RabbitMQDefinitions.Kind
    public var change: Change
    public var name: String
    /// What differs; no secret.
    public var detail: String

    public var description: String {
      "\(change.rawValue) \(kind.rawValue) \(name)" + (detail.isEmpty ? "" : " (\(detail))")
    }
  }

  public var entries: [Entry]
  /// How many are the same on both sides.
  public var same: Int

  public func entries(_ change: Entry.Change) -> [Entry] { entries.filter { $0.change == change } }

  /// - Parameters:
  ///   - wanted: Of the backup.
  ///   - present: Of the broker.
  package init(wanted: RabbitMQDefinitions, present: RabbitMQDefinitions) {
    entries = []
    same = 0
    for kind in RabbitMQDefinitions.Kind.allCases {
      let there = Dictionary(present[kind].map { ($0.name.exact, $0) }, uniquingKeysWith: { first, _ in first })
      var seen: Set<ExactName> = []
      for item in wanted[kind] where seen.insert(item.name.exact).inserted {
        guard let other = there[item.name.exact] else {
          entries.append(Entry(kind: kind, change: .add, name: item.name, detail: ""))
          continue
        }
        let differing = Self.differing(item, other)
        if differing.isEmpty {
          same += 1
        } else {
          entries.append(
            Entry(
              kind: kind, change: kind.isFixed ? .conflict : .change, name: item.name,
              detail: differing.joined(separator: ", ")))
        }
      }
      for item in present[kind] where !seen.contains(item.name.exact) {
        entries.append(Entry(kind: kind, change: .extra, name: item.name, detail: ""))
      }
    }
  }

  /// The names of the members that differ; for what is fixed with their values, which are no secrets.
  private static func differing(_ left: RabbitMQDefinitions.Item, _ right: RabbitMQDefinitions.Item) -> [String] {
    let names = Set(left.members.keys).union(right.members.keys).subtracting(left.kind.passing)
    return names.sorted().compactMap { name in
      let (wanted, present) = (normal(left[name], name), normal(right[name], name))
      guard !wanted.isExactly(present) else { return nil }
      guard left.kind.isFixed else { return name }
      return "\(name) is \(RabbitMQDefinitions.Item.canonical(present)) there and "
        + "\(RabbitMQDefinitions.Item.canonical(wanted)) in the backup"
    }
  }

  /// What one version of the broker leaves out and another writes as empty.
  private static func normal(_ value: JSONValue?, _ name: String) -> JSONValue {
    switch value {
    case nil: .null
    case .array(let values) where values.isEmpty: .null
    case .object(let members) where members.isEmpty: .null
    case .object(let members) where name == "arguments":
      // A queue is classic whether its definition says so or not.
      .object(members.filter { $0.key != "x-queue-type" || $0.value != "classic" }).emptyAsNull
    case .string("") where name == "tags": .null
    case .some(let value): value
    }
  }
}

extension JSONValue {
  fileprivate var emptyAsNull: JSONValue {
    if case .object(let members) = self, members.isEmpty { .null } else { self }
  }
}
