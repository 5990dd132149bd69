public import Foundation

extension BackupManifest {
  /// The JSON Schema (draft 2020-12) of the format.
  public static var jsonSchema: Data { Data(PackageResources.backup_manifest_schema_json) }

  /// Reads a manifest.
  ///
  /// - Throws: ``DRError``: `corruptData` if its own digest differs, or is missing from format 1.1 on;
  ///   `unsupportedVersion` for a later major version; `malformedData` for anything that does not follow the format,
  ///   naming the field.
  public init(json: Data, object: String? = nil) throws {
    let seal = ManifestSeal(json)
    if let seal, !seal.isRight {
      throw DRError(
        .corruptData, "the manifest is damaged: its SHA-256 is \(seal.actual), and it states \(seal.stated)",
        advice: "restore the file from another tier", object: object)
    }
    struct Version: Decodable { var formatVersion: String }
    let version: String
    do {
      version = try JSONDecoder().decode(Version.self, from: json).formatVersion
    } catch {
      throw BackupManifest.malformed(error, object)
    }
    let major = version.split(separator: ".").first.flatMap { Int($0) }
    guard let major else {
      throw DRError(
        .malformedData, "the manifest's formatVersion '\(version.prefix(40))' is no version", object: object)
    }
    guard major == 1 else {
      throw DRError(
        .unsupportedVersion, "the manifest has format \(version), this library reads 1.x",
        advice: "use a later version of the library to read this backup", object: object)
    }
    guard seal != nil || version == BackupManifest.lastVersionWithoutDigest else {
      throw DRError(
        .corruptData, "the manifest does not end with its own digest, as one of format \(version) does",
        advice: "it was cut, damaged or written anew by another program: restore the file from another tier",
        object: object)
    }
    do {
      self = try JSONDecoder().decode(BackupManifest.self, from: json)
    } catch {
      throw BackupManifest.malformed(error, object)
    }
  }

  /// Writes the manifest: sorted keys and line breaks, so that people can read and compare it, and at the end the SHA-256
  /// of all that comes before (`sed '/^  "sha256"/,$d' MANIFEST | sha256sum`).
  ///
  /// - Throws: ``DRError`` with `malformedData` for a number that JSON cannot hold.
  public func json() throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    do {
      return try BackupManifest.sealed(encoder.encode(self))
    } catch {
      throw DRError(.malformedData, "the manifest \(id) cannot be written as JSON", cause: error)
    }
  }

  /// A JSON object, written with line breaks, with its digest at its end.
  package static func sealed(_ json: Data) throws -> Data {
    guard let sealed = ManifestSeal.sealing(json) else {
      throw DRError(.malformedData, "this is no JSON object with line breaks: it cannot carry its digest")
    }
    return sealed
  }

  /// Manifests of this version carry no digest of themselves.
  private static let lastVersionWithoutDigest = "1.0"

  private static func malformed(_ error: any Error, _ object: String?) -> DRError {
    return DRError(
      .malformedData, "this is not a backup manifest: \(DRError.text(of: error))",
      advice: "if the file is damaged, restore it from another tier", object: object)
  }
}

/// A coding key of any name, to see the fields that this version does not know.
private struct AnyKey: CodingKey {
  var stringValue: String
  var intValue: Int? { nil }
  init(_ name: String) { stringValue = name }
  init?(stringValue: String) { self.init(stringValue) }
  init?(intValue: Int) { nil }
}

private func unknownFields(
  in decoder: any Decoder, known: [String]
) throws -> [String: JSONValue] {
  let container = try decoder.container(keyedBy: AnyKey.self)
  var fields: [String: JSONValue] = [:]
  for key in container.allKeys where !known.contains(key.stringValue) {
    fields[key.stringValue] = try container.decode(JSONValue.self, forKey: key)
  }
  return fields
}

private func encode(unknown fields: [String: JSONValue], to encoder: any Encoder) throws {
  var container = encoder.container(keyedBy: AnyKey.self)
  for (name, value) in fields { try container.encode(value, forKey: AnyKey(name)) }
}

extension KeyedDecodingContainer {
  /// A text that a type of ours checks: what it refuses is damage to this field.
  fileprivate func checked<Value>(_ key: Key, _ parse: (String) throws -> Value) throws -> Value {
    do {
      return try parse(decode(String.self, forKey: key))
    } catch let error as DRError {
      throw DecodingError.dataCorruptedError(forKey: key, in: self, debugDescription: error.message)
    }
  }

  fileprivate func moment(_ key: Key) throws -> Date {
    let text = try decode(String.self, forKey: key)
    guard let date = Timestamp.parse(text) else {
      throw DecodingError.dataCorruptedError(
        forKey: key, in: self, debugDescription: "'\(text.prefix(40))' is no ISO 8601 moment")
    }
    return date
  }

  fileprivate func digest(_ key: Key) throws -> String {
    let text = try decode(String.self, forKey: key)
    guard text.utf8.count == 64, text.allSatisfy({ $0.isHexDigit && !$0.isUppercase }) else {
      throw DecodingError.dataCorruptedError(forKey: key, in: self, debugDescription: "not a SHA-256 digest")
    }
    return text
  }

  fileprivate func size(_ key: Key) throws -> Int64 {
    // A number that is no Int64 is refused without a path.
    guard let size = try? decode(Int64.self, forKey: key), size >= 0 else {
      _ = try decode(Double.self, forKey: key)
      throw DecodingError.dataCorruptedError(forKey: key, in: self, debugDescription: "not a size in bytes")
    }
    return size
  }
}

extension BackupManifest.Artifact: Codable {
  private enum Field: String, CodingKey, CaseIterable {
    case name, key, rawSize, rawSHA256, storedSize, storedSHA256, compression, recipients
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Field.self)
    self.init(
      name: try container.decode(String.self, forKey: .name),
      key: try container.checked(.key) { try ObjectKey($0) },
      rawSize: try container.size(.rawSize), rawSHA256: try container.digest(.rawSHA256),
      storedSize: try container.size(.storedSize), storedSHA256: try container.digest(.storedSHA256),
      compression: try container.decode(Compression.Format.self, forKey: .compression),
      recipients: try container.decode([String].self, forKey: .recipients))
    unknownFields = try DRCore.unknownFields(in: decoder, known: Field.allCases.map(\.rawValue))
  }

  public func encode(to encoder: any Encoder) throws {
    try DRCore.encode(unknown: unknownFields, to: encoder)
    var container = encoder.container(keyedBy: Field.self)
    try container.encode(name, forKey: .name)
    try container.encode(key.rawValue, forKey: .key)
    try container.encode(rawSize, forKey: .rawSize)
    try container.encode(rawSHA256, forKey: .rawSHA256)
    try container.encode(storedSize, forKey: .storedSize)
    try container.encode(storedSHA256, forKey: .storedSHA256)
    try container.encode(compression, forKey: .compression)
    try container.encode(recipients, forKey: .recipients)
  }
}

extension RecoveryPoint {
  private enum Field: String, CodingKey, CaseIterable { case time, position, history }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Field.self)
    self.init(
      time: try container.moment(.time), position: try container.decode(String.self, forKey: .position),
      history: try container.decodeIfPresent(String.self, forKey: .history))
    unknownFields = try DRCore.unknownFields(in: decoder, known: Field.allCases.map(\.rawValue))
  }

  public func encode(to encoder: any Encoder) throws {
    try DRCore.encode(unknown: unknownFields, to: encoder)
    var container = encoder.container(keyedBy: Field.self)
    try container.encode(Timestamp.format(time), forKey: .time)
    try container.encode(position, forKey: .position)
    try container.encodeIfPresent(history, forKey: .history)
  }
}

extension BackupManifest.Omission: Codable {
  private enum Field: String, CodingKey, CaseIterable { case what, reason }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Field.self)
    self.init(
      what: try container.decode(String.self, forKey: .what), reason: try container.decode(String.self, forKey: .reason)
    )
    unknownFields = try DRCore.unknownFields(in: decoder, known: Field.allCases.map(\.rawValue))
  }

  public func encode(to encoder: any Encoder) throws {
    try DRCore.encode(unknown: unknownFields, to: encoder)
    var container = encoder.container(keyedBy: Field.self)
    try container.encode(what, forKey: .what)
    try container.encode(reason, forKey: .reason)
  }
}

extension BackupManifest: Codable {
  private enum Field: String, CodingKey, CaseIterable {
    case formatVersion, id, component, cadence, method, parent, started, ended, recoveryPoint, changesFrom
    case serverVersion, systemIdentifier, artifacts, leftOut, properties, libraryVersion
    /// Of the text, not of the value: see ``ManifestSeal``.
    case sha256
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Field.self)
    id = try container.decode(String.self, forKey: .id)
    component = try container.checked(.component) { try Component(parsing: $0) }
    cadence = try container.checked(.cadence) { try Cadence(parsing: $0) }
    method = try container.decode(Method.self, forKey: .method)
    parent = try container.decodeIfPresent(String.self, forKey: .parent)
    started = try container.moment(.started)
    ended = try container.moment(.ended)
    recoveryPoint = try container.decode(RecoveryPoint.self, forKey: .recoveryPoint)
    changesFrom = try container.decodeIfPresent(RecoveryPoint.self, forKey: .changesFrom)
    serverVersion = try container.decodeIfPresent(String.self, forKey: .serverVersion)
    systemIdentifier = try container.decodeIfPresent(String.self, forKey: .systemIdentifier)
    artifacts = try container.decode([Artifact].self, forKey: .artifacts)
    leftOut = try container.decode([Omission].self, forKey: .leftOut)
    properties = try container.decode([String: JSONValue].self, forKey: .properties)
    libraryVersion = try container.decode(String.self, forKey: .libraryVersion)
    unknownFields = try DRCore.unknownFields(in: decoder, known: Field.allCases.map(\.rawValue))
  }

  public func encode(to encoder: any Encoder) throws {
    try DRCore.encode(unknown: unknownFields, to: encoder)
    var container = encoder.container(keyedBy: Field.self)
    try container.encode(BackupManifest.formatVersion, forKey: .formatVersion)
    try container.encode(id, forKey: .id)
    try container.encode(component, forKey: .component)
    try container.encode(cadence, forKey: .cadence)
    try container.encode(method, forKey: .method)
    try container.encodeIfPresent(parent, forKey: .parent)
    try container.encode(Timestamp.format(started), forKey: .started)
    try container.encode(Timestamp.format(ended), forKey: .ended)
    try container.encode(recoveryPoint, forKey: .recoveryPoint)
    try container.encodeIfPresent(changesFrom, forKey: .changesFrom)
    try container.encodeIfPresent(serverVersion, forKey: .serverVersion)
    try container.encodeIfPresent(systemIdentifier, forKey: .systemIdentifier)
    try container.encode(artifacts, forKey: .artifacts)
    try container.encode(leftOut, forKey: .leftOut)
    try container.encode(properties, forKey: .properties)
    try container.encode(libraryVersion, forKey: .libraryVersion)
  }
}
