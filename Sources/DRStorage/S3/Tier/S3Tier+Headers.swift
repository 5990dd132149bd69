import Crypto
import DRCore

import struct Foundation.Data
import struct Foundation.Date

extension S3Tier {
  /// What goes with the start of every put: on the request itself, or on the creation of an upload in parts.
  func headers(for options: PutOptions, putID: String) -> [(name: String, value: String)] {
    var headers = [(S3PutID.header, putID), ("content-type", "application/octet-stream")]
    if let storageClass = options.storageClass ?? configuration.storageClass {
      headers.append(("x-amz-storage-class", storageClass.rawValue))
    }
    if let lock = options.lock {
      headers.append(("x-amz-object-lock-mode", lock.mode.rawValue.uppercased()))
      headers.append(("x-amz-object-lock-retain-until-date", S3Tier.moment(lock.until)))
    }
    if options.legalHold { headers.append(("x-amz-object-lock-legal-hold", "ON")) }
    return headers + encryptionHeaders
  }

  /// What asks for the encryption of a new object.
  var encryptionHeaders: [(name: String, value: String)] {
    var headers: [(name: String, value: String)] = []
    switch configuration.encryption {
    case .bucketDefault, .customer: break
    case .managed: headers.append(("x-amz-server-side-encryption", "AES256"))
    case .kms(let key, let bucketKey):
      headers.append(("x-amz-server-side-encryption", "aws:kms"))
      if let key { headers.append(("x-amz-server-side-encryption-aws-kms-key-id", key)) }
      if bucketKey { headers.append(("x-amz-server-side-encryption-bucket-key-enabled", "true")) }
    }
    return headers + customerKey()
  }

  /// What goes with every request that touches the bytes or the metadata of an object.
  ///
  /// - Parameter source: For the object that is copied from.
  func customerKey(source: Bool = false) -> [(name: String, value: String)] {
    guard case .customer(let key) = configuration.encryption else { return [] }
    let start = source ? "x-amz-copy-source-server-side-encryption-customer" : "x-amz-server-side-encryption-customer"
    return [
      ("\(start)-algorithm", "AES256"), ("\(start)-key", Data(key.bytes).base64EncodedString()),
      ("\(start)-key-md5", Data(Insecure.MD5.hash(data: key.bytes)).base64EncodedString()),
    ]
  }

  /// What the server compares with the bytes that it received.
  ///
  /// - Parameter needed: The server takes the request only with a checksum besides the signature: a put with a lock.
  func checksum(_ body: S3Body, needed: Bool = false) -> [(name: String, value: String)] {
    switch features.checksum {
    case .sha256, .automatic: [("x-amz-checksum-sha256", S3Digest.base64(hex: body.sha256))]
    case .md5: [("content-md5", S3Digest.base64(hex: S3Digest.md5(body.buffers)))]
    case .signature: needed ? [("content-md5", S3Digest.base64(hex: S3Digest.md5(body.buffers)))] : []
    }
  }

  /// `2026-11-24T12:45:19Z`: rounded up to the second, so that nothing is locked for less than was asked.
  static func moment(_ date: Date) -> String {
    let whole = Date(timeIntervalSince1970: date.timeIntervalSince1970.rounded(.up))
    return Timestamp.format(whole).prefix(19) + "Z"
  }
}
