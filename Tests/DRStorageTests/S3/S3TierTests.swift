import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// The contract of a tier, on real S3 servers.
struct S3TierTests {
  @Test("An object reads back as it was put, in one request and in parts", arguments: S3TestServer.Kind.allCases)
  func roundTrip(kind: S3TestServer.Kind) async throws {
    try await S3TestServer.shared(kind).withTier { tier in
      var random = TestData.Random(seed: 7)
      for size in [0, 1, 300_000, (8 << 20) - 1, 8 << 20, (8 << 20) + 1, 29_000_003] {
        let key = try ObjectKey("postgres/daily/object+\(size) é=&%/x")
        let content = TestData.rows(size)
        let info = try await tier.put(key, ByteStream(TestData.pieces(of: content, upTo: 900_000)), PutOptions())
        #expect(info.size == Int64(size))
        #expect(try await tier.head(key)?.size == Int64(size))
        #expect(try await tier.read(key) == content)
        for _ in 0..<4 {
          let start = Int.random(in: 0...size, using: &random)
          let end = Int.random(in: start...size, using: &random)
          let part = try await tier.get(key, range: Int64(start)..<Int64(end)).collect(limit: size)
          #expect(part == content.getSlice(at: start, length: end - start))
        }
        for outside in [0..<Int64(size + 1), Int64(size)..<Int64(size + 5), -1..<0] {
          #expect(await code { _ = try await tier.get(key, range: outside) } == .truncatedData)
        }
        let listed = try await tier.listAll(prefix: key.rawValue)
        #expect(listed.map(\.key) == [key] && listed.first?.size == Int64(size))
        try await tier.delete(key)
        try await tier.delete(key)
        #expect(try await tier.head(key) == nil)
        #expect(await code { _ = try await tier.get(key, range: nil) } == .objectNotFound)
      }
    }
  }

  @Test("Each server's features are found by trying them out", arguments: S3TestServer.Kind.allCases)
  func features(kind: S3TestServer.Kind) async throws {
    let server = try await S3TestServer.shared(kind)
    try await server.withTier { tier in
      let expected =
        switch kind {
        // It refuses a second writer, but not two at once.
        case .swift: S3Features(checksum: .sha256)
        case .ceph:
          S3Features(
            conditionalPut: true, compareAndSwap: true, bareTags: true, checksum: .signature, storageClasses: true)
        case .moto:
          S3Features(
            conditionalPut: true, conditionalCompletion: true, compareAndSwap: true, checksum: .md5,
            storageClasses: true, archive: true)
        }
      #expect(tier.features == expected)
      let left = try await tier.client.send(S3Request(.GET, query: [("list-type", "2")])).document("ListBucketResult")
      #expect(left.all("Contents").isEmpty)
    }
    try await server.withTier(objectLock: kind != .swift, versions: true) { tier in
      #expect(tier.features.versions)
      #expect(tier.features.objectLock == (kind != .swift))
    }
  }

  @Test("What is lost, late or refused for load is never taken for a capability")
  func honestProbe() async throws {
    let server = try await S3TestServer.shared(.swift)
    let faults: [S3FaultProxy.Fault] = [
      .loseAnswer, .refuse, .truncateAnswer, .answer(status: 503, code: "SlowDown"),
      .answer(status: 504, code: "GatewayTimeout"), .replaceAnswer(status: 500, code: "InternalError"),
      .answer(status: 400, code: "RequestTimeout"),
    ]
    try await server.withBucket { bucket in
      try await S3FaultProxy.with(server) { proxy in
        var configuration = server.configuration(bucket: bucket)
        configuration.endpoint = proxy.endpoint
        configuration.retries = RetryPolicy(
          attempts: 4, firstDelay: .milliseconds(5), longestDelay: .milliseconds(50))
        var opened = 0
        for (index, fault) in faults.enumerated() {
          for every in index == 0 ? [2, 5, 11] : [[2, 5, 11][index % 3]] {
            proxy.forget()
            proxy.plan { $0.method == "PUT" && $0.number % every == 0 ? fault : nil }
            do {
              let features = try await S3Tier(configuration).features
              opened += 1
              #expect(
                !features.conditionalPut && !features.conditionalCompletion && !features.compareAndSwap
                  && !features.archive && !features.storageClasses, "\(fault), every \(every): \(features)")
            } catch let error as DRError {
              #expect(error.code == .timedOut || error.code == .tierUnavailable, "\(error)")
            }
          }
        }
        #expect(opened > 0)
      }
    }
  }

  @Test("What is not tried out is not offered, and reading tries out nothing")
  func probing() async throws {
    let server = try await S3TestServer.shared(.ceph)
    try await server.withBucket { bucket in
      try await S3FaultProxy.with(server) { proxy in
        var configuration = server.configuration(bucket: bucket)
        configuration.endpoint = proxy.endpoint
        configuration.probing = .unconditional
        let writing = try await S3Tier(configuration)
        #expect(writing.features == S3Features(checksum: .signature, storageClasses: true))
        try await writing.put("a", "text")
        proxy.forget()
        configuration.probing = .nothing
        let reading = try await S3Tier(configuration)
        #expect(reading.capabilities.isEmpty)
        #expect(try await reading.text("a") == "text")
        #expect(proxy.requests.map(\.method).allSatisfy { $0 == "HEAD" || $0 == "GET" })
      }
    }
  }
}
