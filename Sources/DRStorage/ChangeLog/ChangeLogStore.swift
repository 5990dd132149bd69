public import DRCore
public import NIOCore

/// The change log of one component and system: named segments, immutable once stored.
///
///     postgres/wal/<system identifier>/<group>/<name>-<SHA-256 of the raw bytes>.zst[.age]
///     postgres/wal/<system identifier>/<group>/<name>.partial.zst[.age]
///
/// The digest is a part of the key. So a host that can encrypt but not decrypt can still tell the same content under
/// the same name (a repeated call: success) from other content (two servers write one archive: an error), and
/// `zstd -dc FILE | sha256sum` checks a segment without this library.
///
/// What a crash leaves: a put is one object, which is there or not. A partial segment is replaced in one step, and
/// stays beside the full one if its writer is killed before ``deletePartial(_:)``; the full one counts.
public struct ChangeLogStore: Sendable {
  public let component: Component
  public let systemIdentifier: String
  let tier: any StorageTier
  /// With a slash at its end.
  let prefix: String
  private let group: @Sendable (String) -> String?

  /// Raw bytes of a segment, at most: PostgreSQL's largest WAL segment.
  static let sizeLimit = 1 << 30

  /// - Parameters:
  ///   - log: The folder of the change log: the plan's `wal` for PostgreSQL.
  ///   - systemIdentifier: Logs of different systems never mix.
  ///   - group: The folder of a segment of this name; nil: right in the system's folder. A name always has the same.
  /// - Throws: ``DRCore/DRError`` with `invalidKey` if the log or the identifier cannot be a folder.
  public init(
    tier: any StorageTier, component: Component, layout: RepositoryLayout = .byKind, log: String = "wal",
    systemIdentifier: String, group: @escaping @Sendable (_ name: String) -> String? = { _ in nil }
  ) throws {
    for folder in [log, systemIdentifier] { try ChangeLogStore.checkComponent(folder) }
    self.tier = tier
    self.component = component
    self.systemIdentifier = systemIdentifier
    self.group = group
    prefix = try ObjectKey("\(layout.folder(of: component))/\(log)/\(systemIdentifier)").rawValue + "/"
  }

  /// Stores a segment. When this returns, it is durable.
  ///
  /// - Returns: Whether it was there already, with this content.
  /// - Throws: ``DRCore/DRError``: `segmentConflict` if a segment of this name has other content, or if another writer
  ///   stored some at the same time; `malformedData` for empty content; `invalidConfiguration` for an encoding without
  ///   compression; `invalidKey`; as the tier's `put`.
  public func put(_ name: String, _ raw: ByteBuffer, encoding: Encoding = Encoding()) async throws -> Bool {
    try check(raw, encoding, name)
    let digest = StreamDigest.hex(raw)
    let there = try await stored(name)
    try refuseOther(there, than: digest, name)
    let key = try key(name, SegmentFileName.stem(name, sha256: digest) + encoding.pathExtension)
    // One in another encoding is of before the configuration changed.
    if let first = there.first, first.info.key != key { return true }
    let wasStored = !there.isEmpty
    let encoded = try encoding.encode(ByteStream(raw))
    do {
      // What is there is written anew: it may have been damaged since, a host that only encrypts cannot tell, and whoever
      // hands the segment over removes his own copy after a success.
      _ = try await tier.put(
        key, encoded.stored, PutOptions(onlyIfAbsent: !wasStored, expectedLength: Int64(raw.readableBytes)))
    } catch let error as DRError where error.code == .objectExists {
      // Another writer was faster, with the same content: the digest is in the key.
    }
    // Of two writers with different content, the later one sees the other's here; each one's object stays as evidence,
    // for it may have been acknowledged.
    guard try await isStored(name, digest) else {
      throw DRError(
        .tierUnavailable, "the segment was stored and is not listed",
        advice: "look for another process that cleans this tier", component: component, object: key.rawValue)
    }
    return wasStored
  }

  /// Reads a segment, checked against its digest.
  ///
  /// - Throws: ``DRCore/DRError``: `objectNotFound` if there is none of this name; `segmentConflict` if there are two of
  ///   different content; `corruptData`, `noMatchingIdentity`, `tierUnavailable`.
  public func get(_ name: String, decoding: Decoding = Decoding()) async throws -> ByteBuffer {
    let found = try await stored(name)
    guard let segment = found.first, let digest = segment.file.sha256 else {
      throw DRError(
        .objectNotFound, "the change log has no segment \(name)", component: component,
        object: try folder(name) + name)
    }
    try refuseOther(found, than: digest, name)
    return try await checked(segment, decoding)
  }

  /// Reads everything that is stored under a name, each checked against its own digest: more than one where two writers stored
  /// other content at the same moment.
  ///
  /// - Throws: As ``get(_:decoding:)``, but for conflicts.
  package func contents(_ name: String, decoding: Decoding = Decoding()) async throws -> [ByteBuffer] {
    var contents: [ByteBuffer] = []
    for segment in try await stored(name) { contents.append(try await checked(segment, decoding)) }
    return contents
  }

  /// Reads one stored segment, checked against its digest: also one of two that have the same name.
  ///
  /// - Throws: ``DRCore/DRError``: `objectNotFound`, `corruptData`, `noMatchingIdentity`, `tierUnavailable`.
  package func get(_ segment: SegmentInfo, decoding: Decoding = Decoding()) async throws -> ByteBuffer {
    guard let file = SegmentFileName(parsing: segment.key.lastComponent), file.sha256 != nil else {
      throw DRError(.objectNotFound, "this is no full segment", component: component, object: segment.key.rawValue)
    }
    return try await checked(Stored(file: file, info: segment), decoding)
  }

  private func checked(_ segment: Stored, _ decoding: Decoding) async throws -> ByteBuffer {
    let raw = try await read(segment, decoding)
    guard StreamDigest.hex(raw) == segment.file.sha256 else {
      throw DRError(
        .corruptData, "the SHA-256 of the segment differs from the one in its name",
        advice: "take the segment from another tier or from the server", component: component,
        object: segment.info.key.rawValue)
    }
    return raw
  }

  /// The names of the full segments in their byte order, after the given one.
  ///
  /// - Throws: As the tier's `list`.
  public func names(after: String? = nil) async throws -> [String] {
    var names: [String] = []
    for segment in try await segments() where !segment.isPartial && names.last != segment.name {
      if let after, !after.utf8.lexicographicallyPrecedes(segment.name.utf8) { continue }
      names.append(segment.name)
    }
    return names
  }

  /// Everything that is stored, in the byte order of the names; a partial segment after the full one. Foreign objects
  /// are left out.
  ///
  /// - Throws: As the tier's `list`.
  public func segments() async throws -> [SegmentInfo] {
    ChangeLogStore.sorted(try await tier.listAll(prefix: prefix).compactMap { Stored($0, in: self)?.info })
  }

  private static func sorted(_ segments: [SegmentInfo]) -> [SegmentInfo] {
    segments.sorted { left, right in
      left.name == right.name
        ? (left.isPartial ? 1 : 0, left.key) < (right.isPartial ? 1 : 0, right.key)
        : left.name.utf8.lexicographicallyPrecedes(right.name.utf8)
    }
  }

  /// What is stored of the segments whose names start so and lie in the folder of that text, ordered as by
  /// ``segments()``: one listing, whatever the size of the log.
  ///
  /// - Throws: As the tier's `list`.
  public func segments(startingWith text: String) async throws -> [SegmentInfo] {
    ChangeLogStore.sorted(
      try await tier.listAll(prefix: folder(text) + text).compactMap { Stored($0, in: self)?.info })
  }

  /// Removes a full segment. To remove an absent one is no error.
  ///
  /// - Throws: As the tier's `delete`.
  public func delete(_ name: String) async throws {
    for segment in try await stored(name) { try await tier.delete(segment.info.key) }
  }
}

// MARK: - Partial segments

extension ChangeLogStore {
  /// Stores what there is of a segment that is not full yet, in place of what was stored of it before. When this
  /// returns, it is durable; before, the old one is there, whole.
  ///
  /// - Throws: As ``put(_:_:encoding:)``, but for conflicts.
  public func putPartial(_ name: String, _ raw: ByteBuffer, encoding: Encoding = Encoding()) async throws {
    try check(raw, encoding, name)
    let key = try key(name, SegmentFileName.partialStem(name) + encoding.pathExtension)
    let encoded = try encoding.encode(ByteStream(raw))
    _ = try await tier.put(key, encoded.stored, PutOptions(expectedLength: Int64(raw.readableBytes)))
    // One in another encoding is of before the configuration changed.
    for other in try await storedPartials(name) where other.info.key != key { try await tier.delete(other.info.key) }
  }

  /// Reads a partial segment.
  ///
  /// - Throws: ``DRCore/DRError``: `objectNotFound`, `corruptData`, `noMatchingIdentity`, `tierUnavailable`.
  public func getPartial(_ name: String, decoding: Decoding = Decoding()) async throws -> ByteBuffer {
    guard let newest = try await storedPartials(name).max(by: { $0.info.modified < $1.info.modified }) else {
      throw DRError(
        .objectNotFound, "the change log has no partial segment \(name)", component: component,
        object: try folder(name) + SegmentFileName.partialStem(name))
    }
    return try await read(newest, decoding)
  }

  /// Removes a partial segment, once the full one is stored. To remove an absent one is no error.
  ///
  /// - Throws: As the tier's `delete`.
  public func deletePartial(_ name: String) async throws {
    for partial in try await storedPartials(name) { try await tier.delete(partial.info.key) }
  }
}

// MARK: - Keys

extension ChangeLogStore {
  /// An object of this change log.
  private struct Stored {
    var file: SegmentFileName
    var info: SegmentInfo

    init(file: SegmentFileName, info: SegmentInfo) {
      self.file = file
      self.info = info
    }

    /// Nil for a foreign object, also for a segment in a folder that is not its own.
    init?(_ object: ObjectInfo, in store: ChangeLogStore) {
      guard let file = SegmentFileName(parsing: object.key.lastComponent),
        let folder = try? store.folder(file.name), object.key.rawValue == folder + object.key.lastComponent
      else { return nil }
      self.file = file
      info = SegmentInfo(
        name: file.name, sha256: file.sha256, size: object.size, modified: object.modified, key: object.key)
    }
  }

  /// With a slash at its end.
  private func folder(_ name: String) throws -> String {
    try ChangeLogStore.checkComponent(name)
    guard let group = group(name) else { return prefix }
    try ChangeLogStore.checkComponent(group)
    return "\(prefix)\(group)/"
  }

  private func key(_ name: String, _ file: String) throws -> ObjectKey { try ObjectKey(folder(name) + file) }

  private func stored(_ name: String) async throws -> [Stored] {
    try await tier.listAll(prefix: folder(name) + SegmentFileName.stem(name, sha256: ""))
      .compactMap { Stored($0, in: self) }.filter { $0.file.name == name && !$0.info.isPartial }
  }

  private func storedPartials(_ name: String) async throws -> [Stored] {
    try await tier.listAll(prefix: folder(name) + SegmentFileName.partialStem(name))
      .compactMap { Stored($0, in: self) }.filter { $0.file.name == name && $0.info.isPartial }
  }

  /// Whether a segment is there with this content, and none with other.
  private func isStored(_ name: String, _ digest: String) async throws -> Bool {
    let found = try await stored(name)
    try refuseOther(found, than: digest, name)
    return !found.isEmpty
  }

  private func refuseOther(_ found: [Stored], than digest: String, _ name: String) throws {
    guard let other = found.first(where: { $0.file.sha256 != digest }) else { return }
    throw DRError(
      .segmentConflict,
      "segment \(name) is stored with other content (SHA-256 \(other.file.sha256 ?? ""), not \(digest))",
      advice: "two servers may be writing to one archive: find which one is right before anything is removed",
      component: component, object: other.info.key.rawValue)
  }

  private func read(_ stored: Stored, _ decoding: Decoding) async throws -> ByteBuffer {
    let key = stored.info.key
    return try await decoding.decode(
      tier.get(key, range: nil), format: stored.file.format, encrypted: stored.file.encrypted, object: key.rawValue
    ).collect(limit: ChangeLogStore.sizeLimit, object: key.rawValue)
  }

  private func check(_ raw: ByteBuffer, _ encoding: Encoding, _ name: String) throws {
    guard (1...ChangeLogStore.sizeLimit).contains(raw.readableBytes) else {
      throw DRError(
        .malformedData,
        "a segment of \(raw.readableBytes) bytes is not stored: it has 1 to \(ChangeLogStore.sizeLimit)",
        advice: "an empty segment means that something went wrong where it was read", component: component, object: name
      )
    }
    guard encoding.compression.format != .none else {
      throw DRError(
        .invalidConfiguration, "segments of a change log are always compressed",
        advice: "use zstd: its checksum finds a damaged segment", component: component)
    }
  }

  private static func checkComponent(_ text: String) throws {
    guard !text.utf8.contains(UInt8(ascii: "/")) else {
      throw DRError(.invalidKey, "this name holds a slash", object: text.debugDescription)
    }
    _ = try ObjectKey(text)
  }
}
