import DRCore
import DRFiles
import DRStorage
import DRTestSupport
import Foundation
import Testing

@Suite struct WatchTests {
  /// A watch that runs beside a test.
  private final class Running: Sendable {
    private let backups = MutableBox<[BackupManifest]>([])
    private let points = MutableBox<[RecoveryPoint]>([])
    private let task: Task<Void, any Error>

    init(
      _ source: FileTreeSource, _ repository: Repository, _ change: (inout FileTreeChanges.Options) -> Void = { _ in }
    ) {
      var options = FileTreeChanges.Options()
      options.longestPause = .milliseconds(300)
      change(&options)
      let (backups, points) = (backups, points)
      let changes = FileTreeChanges(source, to: repository, options: options, logger: quiet) { backup in
        backups.withLock { $0.append(backup) }
      }
      task = Task { try await changes.follow(logger: quiet) { point in points.withLock { $0.append(point) } } }
    }

    var all: [BackupManifest] { backups.value }
    var durable: [RecoveryPoint] { points.value }

    func wait(_ what: String, _ isSo: ([BackupManifest]) async throws -> Bool) async throws {
      let deadline = ContinuousClock.now + .seconds(30)
      while try await !isSo(all) {
        guard ContinuousClock.now < deadline else { throw DRError(.timedOut, "waited in vain for \(what)") }
        try await Task.sleep(for: .milliseconds(10))
      }
    }

    /// Waits until it ends by itself.
    func end() async -> Result<Void, any Error> { await task.result }

    func stop() async -> Result<Void, any Error> {
      task.cancel()
      return await task.result
    }
  }

  private static func names(_ place: Place, _ backup: BackupManifest) async throws -> Set<String> {
    let names = MutableBox<Set<String>>([])
    try await FileTreeListing().list(place.repository.reader(for: backup)) { entry in
      names.withLock { _ = $0.insert(entry.path) }
    }
    return names.value
  }

  @Test("Each kind of change is a backup that has it: written, added in new folders, renamed, given a mode, removed")
  func changes() async throws {
    try await Place.with { place in
      try place.write("certs/app.pem", "first")
      let watch = Running(try place.source(excluded: ["*.log"]), place.repository)
      try await watch.wait("the first") { $0.count == 1 }
      let steps: [(String, [String], [String])] = [
        (#"echo second > "$1/certs/app.pem""#, ["certs/app.pem"], []),
        (#"mkdir -p "$1/a/b/c"; echo x > "$1/a/b/c/new""#, ["a/b/c/new"], []),
        // In a folder that came after the watch began.
        (#"sleep 1; echo y > "$1/a/b/c/later""#, ["a/b/c/later"], []),
        (#"mv "$1/a/b" "$1/moved""#, ["moved/c/new", "moved/c/later"], ["a/b/c/new"]),
        (#"echo z > "$1/moved/c/third""#, ["moved/c/third"], []),
        (#"ln -s app.pem "$1/certs/link""#, ["certs/link"], []),
        (#"chmod 600 "$1/certs/app.pem""#, ["certs/app.pem"], []),
        (#"rm "$1/certs/link""#, [], ["certs/link"]),
        // As certbot and Kubernetes put new ones in place.
        (#"echo third > "$1/certs/.tmp"; mv "$1/certs/.tmp" "$1/certs/app.pem""#, ["certs/app.pem"], ["certs/.tmp"]),
      ]
      for (script, there, gone) in steps {
        let before = watch.all.count
        try await shell(script, place.tree)
        try await watch.wait(script) { backups in
          guard backups.count > before, let last = backups.last else { return false }
          let names = try await Self.names(place, last)
          return names.isSuperset(of: there) && names.isDisjoint(with: gone)
        }
      }
      #expect(watch.durable.count == watch.all.count)
      // What is not captured is no reason to capture, nor what stays the same.
      try await Task.sleep(for: .seconds(1))
      let count = watch.all.count
      try await shell(#"echo line >> "$1/app.log"; cat "$1/certs/app.pem"; echo q > "$1/q"; rm "$1/q""#, place.tree)
      try await Task.sleep(for: .seconds(2))
      #expect(watch.all.count == count)
      _ = await watch.stop()
      // Nor is a restart.
      let again = Running(try place.source(excluded: ["*.log"]), place.repository)
      try await Task.sleep(for: .seconds(1))
      #expect(again.all.isEmpty)
      try place.write("certs/app.pem", "fourth")
      try await again.wait("the change") { $0.count == 1 }
      guard case .failure(let error) = await again.stop() else {
        Issue.record("it ended by itself")
        return
      }
      #expect(error is CancellationError)
      // What changed while nobody watched is captured at the next start.
      try place.write("certs/app.pem", "fifth")
      let third = Running(try place.source(excluded: ["*.log"]), place.repository)
      try await third.wait("what changed meanwhile") { $0.count == 1 }
      _ = await third.stop()
      try await place.restore(try #require(third.all.last), to: place.folder + "/back")
      #expect(try String(contentsOfFile: place.folder + "/back/certs/app.pem", encoding: .utf8) == "fifth")
    }
  }

  @Test("More changes at once than the kernel's queue holds are captured all the same")
  func overflow() async throws {
    try await Place.with { place in
      try place.write("first", "x")
      let watch = Running(try place.source(), place.repository)
      try await watch.wait("the first") { $0.count == 1 }
      // Three events a file, and 16,384 that the kernel keeps.
      try await shell(#"mkdir "$1/many"; cd "$1/many"; seq 12000 | xargs touch; echo last > "$1/last""#, place.tree)
      try await watch.wait("all of them") { backups in
        backups.last?.properties["files"] == .integer(12_002)
      }
      _ = await watch.stop()
    }
  }

  @Test("A repository that is away is tried again, a root that is away is no empty tree, and a secret ends it")
  func distress() async throws {
    try await Place.with { place in
      try place.write("first", "x")
      let isAway = MutableBox(false)
      let faulty = FaultInjectingTier(place.repository.tier) { $0.kind == .put && isAway.value ? .before : nil }
      let watch = Running(try place.source(), Repository(tier: faulty))
      try await watch.wait("the first") { $0.count == 1 }
      isAway.withLock { $0 = true }
      try place.write("second", "y")
      try await Task.sleep(for: .seconds(1))
      #expect(watch.all.count == 1)
      isAway.withLock { $0 = false }
      try await watch.wait("the second") { $0.count == 2 }
      try await shell(#"mv "$1" "$1.away""#, place.tree)
      try await Task.sleep(for: .seconds(1))
      #expect(watch.all.count == 2)
      try await shell(#"mv "$1.away" "$1"; echo z > "$1/third""#, place.tree)
      try await watch.wait("the third") { backups in
        guard let last = backups.last else { return false }
        return try await Self.names(place, last).isSuperset(of: ["first", "second", "third"])
      }
      try place.write(".env", "PASSWORD=hunter2")
      let deadline = ContinuousClock.now + .seconds(20)
      let ended = MutableBox<(any Error)?>(nil)
      let waiting = Task {
        if case .failure(let error) = await watch.end() { ended.withLock { $0 = error } }
      }
      while ended.value == nil, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(20)) }
      #expect((ended.value as? DRError)?.code == .secretsUnencrypted)
      _ = await watch.stop()
      await waiting.value
    }
  }

  @Test("A tree that never stands still is captured less and less often, and at once again after a rest")
  func rate() {
    var rate = CaptureRate(burst: 3, longest: .seconds(60))
    var now = ContinuousClock.now
    var pauses: [Int64] = []
    for _ in 0..<12 {
      rate.note(now)
      let pause = rate.pause(before: now)
      pauses.append(pause.components.seconds)
      now = now.advanced(by: pause + .seconds(1))
    }
    #expect(pauses == [0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60, 60])
    now = now.advanced(by: .seconds(600))
    rate.note(now)
    #expect(rate.pause(before: now) == .zero)
  }
}
