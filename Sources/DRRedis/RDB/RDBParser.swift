import DRCore

/// Walks an RDB file, pushed in pieces cut anywhere: bytes in, events out. Pure; keeps no more than a key.
///
/// Trusts nothing: no length is believed before the bytes are there, nothing is allocated by a length, and what it does not
/// know is an error. Strings are stepped over, however long; with ``Options/checksValues`` also looked into.
///
/// Format: Redis's `rdb.h` and `rdb.c`, versions 1 to 12 (Redis 7.4). Modules' values are stepped over by their own
/// marks (`RDB_TYPE_MODULE_2`, `RDB_OPCODE_MODULE_AUX`), and the modules named; the forms of modules and functions that
/// only release candidates wrote are refused, as servers refuse them.
struct RDBParser: Sendable {
  struct Options: Sendable {
    /// Look into compressed strings and packed collections.
    var checksValues = false
    /// Return ``Event/key`` and ``Event/function``, and keep the bytes of those values for which ``keepsValue`` is then
    /// set.
    var givesEntries = false
    /// Keep this many bytes of a key at most.
    var keyLimit = 4096
    /// Keep, or look into, values of this many bytes at most.
    var valueLimit = 16 << 20
  }

  enum Event: Sendable {
    /// A key was read; its value follows.
    case key
    /// The value of the key was read whole.
    case value
    /// A function library was read whole.
    case function
    /// The file ends here.
    case end
  }

  enum Step: UInt8, Sendable {
    case magic, opcode, aux, function, functionEnd, key, value, skip, collect, lengths
    case strings, scores, binaryScores, quicklistNodes, fields, module
    case streamNodes, groupCount, groups, groupLengths, pendingCount, pending, consumerCount, consumers, consumerTimes
    case consumerPending, valueEnd, entryEnd, trailer, done
  }

  /// What a string that is being collected is for.
  enum Purpose: Sendable { case key, auxName, auxValue, packed }

  /// More databases than any server is set up with.
  static let mostDatabases = 65_536
  /// No step needs more bytes than this to go on.
  static let lookAhead = 64

  let object: String
  let options: Options
  /// Where the piece that is being read starts in the file.
  var base: Int64 = 0

  // What was read of the file.
  private(set) var version = 0
  var aux: [String: String] = [:]
  private(set) var moduleNames: Set<String> = []
  /// What the file states of its databases: pure hints, for a server.
  private(set) var stated: [Int: (keys: Int, expiries: Int)] = [:]
  private(set) var functions = 0
  /// Values that were too long to be looked into.
  var unchecked = 0

  // The entry that is being read.
  private(set) var database = 0
  private(set) var type = RDBType.string
  /// In milliseconds since 1970.
  private(set) var expiry: Int64?
  /// In seconds.
  private(set) var idle: UInt64?
  private(set) var frequency: UInt8?
  /// Where the entry's type byte, its value's first byte and its end lie in the file.
  private(set) var entryStart: Int64 = 0
  private(set) var valueStart: Int64 = 0
  private(set) var valueEnd: Int64 = 0
  private(set) var keyHeader = RDBStringHeader.none
  /// Where the stored key lies in the piece that is being read; nil: its start is in ``keyBytes``.
  private(set) var keyRange: Range<Int>?
  var keyBytes: [UInt8] = []
  /// Whether the value's bytes are to be kept; put back when there are too many of them.
  var keepsValue = false
  /// Where the kept value goes on in the piece that is being read.
  private(set) var keptFrom = 0
  /// What was kept of the value in earlier pieces.
  private(set) var kept: [UInt8] = []

  // Where in the grammar it is.
  var step = Step.magic
  /// Where to go on after a string, lengths, or bytes to skip.
  var after = Step.opcode
  var left: UInt64 = 0
  var count: UInt64 = 0
  var groups: UInt64 = 0
  var consumers: UInt64 = 0
  var packing = RDBPacking.plain {
    didSet { isPacked = packing != .plain }
  }
  private(set) var isPacked = false
  private var isAuxiliary = false
  var purpose = Purpose.key
  var collectedHeader = RDBStringHeader.none
  var scratch: [UInt8] = []
  var auxName: String?

  init(object: String, options: Options) {
    self.object = object
    self.options = options
  }

  /// Says that another piece follows, which starts with what was not read of the one before.
  mutating func enter(at position: Int) { keptFrom = position }

  /// Reads on in a piece from a position, which it moves. Returns nil when it needs the next piece.
  ///
  /// - Throws: ``DRError``: `malformedData` or `unsupportedVersion`, naming the object and the offset.
  mutating func run(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) throws -> Event? {
    while true {
      switch step {
      case .magic:
        guard bytes.count &- position >= 9 else { return leave(bytes, position) }
        version = try RDBParser.version(UnsafeRawBufferPointer(rebasing: bytes[position..<position &+ 9]), object)
        position &+= 9
        step = .opcode

      case .opcode:
        guard position < bytes.count else { return leave(bytes, position) }
        if let type = RDBType(rawValue: bytes[position]) {
          self.type = type
          entryStart = base &+ Int64(position)
          position &+= 1
          step = .key
        } else {
          let size = try opcode(bytes, position)
          guard size > 0 else { return leave(bytes, position) }
          position &+= size
          if step == .done { return .end }
        }

      case .key:
        guard let header = try stringHeader(bytes, position) else { return leave(bytes, position) }
        position &+= header.size
        keyHeader = header
        if header.payload <= UInt64(bytes.count &- position) {
          keyRange = position..<position &+ Int(header.payload)
          position &+= Int(header.payload)
          startValue(position)
          if options.givesEntries { return .key }
        } else {
          keyBytes.removeAll(keepingCapacity: true)
          collect(header, .key)
        }

      case .value:
        let size = try openValue(bytes, position)
        guard size >= 0 else { return leave(bytes, position) }
        position &+= size

      case .strings:
        guard try strings(bytes, &position) else { return leave(bytes, position) }

      case .scores, .binaryScores, .quicklistNodes, .fields:
        guard try members(bytes, &position) else { return leave(bytes, position) }

      case .streamNodes, .groupCount, .groups, .groupLengths, .pendingCount, .pending, .consumerCount, .consumers,
        .consumerTimes, .consumerPending:
        guard try stream(bytes, &position) else { return leave(bytes, position) }

      case .module:
        guard try module(bytes, &position) else { return leave(bytes, position) }

      case .lengths:
        while count > 0 {
          guard let length = try length(bytes, position) else { return leave(bytes, position) }
          position &+= length.size
          count &-= 1
        }
        step = after

      case .skip:
        let here = min(left, UInt64(bytes.count &- position))
        position &+= Int(here)
        left &-= here
        guard left == 0 else { return leave(bytes, position) }
        step = after

      case .collect:
        let here = Int(min(left, UInt64(bytes.count &- position)))
        append(bytes, position, here)
        position &+= here
        left &-= UInt64(here)
        guard left == 0 else { return leave(bytes, position) }
        try endCollecting(position)
        if purpose == .key, options.givesEntries { return .key }

      case .aux:
        guard let header = try stringHeader(bytes, position) else { return leave(bytes, position) }
        position &+= header.size
        collect(header, auxName == nil ? .auxName : .auxValue)

      case .function:
        guard let header = try stringHeader(bytes, position) else { return leave(bytes, position) }
        startValue(position)
        keepsValue = options.givesEntries
        position &+= header.size
        left = header.payload
        after = .functionEnd
        step = .skip

      case .functionEnd:
        functions &+= 1
        valueEnd = base &+ Int64(position)
        step = .entryEnd
        if options.givesEntries { return .function }

      case .valueEnd:
        valueEnd = base &+ Int64(position)
        step = .entryEnd
        return .value

      case .entryEnd:
        expiry = nil
        idle = nil
        frequency = nil
        keyRange = nil
        keepsValue = false
        if !kept.isEmpty { kept.removeAll(keepingCapacity: kept.capacity <= 1 << 20) }
        step = .opcode

      case .trailer:
        // The checksum itself is compared by the reader, who has summed the bytes.
        guard bytes.count &- position >= 8 else { return leave(bytes, position) }
        position &+= 8
        step = .done
        return .end

      case .done:
        guard position == bytes.count else { throw malformed("there are bytes after the end", at: position) }
        return nil
      }
    }
  }

  /// Puts by what is still needed of a piece.
  private mutating func leave(_ bytes: UnsafeRawBufferPointer, _ position: Int) -> Event? {
    if let range = keyRange {
      keyBytes.removeAll(keepingCapacity: true)
      keyBytes.append(contentsOf: bytes[range].prefix(options.keyLimit))
      keyRange = nil
    }
    if keepsValue {
      let more = bytes[keptFrom..<position]
      if kept.count + more.count <= options.valueLimit {
        kept.append(contentsOf: more)
      } else {
        keepsValue = false
        kept = []
      }
    }
    return nil
  }

  // MARK: Between values

  private static func version(_ magic: UnsafeRawBufferPointer, _ object: String) throws -> Int {
    let text = String(decoding: magic, as: UTF8.self)
    if text.hasPrefix("VALKEY") {
      throw DRError(
        .unsupportedVersion, "a file of Valkey (\(text)): this reads Redis's versions 1 to 12", object: object)
    }
    let digits = magic.dropFirst(5)
    guard text.hasPrefix("REDIS"), digits.allSatisfy({ (0x30...0x39).contains($0) }) else {
      throw DRError(
        .malformedData, "not an RDB file: no REDIS and no version, while reading the version at offset 0",
        advice: "see what this file is",
        object: object)
    }
    let version = digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
    guard (1...12).contains(version) else {
      throw DRError(
        .unsupportedVersion, "an RDB file of version \(version): this reads versions 1 to 12 (Redis 7.4)",
        object: object)
    }
    return version
  }

  /// Reads what is no type. Returns how many bytes it took, or 0 if there are too few.
  private mutating func opcode(_ bytes: UnsafeRawBufferPointer, _ position: Int) throws -> Int {
    let room = bytes.count - position
    switch bytes[position] {
    case RDBOpcode.end:
      step = version >= 5 ? .trailer : .done
      return 1
    case RDBOpcode.selectDatabase:
      guard let number = try length(bytes, position + 1) else { return 0 }
      guard number.value <= UInt64(Int32.max) else {
        throw malformed("the database \(number.value) cannot be", at: position)
      }
      database = Int(number.value)
      return 1 + number.size
    case RDBOpcode.expirySeconds:
      guard room >= 5 else { return 0 }
      let seconds = Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 1, as: Int32.self))
      expiry = Int64(seconds) * 1000
      return 5
    case RDBOpcode.expiryMilliseconds:
      guard room >= 9 else { return 0 }
      expiry = Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: position + 1, as: Int64.self))
      return 9
    case RDBOpcode.resizeDatabase:
      guard let (values, size) = try lengths(2, bytes, position) else { return 0 }
      try note(keys: values[0], expiries: values[1], at: position)
      return size
    case RDBOpcode.slotInfo:
      return try lengths(3, bytes, position)?.size ?? 0
    case RDBOpcode.idle:
      guard let seconds = try length(bytes, position + 1) else { return 0 }
      idle = seconds.value
      return 1 + seconds.size
    case RDBOpcode.frequency:
      guard room >= 2 else { return 0 }
      frequency = bytes[position + 1]
      return 2
    case RDBOpcode.aux:
      auxName = nil
      step = .aux
      return 1
    case RDBOpcode.moduleAux:
      guard let (values, size) = try lengths(3, bytes, position) else { return 0 }
      guard values[1] == 2 else { throw malformed("a module's data without the moment it is for", at: position) }
      note(module: values[0])
      isAuxiliary = true
      step = .module
      return size
    case RDBOpcode.function2:
      entryStart = base + Int64(position)
      step = .function
      return 1
    case RDBOpcode.functionPreview:
      throw unsupported("a function in the form of a release candidate of Redis 7.0", at: position)
    case 6:
      throw unsupported("a module's value in the form of a release candidate of Redis 4.0", at: position)
    case let other:
      throw unsupported("the byte \(other), which is no type of value and no mark that is known", at: position)
    }
  }

  /// Lengths that stand one after another behind an opcode, or nil if there are too few bytes.
  private func lengths(
    _ number: Int, _ bytes: UnsafeRawBufferPointer, _ position: Int
  ) throws -> (values: [UInt64], size: Int)? {
    var values: [UInt64] = []
    var size = 1
    for _ in 0..<number {
      guard let length = try length(bytes, position + size) else { return nil }
      values.append(length.value)
      size += length.size
    }
    return (values, size)
  }

  private mutating func note(keys: UInt64, expiries: UInt64, at position: Int) throws {
    // Servers before Redis 6 write the most that fits into 32 bits for more than that, which states nothing.
    guard keys < UInt64(UInt32.max) else { return }
    var sum = stated[database] ?? (0, 0)
    sum.keys += Int(keys)
    sum.expiries += Int(min(expiries, keys))
    guard sum.keys < 1 << 48, stated[database] != nil || stated.count < RDBParser.mostDatabases else {
      throw malformed("it states keys that no server could hold", at: position)
    }
    stated[database] = sum
  }

  private mutating func note(module identifier: UInt64) {
    // A hostile file could name more than anybody has.
    if moduleNames.count < 256 { moduleNames.insert(RDBParser.moduleName(identifier)) }
  }

  /// The name of a module's type: nine characters of six bits, above ten bits of its own version.
  static func moduleName(_ identifier: UInt64) -> String {
    let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    return String((0..<9).map { letters[Int(identifier >> (58 - 6 * UInt64($0))) & 63] })
  }

  // MARK: Values

  mutating func startValue(_ position: Int) {
    valueStart = base &+ Int64(position)
    keptFrom = position
    step = .value
  }

  /// Reads the start of a value and chooses how to go on. Returns how many bytes it took, or -1 if there are too few.
  private mutating func openValue(_ bytes: UnsafeRawBufferPointer, _ position: Int) throws -> Int {
    packing = type.packing
    switch type {
    case .string, .hashZipmap, .listZiplist, .setIntset, .sortedSetZiplist, .hashZiplist, .hashListpack,
      .sortedSetListpack, .setListpack, .hashListpackExpiryPreview:
      count = 1
      step = .strings
      return 0
    case .hashListpackExpiry:
      // The earliest moment at which a field expires.
      guard bytes.count - position >= 8 else { return -1 }
      count = 1
      step = .strings
      return 8
    case .list, .set, .listQuicklist: return try open(.strings, 1, bytes, position, 0)
    case .hash: return try open(.strings, 2, bytes, position, 0)
    case .sortedSet: return try open(.scores, 2, bytes, position, 0)
    case .sortedSet2: return try open(.binaryScores, 2, bytes, position, 0)
    case .listQuicklist2: return try open(.quicklistNodes, 1, bytes, position, 0)
    case .hashMetadataPreview: return try open(.fields, 3, bytes, position, 0)
    case .hashMetadata:
      guard bytes.count - position >= 8 else { return -1 }
      return try open(.fields, 3, bytes, position, 8)
    case .stream, .stream2, .stream3:
      return try open(.streamNodes, 1, bytes, position, 0)
    case .module2:
      guard let identifier = try length(bytes, position) else { return -1 }
      note(module: identifier.value)
      isAuxiliary = false
      step = .module
      return identifier.size
    }
  }

  /// Reads how many members a collection has; each takes so many items.
  private mutating func open(
    _ next: Step, _ items: UInt64, _ bytes: UnsafeRawBufferPointer, _ position: Int, _ before: Int
  ) throws -> Int {
    guard let number = try length(bytes, position + before) else { return -1 }
    let (total, overflow) = number.value.multipliedReportingOverflow(by: items)
    guard !overflow else { throw malformed("\(number.value) members cannot be", at: position) }
    count = total
    step = next
    return before + number.size
  }

  /// Strings, one after another. Returns false when there are too few bytes.
  private mutating func strings(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) throws -> Bool {
    while count > 0 {
      guard let header = try stringHeader(bytes, position) else { return false }
      count &-= 1
      guard try pass(header, bytes, &position, then: .strings) else { return true }
    }
    step = .valueEnd
    return true
  }

  /// The value of a module, marked piece by piece. Returns false when there are too few bytes.
  private mutating func module(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) throws -> Bool {
    packing = .plain
    while true {
      guard let mark = try length(bytes, position) else { return false }
      let next = position &+ mark.size
      switch mark.value {
      case 0:
        position = next
        step = isAuxiliary ? .opcode : .valueEnd
        return true
      case 1, 2:
        guard let number = try length(bytes, next) else { return false }
        position = next &+ number.size
      case 3, 4:
        let size = mark.value == 3 ? 4 : 8
        guard bytes.count &- next >= size else { return false }
        position = next &+ size
      case 5:
        guard let header = try stringHeader(bytes, next) else { return false }
        position = next
        guard try pass(header, bytes, &position, then: .module) else { return true }
      default: throw malformed("the mark \(mark.value) in a module's value", at: position)
      }
    }
  }

  // MARK: Errors

  @inline(never)
  func malformed(_ what: String, at position: Int) -> DRError {
    DRError(
      .malformedData, "not a sound RDB file: \(what), while reading \(place) at offset \(base + Int64(position))",
      advice: "choose another backup", object: object)
  }

  @inline(never)
  private func unsupported(_ what: String, at position: Int) -> DRError {
    DRError(
      .unsupportedVersion, "the RDB file holds \(what), at offset \(base + Int64(position)), while reading \(place)",
      advice: "take the snapshot from a released Redis of a version that is supported, without what is named here",
      object: object)
  }

  /// What is being read, in words.
  var place: String {
    switch step {
    case .magic: "the version"
    case .opcode, .entryEnd: "the mark of the next entry"
    case .aux: "an auxiliary field"
    case .function, .functionEnd: "a function library"
    case .key: "a key"
    case .collect where purpose == .key: "a key"
    case .collect where purpose != .packed: "an auxiliary field"
    case .skip where after == .functionEnd: "a function library"
    case .module where isAuxiliary: "the data of modules"
    case .trailer: "the checksum"
    case .done: "past the end"
    default: "the value of a key of type \(type.family) (\(type.rawValue)) whose entry starts at \(entryStart)"
    }
  }
}
