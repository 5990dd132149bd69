import DRCore

extension S3Tier {
  /// Why a put was refused, in the words of what it asked for: the class, the encryption.
  ///
  /// - Parameter storageClass: What was asked for; nil: the server's default.
  func refusal(_ failure: S3Failure, _ key: ObjectKey?, storageClass: StorageClass?) -> DRError {
    func error(_ code: DRError.Code, _ message: String, _ advice: String) -> DRError {
      DRError(code, "\(name) \(message)", advice: advice, object: key?.rawValue, cause: failure)
    }
    let encryption = configuration.encryption
    let isArgument = ["InvalidArgument", "InvalidRequest", "NotImplemented", "MethodNotAllowed"].contains(failure.code)
    if case .kms(let id, _) = encryption, failure.isAboutKMS || (isArgument && storageClass == nil) {
      return error(
        .invalidConfiguration, "cannot encrypt with the KMS key \(id.map { "'\($0)'" } ?? "of the account")",
        "see that this key is there, enabled and of the bucket's region, and that these credentials may use it "
          + "(kms:GenerateDataKey, kms:Decrypt); it is named in s3.encryption, as aws:kms:KEY")
    }
    if let storageClass, failure.code == "InvalidStorageClass" || (isArgument && failure.status == 400) {
      let other = encryption == .bucketDefault ? "" : ", or not the encryption \(encryption.name)"
      return error(
        .invalidConfiguration, "does not take the storage class '\(storageClass)'" + other,
        "name one that the server has (--storage-class, or s3.storageClass in the configuration), or none for its default"
      )
    }
    if encryption != .bucketDefault, isArgument || failure.code?.contains("Encryption") == true {
      return error(
        .invalidConfiguration, "does not encrypt as it was asked to: \(encryption.name)",
        "see what the server says; it is named in s3.encryption of the configuration")
    }
    return failure.translated(name, key: key?.rawValue, writing: true)
  }
}

extension S3Failure {
  /// Amazon has codes of their own; Ceph calls a key that it does not have an access key.
  fileprivate var isAboutKMS: Bool {
    code?.hasPrefix("KMS") == true || detail?.lowercased().contains("kms") == true
  }
}
