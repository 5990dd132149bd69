package import NIOCore

/// Counts and digests bytes as they pass, and compares them with what a manifest states.
package struct StreamCheck: Sendable {
  private let kind: String
  private let size: Int64
  private let sha256: String?
  private let object: String
  private var seen: Int64 = 0
  private var digest = StreamDigest()

  /// - Parameters:
  ///   - kind: Which bytes: `raw`, `stored`.
  ///   - sha256: Nil: only their number is compared.
  package init(_ kind: String, size: Int64, sha256: String?, object: String) {
    self.kind = kind
    self.size = size
    self.sha256 = sha256
    self.object = object
  }

  package mutating func add(_ buffer: ByteBuffer) {
    count(buffer)
    if sha256 != nil { digest.update(buffer) }
  }

  /// As ``add(_:)``, where the digest is computed elsewhere.
  mutating func count(_ buffer: ByteBuffer) { seen += Int64(buffer.readableBytes) }

  /// - Throws: ``DRError`` with `corruptData` if there were more than stated, whatever still comes.
  func refuseExcess() throws {
    guard seen > size else { return }
    throw DRError(
      .corruptData, "more \(kind) bytes than the \(size) that the manifest states", advice: DRError.otherCopy,
      object: object)
  }

  /// - Throws: ``DRError``: `truncatedData` if there were too few, `corruptData` if they are others.
  package func finish() throws { try finish(sha256: digest.hex()) }

  /// As ``finish()``, with a digest that was computed elsewhere.
  func finish(sha256 found: String) throws {
    try refuseExcess()
    guard seen == size else {
      throw DRError(
        .truncatedData, "\(seen) \(kind) bytes, and the manifest states \(size)", advice: DRError.otherCopy,
        object: object)
    }
    guard sha256.map({ $0 == found }) ?? true else {
      throw DRError(
        .corruptData, "the SHA-256 of the \(kind) bytes differs from the manifest's", advice: DRError.otherCopy,
        object: object)
    }
  }
}
