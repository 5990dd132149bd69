import DRCore
import DRFiles
import DRTestSupport
import Foundation
import Testing

/// Restores that are killed at a random moment. `DR_KILLS` sets how many, `DR_SEED` repeats a run.
@Suite(.serialized) struct KilledRestoreTests {
  private static let kills = ProcessInfo.processInfo.environment["DR_KILLS"].flatMap { Int($0) } ?? 40
  private static let seed =
    ProcessInfo.processInfo.environment["DR_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0..<1_000_000)

  @Test("kill -9 at any moment of a restore in place leaves of each file the old or the new one, whole")
  func inPlace() async throws {
    try await Place.with { place in
      var random = TestData.Random(seed: Self.seed)
      let paths = (0..<600).map { "d\($0 % 12)/f\($0)" }
      var content: [[String: Data]] = [[:], [:]]
      for version in 0..<2 {
        for (number, path) in paths.enumerated() {
          let size = Int.random(in: 1...4000, using: &random)
          content[version][path] = Data(
            [UInt8](TestData.rows(size, seed: UInt64(version * 10_000 + number)).readableBytesView))
        }
      }
      var backups: [String] = []
      for version in 0..<2 {
        for path in paths { try place.write(path, String(decoding: content[version][path] ?? Data(), as: UTF8.self)) }
        backups.append(try await place.capture(try place.source()).id)
      }
      let config = place.folder + "/dr.json"
      try Data(#"{"repository": "\#(place.folder)/repository", "component": "config/app"}"#.utf8).write(
        to: URL(fileURLWithPath: config))
      func restore(_ version: Int) throws -> ChildProcess {
        try ChildProcess(
          ChildProcess.program("dr-files"),
          ["restore", "--config", config, backups[version], "--to", place.tree, "--in-place"],
          output: place.folder + "/said")
      }
      /// How many files of each version there are; each must be one of them.
      func count(in folder: String) throws -> [Int] {
        var counts = [0, 0]
        for path in paths {
          guard let found = FileManager.default.contents(atPath: "\(folder)/\(path)") else { continue }
          guard let version = (0..<2).first(where: { content[$0][path] == found }) else {
            Issue.record("\(path) is neither the old nor the new file, DR_SEED=\(Self.seed)")
            continue
          }
          counts[version] += 1
        }
        return counts
      }

      var typical = Duration.zero
      for version in [0, 1, 0] {
        let begun = ContinuousClock.now
        let process = try restore(version)
        #expect(try await process.wait() == 0, "\(process.said)")
        typical = begun.duration(to: .now)
        try removeKept(place.tree)
      }
      /// Kills it when a file that chance chose has been replaced: then some are new and some old. All are replaced within a few
      /// milliseconds, so this looks from a thread of its own, which no other test holds up.
      func killPlacing(_ process: ChildProcess) async {
        let path = "\(place.tree)/\(paths[Int.random(in: 0..<paths.count, using: &random)])"
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
          Thread.detachNewThread {
            func number() -> UInt64? {
              var status = stat()
              return stat(path, &status) == 0 ? UInt64(status.st_ino) : nil
            }
            let (before, end) = (number(), ContinuousClock.now + .seconds(20))
            while number() == before, kill(process.processID, 0) == 0, ContinuousClock.now < end { usleep(20) }
            process.signal(SIGKILL)
            done.resume()
          }
        }
      }
      var (killed, mixed, faster, version) = (0, 0, 0, 0)
      for _ in 0..<Self.kills * 6 where killed < Self.kills || mixed == 0 {
        version = 1 - version
        let process = try restore(version)
        if Bool.random(using: &random) {
          try await Task.sleep(for: typical * Double.random(in: 0...1.05, using: &random))
          process.signal(SIGKILL)
        } else {
          await killPlacing(process)
        }
        let status = try await process.wait()
        // How long one takes depends on what else the machine does.
        if status == 128 + SIGKILL {
          killed += 1
          typical = typical * 1.05
        } else {
          faster += 1
          typical = typical * 0.8
        }
        #expect(status == 128 + SIGKILL || status == 0, "\(process.said), DR_SEED=\(Self.seed)")
        let counts = try count(in: place.tree)
        #expect(counts[0] + counts[1] == paths.count, "DR_SEED=\(Self.seed)")
        if counts.min() != 0 { mixed += 1 }
        // What was kept aside is whole as well.
        let names = try FileManager.default.contentsOfDirectory(atPath: place.tree)
        for name in names where name.hasPrefix(".dr-before-") { _ = try count(in: "\(place.tree)/\(name)") }
        try removeKept(place.tree)
      }
      print(
        "killed \(killed) restores in place (\(mixed) left some files old and some new), \(faster) were faster; DR_SEED=\(Self.seed)"
      )
      #expect(killed >= Self.kills && mixed > 0, "DR_SEED=\(Self.seed)")
      // The next one that is left alone finishes it, and removes what the killed ones left.
      let process = try restore(1)
      #expect(try await process.wait() == 0, "\(process.said)")
      #expect(try count(in: place.tree) == [0, paths.count])
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: place.tree).allSatisfy { !$0.hasPrefix(".dr-restore-") })
    }
  }

  private func removeKept(_ tree: String) throws {
    for name in try FileManager.default.contentsOfDirectory(atPath: tree) where name.hasPrefix(".dr-before-") {
      try FileManager.default.removeItem(atPath: "\(tree)/\(name)")
    }
  }

  @Test("kill -9 at any moment of a restore into a new folder leaves none, or a whole one")
  func newFolder() async throws {
    try await Place.with { place in
      var random = TestData.Random(seed: Self.seed &+ 1)
      for number in 0..<300 {
        try place.write("d\(number % 7)/f\(number)", String(repeating: "\(number) ", count: 2000))
      }
      try await Task.sleep(for: .milliseconds(30))
      _ = try await place.capture(try place.source())
      let expected = try await fingerprint(place.tree)
      let config = place.folder + "/dr.json"
      try Data(#"{"repository": "\#(place.folder)/repository", "component": "config/app"}"#.utf8).write(
        to: URL(fileURLWithPath: config))
      let destination = place.folder + "/back/new"
      func restore() throws -> ChildProcess {
        try ChildProcess(
          ChildProcess.program("dr-files"), ["restore", "--config", config, "--to", destination],
          output: place.folder + "/said")
      }
      var typical = Duration.seconds(60)
      for _ in 0..<3 {
        try? FileManager.default.removeItem(atPath: destination)
        let begun = ContinuousClock.now
        #expect(try await restore().wait() == 0)
        typical = min(typical, begun.duration(to: .now))
      }
      var (killed, whole) = (0, 0)
      for _ in 0..<200 where killed < 20 {
        try FileManager.default.removeItem(atPath: destination)
        let process = try restore()
        try await Task.sleep(for: typical * Double.random(in: 0...1, using: &random))
        process.signal(SIGKILL)
        if try await process.wait() == 128 + SIGKILL {
          killed += 1
          typical = typical * 1.1
        } else {
          typical = typical * 0.8
        }
        if FileManager.default.fileExists(atPath: destination) {
          whole += 1
          #expect(try await fingerprint(destination) == expected, "DR_SEED=\(Self.seed)")
        } else {
          try FileManager.default.createDirectory(atPath: destination, withIntermediateDirectories: true)
        }
      }
      print("killed \(killed) restores into a new folder, \(whole) had it whole; DR_SEED=\(Self.seed)")
      #expect(killed >= 20, "DR_SEED=\(Self.seed)")
      try FileManager.default.removeItem(atPath: destination)
      #expect(try await restore().wait() == 0)
      #expect(try FileManager.default.contentsOfDirectory(atPath: place.folder + "/back") == ["new"])
    }
  }
}
