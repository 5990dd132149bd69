import DRCore

/// What a command of the replication stream is, as far as cutting and annotating the stream needs to know.
package enum ReplicationCommand: Hashable, Sendable {
  case select(database: Int)
  case multi
  case exec
  /// A heartbeat; changes nothing.
  case ping
  /// `REPLCONF GETACK *`, for replicas; changes nothing.
  case replconf
  /// For subscribers; changes nothing.
  case publish
  case other

  /// Whether it changes data (or frames what does).
  package var changesData: Bool {
    switch self {
    case .ping, .replconf, .publish: false
    default: true
    }
  }
}

/// Finds the commands in a replication stream, or in an append-only file, that comes in pieces of any size.
///
/// Pure. It keeps the first bytes of the first two arguments, and counts the rest.
package struct ReplicationCommandScanner: Sendable {
  private enum Phase {
    /// At a command's first byte, or in its line.
    case count
    /// In the line of an argument's length.
    case length
    /// In an argument, with its CR LF.
    case argument(left: Int)
  }

  private var phase = Phase.count
  private var line: [UInt8] = []
  private var argumentsLeft = 0
  private var argumentIndex = 0
  private var argumentLength = 0
  private var first: [UInt8] = []
  private var second: [UInt8] = []
  /// Bytes of the command so far.
  private var size = 0
  /// Bytes of all whole commands so far.
  package private(set) var position: Int64 = 0

  package init() { line.reserveCapacity(32) }

  /// Whether the last byte taken was the last of a command.
  package var isAtBoundary: Bool { size == 0 }
  /// Bytes taken of the command that is not whole yet.
  package var pending: Int { size }

  /// Takes bytes, and calls the body after the last byte of each command with its kind, its size in bytes, and where in
  /// these bytes it ends.
  ///
  /// - Throws: ``DRError`` with `malformedData` for what is no array of bulk strings; what the body throws.
  package mutating func scan(
    _ bytes: UnsafeRawBufferPointer, _ body: (ReplicationCommand, _ size: Int, _ end: Int) throws -> Void
  ) throws {
    var index = 0
    while index < bytes.count {
      switch phase {
      case .argument(let left):
        let taken = min(left, bytes.count - index)
        keep(UnsafeRawBufferPointer(rebasing: bytes[index..<index + taken]), left)
        index += taken
        size += taken
        guard taken == left else {
          phase = .argument(left: left - taken)
          continue
        }
        guard bytes[index - 1] == 10 else { throw malformed("an argument that does not end where its length says") }
        argumentsLeft -= 1
        argumentIndex += 1
        guard argumentsLeft == 0 else {
          phase = .length
          continue
        }
        let whole = size
        position += Int64(size)
        size = 0
        phase = .count
        try body(kind, whole, index)
      case .count, .length:
        let byte = bytes[index]
        index += 1
        size += 1
        guard byte == 10 else {
          line.append(byte)
          guard line.count <= 32 else { throw malformed("a line that is too long") }
          continue
        }
        try endLine()
      }
    }
  }

  private mutating func endLine() throws {
    guard line.last == 13, line.count >= 3 else { throw malformed("a line that is no length") }
    var number = 0
    for digit in line[1..<line.count - 1] {
      guard (48...57).contains(digit), number < 1 << 40 else { throw malformed("a length that is no number") }
      number = number * 10 + Int(digit - 48)
    }
    if case .count = phase {
      guard line[0] == UInt8(ascii: "*"), number >= 1 else { throw malformed("no command") }
      argumentsLeft = number
      argumentIndex = 0
      first.removeAll(keepingCapacity: true)
      second.removeAll(keepingCapacity: true)
      phase = .length
    } else {
      guard line[0] == UInt8(ascii: "$") else { throw malformed("no argument") }
      argumentLength = number
      phase = .argument(left: number + 2)
    }
    line.removeAll(keepingCapacity: true)
  }

  private mutating func keep(_ bytes: UnsafeRawBufferPointer, _ left: Int) {
    guard argumentIndex < 2 else { return }
    // Without the CR LF.
    let content = bytes.prefix(max(0, left - 2))
    if argumentIndex == 0 {
      first.append(contentsOf: content.prefix(16 - min(16, first.count)))
    } else {
      second.append(contentsOf: content.prefix(24 - min(24, second.count)))
    }
  }

  private var kind: ReplicationCommand {
    switch first.count {
    case 4:
      if isName("ping") { return .ping }
      if isName("exec") { return .exec }
    case 5:
      if isName("multi") { return .multi }
    case 6:
      if isName("select") { return .select(database: Int(String(decoding: second, as: UTF8.self)) ?? 0) }
    case 7:
      if isName("publish") { return .publish }
    case 8:
      if isName("replconf") || isName("spublish") { return isName("replconf") ? .replconf : .publish }
    default: break
    }
    return .other
  }

  private func isName(_ name: StaticString) -> Bool {
    name.withUTF8Buffer { name in first.elementsEqual(name) { $0 | 0x20 == $1 } }
  }

  private func malformed(_ what: String) -> DRError {
    DRError(
      .malformedData, "the replication stream is broken after \(position + Int64(size)) bytes: \(what)",
      advice: "take a new snapshot")
  }
}
