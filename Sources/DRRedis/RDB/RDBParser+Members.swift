/// The members of collections that are more than strings one after another.
extension RDBParser {
  /// Returns false when there are too few bytes.
  mutating func members(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) throws -> Bool {
    switch step {
    case .scores: try scores(bytes, &position)
    case .binaryScores: try binaryScores(bytes, &position)
    case .quicklistNodes: try quicklistNodes(bytes, &position)
    default: try fields(bytes, &position)
    }
  }

  /// A member and its score as text: a byte that says how long it is, or is a score itself (not a number, infinities).
  private mutating func scores(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) throws -> Bool {
    while count > 0 {
      if count & 1 == 0 {
        guard let header = try stringHeader(bytes, position) else { return false }
        count &-= 1
        guard try pass(header, bytes, &position, then: .scores) else { return true }
      } else {
        guard position < bytes.count else { return false }
        if bytes[position] < 253 {
          left = UInt64(bytes[position])
          count &-= 1
          position &+= 1
          guard left <= UInt64(bytes.count &- position) else {
            after = .scores
            step = .skip
            return true
          }
          position &+= Int(left)
        } else {
          count &-= 1
          position &+= 1
        }
      }
    }
    step = .valueEnd
    return true
  }

  /// A member and its score as eight bytes.
  private mutating func binaryScores(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) throws -> Bool {
    while count > 0 {
      if count & 1 == 0 {
        guard let header = try stringHeader(bytes, position) else { return false }
        count &-= 1
        guard try pass(header, bytes, &position, then: .binaryScores) else { return true }
      } else {
        guard bytes.count &- position >= 8 else { return false }
        count &-= 1
        position &+= 8
      }
    }
    step = .valueEnd
    return true
  }

  /// A mark, and one long element (1) or a listpack (2).
  private mutating func quicklistNodes(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) throws -> Bool {
    while count > 0 {
      guard let mark = try length(bytes, position) else { return false }
      guard mark.value == 1 || mark.value == 2 else {
        throw malformed("a node of a list of unknown kind \(mark.value)", at: position)
      }
      guard let header = try stringHeader(bytes, position &+ mark.size) else { return false }
      packing = mark.value == 2 ? .listpack(multipleOf: 1) : .plain
      position &+= mark.size
      count &-= 1
      guard try pass(header, bytes, &position, then: .quicklistNodes) else { return true }
    }
    step = .valueEnd
    return true
  }

  /// When a field expires, the field, its value.
  private mutating func fields(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) throws -> Bool {
    while count > 0 {
      if count % 3 == 0 {
        guard let expiry = try length(bytes, position) else { return false }
        position &+= expiry.size
        count &-= 1
      } else {
        guard let header = try stringHeader(bytes, position) else { return false }
        count &-= 1
        guard try pass(header, bytes, &position, then: .fields) else { return true }
      }
    }
    step = .valueEnd
    return true
  }
}
