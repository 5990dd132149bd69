package import NIOCore

package struct AgeEncryptor: Sendable {
  package init(recipients: [AgeRecipient]) throws {}
  package mutating func start() throws -> ByteBuffer { ByteBuffer() }
  package mutating func update(_ plain: ByteBuffer) throws -> ByteBuffer { plain }
  package mutating func finish() throws -> ByteBuffer { ByteBuffer() }
}
package struct AgeDecryptor: Sendable {
  package init(identities: [AgeIdentity], object: String) {}
  package mutating func update(_ stored: ByteBuffer) throws -> ByteBuffer { stored }
  package mutating func finish() throws -> ByteBuffer { ByteBuffer() }
}
