import DRCore
import DRTestSupport
import Foundation
import Testing

/// What the library writes follows the shipped schema, and what breaks the schema the library refuses.
struct ManifestSchemaTests {
  static let digest = String(repeating: "0123456789abcdef", count: 4)

  static func minimal() throws -> BackupManifest {
    let start = Date(timeIntervalSince1970: 1_795_400_000.25)
    return BackupManifest(
      id: "backup_20261123_020000", component: try Component(.postgres, "agent_orchestrator"), cadence: .daily,
      started: start, ended: start + 61.000_001,
      capture: Capture(recoveryPoint: RecoveryPoint(time: start, position: "0/3000148"), method: .basebackup),
      artifacts: [])
  }

  static func full() throws -> BackupManifest {
    let start = Date(timeIntervalSince1970: 0)
    let recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]
    func artifact(_ format: Compression.Format, _ size: Int64, _ recipients: [String]) throws -> BackupManifest.Artifact
    {
      try BackupManifest.Artifact(
        name: "16384-\(format).tar", key: ObjectKey("postgres/daily/app/ünï \(format)/base.tar\(format.pathExtension)"),
        rawSize: size, rawSHA256: digest, storedSize: size / 3, storedSHA256: String(digest.reversed()),
        compression: format, recipients: recipients)
    }
    return BackupManifest(
      id: "backup_20261123_020000", component: try Component(.postgres, "app"), cadence: .hourly, started: start,
      ended: start + 1,
      capture: Capture(
        recoveryPoint: RecoveryPoint(time: start + 1, position: "2F/40", history: "3"),
        changesFrom: RecoveryPoint(time: start, position: "2F/28", history: "3"), parent: "backup_20261122_020000",
        method: .basebackup, serverVersion: "15.18 (Debian 15.18-0+deb12u1)", systemIdentifier: "7301948571930475812",
        leftOut: [.init(what: "pg_replslot/", reason: "\"slots\" belong to one server\n")],
        properties: ["tablespaces": ["16384": "/fast"], "checksums": true, "pages": 42, "none": [:]]),
      artifacts: try [artifact(.zstd, .max, recipients), artifact(.gzip, 0, ["scrypt"]), artifact(.none, 7, [])])
  }

  /// Without the digest of the text.
  static func tree(_ manifest: BackupManifest) throws -> JSONValue {
    try JSONDecoder().decode(JSONValue.self, from: manifest.json()).replacing(["sha256"], with: nil)
  }

  /// With the digest of the text.
  static func data(_ value: JSONValue) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    return try BackupManifest.sealed(encoder.encode(value))
  }

  static func refusal(_ json: Data) -> DRError? {
    do {
      _ = try BackupManifest(json: json, object: "here")
      return nil
    } catch let error as DRError {
      return error
    } catch {
      Issue.record("refused with \(error), which is no DRError")
      return nil
    }
  }

  @Test("What the library writes follows the schema, and reads back equal")
  func written() async throws {
    var extended = try Self.full()
    extended.unknownFields = ["signature": "MEUCIQ", "nested": ["a": [1, .null, true]]]
    extended.artifacts[0].unknownFields = ["pages": 131072, "weather": .null]
    extended.recoveryPoint.unknownFields = ["epoch": 7]
    extended.leftOut[0].unknownFields = ["bytes": 12]
    let manifests = [try Self.minimal(), try Self.full(), extended]
    let texts = try manifests.map { try $0.json() }
    #expect(try await SchemaJudge.verdicts(on: texts) == [nil, nil, nil])
    for (manifest, text) in zip(manifests, texts) {
      let read = try BackupManifest(json: text)
      #expect(read == manifest)
      #expect(try read.json() == text)
    }
  }

  @Test("The schema knows each field that is written, and no other")
  func complete() throws {
    let schema = try JSONDecoder().decode(JSONValue.self, from: BackupManifest.jsonSchema)
    let definitions = try #require(schema["$defs"])
    let written = try JSONDecoder().decode(JSONValue.self, from: Self.full().json())
    for (definition, value) in [
      (schema, written), (definitions["artifact"], written["artifacts"]?[0]),
      (definitions["recoveryPoint"], written["changesFrom"]),
      (schema["properties"]?["leftOut"]?["items"], written["leftOut"]?[0]),
    ] {
      let known = try #require(definition?["properties"]?.object)
      #expect(Set(known.keys) == Set(try #require(value?.object).keys))
    }
    #expect(schema["properties"]?["cadence"]?["enum"] == .array(Cadence.all.map { .string($0.rawValue) }))
    let formats = Compression.Format.allCases.map { JSONValue.string($0.rawValue) }
    #expect(definitions["artifact"]?["properties"]?["compression"]?["enum"] == .array(formats))
  }

  @Test("A field that is missing, or of another type, is refused by the validator and by the library")
  func damagedFields() async throws {
    let whole = try Self.tree(Self.full())
    let optional = ["parent", "changesFrom", "serverVersion", "systemIdentifier", "history"]
    var damaged: [(what: String, json: Data)] = []
    var harmless: [(what: String, json: Data)] = []
    for path in whole.paths where path.first != "properties" || path.count == 1 {
      let name = path.joined(separator: ".")
      let removed = (name + " removed", try Self.data(whole.replacing(path, with: nil)))
      let isElement = path.last.flatMap { Int($0) } != nil
      if isElement || optional.contains(path.last ?? "") { harmless.append(removed) } else { damaged.append(removed) }
      for value: JSONValue in [true, .number(1.5), -1, "\u{1}", [[]], ["x": 1]] where !value.isSameType(as: whole[path])
      {
        damaged.append(("\(name) = \(value)", try Self.data(whole.replacing(path, with: value))))
      }
    }
    let verdicts = try await SchemaJudge.verdicts(on: (damaged + harmless).map(\.json))
    for (verdict, (what, json)) in zip(verdicts, damaged + harmless) {
      let refused = Self.refusal(json)
      #expect(
        (verdict != nil) == damaged.contains { $0.what == what }, "\(what): the validator says \(verdict ?? "fine")")
      #expect((refused != nil) == (verdict != nil), "\(what): the library says \(refused?.message ?? "fine")")
      if let refused { #expect(refused.code == .malformedData && refused.object == "here", "\(what): \(refused)") }
    }
    #expect(damaged.count > 150 && harmless.count > 8)
  }

  @Test("A value out of its range is refused by the validator and by the library, naming the field")
  func damagedValues() async throws {
    let whole = try Self.tree(Self.full())
    let badKeys: [JSONValue] = [
      "", "/abs", "a//b", "a/", "..", "a/../b", ".", "a/.", "a\\b", "a\0b", "a\nb", "\u{7F}", ".dr-tmp-1",
      "a/.dr-tmp-1/b",
      .string(String(repeating: "k", count: 256)), .string(String(repeating: "a/", count: 600) + "a"),
    ]
    let cases: [(path: [String], values: [JSONValue])] = [
      (["artifacts", "0", "key"], badKeys),
      (["artifacts", "1", "rawSize"], [-1, .integer(.min), .number(0.5), .number(9.3e18)]),
      (["artifacts", "1", "storedSize"], [-1, .number(1e300)]),
      (["artifacts", "2", "rawSHA256"], ["", "abc", .string(Self.digest.uppercased()), .string(Self.digest + "0")]),
      (["artifacts", "2", "storedSHA256"], [.string(Self.digest + "\n"), .string("g" + Self.digest.dropFirst())]),
      (["artifacts", "0", "compression"], ["lz4", "ZSTD", ""]),
      (["component"], ["postgres", "postgres/", "/app", "Postgres/app", "a/b/c", "postgres/ä"]),
      (["cadence"], ["yearly", "Daily", ""]),
      (["started"], ["", "yesterday", "2026-13-01T00:00:00.000000Z", "2026-01-01T00:00:00", "1795400000"]),
      (["recoveryPoint", "time"], ["2026-01-01", "2026-01-01T00:00:00.000000Z\n"]),
      (["formatVersion"], ["", "one", "2.0", "0.9", "11.0"]),
    ]
    let damaged = try cases.flatMap { path, values in
      try values.map { (path: path, value: $0, json: try Self.data(whole.replacing(path, with: $0))) }
    }
    for (verdict, (path, value, json)) in zip(try await SchemaJudge.verdicts(on: damaged.map(\.json)), damaged) {
      #expect(verdict != nil, "the validator accepts \(path) = \(value)")
      let refused = Self.refusal(json)
      #expect(refused != nil, "the library accepts \(path) = \(value)")
      guard path != ["formatVersion"] else { continue }
      let name = path.joined(separator: ".").replacing(/\.(\d)/) { "[\($0.1)]" }
      #expect(refused?.code == .malformedData)
      #expect(refused?.message.contains("'\(name)'") == true, "\(refused?.message ?? "")")
    }
  }

  @Test("Unknown fields survive a round trip with their values")
  func unknownFields() throws {
    let strange: JSONValue = [
      "null": .null, "yes": true, "no": false, "zero": 0, "negative": -9_007_199_254_740_993, "largest": .integer(.max),
      "fraction": .number(0.1), "tiny": .number(.leastNonzeroMagnitude), "huge": .number(.greatestFiniteMagnitude),
      "text": "ü \u{1F512} \" \\ / \n \u{1} \u{2028}",
      "": "no name", "list": [[], [:], ["deep": [1, "2", .null]]],
    ]
    var original = try Self.tree(Self.full())
    for path in [[], ["artifacts", "0"], ["recoveryPoint"], ["changesFrom"], ["leftOut", "0"]] {
      original = original.replacing(path + ["future"], with: strange)
    }
    let read = try BackupManifest(json: Self.data(original))
    #expect(try Self.tree(read) == original)
    #expect(try Self.tree(BackupManifest(json: read.json())) == original)
  }

  @Test("A later minor version is read, a later major version is refused whatever else it holds")
  func versions() async throws {
    let next = try Self.tree(Self.full()).replacing(["formatVersion"], with: "1.9")
      .replacing(["quantumProof"], with: ["scheme": "ml-dsa"]).replacing(["artifacts", "1", "shards"], with: [1, 2])
    let read = try BackupManifest(json: Self.data(next))
    #expect(read.unknownFields["quantumProof"] == ["scheme": "ml-dsa"])
    #expect(try await SchemaJudge.verdicts(on: [Self.data(next)]) == [nil])

    for later: JSONValue in [
      ["formatVersion": "2.0"], try Self.tree(Self.full()).replacing(["formatVersion"], with: "17.3"),
    ] {
      let refused = try #require(Self.refusal(Self.data(later)))
      #expect(refused.code == .unsupportedVersion)
      #expect(refused.advice?.isEmpty == false)
    }
  }

  @Test("A flipped bit, a lost or an added byte anywhere in a manifest is found; one without a digest still opens")
  func everyByte() throws {
    let whole = try Self.full().json()
    for offset in whole.indices {
      for bit in 0..<8 {
        var damaged = whole
        damaged[offset] ^= 1 << bit
        let refused = try #require(Self.refusal(damaged), "bit \(bit) of byte \(offset)")
        #expect(refused.object == "here" && [.corruptData, .malformedData].contains(refused.code), "\(refused)")
      }
      #expect(Self.refusal(whole[..<offset] + whole[(offset + 1)...]) != nil, "without byte \(offset)")
      #expect(Self.refusal(whole[..<offset] + [0x20] + whole[offset...]) != nil, "a space before byte \(offset)")
      #expect(Self.refusal(whole.prefix(offset)) != nil, "cut before byte \(offset)")
    }
    #expect(Self.refusal(whole) == nil)
    var changed = whole
    changed[whole.count / 2] ^= 1
    #expect(Self.refusal(changed)?.code == .corruptData)

    // As version 1.0 wrote it.
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    let old = try Self.tree(Self.full()).replacing(["formatVersion"], with: "1.0")
    let read = try BackupManifest(json: encoder.encode(old) + Data("\n".utf8))
    #expect(try read == Self.full())
    // Its version alone does not excuse a later one.
    let stripped = try encoder.encode(Self.tree(Self.full()))
    #expect(Self.refusal(stripped)?.message.contains("does not end with its own digest") == true)
  }

  @Test("sed and sha256sum check the digest of a manifest")
  func stockTools() async throws {
    try await withTemporaryFolder { folder in
      let file = folder + "/manifest.json"
      let json = try Self.full().json()
      try json.write(to: URL(filePath: file))
      let result = try await runCommand("sh", ["-c", #"sed '/^  "sha256"/,$d' "$0" | sha256sum"#, file])
      let digest = String(decoding: result.output, as: UTF8.self).prefix(64)
      let value = try JSONDecoder().decode(JSONValue.self, from: json)
      #expect(result.status == 0 && value["sha256"]?.string == String(digest))
    }
  }

  @Test("Damaged text is read or refused, never worse")
  func mutations() throws {
    // Without their digest, which would find each of them.
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    let originals = try [Self.minimal(), Self.full()].map {
      try encoder.encode(Self.tree($0).replacing(["formatVersion"], with: "1.0"))
    }
    let fragments = [
      "{", "}", "[", "]", "\"", ":", ",", "null", "1e999", "-0", "\\u0000", "\\ud800", "\u{FEFF}",
      "99999999999999999999",
    ]
    var random = TestData.Random(seed: 7)
    var refused = 0
    for round in 0..<6000 {
      var bytes = Array(originals[round % 2])
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let at = Int.random(in: 0..<bytes.count, using: &random)
        let end = min(bytes.count, at + Int.random(in: 1...40, using: &random))
        switch Int.random(in: 0..<5, using: &random) {
        case 0: bytes[at] ^= 1 << UInt8.random(in: 0...7, using: &random)
        case 1: bytes.removeSubrange(at..<end)
        case 2: bytes.insert(contentsOf: bytes[at..<end], at: Int.random(in: 0...bytes.count, using: &random))
        case 3: bytes.insert(contentsOf: (fragments.randomElement(using: &random) ?? "").utf8, at: at)
        default: bytes.removeSubrange(max(1, at)...)
        }
      }
      if Self.refusal(Data(bytes)) != nil { refused += 1 }
    }
    #expect(refused > 3000 && refused < 6000)
    for text in [
      "", " ", "{", "null", "[]", "0", "\u{0}", String(repeating: "[", count: 100_000),
      #"{"formatVersion":"1.0","x":"# + String(repeating: #"{"a":"#, count: 100_000),
    ] {
      #expect(Self.refusal(Data(text.utf8))?.code == .malformedData)
    }
  }
}

// Paths into JSON: names of members and indexes of elements.
extension JSONValue {
  fileprivate subscript(_ step: String) -> JSONValue? {
    switch self {
    case .object(let members): members[step]
    case .array(let values): Int(step).flatMap { values.indices.contains($0) ? values[$0] : nil }
    default: nil
    }
  }

  fileprivate subscript(_ path: [String]) -> JSONValue? {
    path.reduce(self as JSONValue?) { $0?[$1] }
  }

  fileprivate subscript(_ index: Int) -> JSONValue? { self["\(index)"] }

  /// Each member and element at any depth.
  fileprivate var paths: [[String]] {
    let steps =
      switch self {
      case .object(let members): members.keys.sorted()
      case .array(let values): values.indices.map { "\($0)" }
      default: [String]()
      }
    return steps.flatMap { step in [[step]] + (self[step]?.paths ?? []).map { [step] + $0 } }
  }

  /// A copy with another value at a path, or with nothing there.
  fileprivate func replacing(_ path: [String], with value: JSONValue?) -> JSONValue {
    guard let step = path.first else { return value ?? self }
    let rest = Array(path.dropFirst())
    let new = rest.isEmpty ? value : self[step]?.replacing(rest, with: value)
    switch self {
    case .object(var members):
      members[step] = new
      return .object(members)
    case .array(var values):
      guard let index = Int(step), values.indices.contains(index) else { return self }
      if let new { values[index] = new } else { values.remove(at: index) }
      return .array(values)
    default: return self
    }
  }

  fileprivate func isSameType(as other: JSONValue?) -> Bool {
    switch (self, other) {
    case (.string, .string), (.array, .array), (.object, .object), (.bool, .bool): true
    case (.integer, .integer), (.number, .number): true
    default: false
    }
  }
}
