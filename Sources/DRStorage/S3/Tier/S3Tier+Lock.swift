public import DRCore

import struct Foundation.Date

extension S3Tier {
  public func extendRetention(of key: ObjectKey, _ lock: RetentionLock) async throws {
    try checkLockable()
    guard let info = try await head(key) else { throw S3Tier.absent(key) }
    var wanted = lock
    if let held = info.lock, held.until > client.serverNow {
      if held.until >= lock.until, held.mode >= lock.mode { return }
      wanted = RetentionLock(max(held.mode, lock.mode), until: max(held.until, lock.until))
    }
    let body = XMLElement(
      "Retention",
      children: [
        XMLElement("Mode", text: wanted.mode.rawValue.uppercased()),
        XMLElement("RetainUntilDate", text: S3Tier.moment(wanted.until)),
      ])
    // Governance may only be lifted to compliance by who may bypass it.
    let bypass = info.lock?.mode == .governance && wanted.mode == .compliance
    try await change("retention", body, of: key, headers: bypass ? [("x-amz-bypass-governance-retention", "true")] : [])
  }

  public func setLegalHold(_ held: Bool, on key: ObjectKey) async throws {
    try checkLockable()
    try await change(
      "legal-hold", XMLElement("LegalHold", children: [XMLElement("Status", text: held ? "ON" : "OFF")]), of: key)
  }

  private func checkLockable() throws {
    if features.objectLock { return }
    throw DRError(
      .unsupported, "\(name) cannot lock objects", advice: "make a bucket with Object Lock, and copy to that")
  }

  private func change(
    _ what: String, _ body: XMLElement, of key: ObjectKey, headers: [(name: String, value: String)] = []
  ) async throws {
    var request = S3Request(.PUT, try fullKey(key), query: [(what, "")])
    request.body = S3Body(body)
    request.headers = headers + [("content-md5", S3Digest.base64(hex: S3Digest.md5(request.body.buffers)))]
    do {
      _ = try await client.send(request)
    } catch let failure as S3Failure {
      if failure.isNotFound { throw S3Tier.absent(key) }
      throw failure.translated(name, key: key.rawValue, writing: true)
    }
  }
}
