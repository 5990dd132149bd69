package import DRCore
import Foundation
import NIOCore

/// The definitions of a broker: users, vhosts, permissions, policies, parameters, queues, exchanges, bindings.
///
/// Pure: JSON in, values out. What the broker adds in later versions is kept as it is.
public struct RabbitMQDefinitions: Hashable, Sendable {
  /// A kind of definition, in the order in which they must be made.
  public enum Kind: String, Sendable, CaseIterable, Codable {
    case vhosts
    case users
    case permissions
    case topicPermissions = "topic_permissions"
    case globalParameters = "global_parameters"
    case parameters
    case policies
    case exchanges
    case queues
    case bindings

    /// The members that together say which one it is.
    var identity: [String] {
      switch self {
      case .vhosts, .users, .globalParameters: ["name"]
      case .permissions: ["vhost", "user"]
      case .topicPermissions: ["vhost", "user", "exchange"]
      case .parameters: ["vhost", "component", "name"]
      case .policies, .exchanges, .queues: ["vhost", "name"]
      case .bindings: ["vhost", "source", "destination_type", "destination", "routing_key", "arguments"]
      }
    }

    /// What cannot be changed once it is made, but by removing it with all that is in it.
    var isFixed: Bool { self == .exchanges || self == .queues }

    /// Members that are not a part of the definition but of a moment.
    var passing: Set<String> { self == .vhosts ? ["metadata", "limits"] : [] }
  }

  /// One definition. Two are the same if they are so byte by byte.
  struct Item: Hashable, Sendable {
    var kind: Kind
    var members: [String: JSONValue]

    static func == (left: Item, right: Item) -> Bool {
      left.kind == right.kind && JSONValue.object(left.members).isExactly(.object(right.members))
    }

    func hash(into hasher: inout Hasher) {
      hasher.combine(kind)
      JSONValue.object(members).hashExactly(into: &hasher)
    }

    /// For people, and to tell one from another: `/orders/invoices`.
    var name: String {
      kind.identity.map { member in
        switch members[member] {
        case .string(let text): text
        case .object(let object) where object.isEmpty: ""
        case .some(let value): Self.canonical(value)
        case nil: ""
        }
      }.joined(separator: " ").trimmingCharacters(in: .whitespaces)
    }

    var vhost: String? { kind == .vhosts ? members["name"]?.string : members["vhost"]?.string }

    subscript(member: String) -> JSONValue? { members[member] }

    static func canonical(_ value: JSONValue) -> String {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      return (try? encoder.encode(value)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
  }

  var items: [Kind: [Item]] = [:]
  /// What the broker says of itself: `rabbit_version`, `product_name` …
  var others: [String: JSONValue] = [:]

  /// The version of the broker, as it gave it.
  public var serverVersion: String? { others["rabbit_version"]?.string ?? others["rabbitmq_version"]?.string }

  /// - Throws: ``DRError`` with `malformedData` for JSON that is no definitions.
  package init(_ value: JSONValue, object: String = "definitions.json") throws {
    guard let members = value.object, members["vhosts"] != nil || members["queues"] != nil else {
      throw DRError(.malformedData, "these are no definitions of a broker", object: object)
    }
    for (name, value) in members {
      guard let kind = Kind(rawValue: name) else {
        others[name] = value
        continue
      }
      guard let values = value.array else {
        throw DRError(.malformedData, "'\(name)' of the definitions is no list", object: object)
      }
      items[kind] = try values.map { value in
        guard let members = value.object else {
          throw DRError(.malformedData, "'\(name)' of the definitions holds what is no object", object: object)
        }
        return Item(kind: kind, members: members)
      }
    }
    // A tap makes its queues itself, where it taps: restored without it they would grow for ever. A probe's go by themselves.
    for prefix in [RabbitMQTap.queuePrefix, ProbeQueue.prefix] {
      items[.queues]?.removeAll { $0["name"]?.string?.hasPrefix(prefix) ?? false }
      items[.bindings]?.removeAll { $0["destination"]?.string?.hasPrefix(prefix) ?? false }
    }
    // What stays when the last limit of a vhost was removed.
    items[.parameters]?.removeAll { $0["component"] == "vhost-limits" && $0["value"]?.object?.isEmpty ?? true }
    // It belongs to one cluster: another that took it would be taken for that one.
    items[.globalParameters]?.removeAll { $0["name"] == "internal_cluster_id" }
  }

  /// Those of a backup.
  ///
  /// - Throws: ``DRError``: what the reader says; `malformedData`.
  static func read(from reader: any BackupReader) async throws -> RabbitMQDefinitions {
    let stored = try await reader.read(reader.manifest.artifact("definitions.json"))
      .collect(limit: 512 << 20, object: "definitions.json")
    let value: JSONValue
    do {
      value = try JSONDecoder().decode(JSONValue.self, from: Data(stored.readableBytesView))
    } catch {
      throw DRError(.malformedData, "the backup's definitions are no JSON", object: "definitions.json", cause: error)
    }
    return try RabbitMQDefinitions(value)
  }

  subscript(kind: Kind) -> [Item] { items[kind] ?? [] }

  /// How many there are of each kind.
  public var counts: [String: Int] {
    Dictionary(uniqueKeysWithValues: Kind.allCases.map { ($0.rawValue, self[$0].count) })
  }

  /// As the broker takes them.
  package func json(_ kinds: [Kind] = Kind.allCases) -> JSONValue {
    var members = others
    for kind in kinds { members[kind.rawValue] = .array(self[kind].map { .object($0.members) }) }
    return .object(members)
  }

  /// Only what belongs to these vhosts: without other vhosts' users, whose permissions tell which they are, and without
  /// global parameters, which are the broker's.
  func only(_ names: [String]) -> RabbitMQDefinitions {
    var copy = self
    let vhosts = Set(names.map(\.exact))
    copy.items[.globalParameters] = nil
    for kind in Kind.allCases where kind != .users {
      copy.items[kind]?.removeAll { $0.vhost.map { !vhosts.contains($0.exact) } ?? false }
    }
    let users = Set(copy[.permissions].compactMap { $0["user"]?.string?.exact })
    copy.items[.users]?.removeAll { item in item["name"]?.string.map { !users.contains($0.exact) } ?? false }
    return copy
  }

  /// Where secrets stand in clear: URIs with a password in parameters, as shovels and federation upstreams hold them.
  package var clearSecrets: [String] {
    (self[.parameters] + self[.globalParameters]).compactMap { item in
      Self.holdsPassword(item["value"] ?? .null) ? item.name : nil
    }
  }

  private static func holdsPassword(_ value: JSONValue) -> Bool {
    switch value {
    case .string(let text): text.contains(#/[a-z]+:\/\/[^\/@\s]*:[^\/@\s]+@/#)
    case .array(let values): values.contains(where: holdsPassword)
    case .object(let members): members.values.contains(where: holdsPassword)
    default: false
    }
  }
}
