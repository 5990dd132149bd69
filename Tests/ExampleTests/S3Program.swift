import DRTestSupport

/// What a program said, and how it ended.
typealias ProgramAnswer = (status: Int32, output: String, error: String)

extension S3TestServer {
  /// Runs a program of this package that finds this server as the AWS tools would.
  func run(_ program: String, _ arguments: [String], endpoint: String? = nil) async throws -> ProgramAnswer {
    let result = try await runCommand(
      ReceiverProcess.built(program), arguments,
      environment: [
        "AWS_ENDPOINT_URL": endpoint ?? self.endpoint, "AWS_ACCESS_KEY_ID": credentials.accessKeyID,
        "AWS_SECRET_ACCESS_KEY": credentials.secretAccessKey,
      ])
    return (result.status, String(decoding: result.output, as: UTF8.self), result.error)
  }
}
