import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// What happens when the network or the server fails between a client and a real server.
struct S3FailureTests {
  private static func withProxy<Result>(
    _ kind: S3TestServer.Kind, stallLimit: Duration = .seconds(20), attempts: Int = 4,
    _ body: (S3Tier, S3FaultProxy) async throws -> Result
  ) async throws -> Result {
    let server = try await S3TestServer.shared(kind)
    return try await S3FaultProxy.with(server) { proxy in
      let change: (inout S3Configuration) -> Void = { configuration in
        configuration.endpoint = proxy.endpoint
        configuration.partSize = 5 << 20
        configuration.retries = RetryPolicy(
          attempts: attempts, timeLimit: .seconds(60), firstDelay: .milliseconds(5), longestDelay: .milliseconds(50))
        configuration.stallLimit = stallLimit
        // Not tried out: the requests that are counted and struck are those of the test.
        configuration.features =
          switch kind {
          case .swift: S3Features(checksum: .sha256)
          case .ceph: S3Features(conditionalPut: true, compareAndSwap: true, bareTags: true, checksum: .signature)
          case .moto: S3Features(conditionalPut: true, conditionalCompletion: true, compareAndSwap: true)
          }
      }
      return try await server.withTier(change) { tier in
        proxy.forget()
        return try await body(tier, proxy)
      }
    }
  }

  private static let big = TestData.rows(11_000_000, seed: 3)
  private static let small = TestData.rows(70_000, seed: 4)

  static let transient: [S3FaultProxy.Fault] = [
    .refuse, .answer(status: 503, code: "SlowDown"), .answer(status: 500, code: "InternalError"), .loseAnswer,
    .truncateAnswer, .replaceAnswer(status: 500, code: "InternalError"), .stallAnswer,
  ]

  /// The one fault strikes each operation in turn, and each one succeeds all the same.
  @Test(
    "One failure of any request does not fail the operation",
    arguments: [S3TestServer.Kind.swift, .ceph], transient)
  func oneFailure(kind: S3TestServer.Kind, fault: S3FaultProxy.Fault) async throws {
    try await Self.withProxy(kind, stallLimit: fault == .stallAnswer ? .seconds(2) : .seconds(20)) {
      tier, proxy in
      let struck = MutableBox<Set<String>>([])
      proxy.plan { request in
        struck.withLock { $0.insert(request.operation).inserted } ? fault : nil
      }
      let (one, two, three) = (try ObjectKey("one"), try ObjectKey("two"), try ObjectKey("three"))
      _ = try await tier.put(one, ByteStream(Self.small), PutOptions(onlyIfAbsent: kind == .ceph))
      _ = try await tier.put(two, ByteStream(TestData.pieces(of: Self.big, upTo: 700_000)), PutOptions())
      #expect(try await tier.read(one) == Self.small)
      #expect(try await tier.read(two) == Self.big)
      _ = try await tier.copy(one, to: three, PutOptions())
      #expect(try await tier.read(three) == Self.small)
      #expect(try await tier.listAll(prefix: "").map(\.key) == [one, three, two])
      #expect(try await tier.deleteAll([one, two]).isEmpty)
      try await tier.delete(three)
      #expect(try await tier.listAll(prefix: "").isEmpty)
      #expect(
        struck.value.isSuperset(of: [
          "PUT", "HEAD", "POST create", "PUT part", "POST complete", "GET", "PUT copy", "GET list", "POST delete",
          "DELETE",
        ]), "\(struck.value)")
    }
  }

  /// As Ceph's gateway once answered while six writers replaced one.
  @Test("A 'not there' for an object that is there is asked for again, and never believed")
  func notThere() async throws {
    try await Self.withProxy(.ceph) { tier, proxy in
      let key = try ObjectKey("object")
      _ = try await tier.put(key, ByteStream(Self.small), PutOptions())
      let struck = MutableBox(0)
      proxy.plan { request in
        guard request.operation == "GET" else { return nil }
        return struck.withLock { count in
          count += 1
          return count == 1 ? .answer(status: 404, code: "NoSuchKey") : nil
        }
      }
      #expect(try await tier.read(key) == Self.small)
      #expect(struck.value == 2)
      proxy.plan { $0.operation == "GET" ? .answer(status: 404, code: "NoSuchKey") : nil }
      let error = await #expect(throws: DRError.self) { _ = try await tier.read(key) }
      #expect(error?.code == .tierUnavailable && error?.message.contains("replaced") == true)
      try await tier.delete(key)
      let absent = await #expect(throws: DRError.self) { _ = try await tier.read(key) }
      #expect(absent?.code == .objectNotFound)
    }
  }

  @Test("A completion whose answer was lost is known by its object", arguments: S3TestServer.Kind.allCases)
  func lostCompletion(kind: S3TestServer.Kind) async throws {
    try await Self.withProxy(kind) { tier, proxy in
      let key = try ObjectKey("object")
      let lost = MutableBox(0)
      proxy.plan { request in
        guard request.operation == "POST complete" else { return nil }
        return lost.withLock { count in
          count += 1
          return count == 1 ? .loseAnswer : .answer(status: 404, code: "NoSuchUpload")
        }
      }
      _ = try await tier.put(key, ByteStream(Self.big), PutOptions(onlyIfAbsent: kind != .swift))
      #expect(lost.value == 2)
      #expect(try await tier.read(key) == Self.big)
      // The same answer without an object of ours behind it is a failure, and another's object stays.
      lost.withLock { $0 = 1 }
      let other = try ObjectKey("other")
      await #expect(throws: DRError.self) { _ = try await tier.put(other, ByteStream(Self.big), PutOptions()) }
      #expect(try await tier.head(other) == nil)
      lost.withLock { $0 = 1 }
      await #expect(throws: DRError.self) { _ = try await tier.put(key, ByteStream(Self.big), PutOptions()) }
      #expect(try await tier.read(key) == Self.big)
    }
  }

  @Test(
    "A conditional put whose answer was lost knows its own object, and another's",
    arguments: [S3TestServer.Kind.ceph, .moto])
  func lostConditionalPut(kind: S3TestServer.Kind) async throws {
    try await Self.withProxy(kind) { tier, proxy in
      let once = MutableBox(true)
      proxy.plan { request in
        request.operation == "PUT"
          && once.withLock { first in
            defer { first = false }
            return first
          } ? .loseAnswer : nil
      }
      try await tier.put("a", "mine", onlyIfAbsent: true)
      #expect(try await tier.text("a") == "mine")
      once.withLock { $0 = true }
      #expect(await code { try await tier.put("a", "mine", onlyIfAbsent: true) } == .objectExists)
      if tier.capabilities.contains(.compareAndSwap) {
        let tag = try await tier.head(ObjectKey("a"))?.entityTag
        once.withLock { $0 = true }
        _ = try await tier.put(ObjectKey("a"), ByteStream(ByteBuffer(string: "next")), PutOptions(ifMatch: tag))
        #expect(try await tier.text("a") == "next")
        #expect(
          await code {
            _ = try await tier.put(ObjectKey("a"), ByteStream(ByteBuffer(string: "x")), PutOptions(ifMatch: tag))
          } == .preconditionFailed)
      }
    }
  }

  @Test("An error in an answer that says success is an error", arguments: S3TestServer.Kind.allCases)
  func errorInSuccess(kind: S3TestServer.Kind) async throws {
    try await Self.withProxy(kind) { tier, proxy in
      try await tier.put("source", "text")
      let code = MutableBox("InternalError")
      let times = MutableBox(1)
      proxy.plan { request in
        guard ["POST complete", "PUT copy", "POST delete", "PUT", "DELETE"].contains(request.operation) else {
          return nil
        }
        let strikes = times.withLock { times in
          times -= 1
          return times >= 0
        }
        return strikes ? .errorInSuccess(code: code.value) : nil
      }
      let key = try ObjectKey("object")
      _ = try await tier.put(key, ByteStream(Self.big), PutOptions())
      #expect(try await tier.read(key) == Self.big)
      code.withLock { $0 = "AccessDenied" }
      times.withLock { $0 = 1000 }
      await #expect(throws: DRError.self) {
        _ = try await tier.put(ObjectKey("absent"), ByteStream(Self.big), PutOptions())
      }
      await #expect(throws: DRError.self) {
        _ = try await tier.copy(ObjectKey("source"), to: ObjectKey("absent"), PutOptions())
      }
      await #expect(throws: DRError.self) { _ = try await tier.deleteAll([ObjectKey("source")]) }
      await #expect(throws: DRError.self) { try await tier.put("absent", "small") }
      await #expect(throws: DRError.self) { try await tier.delete(ObjectKey("source")) }
      times.withLock { $0 = 0 }
      #expect(try await tier.keys() == ["object", "source"])
      // Once is borne: a deletion is asked for again.
      code.withLock { $0 = "InternalError" }
      times.withLock { $0 = 1 }
      try await tier.delete(ObjectKey("source"))
      #expect(try await tier.keys() == ["object"])
    }
  }

  @Test(
    "A server that is down ends the attempts, by number and by time, and says so", arguments: [S3TestServer.Kind.ceph])
  func limits(kind: S3TestServer.Kind) async throws {
    try await Self.withProxy(kind, stallLimit: .seconds(5), attempts: 3) { tier, proxy in
      let fault = MutableBox<S3FaultProxy.Fault>(.answer(status: 503, code: "SlowDown"))
      proxy.plan { _ in fault.value }
      for (next, expected) in [
        (S3FaultProxy.Fault.answer(status: 503, code: "SlowDown"), DRError.Code.tierUnavailable),
        (.refuse, .tierUnavailable), (.stall, .timedOut),
      ] {
        fault.withLock { $0 = next }
        proxy.forget()
        let error = await #expect(throws: DRError.self) { try await tier.put("a", "text") }
        #expect(error?.code == expected)
        #expect(error?.description.contains("after 3 attempts") == true, "\(String(describing: error))")
        // A failed put is looked for once more: HEAD, as often.
        #expect(proxy.requests.filter { $0.method == "PUT" }.count == 3)
      }
    }
  }

  @Test("Cancelled in the middle, an upload is aborted and nothing is left", arguments: S3TestServer.Kind.allCases)
  func cancelled(kind: S3TestServer.Kind) async throws {
    struct Broken: Error {}
    try await S3TestServer.shared(kind).withTier { tier in
      try await tier.put("old", "old")
      for key in ["old", "new"] {
        let pieces = MutableBox(TestData.pieces(of: TestData.rows(20_000_000), upTo: 700_000)[...])
        await #expect(throws: Broken.self) {
          let body = ByteStream {
            guard let piece = pieces.withLock({ $0.popFirst() }) else { throw Broken() }
            return piece
          }
          _ = try await tier.put(ObjectKey(key), body, PutOptions())
        }
        let started = AsyncStream.makeStream(of: Void.self)
        let task = Task {
          let count = MutableBox(0)
          let body = ByteStream {
            let number = count.withLock { number -> Int in
              number += 1
              return number
            }
            if number == 30 { started.continuation.yield() }
            return TestData.rows(1 << 20)
          }
          _ = try await tier.put(ObjectKey(key), body, PutOptions())
        }
        for await _ in started.stream { break }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
      }
      #expect(try await tier.keys() == ["old"])
      #expect(try await tier.text("old") == "old")
      #expect(try await tier.removeAbandonedUploads(olderThan: .distantFuture) == 0)
    }
  }

  @Test("A bit that flips on the way never becomes an object", arguments: S3TestServer.Kind.allCases)
  func flippedBits(kind: S3TestServer.Kind) async throws {
    try await Self.withProxy(kind) { tier, proxy in
      for operation in ["PUT", "PUT part"] {
        for always in [false, true] {
          let count = MutableBox(0)
          proxy.plan { request in
            guard request.operation == operation else { return nil }
            let number = count.withLock { count -> Int in
              count += 1
              return count
            }
            return always || number == 1 ? .flipRequestBit : nil
          }
          let content = operation == "PUT" ? Self.small : Self.big
          let key = try ObjectKey("\(operation) \(always)")
          do {
            _ = try await tier.put(key, ByteStream(content), PutOptions())
            #expect(try await tier.read(key) == content)
            #expect(!always)
          } catch let error as DRError {
            #expect(error.code == .corruptData)
            #expect(try await tier.head(key) == nil)
          }
        }
      }
    }
  }

  @Test("A clock that is hours off is corrected by the server's", arguments: [S3TestServer.Kind.swift, .ceph])
  func skew(kind: S3TestServer.Kind) async throws {
    let server = try await S3TestServer.shared(kind)
    try await server.withBucket { bucket in
      for hours in [-3.0, 3.0] {
        let tier = try await S3Tier(
          server.configuration(bucket: bucket), now: { Date(timeIntervalSinceNow: hours * 3600) })
        try await tier.put("a", "text")
        #expect(try await tier.text("a") == "text")
        // The answer to HEAD says nothing but "no".
        var known = server.configuration(bucket: bucket)
        known.features = tier.features
        let other = try await S3Tier(known, now: { Date(timeIntervalSinceNow: hours * 3600) })
        #expect(try await other.head(ObjectKey("a"))?.size == 4)
        #expect(try await other.head(ObjectKey("absent")) == nil)
      }
    }
  }

  @Test("Credentials that ended in between are renewed")
  func expired() async throws {
    struct Source: S3CredentialsSource {
      let asked = MutableBox(0)
      let given: S3Credentials
      func credentials() -> S3Credentials? {
        asked.withLock { $0 += 1 }
        return given
      }
    }
    let server = try await S3TestServer.shared(.ceph)
    let source = Source(given: server.credentials)
    try await S3FaultProxy.with(server) { proxy in
      let change: (inout S3Configuration) -> Void = { configuration in
        configuration.endpoint = proxy.endpoint
        configuration.credentials = source
      }
      try await server.withTier(change) { tier in
        #expect(source.asked.value == 1)
        let once = MutableBox(true)
        proxy.plan { _ in
          once.withLock { first in
            defer { first = false }
            return first
          } ? .answer(status: 400, code: "ExpiredToken") : nil
        }
        try await tier.put("a", "text")
        #expect(source.asked.value == 2)
        once.withLock { $0 = true }
        #expect(try await tier.head(ObjectKey("a"))?.size == 4)
        #expect(source.asked.value == 3)
      }
    }
  }

  @Test(
    "Wrong keys, a wrong bucket and a dead server are never an absent object, and no error shows a secret",
    arguments: [S3TestServer.Kind.swift, .ceph])
  func unreachable(kind: S3TestServer.Kind) async throws {
    let server = try await S3TestServer.shared(kind)
    try await server.withBucket { bucket in
      var configuration = server.configuration(bucket: bucket)
      configuration.features = S3Features()
      configuration.retries = RetryPolicy(attempts: 2, firstDelay: .milliseconds(5))
      let tier = try await S3Tier(configuration)
      try await tier.put("a", "text")
      let wrong = S3Credentials(accessKeyID: server.credentials.accessKeyID, secretAccessKey: "WRONGSECRET")
      configuration.credentials = StaticS3Credentials(wrong)
      // Opened without a look at the bucket, which these keys may not see.
      let stranger = try await S3Tier(configuration)
      for body in [
        { _ = try await stranger.get(ObjectKey("a"), range: nil) }, { _ = try await stranger.head(ObjectKey("a")) },
        { _ = try await stranger.list(prefix: "", after: nil, limit: 1) },
        { try await stranger.put("b", "text") }, { try await stranger.delete(ObjectKey("a")) },
      ] as [() async throws -> Void] {
        let error = await #expect(throws: DRError.self) { try await body() }
        #expect([.tierUnavailable, .notWritable].contains(error?.code), "\(String(describing: error))")
        #expect(error?.description.contains("WRONGSECRET") == false)
        #expect(error?.description.contains(server.credentials.secretAccessKey) == false)
      }
      configuration = server.configuration(bucket: bucket + "-absent")
      #expect(await code { _ = try await S3Tier(configuration) } == .tierUnavailable)
      configuration = server.configuration(bucket: bucket)
      configuration.endpoint = "http://127.0.0.1:1"
      configuration.retries = RetryPolicy(attempts: 2, firstDelay: .milliseconds(5))
      #expect(await code { _ = try await S3Tier(configuration) } == .tierUnavailable)
      #expect(try await tier.text("a") == "text")
    }
  }
}
