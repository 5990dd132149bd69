import DRCore
import DRStorage
import Foundation

/// Is told by the kernel when something below a folder changes (inotify; see inotify(7)). Elsewhere than on Linux it says so twice a
/// second, and the fingerprint of the tree says whether it is true. Blocking.
///
/// `@unchecked Sendable`: one task uses it at a time, on its `BlockingExecutor`.
final class TreeWatch: @unchecked Sendable {
  #if os(Linux)
    private let queue: Descriptor
    private static let mask = UInt32(
      IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF
        | IN_MOVE_SELF | IN_ONLYDIR)

    init() throws {
      do {
        queue = Descriptor(try systemCall("inotify_init1") { inotify_init1(Int32(IN_NONBLOCK) | Int32(IN_CLOEXEC)) })
      } catch {
        throw TreeWatch.refused(error, "max_user_instances")
      }
    }

    /// Watches the names in a folder; one that is watched already stays so. A folder that is gone needs no watch.
    func add(_ folder: Descriptor) throws {
      do {
        // By the descriptor: its path may lead elsewhere by now.
        _ = try allowing(ENOENT, ENOTDIR) { () throws(SystemError) in
          try systemCall("inotify_add_watch") {
            inotify_add_watch(queue.number, "/proc/self/fd/\(folder.number)", TreeWatch.mask)
          }
        }
      } catch {
        throw TreeWatch.refused(error, "max_user_watches")
      }
    }

    /// Whether anything has changed, at the latest after some time. What had changed before is said once.
    ///
    /// When the kernel's queue runs over, something has changed too: which folder it was, nobody needs to know.
    func wait(milliseconds: Int32) throws -> Bool {
      var descriptor = pollfd(fd: queue.number, events: Int16(POLLIN), revents: 0)
      guard poll(&descriptor, 1, milliseconds) > 0 else { return false }
      var bytes = [UInt8](repeating: 0, count: 64 << 10)
      var hasChanged = false
      while true {
        let count = read(queue.number, &bytes, bytes.count)
        if count > 0 {
          hasChanged = true
        } else if count < 0, errno == EINTR {
          continue
        } else {
          return hasChanged
        }
      }
    }

    private static func refused(_ error: SystemError, _ limit: String) -> DRError {
      guard error.number == ENOSPC || error.number == EMFILE else {
        return DRError(
          .sourceFailed, "the tree cannot be watched (\(error.call): \(String(cString: strerror(error.number))))",
          advice: "run as a user that may read all of its folders, or exclude them")
      }
      return DRError(
        .invalidConfiguration, "the system allows no further watch of a folder",
        advice: "raise fs.inotify.\(limit) (sysctl), or exclude folders that need not be watched")
    }
  #else
    init() throws {}

    func add(_ folder: Descriptor) throws {}

    func wait(milliseconds: Int32) throws -> Bool {
      usleep(useconds_t(max(0, min(milliseconds, 500))) * 1000)
      return milliseconds >= 500
    }
  #endif
}
