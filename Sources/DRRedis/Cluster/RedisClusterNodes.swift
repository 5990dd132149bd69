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
    /// Slots that move to or from it, which a node says of itself only.
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
    let masters = nodes.filter { $0.isMaster && !$0.slots.isEmpty }
      .sorted { ($0.slots[0].lowerBound, $0.id) < ($1.slots[0].lowerBound, $1.id) }
    for node in nodes { try refuseMovement(of: node, at: "\(node.host):\(node.port)") }
    if let failing = masters.first(where: \.isFailing) {
      throw Self.refusal("the master \(failing.host):\(failing.port) fails", "wait for the failover, or repair it")
    }
    let covered = masters.flatMap(\.slots).reduce(0) { $0 + $1.count }
    guard covered == 16384 else {
      throw Self.refusal("\(covered) of 16384 slots are served", "see CLUSTER INFO")
    }
    return masters
  }

  /// Compares a master, as another node sees it, with what it says itself: the only one that knows whether a slot of it moves.
  ///
  /// - Parameter master: By another node's ``masters()``.
  /// - Throws: ``DRError`` with `sourceFailed` if slots of it move, or if it does not serve those.
  package func confirm(_ master: Node) throws {
    let address = "\(master.host):\(master.port)"
    guard let own = nodes.first(where: { $0.flags.contains("myself") }), own.id == master.id, own.isMaster else {
      throw Self.refusal("\(address) is not the master \(master.id)", "wait for the failover, and take it again")
    }
    try refuseMovement(of: own, at: address)
    guard own.slots == master.slots else {
      throw Self.refusal(
        "the master \(address) serves other slots than other nodes know of",
        "wait until they agree, and take it again")
    }
  }

  private func refuseMovement(of node: Node, at address: String) throws {
    guard !node.moving.isEmpty else { return }
    let moves = node.moving.map { text in
      guard let match = text.wholeMatch(of: /\[(\d+)-([<>])-(\w+)\]/) else { return text }
      let other = nodes.first { $0.id == match.3 }.map { "\($0.host):\($0.port)" } ?? "\(match.3)"
      return "\(match.1) \(match.2 == ">" ? "to" : "from") \(other)"
    }
    throw Self.refusal(
      "slots move at \(address): \(moves.joined(separator: ", "))",
      "wait until the migration has ended; one that was given up stays open until CLUSTER SETSLOT <slot> STABLE on both nodes"
    )
  }

  private static func refusal(_ what: String, _ advice: String) -> DRError {
    DRError(.sourceFailed, "the cluster is not whole and at rest: \(what)", advice: advice)
  }

  private static func malformed(_ line: Substring) -> DRError {
    DRError(.malformedData, "CLUSTER NODES says '\(line.prefix(120))'")
  }
}
