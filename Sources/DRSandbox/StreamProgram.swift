package import DRCore
import Foundation
import Subprocess
import SystemPackage

/// Runs a program and gives what it writes as a stream, for as long as the body runs. Nothing is kept on disk.
///
/// The stream ends only once the program has ended with status 0: what a program has written that failed is never taken for
/// the whole.
///
/// - Parameters:
///   - environment: As for ``runProgram(_:_:as:environment:limit:)``.
///   - input: What it reads, given to it while it writes.
///   - silence: How long it may write nothing, and go on after it has closed its output.
/// - Returns: What the body returned, and what the program wrote to its standard error.
/// - Throws: ``DRError``: `programFailed` with the last lines of its standard error, `timedOut`; what the body throws. The
///   program and its children have ended then.
package func withOutput<Result: Sendable>(
  of path: String, _ arguments: [String], environment: [String: String] = [:], input: ByteStream? = nil,
  silence: Duration, _ body: @escaping @Sendable (ByteStream) async throws -> Result
) async throws -> (result: Result, error: String) {
  let (reading, writing) = try ProgramPipe.make()
  let configuration = programConfiguration(path, arguments, as: nil, environment: environment)
  // A pipe whose reader has gone is a signal for the whole process; a socket is an error.
  let sockets = try input.map { _ in try ProgramPipe.makeSockets() }
  let program = Task {
    let output = FileDescriptorOutput.fileDescriptor(
      FileDescriptor(rawValue: writing), closeAfterSpawningProcess: true)
    guard let sockets else {
      let result = try await Subprocess.run(configuration, output: output, error: .string(limit: 16 << 20))
      return ProgramResult(status: result.terminationStatus.shellStatus, output: "", error: result.standardError)
    }
    let result = try await Subprocess.run(
      configuration, input: .fileDescriptor(FileDescriptor(rawValue: sockets.its), closeAfterSpawningProcess: true),
      output: output, error: .string(limit: 16 << 20))
    return ProgramResult(status: result.terminationStatus.shellStatus, output: "", error: result.standardError)
  }
  let feeding = sockets.map { sockets in
    let pipe = ProgramPipe(sockets.own, path, silence: silence)
    return Task {
      do {
        if let input {
          for try await buffer in input {
            guard try await pipe.write(buffer) else { break }
          }
        }
        await pipe.endWriting()
      } catch {
        // It must not take what it got for the whole.
        program.cancel()
      }
    }
  }
  defer { feeding?.cancel() }
  let pipe = ProgramPipe(reading, path, silence: silence)
  return try await withTaskCancellationHandler {
    do {
      let result = try await body(
        ByteStream {
          if let buffer = try await pipe.read() { return buffer }
          _ = try await ended(program, path, within: silence)
          return nil
        })
      return (result, try await ended(program, path, within: silence).error)
    } catch {
      program.cancel()
      _ = await program.result
      // Cancelled from outside: that is what happened, not what the program made of it.
      try Task.checkCancellation()
      throw error
    }
  } onCancel: {
    program.cancel()
  }
}

/// How it ended. One that has closed its connection and goes on is ended at the limit, with its children.
private func result(
  of program: Task<ProgramResult, any Error>, _ path: String, within limit: Duration
) async throws -> ProgramResult {
  try await withTimeLimit(limit, "the program \(path)") {
    try await withTaskCancellationHandler {
      try await program.value
    } onCancel: {
      program.cancel()
    }
  }
}

private func ended(
  _ program: Task<ProgramResult, any Error>, _ path: String, within limit: Duration
) async throws -> ProgramResult {
  let result: ProgramResult
  do {
    result = try await DRSandbox.result(of: program, path, within: limit)
  } catch let error as SubprocessError {
    throw DRError(.programFailed, "the program \(path) could not be run", cause: error)
  }
  guard result.status == 0 else {
    let said = result.error.split(separator: "\n").suffix(5).joined(separator: "; ")
    throw DRError(
      .programFailed,
      "\((path as NSString).lastPathComponent) ended with \(result.status)\(said.isEmpty ? "" : ": \(said)")")
  }
  return result
}

/// Runs a program that is given a stream on its standard input.
///
/// - Parameter silence: How long it may take nothing of it and, once it has all, how long it may go on.
/// - Returns: What it wrote, and how it ended: also with a status other than 0, and if it did not want all of the stream.
/// - Throws: ``DRError``: `programFailed` if it cannot be run, `timedOut`; what the stream throws. The program and its children
///   have ended then.
package func runProgram(
  _ path: String, _ arguments: [String], environment: [String: String] = [:], input: ByteStream, silence: Duration
) async throws -> ProgramResult {
  // A pipe whose reader has gone is a signal for the whole process; a socket is an error.
  let (own, its) = try ProgramPipe.makeSockets()
  let configuration = programConfiguration(path, arguments, as: nil, environment: environment)
  let program = Task {
    let result = try await Subprocess.run(
      configuration, input: .fileDescriptor(FileDescriptor(rawValue: its), closeAfterSpawningProcess: true),
      output: .string(limit: 16 << 20), error: .string(limit: 16 << 20))
    return ProgramResult(
      status: result.terminationStatus.shellStatus, output: result.standardOutput, error: result.standardError)
  }
  let pipe = ProgramPipe(own, path, silence: silence)
  return try await withTaskCancellationHandler {
    do {
      for try await buffer in input {
        guard try await pipe.write(buffer) else { break }
      }
      await pipe.endWriting()
      return try await result(of: program, path, within: silence)
    } catch {
      program.cancel()
      _ = await program.result
      try Task.checkCancellation()
      guard let error = error as? SubprocessError else { throw error }
      throw DRError(.programFailed, "the program \(path) could not be run", cause: error)
    }
  } onCancel: {
    program.cancel()
  }
}
