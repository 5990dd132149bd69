import DRCore
import DRStorage
import DRTestSupport
import Foundation
import Testing

struct S3CredentialsTests {
  @Test("No description, dump or error shows a secret")
  func secrecy() throws {
    let credentials = S3Credentials(accessKeyID: "AKIDEXAMPLE", secretAccessKey: "TOPSECRET", sessionToken: "TOPTOKEN")
    let key = try S3CustomerKey(Array(repeating: 65, count: 32))
    var configuration = S3Configuration(bucket: "bucket", credentials: StaticS3Credentials(credentials))
    configuration.encryption = .customer(key)
    var dumped = ""
    dump(credentials, to: &dumped)
    dump(key, to: &dumped)
    let texts = ["\(credentials)", String(reflecting: credentials), "\(key)", "\(configuration)", dumped]
    for text in texts {
      #expect(!text.contains("TOPSECRET") && !text.contains("TOPTOKEN") && !text.contains("65, 65"), "\(text)")
    }
  }

  @Test("The environment's variables are taken together or not at all")
  func environment() throws {
    #expect(try EnvironmentS3Credentials([:]).credentials() == nil)
    #expect(throws: DRError.self) { try EnvironmentS3Credentials(["AWS_ACCESS_KEY_ID": "a"]).credentials() }
    let variables = ["AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"]
    #expect(
      try EnvironmentS3Credentials(variables).credentials()
        == S3Credentials(accessKeyID: "a", secretAccessKey: "b", sessionToken: "c"))
  }

  @Test("Profiles come from the shared files as the AWS tools read them")
  func profiles() async throws {
    try await withTemporaryFolder { folder in
      let (shared, config) = ("\(folder)/credentials", "\(folder)/config")
      try """
      # comment
      [default]
      aws_access_key_id = d1
      aws_secret_access_key=d2
      [ work ]
      AWS_ACCESS_KEY_ID = w1 ; comment
      aws_secret_access_key = w2/+=#x
      aws_session_token = w3
      [half]
      aws_access_key_id = h1
      """.write(toFile: shared, atomically: true, encoding: .utf8)
      try """
      [default]
      region = eu-central-1
      s3 =
        addressing_style = path
      [profile work]
      region = eu-west-3
      aws_access_key_id = other
      aws_secret_access_key = other
      [profile role]
      role_arn = arn:aws:iam::1:role/x
      """.write(toFile: config, atomically: true, encoding: .utf8)
      var environment = ["AWS_SHARED_CREDENTIALS_FILE": shared, "AWS_CONFIG_FILE": config]
      let first = try ProfileS3Credentials(environment: environment).credentials()
      #expect(first == S3Credentials(accessKeyID: "d1", secretAccessKey: "d2"))
      let work = ProfileS3Credentials(profile: "work", environment: environment)
      #expect(
        try work.credentials() == S3Credentials(accessKeyID: "w1", secretAccessKey: "w2/+=#x", sessionToken: "w3"))
      #expect(try work.region() == "eu-west-3")
      environment["AWS_PROFILE"] = "work"
      #expect(try ProfileS3Credentials(environment: environment).credentials()?.accessKeyID == "w1")
      for bad in ["half", "role", "absent"] {
        let error = #expect(throws: DRError.self) {
          try ProfileS3Credentials(profile: bad, environment: environment).credentials()
        }
        #expect(error?.code == .invalidConfiguration)
      }
      environment = ["HOME": folder]
      #expect(try ProfileS3Credentials(environment: environment).credentials() == nil)
    }
  }

  static let answer = """
    {"Code": "Success", "AccessKeyId": "m1", "SecretAccessKey": "m2", "Token": "m3", "Expiration": "2026-11-24T13:00:00Z"}
    """

  static func expected() -> S3Credentials {
    S3Credentials(
      accessKeyID: "m1", secretAccessKey: "m2", sessionToken: "m3",
      expires: Timestamp.parse("2026-11-24T13:00:00Z"))
  }

  @Test("A container's endpoint is asked with its token; a foreign one is not")
  func container() async throws {
    let answer: @Sendable (MetadataService.Request) -> MetadataService.Answer = { request in
      request.headers["authorization"] == "Bearer of-the-file" && request.path == "/role"
        ? (200, Self.answer) : (403, "no")
    }
    try await MetadataService.with(answer) { service in
      try await withTemporaryFolder { folder in
        try "Bearer of-the-file\n".write(toFile: "\(folder)/token", atomically: true, encoding: .utf8)
        let environment = [
          "AWS_CONTAINER_CREDENTIALS_FULL_URI": "\(service.address)/role",
          "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "\(folder)/token",
        ]
        #expect(try await ContainerS3Credentials(environment: environment).credentials() == Self.expected())
        var wrong = environment
        wrong["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = nil
        wrong["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "WRONGTOKEN"
        let error = await #expect(throws: DRError.self) {
          _ = try await ContainerS3Credentials(environment: wrong).credentials()
        }
        #expect(error?.code == .tierUnavailable && error?.description.contains("WRONGTOKEN") == false)
      }
      let before = service.requests.count
      for foreign in ["http://metadata.example.com/role", "ftp://127.0.0.1/role", "nonsense"] {
        await #expect(throws: DRError.self) {
          _ = try await ContainerS3Credentials(environment: ["AWS_CONTAINER_CREDENTIALS_FULL_URI": foreign])
            .credentials()
        }
      }
      #expect(service.requests.count == before)
    }
  }

  @Test("An instance is asked by version 2: a session first")
  func instance() async throws {
    let answer: @Sendable (MetadataService.Request) -> MetadataService.Answer = { request in
      if request.method == "PUT", request.path == "/latest/api/token" {
        return request.headers["x-aws-ec2-metadata-token-ttl-seconds"] == nil ? (400, "") : (200, "session")
      }
      guard request.headers["x-aws-ec2-metadata-token"] == "session" else { return (401, "") }
      switch request.path {
      case "/latest/meta-data/iam/security-credentials/": return (200, "a role")
      case "/latest/meta-data/iam/security-credentials/a%20role": return (200, Self.answer)
      default: return (404, "")
      }
    }
    try await MetadataService.with(answer) { service in
      let environment = ["AWS_EC2_METADATA_SERVICE_ENDPOINT": service.address + "/"]
      let found = try await InstanceS3Credentials(environment: environment).credentials()
      #expect(found == Self.expected())
      let disabled = environment.merging(["AWS_EC2_METADATA_DISABLED": "true"]) { $1 }
      let none = try await InstanceS3Credentials(environment: disabled).credentials()
      #expect(none == nil)
      // The chain asks in order and takes the first.
      let chain = S3CredentialsChain.standard(environment: environment.merging(["HOME": "/nonexistent"]) { $1 })
      let first = try await chain.credentials()
      #expect(first == Self.expected())
    }
  }

  @Test("Credentials are renewed before they end, once for all who ask, and kept while a renewal fails")
  func renewal() async throws {
    struct Source: S3CredentialsSource {
      let count: MutableBox<Int>
      let clock: TestClock
      let fails: MutableBox<Bool>
      func credentials() async throws -> S3Credentials? {
        if fails.value { throw DRError(.tierUnavailable, "out of order") }
        let number = count.withLock { count -> Int in
          count += 1
          return count
        }
        try await Task.sleep(for: .milliseconds(20))
        return S3Credentials(accessKeyID: "\(number)", secretAccessKey: "s", expires: clock.now() + 3600)
      }
    }
    let (count, clock, fails) = (MutableBox(0), TestClock(), MutableBox(false))
    let cache = S3CredentialsCache(Source(count: count, clock: clock, fails: fails), now: clock.now)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<10 {
        group.addTask {
          let found = try await cache.credentials()
          #expect(found.accessKeyID == "1")
        }
      }
      try await group.waitForAll()
    }
    clock.advance(3200)
    #expect(try await cache.credentials().accessKeyID == "1")
    clock.advance(150)
    fails.withLock { $0 = true }
    #expect(try await cache.credentials().accessKeyID == "1")
    fails.withLock { $0 = false }
    #expect(try await cache.credentials().accessKeyID == "1", "a renewal that failed is not tried again at once")
    clock.advance(40)
    #expect(try await cache.credentials().accessKeyID == "2")
    await cache.refused(try await cache.credentials())
    #expect(try await cache.credentials().accessKeyID == "3")
    fails.withLock { $0 = true }
    clock.advance(4000)
    await #expect(throws: DRError.self) { _ = try await cache.credentials() }
  }
}
