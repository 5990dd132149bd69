import DRCore
import Foundation

/// A file system of its own, one megabyte large, that a test may fill, write-protect and unmount.
///
/// It is mounted in a mount namespace that a child process holds, and reached through `/proc/<pid>/root`. So it needs no
/// root (an unprivileged process gets a user namespace too), nobody else sees it, and it goes with the child, also when
/// the tests are killed.
public final class SmallFileSystem: Sendable {
  /// The mount point, as this process reaches it.
  public let path: String
  private let mountPoint: String
  private let child: Child

  /// `@unchecked Sendable`: every call runs on one serial queue.
  private final class Child: @unchecked Sendable {
    let process = Process()
    let input = Pipe()
    let output = Pipe()
    var pending = Data()
  }

  private let queue = BlockingExecutor(label: "tests.small-file-system")

  /// Mounts it, runs the body, and lets it go.
  public static func with<R>(_ body: (SmallFileSystem) async throws -> R) async throws -> R {
    try await withTemporaryFolder { folder in
      let fileSystem = try await SmallFileSystem(in: folder)
      let result: R
      do {
        result = try await body(fileSystem)
      } catch {
        await fileSystem.end()
        throw error
      }
      await fileSystem.end()
      return result
    }
  }

  private init(in folder: String) async throws {
    mountPoint = folder + "/mount"
    let child = Child()
    self.child = child
    signal(SIGPIPE, SIG_IGN)
    try FileManager.default.createDirectory(
      atPath: mountPoint, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
    let namespaces = geteuid() == 0 ? ["-m", "--propagation", "private"] : ["-r", "-m"]
    child.process.executableURL = URL(fileURLWithPath: "/usr/bin/unshare")
    child.process.arguments =
      namespaces + [
        "sh", "-c", "while read -r line; do if eval \"$line\" 2>&1; then echo done; else echo failed; fi; done",
      ]
    child.process.standardInput = child.input
    child.process.standardOutput = child.output
    do {
      try child.process.run()
    } catch {
      throw DRError(.programFailed, "unshare could not be run", advice: "apt-get install util-linux", cause: error)
    }
    path = "/proc/\(child.process.processIdentifier)/root\(mountPoint)"
    do {
      try await mount()
    } catch {
      await end()
      throw DRError(
        .programFailed, "this test needs a mount namespace, and the system does not allow one",
        advice: "run the tests as root, or allow unprivileged user namespaces", cause: error)
    }
  }

  public func mount() async throws { try await command("mount -t tmpfs -o size=1m,mode=700 tmpfs '\(mountPoint)'") }
  public func unmount() async throws { try await command("umount '\(mountPoint)'") }
  public func protect() async throws { try await command("mount -o remount,bind,ro '\(mountPoint)'") }

  private func command(_ line: String) async throws {
    let child = child
    try await queue.run {
      try child.input.fileHandleForWriting.write(contentsOf: Data("\(line)\n".utf8))
      var said = ""
      while true {
        let answer = try Self.readLine(child)
        if answer == "done" { return }
        guard answer != "failed" else { throw DRError(.programFailed, "\(line): \(said)") }
        said += answer + "\n"
      }
    }
  }

  private static func readLine(_ child: Child) throws -> String {
    while true {
      if let end = child.pending.firstIndex(of: UInt8(ascii: "\n")) {
        let line = child.pending[..<end]
        child.pending = Data(child.pending[(end + 1)...])
        return String(decoding: line, as: UTF8.self)
      }
      let file = child.output.fileHandleForReading
      var poll = pollfd(fd: file.fileDescriptor, events: Int16(POLLIN), revents: 0)
      guard Foundation.poll(&poll, 1, 30_000) == 1 else { throw DRError(.timedOut, "the shell does not answer") }
      let more = file.availableData
      guard !more.isEmpty else { throw DRError(.programFailed, "the shell in the namespace has ended") }
      child.pending += more
    }
  }

  private func end() async {
    let child = child
    _ = try? await queue.run {
      try? child.input.fileHandleForWriting.close()
      child.process.waitUntilExit()
    }
  }
}
