package import NIOCore

/// Takes stored bytes from their start until the payload can be opened: header, identity, and the payload's nonce.
///
/// Pure. For a range read, give it the beginning of the object until it returns the ``AgePayload``; how long a header is
/// shows only in the header, and 4 KiB hold one of 40 recipients.
package struct AgeHeaderReader: Sendable {
  private let identities: [AgeIdentity]
  private let object: String
  private var parser: AgeHeaderParser
  private var header: AgeHeader?
  private var nonce: [UInt8] = []

  package init(identities: [AgeIdentity], object: String) {
    self.identities = identities
    self.object = object
    parser = AgeHeaderParser(object: object)
  }

  /// Takes what comes before the payload off the input, and leaves the rest there. Gives the payload once it can be
  /// opened; do not call it again after that, nor after it threw.
  ///
  /// With a passphrase one call takes as long as scrypt takes.
  ///
  /// - Throws: ``DRError``: `malformedData`, `unsupportedVersion`, `noMatchingIdentity`, `corruptData`,
  ///   `invalidConfiguration` (a work factor above the identity's maximum).
  package mutating func update(_ stored: inout ByteBuffer) throws -> AgePayload? {
    if header == nil { header = try parser.update(&stored) }
    guard let header else { return nil }
    nonce += stored.readBytes(length: min(AgePayload.nonceSize - nonce.count, stored.readableBytes)) ?? []
    guard nonce.count == AgePayload.nonceSize else { return nil }
    let fileKey = try header.unwrap(with: identities, object: object)
    return AgePayload(fileKey: fileKey, nonce: nonce, offset: Int64(header.size + nonce.count), object: object)
  }

  /// What to throw when the stored bytes end before ``update(_:)`` gave the payload.
  package var truncated: DRError {
    header == nil
      ? parser.truncated : DRError(.truncatedData, "it ends directly after its age header", object: object)
  }
}
