import ArgumentParser
import DRCore
import DRPostgres
import DRStorage
import Foundation

struct Fetch: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Gets a WAL file. restore_command = '… dr-wal fetch %f %p'")

  @Argument(help: "The name of the file: %f.")
  var name: String

  @Argument(help: "Where to write it: %p.")
  var path: String

  @OptionGroup var options: Options

  func run() async throws {
    options.startWatchdog(.fetch)
    let archive = try await options.archive(for: path, probing: .nothing)
    let content = try await archive.fetch(name)
    let file = path
    try await BlockingExecutor(label: "dr-wal.fetch").run { try WALFile.write(content, to: file) }
  }
}
