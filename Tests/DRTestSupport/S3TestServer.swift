import DRCore
public import DRStorage
import Foundation
import NIOCore
import Synchronization

/// A real S3 server on loopback, started once for a test process and ended with it, whatever ends it.
///
/// moto looks at no signature: a test that passes against it says nothing about signing.
public struct S3TestServer: Sendable, CustomStringConvertible {
  public enum Kind: String, Sendable, CaseIterable, CustomStringConvertible {
    /// OpenStack Swift with its S3 interface: light, and strict on the wire.
    case swift
    /// Ceph's RADOS Gateway: Object Lock, KMS, lifecycle, storage classes.
    case ceph
    /// moto: archive classes, conditional completion.
    case moto

    public var description: String { rawValue }
  }

  /// What the server says of itself.
  private struct Answer: Decodable {
    var endpoint: String
    var accessKeyID: String
    var secretAccessKey: String
    var secureEndpoint: String?
    var hostedEndpoint: String?
    var certificateAuthority: String?
    var kmsKey: String?
  }

  public let kind: Kind
  private let answer: Answer

  public var description: String { kind.rawValue }
  public var endpoint: String { answer.endpoint }
  /// With TLS, its certificate signed by ``certificateAuthority``; Ceph has one.
  public var secureEndpoint: String? { answer.secureEndpoint }
  /// For bucket names in the host's name.
  public var hostedEndpoint: String? { answer.hostedEndpoint }
  public var certificateAuthority: String? { answer.certificateAuthority }
  public var kmsKey: String? { answer.kmsKey }
  public var credentials: S3Credentials {
    S3Credentials(accessKeyID: answer.accessKeyID, secretAccessKey: answer.secretAccessKey)
  }

  /// The server of this kind, started if it is not running yet.
  ///
  /// - Throws: ``DRError`` with `programFailed`, with what the server said.
  public static func shared(_ kind: Kind) async throws -> S3TestServer { try await Running.shared.server(kind) }

  /// A configuration with which tests are quick to fail.
  public func configuration(bucket: String, prefix: String = "") -> S3Configuration {
    var configuration = S3Configuration(
      bucket: bucket, prefix: prefix, endpoint: endpoint, credentials: StaticS3Credentials(credentials))
    configuration.stallLimit = .seconds(20)
    return configuration
  }

  /// Runs the body with a new bucket. What is in it goes with the server.
  public func withBucket<Result>(
    objectLock: Bool = false, versions: Bool = false, _ body: (String) async throws -> Result
  ) async throws -> Result {
    let bucket = "dr-\(UUID().uuidString.lowercased().prefix(18))"
    let client = try S3Client(configuration(bucket: bucket))
    var create = S3Request(.PUT)
    if objectLock { create.headers = [("x-amz-bucket-object-lock-enabled", "true")] }
    _ = try await client.send(create)
    if versions {
      var request = S3Request(.PUT, query: [("versioning", "")])
      request.body = S3Body(
        XMLElement("VersioningConfiguration", children: [XMLElement("Status", text: "Enabled")]))
      _ = try await client.send(request)
    }
    return try await body(bucket)
  }

  /// A tier in a new bucket.
  public func withTier<Result>(
    prefix: String = "below/a prefix", objectLock: Bool = false, versions: Bool = false,
    _ change: (inout S3Configuration) -> Void = { _ in }, _ body: (S3Tier) async throws -> Result
  ) async throws -> Result {
    try await withBucket(objectLock: objectLock, versions: versions) { bucket in
      var configuration = configuration(bucket: bucket, prefix: prefix)
      change(&configuration)
      return try await body(S3Tier(configuration))
    }
  }

  // MARK: The processes

  private actor Running {
    static let shared = Running()
    private var servers: [Kind: Task<S3TestServer, any Error>] = [:]
    private var cache: Task<String, any Error>?

    func server(_ kind: Kind) async throws -> S3TestServer {
      if let running = servers[kind] { return try await running.value }
      let cache = installed()
      let task = Task { try await Running.start(kind, cache: cache.value) }
      servers[kind] = task
      return try await task.value
    }

    /// Where the servers are; installs what is missing.
    private func installed() -> Task<String, any Error> {
      if let cache { return cache }
      let task = Task {
        let result = try await runCommand(
          "\(S3TestServer.root)/Scripts/install-s3-servers", [], timeLimit: .seconds(1800))
        guard result.status == 0 else {
          throw DRError(.programFailed, "Scripts/install-s3-servers: \(result.error)")
        }
        return String(decoding: result.output, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
      }
      cache = task
      return task
    }

    private static func start(_ kind: Kind, cache: String) async throws -> S3TestServer {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
      process.arguments = ["\(S3TestServer.root)/Tests/Servers/s3-server", kind.rawValue, cache]
      let (input, output, errors) = (Pipe(), Pipe(), Pipe())
      // The server ends when this end is closed, which happens with this process: nobody else may hold it open.
      let own = input.fileHandleForWriting.fileDescriptor
      guard fcntl(own, F_SETFD, FD_CLOEXEC) == 0 else { throw DRError(.programFailed, "fcntl failed") }
      process.standardInput = input
      process.standardOutput = output
      process.standardError = errors
      try process.run()
      kept.withLock { $0.append((process, input)) }
      let executor = BlockingExecutor(label: "s3-server")
      let line = try await executor.run {
        var line = Data()
        while let byte = try output.fileHandleForReading.read(upToCount: 1), byte != Data("\n".utf8) { line += byte }
        return line
      }
      guard let answer = try? JSONDecoder().decode(Answer.self, from: line) else {
        let said = try await executor.run { try errors.fileHandleForReading.readToEnd() ?? Data() }
        throw DRError(.programFailed, "the \(kind) server: \(String(decoding: said, as: UTF8.self))")
      }
      return S3TestServer(kind: kind, answer: answer)
    }

    /// Until the process ends.
    private static let kept = Mutex<[(Process, Pipe)]>([])
  }

  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path
}
