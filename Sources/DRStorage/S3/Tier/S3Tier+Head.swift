public import DRCore
import NIOCore
import NIOHTTP1

import struct Foundation.Date

extension S3Tier {
  public func head(_ key: ObjectKey) async throws -> ObjectInfo? {
    let fullKey = try fullKey(key)
    guard let response = try await rawHead(key, fullKey) else { return nil }
    var info = try objectInfo(key, response)
    // A class of that name is no archive on every server.
    if !isProbed, info.archive == .archived, try await isReadable(key, fullKey) { info.archive = nil }
    return info
  }

  /// By reading its first byte.
  private func isReadable(_ key: ObjectKey, _ fullKey: String) async throws -> Bool {
    do {
      _ = try await fetch(fullKey, 0..<1, tag: nil)
      return true
    } catch let failure as S3Failure {
      if failure.code == "InvalidObjectState" { return false }
      if failure.status == 416 { return true }
      throw failure.translated(name, key: key.rawValue, writing: false)
    }
  }

  /// Nil if the object is absent: the bucket is there.
  func rawHead(_ key: ObjectKey, _ fullKey: String) async throws -> S3Response? {
    var request = S3Request(.HEAD, fullKey)
    request.headers = customerKey()
    if features.checksum == .sha256 { request.headers.append(("x-amz-checksum-mode", "ENABLED")) }
    do {
      return try await client.send(request)
    } catch let failure as S3Failure {
      guard failure.isNotFound else { throw failure.translated(name, key: key.rawValue, writing: false) }
      try await checkBucketIsThere()
      return nil
    }
  }

  func objectInfo(_ key: ObjectKey, _ response: S3Response) throws -> ObjectInfo {
    guard let size = response.header("content-length").flatMap(Int64.init) else {
      throw DRError(.malformedData, "the server does not say how large the object is", object: key.rawValue)
    }
    var info = ObjectInfo(
      key: key, size: size, modified: response.header("last-modified").flatMap(HTTPDate.parse) ?? .distantPast,
      entityTag: response.header("etag"))
    if features.storageClasses || (!isProbed && response.header("x-amz-storage-class") != nil) {
      info.storageClass = StorageClass(rawValue: response.header("x-amz-storage-class") ?? "STANDARD")
    }
    info.archive = archiveState(response, info.storageClass)
    if let mode = response.header("x-amz-object-lock-mode").flatMap({ RetentionLock.Mode(rawValue: $0.lowercased()) }),
      let until = response.header("x-amz-object-lock-retain-until-date").flatMap(Timestamp.parse)
    {
      info.lock = RetentionLock(mode, until: until)
    }
    info.legalHold = response.header("x-amz-object-lock-legal-hold") == "ON"
    return info
  }

  /// `x-amz-restore: ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`.
  private func archiveState(_ response: S3Response, _ storageClass: StorageClass?) -> ArchiveState? {
    let isArchived =
      (features.archive || !isProbed)
      && (storageClass?.isArchive == true || response.header("x-amz-archive-status") != nil)
    guard isArchived else { return nil }
    guard let restore = response.header("x-amz-restore") else { return .archived }
    if restore.contains("ongoing-request=\"true\"") { return .thawing }
    let expiry = restore.split(separator: "\"", omittingEmptySubsequences: false)
    return .thawed(until: expiry.count > 3 ? HTTPDate.parse(String(expiry[3])) : nil)
  }
}
