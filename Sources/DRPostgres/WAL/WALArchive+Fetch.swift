import DRCore
public import NIOCore

extension WALArchive {
  /// Gives a file as PostgreSQL's `restore_command` asks for it, checked against its digest.
  ///
  /// A segment that was never stored full comes as far as it was stored, with zeroes up to its size: recovery ends
  /// where it ends.
  ///
  /// - Throws: ``DRError``: `objectNotFound` if there is nothing of this name: only then, so that everything else can
  ///   abort the recovery; `segmentConflict` if there is different content under one name; `corruptData`,
  ///   `noMatchingIdentity`, `tierUnavailable`, `invalidKey` for what is no name of a WAL file.
  public func fetch(_ name: String) async throws -> ByteBuffer {
    switch try WALFileName(parsing: name, segmentSize: .smallest) {
    case .segment(let segment):
      if let whole = try await whole(name) { return whole }
      if let partial = try await fetchPartial("\(segment)") {
        // Full in the meantime?
        return try await whole(name) ?? padded(partial, name)
      }
      // The full one replaces the partial one between two looks.
      if let whole = try await whole(name) { return whole }
      try await refuseGap(at: segment, name)
    case .partial(let segment):
      if let partial = try await fetchPartial("\(segment)") { return try padded(partial, name) }
    case .history, .backupLabel:
      return try await store.get(name, decoding: decoding)
    }
    throw DRError(.objectNotFound, "the archive has no \(name)", component: component, object: name)
  }

  /// A segment that is missing with later ones behind it is lost, and not the end of the log: a recovery that took it
  /// for the end would promote without what came after. (A server asks for no segment before its timeline's fork.)
  private func refuseGap(at segment: WALSegmentName, _ name: String) async throws {
    let later = try await store.names(after: name).first { other in
      guard let parts = WALSegmentName.split(other) else { return false }
      return parts.timeline == segment.timeline
    }
    guard let later else { return }
    throw DRError(
      .changeLogGap, "the archive has no \(name), and has the later \(later)",
      advice: "find the segment on the server or another tier, and push it; to recover up to the gap, give a target "
        + "before it", component: component, object: name)
  }

  private func whole(_ name: String) async throws -> ByteBuffer? {
    do {
      return try await store.get(name, decoding: decoding)
    } catch let error as DRError where error.code == .objectNotFound {
      return nil
    }
  }

  /// What there is of a segment, as stored: the longest, which the others must be the start of.
  func fetchPartial(_ segment: String) async throws -> ByteBuffer? {
    // A receiver replaces a partial segment every few seconds.
    for _ in 0..<10 {
      let names = try await store.segments(startingWith: segment).filter(\.isPartial)
        .compactMap { WALPartialName(parsing: $0.name) }.sorted { $0.reach > $1.reach }
      guard let longest = names.first else { return nil }
      do {
        let content = try await read(longest)
        for shorter in names.dropFirst() where try await read(shorter) != content.prefix(shorter.reach) {
          throw DRError(
            .segmentConflict, "the archive holds two different starts of segment \(segment)",
            advice: "two servers wrote one archive: find which one is right, and move the other's partial away",
            component: component, object: "\(longest)")
        }
        return content
      } catch let error as DRError where error.code == .objectNotFound {
        continue
      }
    }
    throw DRError(
      .tierUnavailable, "the partial segment changes too fast to be read", component: component, object: segment)
  }

  private func read(_ partial: WALPartialName) async throws -> ByteBuffer {
    let content = try await store.getPartial("\(partial)", decoding: decoding)
    guard content.readableBytes == partial.reach else {
      throw DRError(
        .corruptData, "a partial segment has \(content.readableBytes) bytes, and its name says \(partial.reach)",
        advice: "take it from another tier", component: component, object: "\(partial)")
    }
    return content
  }

  private func padded(_ content: ByteBuffer, _ name: String) throws -> ByteBuffer {
    let header = try content.withUnsafeReadableBytes { try WALSegmentHeader($0, object: name) }
    guard content.readableBytes <= header.segmentSize.bytes else {
      throw DRError(
        .corruptData, "a partial segment is longer than a whole one", component: component, object: name)
    }
    var padded = ByteBufferAllocator().buffer(capacity: header.segmentSize.bytes)
    padded.writeImmutableBuffer(content)
    padded.writeRepeatingByte(0, count: header.segmentSize.bytes - content.readableBytes)
    return padded
  }
}

extension ByteBuffer {
  fileprivate func prefix(_ length: Int) -> ByteBuffer? { getSlice(at: readerIndex, length: length) }
}
