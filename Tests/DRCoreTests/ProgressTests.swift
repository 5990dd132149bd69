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
}
