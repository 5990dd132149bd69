import DRCore
public import NIOCore

extension WALArchive {
  /// Stores a file as PostgreSQL's `archive_command` gives it: a segment, `.partial`, `.history` or `.backup`. When this
  /// returns, it is durable.
  ///
  /// PostgreSQL gives a file again after a crash: the same content under the same name is a success.
  ///
  /// - Returns: Whether it was there already.
  /// - Throws: ``DRError``: `segmentConflict` if the name is taken by other content; `malformedData` or `truncatedData`
  ///   for an empty file, one of the wrong size, or one that is not what its name says; `invalidConfiguration` for a
  ///   segment of another cluster; as the tier's `put`.
  @discardableResult
  public func push(_ name: String, _ content: ByteBuffer) async throws -> Bool {
    // The names of the smallest segments hold those of all others; the file itself says which size it has.
    switch try WALFileName(parsing: name, segmentSize: .smallest) {
    case .segment:
      _ = try checkSegment(name, named: name, content)
      let wasThere = try await store.put(name, content, encoding: encoding)
      try await deletePartials(of: name)
      return wasThere

    case .partial(let segment):
      let parsed = try checkSegment("\(segment)", named: name, content)
      return try await putPartial(parsed, trimmed(content, parsed))

    case .history(let timeline):
      _ = try TimelineHistory(parsing: String(buffer: content), timeline: timeline)
      return try await store.put(name, content, encoding: encoding)

    case .backupLabel:
      return try await store.put(name, content, encoding: encoding)
    }
  }

  /// Stores the start of a segment, unless as much of it, or all, is there.
  ///
  /// - Returns: Whether it was there already.
  func putPartial(_ segment: WALSegmentName, _ content: ByteBuffer) async throws -> Bool {
    let name = WALPartialName(segment: "\(segment)", reach: content.readableBytes)
    let stored = try await store.segments(startingWith: name.segment)
    if stored.contains(where: { $0.name == name.segment && !$0.isPartial }) { return true }
    let others = stored.filter(\.isPartial).compactMap { WALPartialName(parsing: $0.name) }
    if others.contains(where: { $0.reach >= name.reach }) { return true }
    try await store.putPartial("\(name)", content, encoding: encoding)
    for other in others { try await store.deletePartial("\(other)") }
    return false
  }

  /// Removes what is stored of a segment besides the full one. What a crash before this leaves is harmless, and is
  /// removed by the next push or receiver.
  func deletePartials(of segment: String) async throws {
    for info in try await store.segments(startingWith: segment) where info.isPartial {
      try await store.deletePartial(info.name)
    }
  }

  /// Checks that a file is the segment that its name says, of this cluster, and has the size that it claims.
  private func checkSegment(_ segment: String, named name: String, _ content: ByteBuffer) throws -> WALSegmentName {
    guard content.readableBytes > 0 else {
      throw DRError(
        .truncatedData, "an empty WAL file is not stored", advice: "find out what truncated it; keep the server's copy",
        component: component, object: name)
    }
    let header = try content.withUnsafeReadableBytes { try WALSegmentHeader($0, object: name) }
    guard "\(header.systemIdentifier)" == systemIdentifier else {
      throw DRError(
        .invalidConfiguration,
        "the WAL is of the cluster \(header.systemIdentifier), and this archive is of \(systemIdentifier)",
        advice: "give each cluster its own archive; after initdb or pg_upgrade a cluster is another one",
        component: component, object: name)
    }
    guard content.readableBytes == header.segmentSize.bytes else {
      throw DRError(
        .truncatedData,
        "the WAL file has \(content.readableBytes) bytes, and its segments have \(header.segmentSize.bytes)",
        advice: "find out what truncated it; keep the server's copy", component: component, object: name)
    }
    let parsed = try WALSegmentName(parsing: segment, segmentSize: header.segmentSize)
    guard parsed.start == header.start, header.timeline <= parsed.timeline else {
      throw DRError(
        .malformedData,
        "the WAL file holds the log from \(header.start) on timeline \(header.timeline), which is not what its name says",
        advice: "the file was copied under a wrong name, or the server recycled it; keep the server's copy",
        component: component, object: name)
    }
    return parsed
  }

  /// The valid start of a segment that PostgreSQL broke off: what lies behind is not part of the log, and may differ
  /// from one copy to the next. A segment whose records cannot be read is kept whole.
  private func trimmed(_ content: ByteBuffer, _ segment: WALSegmentName) -> ByteBuffer {
    let scan = content.withUnsafeReadableBytes { WALScanner.scan($0, as: segment) }
    let reach = Int(clamping: scan.end.bytes(after: scan.start))
    guard reach > 0, !scan.isComplete, let valid = content.getSlice(at: content.readerIndex, length: reach) else {
      return content
    }
    return valid
  }
}

extension WALSegmentSize {
  /// 1 MiB: every name of a segment of any size is one of a segment of this size.
  static let smallest = WALSegmentSize(known: 1 << 20)
}
