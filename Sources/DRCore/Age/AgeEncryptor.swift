import Crypto
package import NIOCore

/// Encrypts a stream into the age v1 format. Pure: bytes in, bytes out.
///
/// Call ``start()`` once, ``update(_:)`` as often as there are bytes, ``finish()`` once, and store what each gives, in
/// order. What is stored opens with `age -d`.
package struct AgeEncryptor: Sendable {
  private enum State {
    case new
    case sealing(AgePayload, next: Int64)
    case ended
  }

  private let recipients: [AgeRecipient]
  private var state = State.new
  private var chunker = AgeChunker(size: AgePayload.chunkSize)

  /// Checks the recipients.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`: none or more than 1,024, a passphrase beside another recipient,
  ///   an empty passphrase, a work factor outside 1 to 22.
  package init(recipients: [AgeRecipient]) throws {
    guard (1...AgeHeader.maximumStanzas).contains(recipients.count) else {
      throw DRError(
        .invalidConfiguration, "encryption needs 1 to \(AgeHeader.maximumStanzas) recipients, not \(recipients.count)")
    }
    for case .scrypt(let passphrase, let workFactor) in recipients.map(\.kind) {
      guard recipients.count == 1 else {
        throw DRError(
          .invalidConfiguration, "a passphrase cannot be combined with other recipients",
          advice: "give public keys only, or the passphrase only")
      }
      guard !passphrase.isEmpty else { throw DRError(.invalidConfiguration, "the passphrase is empty") }
      guard AgeRecipient.workFactors.contains(workFactor) else {
        throw DRError(
          .invalidConfiguration,
          "the work factor of a passphrase is \(workFactor), and must be from 1 to \(AgeRecipient.workFactors.upperBound)"
        )
      }
    }
    self.recipients = recipients
  }

  /// Gives the header and the payload's nonce.
  ///
  /// With a passphrase this blocks its thread for as long as scrypt takes, about a second at the usual work factor: call
  /// it on an executor of your own.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`, also when called twice.
  package mutating func start() throws -> ByteBuffer {
    guard case .new = state else { throw Self.outOfOrder }
    let fileKey = SymmetricKey(size: .bits128)
    let stanzas = try recipients.map { recipient in
      switch recipient.kind {
      case .x25519(let publicKey): try AgeX25519.wrap(fileKey, for: publicKey)
      case .scrypt(let passphrase, let workFactor):
        try AgeScrypt.wrap(fileKey, for: passphrase, workFactor: workFactor)
      }
    }
    let nonce = SymmetricKey(size: .bits128).withUnsafeBytes { Array($0) }
    let beginning = AgeHeader.write(stanzas, fileKey: fileKey) + nonce
    let payload = AgePayload(fileKey: fileKey, nonce: nonce, offset: Int64(beginning.count), object: "")
    state = .sealing(payload, next: 0)
    return ByteBuffer(bytes: beginning)
  }

  /// Encrypts. Gives the chunks that are complete, possibly none; holds back at most one chunk.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` when called before ``start()`` or after ``finish()``.
  package mutating func update(_ plain: ByteBuffer) throws -> ByteBuffer {
    guard case .sealing(let payload, var next) = state else { throw Self.outOfOrder }
    var output = ByteBuffer()
    output.reserveCapacity(chunker.count(adding: plain.readableBytes) * AgePayload.storedChunkSize)
    // Ended if sealing throws: a number must never be used twice.
    state = .ended
    try chunker.update(plain) { chunk in
      try payload.seal(chunk, index: next, isLast: false, into: &output)
      next += 1
    }
    state = .sealing(payload, next: next)
    return output
  }

  /// Gives the last chunk, without which nothing opens the data as a whole.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` when called before ``start()`` or twice.
  package mutating func finish() throws -> ByteBuffer {
    guard case .sealing(let payload, let next) = state else { throw Self.outOfOrder }
    state = .ended
    var output = ByteBuffer()
    output.reserveCapacity(chunker.rest.readableBytes + AgePayload.tagSize)
    try chunker.rest.withUnsafeReadableBytes { try payload.seal($0, index: next, isLast: true, into: &output) }
    return output
  }

  private static var outOfOrder: DRError {
    DRError(.invalidConfiguration, "encryption is start once, then update, then finish once")
  }
}
