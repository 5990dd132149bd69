import ArgumentParser
import DRCore
import Foundation

/// `archive_command` and `restore_command` of PostgreSQL over the repository.
struct DRWal: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-wal",
    abstract: "Stores WAL files in the repository and gets them back, as PostgreSQL asks for it.",
    discussion: """
      In postgresql.conf:

        archive_command = 'DR_WAL_CONFIG=/etc/dr/app.json dr-wal push %p'
        restore_command = 'DR_WAL_CONFIG=/etc/dr/app.json dr-wal fetch %f %p'

      push ends with 0 once the file is durable in the repository, else with 1 to 125: the server tries again.
      fetch ends with 0 if the file is there, with 1 if the repository truly has none, and with 126 if it cannot tell:
      the server then stops its recovery instead of taking it for the end of the WAL.
      """,
    subcommands: [Push.self, Fetch.self])
}

/// Runs the command with exit codes that the server understands: ArgumentParser's own 64 would tell a restore that the file
/// is not there.
@main
enum Program {
  static func main() async {
    let arguments = Array(CommandLine.arguments.dropFirst())
    // Whatever is not a push may have been meant as a fetch.
    let codes: ExitCodes = arguments.first == "push" ? .push : .fetch
    // A command line without its subcommand must not look like a success to a server.
    guard !arguments.isEmpty else {
      FileHandle.standardError.write(Data("dr-wal: error: push or fetch is missing; see dr-wal --help\n".utf8))
      exit(126)
    }
    do {
      var command = try DRWal.parseAsRoot(arguments)
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
    } catch {
      // Help is a success.
      if DRWal.exitCode(for: error) == .success { DRWal.exit(withError: error) }
      let message = error is DRError ? "error: \(error)" : DRWal.fullMessage(for: error)
      FileHandle.standardError.write(Data("dr-wal: \(message)\n".utf8))
      exit(codes.code(for: error))
    }
  }
}

/// What the server makes of an exit code: 1 to 125 from a `restore_command` mean that the file is not there, anything
/// above that recovery must not go on (PostgreSQL's `RestoreArchivedFile`).
enum ExitCodes {
  case push
  case fetch

  func code(for error: any Error) -> Int32 {
    switch self {
    case .push: error is DRError ? 1 : 64
    case .fetch: (error as? DRError)?.code == .objectNotFound ? 1 : 126
    }
  }

  /// For a command that hangs.
  var timedOut: Int32 {
    switch self {
    case .push: 124
    case .fetch: 126
    }
  }
}
