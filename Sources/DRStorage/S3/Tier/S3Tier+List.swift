public import DRCore

import struct Foundation.Date

extension S3Tier {
  public func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    let limit = max(1, limit)
    var objects: [ObjectInfo] = []
    var start = try after.map { try fullKey($0) }
    while true {
      let page = try await listPage(
        prefix: keyPrefix + prefix, after: start, limit: min(1000, limit - objects.count + 1))
      for entry in page.entries {
        if objects.count == limit { return ObjectPage(objects: objects, next: objects.last?.key) }
        // Somebody else's, or the tier's own.
        if let info = try objectInfo(entry) { objects.append(info) }
      }
      guard page.isTruncated, let last = page.last else { return ObjectPage(objects: objects, next: nil) }
      if objects.count == limit { return ObjectPage(objects: objects, next: objects.last?.key) }
      start = last
    }
  }

  private func listPage(
    prefix: String, after: String?, limit: Int
  ) async throws -> (entries: [(key: String, element: XMLElement)], last: String?, isTruncated: Bool) {
    var request = S3Request(
      .GET,
      query: [
        ("list-type", "2"), ("prefix", prefix), ("max-keys", "\(limit)"), ("encoding-type", "url"),
      ])
    if let after { request.query.append(("start-after", after)) }
    let answer: XMLElement
    do {
      answer = try await client.send(request).document("ListBucketResult")
    } catch let failure as S3Failure {
      throw failure.translated(name, key: nil, writing: false)
    }
    let isEncoded = answer.text("EncodingType") == "url"
    let entries = answer.all("Contents").compactMap { element -> (String, XMLElement)? in
      guard let text = element.text("Key") else { return nil }
      return (isEncoded ? PercentEncoding.decode(text) : text).map { ($0, element) }
    }
    return (entries, entries.last?.0, answer.text("IsTruncated") == "true")
  }

  private func objectInfo(_ entry: (key: String, element: XMLElement)) throws -> ObjectInfo? {
    guard let key = objectKey(entry.key) else { return nil }
    guard let size = entry.element.text("Size").flatMap(Int64.init) else {
      throw DRError(.malformedData, "the listing does not say how large the object is", object: key.rawValue)
    }
    var info = ObjectInfo(
      key: key, size: size, modified: entry.element.text("LastModified").flatMap(Timestamp.parse) ?? .distantPast,
      entityTag: entry.element.text("ETag"))
    if features.storageClasses || (!isProbed && entry.element.text("StorageClass") != nil) {
      info.storageClass = StorageClass(rawValue: entry.element.text("StorageClass") ?? "STANDARD")
    }
    if features.archive, info.storageClass?.isArchive == true { info.archive = .archived }
    return info
  }
}
