public import DRCore

import struct Foundation.Date

extension S3Tier {
  public func thaw(_ keys: [ObjectKey], days: Int, speed: ThawSpeed) async throws -> [ObjectKey: DRError] {
    guard features.archive else {
      throw DRError(.unsupported, "\(name) cannot thaw: it has no archive", advice: "read its objects as they are")
    }
    guard (1...36_500).contains(days) else {
      throw DRError(.invalidConfiguration, "an object is thawed for at least one day, not for \(days)")
    }
    return try await concurrently(keys) { try await thaw($0, days, speed) }
  }

  private func thaw(_ key: ObjectKey, _ days: Int, _ speed: ThawSpeed) async throws {
    var request = S3Request(.POST, try fullKey(key), query: [("restore", "")])
    let tier = speed.rawValue.prefix(1).uppercased() + speed.rawValue.dropFirst()
    request.body = S3Body(
      XMLElement(
        "RestoreRequest",
        children: [
          XMLElement("Days", text: "\(days)"),
          XMLElement("GlacierJobParameters", children: [XMLElement("Tier", text: tier)]),
        ]))
    request.headers = [("content-md5", S3Digest.base64(hex: S3Digest.md5(request.body.buffers)))]
    do {
      _ = try await client.send(request)
    } catch let failure as S3Failure {
      if failure.isNotFound { throw S3Tier.absent(key) }
      if failure.code == "RestoreAlreadyInProgress" { return }
      // Said of an object that is in no archive class, or whose class has another speed.
      if failure.code == "InvalidObjectState", let info = try await head(key) {
        if info.archive == nil || info.archive?.isReadable == true { return }
        throw DRError(
          .invalidConfiguration, "the object cannot be thawed so: \(failure)",
          advice: "DEEP_ARCHIVE has no expedited thaw: ask for standard or bulk", object: key.rawValue)
      }
      throw failure.translated(name, key: key.rawValue, writing: false)
    }
  }
}
