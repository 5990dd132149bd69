/// Streams: their nodes, then what is known about them, then their consumer groups, each with what is pending.
extension RDBParser {
  /// Returns false when there are too few bytes.
  mutating func stream(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) throws -> Bool {
    switch step {
    case .streamNodes:
      return try nodes(bytes, &position)

    case .groupCount:
      guard let number = try length(bytes, position) else { return false }
      position &+= number.size
      groups = number.value
      step = .groups

    case .groups:
      guard groups > 0 else {
        step = .valueEnd
        return true
      }
      guard let name = try stringHeader(bytes, position) else { return false }
      groups &-= 1
      if try pass(name, bytes, &position, then: .groupLengths) { step = .groupLengths }

    case .groupLengths:
      // The last identifier given out, in two parts, and from version 2 on how many entries were read.
      count = type == .stream ? 2 : 3
      after = .pendingCount
      step = .lengths

    case .pendingCount:
      guard let number = try length(bytes, position) else { return false }
      position &+= number.size
      count = number.value
      step = .pending

    case .pending:
      while count > 0 {
        // An identifier, when it was delivered, how often.
        guard bytes.count &- position >= 24, let deliveries = try length(bytes, position &+ 24) else { return false }
        position &+= 24 &+ deliveries.size
        count &-= 1
      }
      step = .consumerCount

    case .consumerCount:
      guard let number = try length(bytes, position) else { return false }
      position &+= number.size
      consumers = number.value
      step = .consumers

    case .consumers:
      guard consumers > 0 else {
        step = .groups
        return true
      }
      guard let name = try stringHeader(bytes, position) else { return false }
      consumers &-= 1
      if try pass(name, bytes, &position, then: .consumerTimes) { step = .consumerTimes }

    case .consumerTimes:
      // When it was last seen, and from version 3 on when it was last active.
      let size = type == .stream3 ? 16 : 8
      guard bytes.count &- position >= size else { return false }
      position &+= size
      step = .consumerPending

    default:
      guard let number = try length(bytes, position) else { return false }
      let (total, overflow) = number.value.multipliedReportingOverflow(by: 16)
      guard !overflow else { throw malformed("\(number.value) pending entries cannot be", at: position) }
      position &+= number.size
      left = total
      after = .consumers
      step = .skip
    }
    return true
  }

  /// Nodes: the identifier of the first entry (16 bytes, stored as a string), and a listpack of entries.
  private mutating func nodes(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) throws -> Bool {
    packing = .listpack(multipleOf: 1)
    while count > 0 {
      guard let name = try stringHeader(bytes, position) else { return false }
      guard name.form == .raw, name.payload == 16 else {
        throw malformed("a node of a stream whose name is no identifier", at: position)
      }
      let next = position &+ name.size &+ 16
      guard let list = try stringHeader(bytes, next) else { return false }
      position = next
      count &-= 1
      guard try pass(list, bytes, &position, then: .streamNodes) else { return true }
    }
    packing = .plain
    // The number of entries and the last identifier; from version 2 on the first identifier, the last that was deleted
    // and how many entries were ever added.
    count = type == .stream ? 3 : 8
    after = .groupCount
    step = .lengths
    return true
  }
}
