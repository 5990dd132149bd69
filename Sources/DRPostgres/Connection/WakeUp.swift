import DRCore
import Foundation
import Synchronization

/// A pipe that ends a `poll` from another thread: what a cancellation handler writes to.
final class WakeUp: Sendable {
  let readEnd: Int32
  private let writeEnd: Int32
  private let raised = Atomic<Bool>(false)

  init() throws {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else {
      throw DRError(.sourceFailed, "no pipe can be made: \(String(cString: strerror(errno)))")
    }
    for end in ends {
      _ = fcntl(end, F_SETFD, FD_CLOEXEC)
      _ = fcntl(end, F_SETFL, O_NONBLOCK)
    }
    (readEnd, writeEnd) = (ends[0], ends[1])
  }

  deinit {
    close(readEnd)
    close(writeEnd)
  }

  var isRaised: Bool { raised.load(ordering: .acquiring) }

  func raise() {
    raised.store(true, ordering: .releasing)
    var byte: UInt8 = 1
    // A full pipe wakes as well as one more byte would.
    _ = write(writeEnd, &byte, 1)
  }

  func reset() {
    guard raised.exchange(false, ordering: .acquiringAndReleasing) else { return }
    var bytes: (UInt64, UInt64) = (0, 0)
    while read(readEnd, &bytes, MemoryLayout.size(ofValue: bytes)) > 0 {}
  }
}
