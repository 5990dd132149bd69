import DRCore
import Testing

struct RepeatedErrorTests {
  @Test("An error is said in full when it is new, then once in a while, and when it is over")
  func sayings() {
    var repeated = RepeatedError(interval: .seconds(60))
    let start = ContinuousClock.now
    let full = DRError(.noSpace, "no space left", object: "a")
    let other = DRError(.notWritable, "read-only", object: "a")
    #expect(repeated.end() == nil)
    #expect(repeated.next(full, now: start) == .full)
    // Another object is the same trouble.
    #expect(repeated.next(DRError(.noSpace, "no space left", object: "b"), now: start + .seconds(59)) == .nothing)
    #expect(repeated.next(full, now: start + .seconds(61)) == .short(.seconds(61)))
    #expect(repeated.next(full, now: start + .seconds(62)) == .nothing)
    #expect(repeated.next(other, now: start + .seconds(63)) == .full)
    #expect(repeated.next(other, now: start + .seconds(123)) == .short(.seconds(123)))
    #expect(repeated.end(now: start + .seconds(130)) == .seconds(130))
    #expect(repeated.end() == nil)
    #expect(repeated.next(other, now: start + .seconds(140)) == .full)
  }
}
