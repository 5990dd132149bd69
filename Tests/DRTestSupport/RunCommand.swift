import DRCore
import Foundation
import Subprocess

/// Runs a program, found by its path or through PATH, and collects what it writes.
///
/// - Parameters:
///   - input: Given on standard input, which is then closed; nil: standard input ends at once. A program that does not
///     read all of it is no error.
///   - environment: Added to this process's own, over `LC_ALL=C` and `TZ=UTC`, which keep messages comparable.
///   - workingDirectory: nil: this process's own.
///   - timeLimit: When it is reached, the program and everything in its session is ended, then killed.
/// - Returns: The exit status (a signal as 128 plus its number, as a shell says it), standard output, and standard error
///   as text.
/// - Throws: ``DRError``: `programFailed` for a missing program, naming the Debian package that brings it, or for more
///   than 256 MiB of output; `timedOut`. A status other than 0 is returned, not thrown.
public func runCommand(
  _ executable: String, _ arguments: [String], input: [UInt8]? = nil, environment: [String: String] = [:],
  workingDirectory: String? = nil, timeLimit: Duration = .seconds(120)
) async throws -> (status: Int32, output: [UInt8], error: String) {
  _ = ignoreBrokenPipes
  var variables: [Environment.Key: String?] = ["LC_ALL": "C", "TZ": "UTC"]
  for (name, value) in environment {
    guard let key = Environment.Key(rawValue: name) else { continue }
    variables[key] = .some(value)
  }
  var options = PlatformOptions()
  options.createSession = true
  options.teardownSequence = [.gracefulShutDown(toProcessGroup: true, allowedDurationToNextStep: .seconds(5))]
  let configuration = Configuration(
    executable: executable.contains("/") ? .path(.init(executable)) : .name(executable),
    arguments: Arguments(arguments), environment: .inherit.updating(variables),
    workingDirectory: workingDirectory.map { .init($0) }, platformOptions: options)

  do {
    return try await withTimeLimit(timeLimit, "the program \(executable)") {
      let result = try await Subprocess.run(
        configuration, input: ForgivingInput(bytes: input ?? []), output: .bytes(limit: 256 << 20),
        error: .bytes(limit: 16 << 20))
      let status =
        switch result.terminationStatus {
        case .exited(let code): code
        case .signaled(let signal): 128 + signal
        }
      return (status, result.standardOutput, String(decoding: result.standardError, as: UTF8.self))
    }
  } catch let error as SubprocessError where error.code == .executableNotFound {
    let package = debianPackage(of: executable)
    throw DRError(
      .programFailed, "the program \(executable) is not installed", advice: "apt-get install \(package)", cause: error)
  } catch let error as SubprocessError {
    throw DRError(.programFailed, "the program \(executable) could not be run", cause: error)
  }
}

/// Standard input from memory. A program that ends before it has read everything (`head`, or one that refuses its input)
/// is judged by its status, not by the broken pipe.
private struct ForgivingInput: InputProtocol {
  let bytes: [UInt8]

  func write(with writer: StandardInputWriter) async throws {
    if !bytes.isEmpty { _ = try? await writer.write(bytes) }
  }
}

/// Done once: without it, writing to a program that has ended would end this process.
private let ignoreBrokenPipes: Void = {
  signal(SIGPIPE, SIG_IGN)
}()

/// Which Debian 12 package brings a program.
private func debianPackage(of executable: String) -> String {
  let name = executable.split(separator: "/").last.map(String.init) ?? executable
  switch name {
  case "age-keygen": return "age"
  case "script": return "bsdutils"
  case "sha256sum", "md5sum", "truncate", "head", "cat", "dd": return "coreutils"
  case "unpigz": return "pigz"
  case "unzstd", "pzstd": return "zstd"
  case "xz": return "xz-utils"
  case "cmp", "diff": return "diffutils"
  case "ps", "pgrep", "pkill": return "procps"
  case "mount", "umount": return "mount"
  case "mkfs.ext4": return "e2fsprogs"
  case "unshare", "setpriv", "flock", "runuser": return "util-linux"
  case "psql", "pg_dump", "pg_dumpall", "pg_restore", "pg_basebackup", "pg_verifybackup", "pg_amcheck", "pg_isready",
    "pg_receivewal":
    return "postgresql-client-15"
  case "initdb", "pg_ctl", "postgres", "pg_waldump", "pg_checksums", "pg_controldata", "pg_resetwal", "pgbench":
    return "postgresql-15"
  default: return name
  }
}
