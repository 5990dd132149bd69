import Foundation

/// `postmaster.pid` of a data folder.
///
/// Source: PostgreSQL, `src/include/utils/pidfile.h`: process, data folder, start time, port, socket folder, listen
/// address, shared memory key and identifier, status.
struct PostmasterFile {
  let processID: Int32
  let socketFolder: String
  /// Key and identifier of the small System V segment that guards the data folder.
  let sharedMemory: (key: Int, identifier: Int32)?

  /// Nil if there is none, or it is not whole.
  init?(dataFolder: String) {
    guard let text = try? String(contentsOfFile: "\(dataFolder)/postmaster.pid", encoding: .utf8) else { return nil }
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard let first = lines.first, let number = Int32(first), number != 0, number != .min else { return nil }
    // Negative: a server that is no postmaster, as those that initdb runs.
    processID = abs(number)
    socketFolder = lines.count > 4 ? String(lines[4]) : ""
    let shared = lines.count > 6 ? lines[6].split(separator: " ") : []
    if shared.count == 2, let key = Int(shared[0]), let identifier = Int32(shared[1]) {
      sharedMemory = (key, identifier)
    } else {
      sharedMemory = nil
    }
  }

  /// Whether a process of this number exists; it may have nothing to do with PostgreSQL.
  var isAlive: Bool { kill(processID, 0) == 0 || errno == EPERM }

  /// Removes the segment that a killed server leaves. One that stays attached, or another's, is left alone.
  func removeSharedMemory() {
    guard let sharedMemory else { return }
    let deadline = ContinuousClock.now + .seconds(5)
    while ContinuousClock.now < deadline {
      var status = shmid_ds()
      guard shmctl(sharedMemory.identifier, IPC_STAT, &status) == 0 else { return }
      #if canImport(Darwin)
        let key = status.shm_perm._key
      #else
        let key = status.shm_perm.__key
      #endif
      guard Int(key) == sharedMemory.key else { return }
      if status.shm_nattch == 0 {
        _ = shmctl(sharedMemory.identifier, IPC_RMID, nil)
        return
      }
      // A killed process is off the list of processes a moment before the kernel has taken down its memory.
      usleep(10_000)
    }
  }
}
