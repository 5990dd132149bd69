import ArgumentParser
import DRCore
import DRPostgres
import Foundation

struct Push: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Stores a WAL file. archive_command = '… dr-wal push %p'")

  @Argument(help: "The file: %p.")
  var path: String

  @OptionGroup var options: Options

  func run() async throws {
    options.startWatchdog(.push)
    let archive = try await options.archive(for: path)
    let file = path
    let content = try await BlockingExecutor(label: "dr-wal.push").run { try WALFile.read(file) }
    try await archive.push((path as NSString).lastPathComponent, content)
  }
}
