import DRCore
package import NIOCore
package import NIOHTTP1

/// One request to S3, before it is signed.
package struct S3Request: Sendable {
  package var method: HTTPMethod
  /// With the prefix, not encoded; nil: the bucket itself.
  package var key: String?
  package var query: [(name: String, value: String)] = []
  package var headers: [(name: String, value: String)] = []
  package var body = S3Body()
  /// The most that the answer may have in bytes.
  package var answerLimit = S3Request.documentLimit
  /// A success has a document, and may turn out to be an error in it: one that cannot be read is a failure.
  package var mayFailInBody = false
  /// For a request that is meant to be refused: it is tried again only where there was no answer.
  package var isAttempt = false

  static let documentLimit = 16 << 20

  package init(_ method: HTTPMethod, _ key: String? = nil, query: [(name: String, value: String)] = []) {
    self.method = method
    self.key = key
    self.query = query
  }
}

/// The body of a request: in memory, so that it can be sent again.
package struct S3Body: Sendable {
  package let buffers: [ByteBuffer]
  package let size: Int
  /// In lower-case hexadecimal, as the signature needs it.
  let sha256: String
  /// Waited for between the first buffer and the others.
  let hold: (@Sendable () async -> Void)?

  package init(_ buffers: [ByteBuffer] = [], hold: (@Sendable () async -> Void)? = nil) {
    self.buffers = buffers
    self.hold = hold
    size = buffers.reduce(0) { $0 + $1.readableBytes }
    sha256 = buffers.isEmpty ? SigV4.emptyPayload : S3Digest.sha256(buffers)
  }

  package init(_ document: XMLElement) { self.init([ByteBuffer(string: document.document)]) }
}

/// An answer that says success.
package struct S3Response: Sendable {
  package var status: Int
  package var headers: HTTPHeaders
  /// In buffers of up to 1 MiB.
  package var body: [ByteBuffer]
  /// An earlier attempt may have been carried out too: its answer did not arrive.
  package var isRepeated: Bool

  package func header(_ name: String) -> String? { headers.first(name: name) }

  /// The answer's document. moto names roots after the call: `ListPartsResponse`.
  ///
  /// - Throws: ``S3Failure`` if it has another root; ``DRCore/DRError`` with `malformedData` if it is no document.
  package func document(_ name: String) throws -> XMLElement {
    let root = try XMLReader.read(S3Response.joined(body))
    let isKnown = root.name == name || root.name == name.replacing("Result", with: "Response")
    guard isKnown || root.name == "Get\(name.replacing("Configuration", with: "Response"))" else {
      throw S3Failure(status: status, code: root.name == "Error" ? root.text("Code") : nil, detail: "no \(name)")
    }
    return root
  }

  static func joined(_ buffers: [ByteBuffer]) -> ByteBuffer {
    guard var all = buffers.first else { return ByteBuffer() }
    for buffer in buffers.dropFirst() { all.writeImmutableBuffer(buffer) }
    return all
  }
}

extension S3Body {
  /// A body with the signature of another one: to see whether a server compares.
  init(forged buffer: ByteBuffer) {
    buffers = [buffer]
    size = buffer.readableBytes
    sha256 = SigV4.emptyPayload
    hold = nil
  }

  /// The bytes, as they are sent.
  var stream: ByteStream {
    guard let hold else { return ByteStream(buffers) }
    let rest = MutableBox(buffers[...])
    let count = buffers.count
    return ByteStream {
      if rest.value.count == count - 1 { await hold() }
      return rest.withLock { $0.popFirst() }
    }
  }
}
