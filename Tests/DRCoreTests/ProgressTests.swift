import DRCore
import Synchronization
import Testing

struct ProgressTests {
  @Test("Rate, part and remaining time follow from what is done")
  func figures() {
    let half = TransferProgress(subject: "base.tar", done: 500, total: 1000, elapsed: .seconds(5))
    #expect(half.rate == 100)
    #expect(half.fraction == 0.5)
    #expect(half.remaining == .seconds(5))
    // The server's size is a guess that may be passed.
    #expect(TransferProgress(subject: "x", done: 20, total: 10, elapsed: .seconds(1)).fraction == 1)
    let unknown = TransferProgress(subject: "x", done: 20, total: nil, elapsed: .zero)
    #expect(unknown.rate == 0 && unknown.fraction == nil && unknown.remaining == nil)
  }

  @Test("Reports come at most so often, and always at the end")
  func throttled() {
    let seen = Mutex<[TransferProgress]>([])
    let meter = ProgressMeter("one", total: 100, every: .seconds(3600)) { progress in
      seen.withLock { $0.append(progress) }
    }
    for _ in 0..<10 { meter.add(10) }
    meter.begin("two")
    meter.finish()
    let reports = seen.withLock { $0 }
    #expect(reports.map(\.done) == [10, 100])
    #expect(reports.map(\.finished) == [false, true])
    #expect(reports.map(\.subject) == ["one", "two"])
  }

  @Test("What is waited for is reported at once, and no longer once bytes move; a length that is not known is none")
  func waiting() {
    let seen = Mutex<[TransferProgress]>([])
    let meter = ProgressMeter("one", total: 0, every: .seconds(3600)) { progress in
      seen.withLock { $0.append(progress) }
    }
    meter.expect(50)
    meter.add(10)
    meter.addStored(4)
    meter.wait(for: "Godot")
    meter.wait(for: "Godot still")
    meter.add(1)
    meter.expect(nil)
    meter.expect(5)
    meter.finish()
    let reports = seen.withLock { $0 }
    #expect(reports.map(\.waitingFor) == [nil, "Godot", nil])
    #expect(reports.map(\.total) == [50, 50, nil] && reports.map(\.stored) == [nil, 4, 4])
  }
}
