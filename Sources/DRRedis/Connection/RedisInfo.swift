/// What `INFO` says: `name:value` lines in sections.
package struct RedisInfo: Sendable {
  private let values: [Substring: Substring]

  package init(_ text: String) {
    var values: [Substring: Substring] = [:]
    for line in text.split(whereSeparator: \.isNewline) where line.first != "#" {
      guard let colon = line.firstIndex(of: ":") else { continue }
      values[line[..<colon]] = line[line.index(after: colon)...]
    }
    self.values = values
  }

  package subscript(name: String) -> String? { values[Substring(name)].map(String.init) }

  package func integer(_ name: String) -> Int64? { self[name].flatMap { Int64($0) } }

  /// The parts of a value such as `keys=3,expires=1,avg_ttl=0`.
  package func parts(_ name: String) -> [String: String] {
    var parts: [String: String] = [:]
    for part in (self[name] ?? "").split(separator: ",") {
      guard let equals = part.firstIndex(of: "=") else { continue }
      parts[String(part[..<equals])] = String(part[part.index(after: equals)...])
    }
    return parts
  }

  /// The keys of each database that has any, by the section `keyspace`.
  package var keysByDatabase: [Int: Int64] { byDatabase("keys") }

  /// Of these, those that have a time to live.
  package var expiringByDatabase: [Int: Int64] { byDatabase("expires") }

  private func byDatabase(_ part: String) -> [Int: Int64] {
    var counts: [Int: Int64] = [:]
    for name in values.keys where name.hasPrefix("db") {
      guard let number = Int(name.dropFirst(2)), let count = parts(String(name))[part].flatMap({ Int64($0) }) else {
        continue
      }
      counts[number] = count
    }
    return counts
  }
}
