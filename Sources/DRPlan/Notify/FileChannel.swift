import DRCore
import Foundation

/// A file to which each message is appended: for who reads along, and for when nothing else works.
public struct FileChannel: NotificationChannel {
  public let name: String
  private let path: String

  public init(_ name: String, path: String) {
    self.name = name
    self.path = path
  }

  public func send(_ announcement: Announcement) async throws {
    let audience = announcement.audience.isEmpty ? "" : "To: \(announcement.audience.joined(separator: ", "))\n"
    let text = """
      \(Timestamp.format(Date())) \(ReportWords.visible(announcement.subject))
      \(audience)\(announcement.text)


      """
    // A disk of the network may stand still: not on a thread that others need.
    try await BlockingExecutor(label: "dr.notify.file").run { [path, name] in
      let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o600)
      guard descriptor >= 0 else { throw Self.failed(name, path) }
      defer { close(descriptor) }
      var status = stat()
      guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
        throw DRError(.invalidConfiguration, "messages are appended to a file, and this is none", object: path)
      }
      var rest = Array(text.utf8)[...]
      while !rest.isEmpty {
        let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else { throw Self.failed(name, path) }
        rest = rest.dropFirst(count)
      }
    }
  }

  private static func failed(_ name: String, _ path: String) -> DRError {
    DRError(
      .notWritable, "the message could not be appended: \(String(cString: strerror(errno)))",
      advice: "see that the folder is there and has space", object: path)
  }
}
