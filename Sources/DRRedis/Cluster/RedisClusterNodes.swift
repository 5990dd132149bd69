import DRCore

/// What `CLUSTER NODES` says: pure.
///
/// Source: Redis documentation, "CLUSTER NODES": `<id> <ip:port@cport[,hostname]> <flags> <master> <ping> <pong> <epoch> <link>
/// <slot> …`, where a slot that moves is `[<slot>->-<id>]` or `[<slot>-<-<id>]`.
package struct RedisClusterNodes: Sendable, Hashable {
  package struct Node: Sendable, Hashable {
    package var id: String
    package var host: String
    package var port: Int
    package var flags: Set<String>
    package var slots: [ClosedRange<Int>]
    /// Slots that move to or from it.
    package var moving: [String]

    package var isMaster: Bool { flags.contains("master") }
    package var isFailing: Bool { flags.contains("fail") || flags.contains("fail?") || flags.contains("noaddr") }
  }

  package var nodes: [Node]
  /// As the server said it.
  package let text: String

  /// - Throws: ``DRError`` with `malformedData`.
  package init(_ text: String) throws {
    self.text = text
    nodes = try text.split(whereSeparator: \.isNewline).map { line in
      let fields = line.split(separator: " ").map(String.init)
      guard fields.count >= 8 else { throw RedisClusterNodes.malformed(line) }
      let address = fields[1].split(separator: ",")[0].split(separator: "@")[0]
      guard let colon = address.lastIndex(of: ":"), let port = Int(address[address.index(after: colon)...]) else {
        throw RedisClusterNodes.malformed(line)
      }
      var node = Node(
        id: fields[0], host: String(address[..<colon]), port: port,
        flags: Set(fields[2].split(separator: ",").map(String.init)), slots: [], moving: [])
      for field in fields.dropFirst(8) {
        if field.hasPrefix("[") {
          node.moving.append(field)
          continue
        }
        let ends = field.split(separator: "-").compactMap { Int($0) }
        guard let first = ends.first, let last = ends.last, (0...16383).contains(first), (first...16383).contains(last)
        else { throw RedisClusterNodes.malformed(line) }
        node.slots.append(first...last)
      }
      return node
    }
  }

  /// The masters that hold slots, in the order of these.
  ///
  /// - Throws: ``DRError`` with `sourceFailed` while slots move, if a master fails, or if a slot is nobody's: a snapshot
  ///   would miss keys, or hold some twice.
  package func masters() throws -> [Node] {
    func refuse(_ what: String, _ advice: String) -> DRError {
      DRError(.sourceFailed, "the cluster is not whole and at rest: \(what)", advice: advice)
    }
    let masters = nodes.filter { $0.isMaster && !$0.slots.isEmpty }
      .sorted { ($0.slots[0].lowerBound, $0.id) < ($1.slots[0].lowerBound, $1.id) }
    if let moving = nodes.first(where: { !$0.moving.isEmpty }) {
      throw refuse("slots move: \(moving.moving.joined(separator: " "))", "wait until the migration has ended")
    }
    if let failing = masters.first(where: \.isFailing) {
      throw refuse("the master \(failing.host):\(failing.port) fails", "wait for the failover, or repair it")
    }
    let covered = masters.flatMap(\.slots).reduce(0) { $0 + $1.count }
    guard covered == 16384 else {
      throw refuse("\(covered) of 16384 slots are served", "see CLUSTER INFO")
    }
    return masters
  }

  private static func malformed(_ line: Substring) -> DRError {
    DRError(.malformedData, "CLUSTER NODES says '\(line.prefix(120))'")
  }
}
