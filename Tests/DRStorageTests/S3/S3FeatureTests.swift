import AsyncHTTPClient
import Crypto
import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// What goes beyond the contract of a tier, each on a server that has it.
struct S3FeatureTests {
  private static let big = TestData.rows(9_500_000, seed: 5)

  // MARK: Conditions

  @Test("Of twenty writers that may write only if absent, one wins", arguments: [S3TestServer.Kind.ceph, .moto])
  func oneWins(kind: S3TestServer.Kind) async throws {
    try await S3TestServer.shared(kind).withTier { tier in
      #expect(tier.capabilities.contains(.conditionalPut))
      for round in 0..<3 {
        let winners = try await withThrowingTaskGroup(of: Int?.self) { group in
          for writer in 0..<20 {
            group.addTask {
              do {
                try await tier.put("a/\(round)", "writer \(writer)", onlyIfAbsent: true)
                return writer
              } catch let error as DRError where error.code == .objectExists {
                return nil
              }
            }
          }
          return try await group.reduce(into: [Int]()) { if let winner = $1 { $0.append(winner) } }
        }
        #expect(winners.count == 1)
        #expect(try await tier.text("a/\(round)") == "writer \(winners.first ?? -1)")
      }
      // In parts, over one that is there.
      let taken = try ObjectKey("a/0")
      #expect(
        await code { _ = try await tier.put(taken, ByteStream(Self.big), PutOptions(onlyIfAbsent: true)) }
          == .objectExists)
      #expect(try await tier.head(taken)?.size ?? 0 < 100)
      #expect(try await tier.removeAbandonedUploads(olderThan: .distantFuture) == 0)
    }
  }

  @Test("Compare and swap replaces what it was told to, or nothing", arguments: [S3TestServer.Kind.ceph, .moto])
  func compareAndSwap(kind: S3TestServer.Kind) async throws {
    try await S3TestServer.shared(kind).withTier { tier in
      let key = try ObjectKey("lease")
      let first = try await tier.put("lease", "1")
      let tag = try #require(first.entityTag)
      func swap(_ text: String, _ tag: String) async throws {
        _ = try await tier.put(key, ByteStream(ByteBuffer(string: text)), PutOptions(ifMatch: tag))
      }
      try await swap("2", tag)
      #expect(await code { try await swap("3", tag) } == .preconditionFailed)
      #expect(try await tier.text("lease") == "2")
      try await tier.delete(key)
      #expect(await code { try await swap("4", tag) } == .preconditionFailed)
      #expect(try await tier.head(key) == nil)
    }
    try await S3TestServer.shared(.swift).withTier { tier in
      #expect(
        await code { _ = try await tier.put(ObjectKey("a"), ByteStream([]), PutOptions(ifMatch: "\"x\"")) }
          == .unsupported)
    }
  }

  // MARK: Many objects

  @Test(
    "More than a page of objects is listed and removed, foreign ones are not seen",
    arguments: [S3TestServer.Kind.ceph, .moto])
  func manyObjects(kind: S3TestServer.Kind) async throws {
    let server = try await S3TestServer.shared(kind)
    try await server.withTier(prefix: "mine") { tier in
      let names = (0..<1_030).map { "folder/\($0 % 7)/object \($0)" }
      try await withThrowingTaskGroup(of: Void.self) { group in
        for (index, name) in names.enumerated() {
          if index >= 24 { try await group.next() }
          group.addTask {
            var request = S3Request(.PUT, "mine/\(name)")
            request.body = S3Body([ByteBuffer(string: name)])
            _ = try await tier.client.send(request)
          }
        }
        try await group.waitForAll()
      }
      for foreign in ["mine/.dr-tmp-x", "mine//x", "mine/../y", "minefield", "other/x"] {
        _ = try? await tier.client.send(S3Request(.PUT, foreign))
      }
      let sorted = names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
      #expect(try await tier.keys() == sorted)
      let page = try await tier.list(prefix: "folder/3", after: ObjectKey(sorted[500]), limit: 7)
      let expected = sorted.filter { $0.hasPrefix("folder/3") && $0 > sorted[500] }
      #expect(page.objects.map(\.key.rawValue) == Array(expected.prefix(7)) && page.next != nil)
      #expect(try await tier.deleteAll(names.map { try ObjectKey($0) } + [ObjectKey("absent")]).isEmpty)
      #expect(try await tier.keys().isEmpty)
    }
  }

  @Test("A batch delete says which keys it could not remove")
  func deleteErrors() async throws {
    try await S3TestServer.shared(.ceph).withTier(prefix: "p") { tier in
      let policy = """
        {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject",
        "Resource": "arn:aws:s3:::\(tier.client.configuration.bucket)/p/kept/*"}]}
        """
      var request = S3Request(.PUT, query: [("policy", "")])
      request.body = S3Body([ByteBuffer(string: policy)])
      _ = try await tier.client.send(request)
      for key in ["a", "kept/b", "c"] { try await tier.put(key, "x") }
      let failures = try await tier.deleteAll(["a", "kept/b", "c"].map { try ObjectKey($0) })
      #expect(failures.mapValues(\.code) == [try ObjectKey("kept/b"): .notWritable])
      #expect(try await tier.keys() == ["kept/b"])
      #expect(await code { try await tier.delete(ObjectKey("kept/b")) } == .notWritable)
    }
  }

  // MARK: Abandoned uploads

  @Test(
    "An upload that was never finished is shown by nothing, and removed once it is old",
    arguments: S3TestServer.Kind.allCases)
  func abandoned(kind: S3TestServer.Kind) async throws {
    try await S3TestServer.shared(kind).withTier { tier in
      let key = "\(tier.client.configuration.prefix)/half"
      let answer = try await tier.client.send(S3Request(.POST, key, query: [("uploads", "")]))
      let id = try #require(try answer.document("InitiateMultipartUploadResult").text("UploadId"))
      var part = S3Request(.PUT, key, query: [("partNumber", "1"), ("uploadId", id)])
      part.body = S3Body([TestData.rows(6_000_000)])
      _ = try await tier.client.send(part)
      try await tier.put("whole", "x")
      #expect(try await tier.keys() == ["whole"])
      #expect(try await tier.head(ObjectKey("half")) == nil)
      #expect(try await tier.removeAbandonedUploads(olderThan: Date(timeIntervalSinceNow: -3600)) == 0)
      #expect(try await tier.removeAbandonedUploads(olderThan: Date(timeIntervalSinceNow: 3600)) == 1)
      #expect(try await tier.removeAbandonedUploads(olderThan: .distantFuture) == 0)
      #expect(try await tier.keys() == ["whole"])
    }
  }

  @Test("The bucket's own rule removes unfinished uploads; its other rules stay", .timeLimit(.minutes(3)))
  func lifecycle() async throws {
    try await S3TestServer.shared(.ceph).withTier { tier in
      let other = XMLElement(
        "Rule",
        children: [
          XMLElement("ID", text: "other"), XMLElement("Filter", children: [XMLElement("Prefix", text: "elsewhere/")]),
          XMLElement("Status", text: "Enabled"), XMLElement("Expiration", children: [XMLElement("Days", text: "9")]),
        ])
      var request = S3Request(.PUT, query: [("lifecycle", "")])
      request.body = S3Body(XMLElement("LifecycleConfiguration", children: [other]))
      request.headers = [("content-md5", Data(Insecure.md5(request.body)).base64EncodedString())]
      _ = try await tier.client.send(request)
      let key = "\(tier.client.configuration.prefix)/half"
      _ = try await tier.client.send(S3Request(.POST, key, query: [("uploads", "")]))
      for days in [3, 1] { try await tier.setAbandonedUploadsRule(days: days) }
      let rules = try await tier.client.send(S3Request(.GET, query: [("lifecycle", "")]))
        .document("LifecycleConfiguration").all("Rule")
      #expect(rules.count == 2 && rules.contains { $0.text("ID") == "other" })
      // The server's days last two seconds.
      let until = ContinuousClock.now + .seconds(120)
      var left = 1
      while left > 0, ContinuousClock.now < until {
        let page = try await tier.client.send(S3Request(.GET, query: [("uploads", "")]))
        left = try page.document("ListMultipartUploadsResult").all("Upload").count
        try await Task.sleep(for: .milliseconds(300))
      }
      #expect(left == 0)
    }
  }

  // MARK: Locks and versions

  @Test(
    "A locked object cannot be removed, replaced or freed earlier",
    arguments: [RetentionLock.Mode.governance, .compliance])
  func locks(mode: RetentionLock.Mode) async throws {
    try await S3TestServer.shared(.ceph).withTier(objectLock: true) { tier in
      #expect(tier.capabilities.isSuperset(of: [.objectLock, .versions]))
      let key = try ObjectKey("a")
      let day: TimeInterval = 86_400
      let until = Date(timeIntervalSince1970: (Date.now.timeIntervalSince1970 + day).rounded())
      for content in [ByteBuffer(string: "text"), Self.big] {
        let key = try ObjectKey("size \(content.readableBytes)")
        let info = try await tier.put(key, ByteStream(content), PutOptions(lock: RetentionLock(mode, until: until)))
        #expect(info.lock == RetentionLock(mode, until: until))
        #expect(await code { try await tier.delete(key) } == .objectLocked)
        #expect(await code { try await tier.put(key.rawValue, "other") } == .objectLocked)
        #expect(try await tier.deleteAll([key]).mapValues(\.code) == [key: .objectLocked])
        #expect(try await tier.read(key) == content)
      }
      try await tier.put("a", "text")
      try await tier.extendRetention(of: key, RetentionLock(mode, until: until))
      try await tier.extendRetention(of: key, RetentionLock(mode, until: until - 3600))
      #expect(try await tier.head(key)?.lock == RetentionLock(mode, until: until))
      try await tier.extendRetention(of: key, RetentionLock(mode, until: until + day))
      #expect(try await tier.head(key)?.lock?.until == until + day)
      try await tier.extendRetention(of: key, RetentionLock(.governance, until: until))
      #expect(try await tier.head(key)?.lock == RetentionLock(mode, until: until + day))
      let version = try #require(try await tier.versions(prefix: "a").first)
      #expect(await code { try await tier.removeVersion(key, version.id) } == .objectLocked)

      try await tier.put("held", "text")
      let held = try ObjectKey("held")
      try await tier.setLegalHold(true, on: held)
      #expect(try await tier.head(held)?.legalHold == true)
      #expect(await code { try await tier.delete(held) } == .objectLocked)
      try await tier.setLegalHold(false, on: held)
      try await tier.delete(held)
      #expect(try await tier.head(held) == nil)
      #expect(
        await code { try await tier.extendRetention(of: ObjectKey("no"), RetentionLock(mode, until: until)) }
          == .objectNotFound)
    }
  }

  @Test(
    "Versions and delete markers are listed, and what was removed comes back", arguments: S3TestServer.Kind.allCases)
  func versions(kind: S3TestServer.Kind) async throws {
    try await S3TestServer.shared(kind).withTier(versions: true) { tier in
      #expect(tier.capabilities.contains(.versions))
      for text in ["1", "2"] { try await tier.put("a b+c", text) }
      let key = try ObjectKey("a b+c")
      try await tier.delete(key)
      #expect(try await tier.head(key) == nil)
      #expect(try await tier.keys().isEmpty)
      #expect(await code { _ = try await tier.read(key) } == .objectNotFound)
      var versions = try await tier.versions(prefix: "")
      #expect(versions.count == 3 && versions.allSatisfy { $0.key == key })
      let marker = try #require(versions.first { $0.isDeleteMarker })
      #expect(marker.isLatest)
      try await tier.removeVersion(key, marker.id)
      #expect(try await tier.text("a b+c") == "2")
      versions = try await tier.versions(prefix: "")
      for version in versions { try await tier.removeVersion(key, version.id) }
      #expect(try await tier.versions(prefix: "").isEmpty)
    }
  }

  // MARK: Storage classes and archives

  @Test("A storage class is kept by object", arguments: [S3TestServer.Kind.ceph, .moto])
  func storageClass(kind: S3TestServer.Kind) async throws {
    try await S3TestServer.shared(kind).withTier { tier in
      for content in [ByteBuffer(string: "x"), Self.big] {
        let key = try ObjectKey("infrequent \(content.readableBytes)")
        let info = try await tier.put(key, ByteStream(content), PutOptions(storageClass: .standardIA))
        #expect(info.storageClass == .standardIA && info.archive == nil)
        #expect(try await tier.listAll(prefix: key.rawValue).first?.storageClass == .standardIA)
        #expect(try await tier.read(key) == content)
      }
      #expect(try await tier.put("plain", "x").storageClass == .standard)
    }
    try await S3TestServer.shared(.swift).withTier { tier in
      #expect(
        await code { _ = try await tier.put(ObjectKey("a"), ByteStream([]), PutOptions(storageClass: .standardIA)) }
          == .unsupported)
    }
  }

  @Test("What is archived says how to thaw it, is thawed in a batch, and read")
  func archive() async throws {
    let archived: (inout S3Configuration) -> Void = { $0.storageClass = .deepArchive }
    try await S3TestServer.shared(.moto).withTier(archived) { tier in
      let keys = try (0..<5).map { try ObjectKey("object \($0)") }
      for key in keys { try await tier.put(key.rawValue, key.rawValue) }
      #expect(try await tier.head(keys[0])?.archive == .archived)
      let error = await #expect(throws: DRError.self) { _ = try await tier.read(keys[0]) }
      #expect(error?.code == .objectArchived && error?.advice?.contains("thaw") == true)
      // The whole command, with what lies beside the object.
      try await tier.put("postgres/daily/b 1/base.tar", "x")
      let folder = await #expect(throws: DRError.self) {
        _ = try await tier.read(ObjectKey("postgres/daily/b 1/base.tar"))
      }
      let command = "dr-tier thaw --tier '\(tier.name)' --days 7 --speed standard 'postgres/daily/b 1/'"
      #expect(folder?.advice?.contains(command) == true, "\(String(describing: folder))")
      #expect(
        await code { try await tier.waitUntilReadable(keys, limit: .seconds(1)) } == .objectArchived)
      let absent = try ObjectKey("absent")
      #expect(
        try await tier.thaw(keys + [absent], days: 3, speed: .bulk).mapValues(\.code) == [absent: .objectNotFound])
      let seen = MutableBox<[Int]>([])
      try await tier.waitUntilReadable(keys, limit: .seconds(60), every: .milliseconds(100)) { readable, _ in
        seen.withLock { $0.append(readable) }
      }
      #expect(seen.value.last == keys.count)
      for key in keys { #expect(try await tier.text(key.rawValue) == key.rawValue) }
      guard case .thawed? = try await tier.head(keys[0])?.archive else {
        Issue.record("not seen as thawed")
        return
      }
      #expect(try await tier.thaw(keys, days: 3, speed: .standard).isEmpty, "asked for twice")
    }
    try await S3TestServer.shared(.ceph).withTier { tier in
      #expect(await code { _ = try await tier.thaw([], days: 1, speed: .bulk) } == .unsupported)
    }
  }

  // MARK: Encryption

  /// Ceph 16 ignores SSE-S3, moto SSE-C: where they are refused (S3SecretsTests).
  @Test("Objects are encrypted as was asked, in one request and in parts", arguments: ["managed", "kms", "customer"])
  func encryption(name: String) async throws {
    let server = try await S3TestServer.shared(name == "managed" ? .moto : .ceph)
    let key = try S3CustomerKey((0..<32).map { UInt8($0) })
    let encryption: S3Configuration.ServerEncryption =
      switch name {
      case "kms": .kms(key: server.kmsKey, bucketKey: true)
      case "customer": .customer(key)
      default: .managed
      }
    try await server.withBucket { bucket in
      var configuration = server.configuration(bucket: bucket)
      configuration.encryption = encryption
      let tier = try await S3Tier(configuration)
      for content in [ByteBuffer(string: "text"), Self.big] {
        let object = try ObjectKey("size \(content.readableBytes)")
        _ = try await tier.put(object, ByteStream(content), PutOptions())
        #expect(try await tier.read(object) == content)
        #expect(
          try await tier.get(object, range: 1..<3).collect(limit: 9) == content.getSlice(at: 1, length: 2))
        let copy = try ObjectKey("copy \(content.readableBytes)")
        _ = try await tier.copy(object, to: copy, PutOptions())
        #expect(try await tier.read(copy) == content)
        let plain = try S3Client(server.configuration(bucket: bucket))
        switch encryption {
        case .customer:
          await #expect(throws: S3Failure.self) { _ = try await plain.send(S3Request(.GET, object.rawValue)) }
        case .kms(let id, _):
          let head = try await plain.send(S3Request(.HEAD, object.rawValue))
          #expect(head.header("x-amz-server-side-encryption") == "aws:kms")
          #expect(head.header("x-amz-server-side-encryption-aws-kms-key-id") == id)
        case .managed:
          let head = try await plain.send(S3Request(.HEAD, object.rawValue))
          #expect(head.header("x-amz-server-side-encryption") == "AES256")
        case .bucketDefault: break
        }
      }
    }
  }

  // MARK: Ways to the server

  @Test("With TLS, only a server that the given authority vouches for is spoken to")
  func tls() async throws {
    let server = try await S3TestServer.shared(.ceph)
    try await server.withBucket { bucket in
      var configuration = server.configuration(bucket: bucket)
      configuration.endpoint = server.secureEndpoint
      configuration.certificateAuthority = server.certificateAuthority
      let tier = try await S3Tier(configuration)
      _ = try await tier.put(ObjectKey("a"), ByteStream(Self.big), PutOptions())
      #expect(try await tier.read(ObjectKey("a")) == Self.big)
      configuration.certificateAuthority = nil
      let error = await #expect(throws: DRError.self) { _ = try await S3Tier(configuration) }
      #expect(
        error?.code == .tierUnavailable && error?.advice?.contains("certificate") == true,
        "\(String(describing: error))")
    }
  }

  @Test("A bucket is named in the host's name where that is wanted")
  func virtualHost() async throws {
    let server = try await S3TestServer.shared(.ceph)
    try await server.withBucket { bucket in
      var configuration = server.configuration(bucket: bucket, prefix: "p")
      configuration.endpoint = server.hostedEndpoint
      configuration.addressing = .virtualHost
      configuration.addresses = ["\(bucket).s3.test": "127.0.0.1"]
      let tier = try await S3Tier(configuration)
      _ = try await tier.put(ObjectKey("a b/ü"), ByteStream(Self.big), PutOptions())
      #expect(try await tier.read(ObjectKey("a b/ü")) == Self.big)
      #expect(try await tier.keys() == ["a b/ü"])
      // The same object, with the bucket in the path.
      let other = try await S3Tier(server.configuration(bucket: bucket, prefix: "p"))
      #expect(try await other.keys() == ["a b/ü"])
    }
  }

  @Test(
    "A presigned URL works as it is, until it expires, for what it was made",
    arguments: [S3TestServer.Kind.swift, .ceph])
  func presigned(kind: S3TestServer.Kind) async throws {
    try await S3TestServer.shared(kind).withTier { tier in
      for key in ["a b+c", "other"] { try await tier.put(key, "text of \(key)") }
      func get(_ url: String, _ method: String = "GET", body: String? = nil) async throws -> (Int, String) {
        var request = HTTPClientRequest(url: url)
        request.method = .RAW(value: method)
        if let body { request.body = .bytes(ByteBuffer(string: body)) }
        let answer = try await HTTPClient.shared.execute(request, timeout: .seconds(20))
        return (Int(answer.status.code), String(buffer: try await answer.body.collect(upTo: 1 << 20)))
      }
      let url = try await tier.presignedGet(ObjectKey("a b+c"), validFor: .seconds(60))
      #expect(try await get(url) == (200, "text of a b+c"))
      #expect(try await get(url.replacingOccurrences(of: "a%20b%2Bc", with: "other")).0 == 403)
      let write = try await tier.presignedPut(ObjectKey("new"), validFor: .seconds(60))
      #expect(try await get(write, "PUT", body: "written").0 == 200)
      #expect(try await tier.text("new") == "written")
      let short = try await tier.presignedGet(ObjectKey("other"), validFor: .seconds(1))
      let until = ContinuousClock.now + .seconds(20)
      var status = 200
      while status == 200, ContinuousClock.now < until {
        status = try await get(short).0
        try await Task.sleep(for: .milliseconds(200))
      }
      #expect(status == 403)
      #expect(
        await code { _ = try await tier.presignedGet(ObjectKey("a"), validFor: .seconds(700_000)) }
          == .invalidConfiguration)
    }
  }

  @Test("An object that is replaced while it is read is an error, not a mixture", arguments: S3TestServer.Kind.allCases)
  func replaced(kind: S3TestServer.Kind) async throws {
    let oneAhead: (inout S3Configuration) -> Void = { $0.concurrency = 1 }
    try await S3TestServer.shared(kind).withTier(oneAhead) { tier in
      let key = try ObjectKey("a")
      _ = try await tier.put(key, ByteStream(TestData.rows(40_000_000, seed: 1)), PutOptions())
      let stream = try await tier.get(key, range: nil)
      var iterator = stream.makeAsyncIterator()
      _ = try await iterator.next()
      _ = try await tier.put(key, ByteStream(TestData.rows(40_000_000, seed: 2)), PutOptions())
      let error = await #expect(throws: DRError.self) { while try await iterator.next() != nil {} }
      #expect(error?.code == .tierUnavailable)
    }
  }

  @Test("A URL and the environment make a configuration; what cannot be one is refused")
  func urls() throws {
    let environment = [
      "HOME": "/nonexistent", "AWS_REGION": "eu-west-3", "AWS_ENDPOINT_URL": "https://s3.example.com:9000",
      "AWS_CA_BUNDLE": "/etc/ca.pem",
    ]
    let configuration = try S3Configuration(url: "s3://bucket/a/b/", environment: environment)
    #expect(configuration.bucket == "bucket" && configuration.prefix == "a/b" && configuration.region == "eu-west-3")
    #expect(
      configuration.endpoint == "https://s3.example.com:9000" && configuration.certificateAuthority == "/etc/ca.pem")
    #expect(try S3Configuration(url: "s3://bucket", environment: ["HOME": "/nonexistent"]).endpoint == nil)
    for bad in ["s3:/bucket", "s3://", "s3:///x", "http://bucket"] {
      #expect(throws: DRError.self, "\(bad)") { try S3Configuration(url: bad, environment: [:]) }
    }
    for (endpoint, bucket) in [
      ("ftp://host", "bucket"), ("https://host/path", "bucket"), ("https://user:pass@host", "bucket"),
      ("host", "bucket"),
      ("https://host", "a/b"), ("https://host", ".."), ("https://host", ""),
    ] {
      #expect(throws: DRError.self, "\(endpoint) \(bucket)") {
        try S3Client(S3Configuration(bucket: bucket, endpoint: endpoint))
      }
    }
  }
}

extension Insecure {
  fileprivate static func md5(_ body: S3Body) -> [UInt8] {
    var digest = Insecure.MD5()
    for buffer in body.buffers { digest.update(data: Data(buffer.readableBytesView)) }
    return Array(digest.finalize())
  }
}
