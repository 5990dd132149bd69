import DRCore
import NIOCore

/// Whether a server encrypts as it was asked to: some take the headers and ignore them.
extension S3Tier {
  /// The key of SSE-C goes with each request.
  ///
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` where it would go over a network in the clear.
  static func refuseOpenCustomerKey(_ configuration: S3Configuration) throws {
    guard case .customer = configuration.encryption else { return }
    let endpoint = try S3Endpoint(configuration)
    let isLoopback =
      ["127.", "localhost:", "[::1]"].contains { endpoint.host.hasPrefix($0) } || endpoint.host == "localhost"
    guard endpoint.scheme == "https" || isLoopback else {
      throw DRError(
        .invalidConfiguration, "with SSE-C the key goes with each request, and this endpoint is not encrypted",
        advice:
          "write the endpoint as https://…; if its certificate is your own, name who signed it (certificateAuthority)",
        object: "\(endpoint.scheme)://\(endpoint.host)")
    }
  }

  /// Puts one byte, encrypted as every put is to be, and looks at what became of it: before anything is stored that matters.
  ///
  /// - Throws: ``DRCore/DRError``: `unsupported` if the server ignores it, `invalidConfiguration` if it refuses it.
  func tryOutEncryption() async throws {
    if configuration.encryption == .bucketDefault { return }
    let key = "\(keyPrefix)\(ObjectKey.temporaryPrefix)probe-\(S3PutID.make())-e"
    var request = S3Request(.PUT, key)
    request.body = S3Body([ByteBuffer(string: "e")])
    request.headers = encryptionHeaders
    request.isAttempt = true
    let answer: S3Response
    do {
      answer = try await client.send(request)
    } catch let failure as S3Failure {
      throw refusal(failure, nil, storageClass: nil)
    }
    let query = answer.header("x-amz-version-id").map { [(name: "versionId", value: $0)] } ?? []
    var look = S3Request(.HEAD, key)
    look.headers = customerKey()
    do {
      let seen = try await client.send(look)
      _ = try? await client.send(S3Request(.DELETE, key, query: query))
      try checkEncrypted(seen, nil)
    } catch let failure as S3Failure {
      throw failure.translated(name, key: nil, writing: true)
    }
  }

  /// - Parameter response: To a HEAD.
  /// - Throws: ``DRCore/DRError`` with `unsupported`.
  func checkEncrypted(_ response: S3Response, _ key: ObjectKey?) throws {
    let algorithm = response.header("x-amz-server-side-encryption")
    let isKept =
      switch configuration.encryption {
      case .bucketDefault: true
      // A bucket's own rule may ask for more.
      case .managed: algorithm != nil
      case .kms: algorithm?.hasPrefix("aws:kms") == true
      case .customer: response.header("x-amz-server-side-encryption-customer-algorithm") == "AES256"
      }
    guard !isKept else { return }
    throw DRError(
      .unsupported, "\(name) takes the encryption that was asked for, and ignores it: \(configuration.encryption.name)",
      advice:
        "use a server that has it, or take it out of the configuration (s3.encryption): what the recipients' keys "
        + "encrypt is encrypted before it is sent", object: key?.rawValue)
  }
}

extension S3Configuration.ServerEncryption {
  /// For messages. A key's name is no secret, a key is.
  var name: String {
    switch self {
    case .bucketDefault: "the bucket's default"
    case .managed: "AES256"
    case .kms(let key, _): "aws:kms" + (key.map { ":\($0)" } ?? "")
    case .customer: "SSE-C"
    }
  }
}
