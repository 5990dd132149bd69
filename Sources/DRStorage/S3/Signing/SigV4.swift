import Crypto
import DRCore
package import Foundation

/// AWS Signature Version 4, as values: a request goes in, a header or a query comes out. No I/O, no clock.
///
/// Source: "Authenticating Requests (AWS Signature Version 4)" of the Amazon S3 API reference.
package struct SigV4: Sendable {
  /// What of a request is signed.
  package struct Request: Sendable {
    package var method: String
    /// Not encoded; starts with a slash.
    package var path: String
    /// Not encoded, in any order.
    package var query: [(name: String, value: String)]
    /// All of them are signed; `host` must be one.
    package var headers: [(name: String, value: String)]
    /// SHA-256 of the body in lower-case hexadecimal, or ``SigV4/unsignedPayload``.
    package var payloadHash: String

    package init(
      method: String, path: String, query: [(name: String, value: String)] = [],
      headers: [(name: String, value: String)], payloadHash: String
    ) {
      self.method = method
      self.path = path
      self.query = query
      self.headers = headers
      self.payloadHash = payloadHash
    }
  }

  package static let unsignedPayload = "UNSIGNED-PAYLOAD"
  package static let emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
  private static let algorithm = "AWS4-HMAC-SHA256"

  package let credentials: S3Credentials
  package let region: String
  package let service: String

  package init(credentials: S3Credentials, region: String, service: String = "s3") {
    self.credentials = credentials
    self.region = region
    self.service = service
  }

  /// The value of the `Authorization` header.
  package func authorization(for request: Request, at date: Date) -> String {
    let moment = SigV4.timestamp(date)
    let signature = sign(stringToSign(canonicalRequest(request), moment), day: moment)
    return "\(SigV4.algorithm) Credential=\(credentials.accessKeyID)/\(scope(moment)), "
      + "SignedHeaders=\(SigV4.signedHeaders(request.headers)), Signature=\(signature)"
  }

  /// The query of a URL that may be used without credentials until it expires; encoded. What of the request's query and
  /// headers is signed must be sent along unchanged.
  ///
  /// - Parameter seconds: At most 604,800, a week.
  package func presignedQuery(for request: Request, at date: Date, validFor seconds: Int) -> String {
    let moment = SigV4.timestamp(date)
    var request = request
    request.query += [
      ("X-Amz-Algorithm", SigV4.algorithm), ("X-Amz-Credential", "\(credentials.accessKeyID)/\(scope(moment))"),
      ("X-Amz-Date", moment), ("X-Amz-Expires", "\(seconds)"),
      ("X-Amz-SignedHeaders", SigV4.signedHeaders(request.headers)),
    ]
    if let token = credentials.sessionToken { request.query.append(("X-Amz-Security-Token", token)) }
    let signature = sign(stringToSign(canonicalRequest(request), moment), day: moment)
    return SigV4.canonicalQuery(request.query) + "&X-Amz-Signature=\(signature)"
  }

  // MARK: The steps

  package func canonicalRequest(_ request: Request) -> String {
    let headers = SigV4.canonicalHeaders(request.headers)
    return [
      request.method, PercentEncoding.path(request.path), SigV4.canonicalQuery(request.query),
      headers.map { "\($0.name):\($0.value)\n" }.joined(), headers.map(\.name).joined(separator: ";"),
      request.payloadHash,
    ].joined(separator: "\n")
  }

  package func stringToSign(_ canonicalRequest: String, _ moment: String) -> String {
    "\(SigV4.algorithm)\n\(moment)\n\(scope(moment))\n"
      + Hex.lowercase(SHA256.hash(data: Array(canonicalRequest.utf8)))
  }

  private func sign(_ text: String, day moment: String) -> String {
    var key = SymmetricKey(data: Array("AWS4\(credentials.secretAccessKey)".utf8))
    for part in [String(moment.prefix(8)), region, service, "aws4_request"] {
      key = SymmetricKey(data: HMAC<SHA256>.authenticationCode(for: Array(part.utf8), using: key))
    }
    return Hex.lowercase(HMAC<SHA256>.authenticationCode(for: Array(text.utf8), using: key))
  }

  private func scope(_ moment: String) -> String { "\(moment.prefix(8))/\(region)/\(service)/aws4_request" }

  /// Sorted by the encoded name, then by the encoded value.
  package static func canonicalQuery(_ query: [(name: String, value: String)]) -> String {
    query.map { (PercentEncoding.query($0.name), PercentEncoding.query($0.value)) }
      .sorted { $0.0 != $1.0 ? precedes($0.0, $1.0) : precedes($0.1, $1.1) }
      .map { "\($0.0)=\($0.1)" }.joined(separator: "&")
  }

  private static func precedes(_ left: String, _ right: String) -> Bool {
    left.utf8.lexicographicallyPrecedes(right.utf8)
  }

  private static func signedHeaders(_ headers: [(name: String, value: String)]) -> String {
    canonicalHeaders(headers).map(\.name).joined(separator: ";")
  }

  /// Names in lower case and sorted; values trimmed, runs of spaces as one; values of one name joined by commas.
  private static func canonicalHeaders(
    _ headers: [(name: String, value: String)]
  ) -> [(name: String, value: String)] {
    var values: [String: [String]] = [:]
    for header in headers {
      let value = header.value.split(separator: " ", omittingEmptySubsequences: true).joined(separator: " ")
      values[header.name.lowercased(), default: []].append(value)
    }
    return values.map { ($0.key, $0.value.joined(separator: ",")) }.sorted { precedes($0.0, $1.0) }
  }

  /// `20130524T000000Z`.
  package static func timestamp(_ date: Date) -> String {
    String(Timestamp.format(date).prefix(19)).filter { $0 != "-" && $0 != ":" } + "Z"
  }
}

/// Bytes as text.
enum Hex {
  static func lowercase(_ bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
  }

  static func bytes(_ text: String) -> [UInt8]? {
    guard text.utf8.count.isMultiple(of: 2) else { return nil }
    var bytes: [UInt8] = []
    var rest = Substring(text)
    while !rest.isEmpty {
      guard let byte = UInt8(rest.prefix(2), radix: 16) else { return nil }
      bytes.append(byte)
      rest = rest.dropFirst(2)
    }
    return bytes
  }
}
