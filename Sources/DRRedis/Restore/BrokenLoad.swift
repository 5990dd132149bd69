import DRCore

/// Why a target ended the connection before it had the data set, as far as it says so itself.
package enum BrokenLoad {
  /// - Parameters:
  ///   - now: What it says now, and what it said before.
  ///   - size: Bytes of the data set.
  package static func cause(now: RedisInfo, before: RedisInfo, size: Int64) -> (cause: String, advice: String) {
    let room = "free at least \(size) bytes on the disk of its data folder, beside what its files take there"
    if let run = now["run_id"], run != before["run_id"] {
      return ("its process has ended meanwhile, and was started again", "see its log for why it ended")
    }
    let names = ["aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"]
    let failed = names.filter { now[$0].map { $0 != "ok" } ?? false }
    guard failed.isEmpty else {
      let files = failed.map { "\($0):\(now[$0] ?? "")" }.joined(separator: ", ")
      return (
        "it cannot write its own files (\(files)): its disk is full, or its data folder cannot be written",
        "\(room), and see its log"
      )
    }
    return (
      "it names no cause; one that writes the data set to a file of \(size) bytes before it loads it does that when its disk is "
        + "full or its data folder cannot be written", "see its log; \(room)"
    )
  }
}
