public import DRCore
import NIOCore

extension S3Tier {
  /// Bytes of one request.
  static let readSize: Int64 = 8 << 20

  /// Several ranges are fetched ahead, side by side: about `8 MiB × concurrency` are kept at most.
  public func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    let fullKey = try fullKey(key)
    let start = range?.lowerBound ?? 0
    func outside(_ size: Int64) -> DRError {
      DRError(
        .truncatedData, "bytes \(start) to \(range?.upperBound ?? 0) were asked for, and there are \(size)",
        object: key.rawValue)
    }
    if start < 0 { throw outside(0) }
    if let range, range.isEmpty {
      guard let size = try await head(key)?.size else { throw S3Tier.absent(key) }
      guard range.upperBound <= size else { throw outside(size) }
      return ByteStream([])
    }
    let end = min(range?.upperBound ?? .max, start + S3Tier.readSize)
    let first: S3Response
    do {
      first = try await fetchThere(key, fullKey, start..<end)
    } catch let failure as S3Failure {
      // Not satisfiable: the range starts at the end or behind it.
      guard failure.status == 416 else { throw failure.translated(name, key: key.rawValue, writing: false) }
      guard let size = try await head(key)?.size else { throw S3Tier.absent(key) }
      if range == nil, size == 0 { return ByteStream([]) }
      throw outside(size)
    }
    let size = try S3Tier.wholeSize(first, key)
    if let range, range.upperBound > size { throw outside(size) }
    let whole = start..<(range?.upperBound ?? size)
    let got = first.body.reduce(0) { $0 + Int64($1.readableBytes) }
    guard got == min(end, whole.upperBound) - start else {
      throw DRError(.truncatedData, "\(got) bytes came where more were asked for", object: key.rawValue)
    }
    let tag = first.header("etag")
    let reader = S3RangeReader(
      first: first.body, ranges: S3Tier.ranges((start + got)..<whole.upperBound), ahead: configuration.concurrency
    ) { range in
      try await rest(key, fullKey, range, tag: tag)
    }
    return ByteStream { try await reader.next() }
  }

  static func absent(_ key: ObjectKey) -> DRError {
    DRError(.objectNotFound, "there is no such object", object: key.rawValue)
  }

  /// An object that is just being replaced is no absent one, though Ceph's gateway once answered so: it is asked for again while `HEAD`
  /// finds one.
  private func fetchThere(_ key: ObjectKey, _ fullKey: String, _ range: Range<Int64>) async throws -> S3Response {
    for _ in 0..<3 {
      do {
        return try await fetch(fullKey, range, tag: nil)
      } catch let failure as S3Failure where failure.isNotFound {
        guard try await rawHead(key, fullKey) != nil else { throw S3Tier.absent(key) }
      }
    }
    throw S3Tier.replaced(key)
  }

  func fetch(_ fullKey: String, _ range: Range<Int64>, tag: String?) async throws -> S3Response {
    var request = S3Request(.GET, fullKey)
    request.headers = customerKey() + [("range", "bytes=\(range.lowerBound)-\(range.upperBound - 1)")]
    if let tag { request.headers.append(("if-match", tag)) }
    request.answerLimit = Int(range.upperBound - range.lowerBound)
    return try await client.send(request)
  }

  private func rest(
    _ key: ObjectKey, _ fullKey: String, _ range: Range<Int64>, tag: String?
  ) async throws -> [ByteBuffer] {
    do {
      let answer = try await fetch(fullKey, range, tag: tag)
      let got = answer.body.reduce(0) { $0 + Int64($1.readableBytes) }
      guard got == range.upperBound - range.lowerBound, tag == nil || answer.header("etag") == tag else {
        throw S3Tier.replaced(key)
      }
      return answer.body
    } catch let failure as S3Failure {
      if failure.isPreconditionFailed || failure.isNotFound || failure.status == 416 { throw S3Tier.replaced(key) }
      throw failure.translated(name, key: key.rawValue, writing: false)
    }
  }

  private static func replaced(_ key: ObjectKey) -> DRError {
    DRError(
      .tierUnavailable, "the object was replaced or removed while it was read", advice: "read it again from its start",
      object: key.rawValue)
  }

  /// `Content-Range: bytes 0-8388607/1073741824`.
  private static func wholeSize(_ response: S3Response, _ key: ObjectKey) throws -> Int64 {
    if response.status == 200 { return response.body.reduce(0) { $0 + Int64($1.readableBytes) } }
    guard let total = response.header("content-range")?.split(separator: "/").last.flatMap({ Int64($0) }) else {
      throw DRError(.malformedData, "the server does not say how large the object is", object: key.rawValue)
    }
    return total
  }

  private static func ranges(_ rest: Range<Int64>) -> [Range<Int64>] {
    stride(from: rest.lowerBound, to: rest.upperBound, by: Int(readSize)).map {
      $0..<min($0 + readSize, rest.upperBound)
    }
  }
}

/// Gives the bytes of several ranges in order, fetching some of them ahead. What is under way ends with the last
/// reference.
private final class S3RangeReader: Sendable {
  private struct State {
    var ready: [ByteBuffer]
    var ranges: ArraySlice<Range<Int64>>
    var underWay: [Task<[ByteBuffer], any Error>] = []
  }

  private let state: MutableBox<State>
  private let ahead: Int
  private let fetch: @Sendable (Range<Int64>) async throws -> [ByteBuffer]

  init(
    first: [ByteBuffer], ranges: [Range<Int64>], ahead: Int,
    fetch: @escaping @Sendable (Range<Int64>) async throws -> [ByteBuffer]
  ) {
    state = MutableBox(State(ready: first.reversed(), ranges: ranges[...]))
    self.ahead = ahead
    self.fetch = fetch
  }

  deinit { for task in state.value.underWay { task.cancel() } }

  func next() async throws -> ByteBuffer? {
    while true {
      try Task.checkCancellation()
      let (buffer, task) = state.withLock { state -> (ByteBuffer?, Task<[ByteBuffer], any Error>?) in
        // Asked for as soon as the reader is there, so that the next ones come while this one is used.
        while state.underWay.count < ahead, let range = state.ranges.popFirst() {
          state.underWay.append(Task { [fetch] in try await fetch(range) })
        }
        if let buffer = state.ready.popLast() { return (buffer, nil) }
        return (nil, state.underWay.first)
      }
      if let buffer { return buffer }
      guard let task else { return nil }
      let buffers = try await withTaskCancellationHandler {
        try await task.value
      } onCancel: {
        task.cancel()
      }
      state.withLock { state in
        state.underWay.removeFirst()
        state.ready = buffers.reversed()
      }
    }
  }
}
