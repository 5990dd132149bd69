import DRRabbitMQ
import DRStorage
import Testing

@Suite("What a tap calls things")
struct TapNamesTests {
  @Test("Queues of vhosts with slashes have logs of their own")
  func slashes() {
    let names = [("a/b", "c"), ("a", "b/c"), ("/", "a"), ("//", "a"), ("/", "/a"), ("a/b/c", "d"), ("a/b", "c/d")]
    #expect(Set(names.map { TapSequence.key(vhost: $0.0, queue: $0.1) }).count == names.count)
    let queues = names.map { RabbitMQQueue.identity(vhost: $0.0, name: $0.1) }
    #expect(Set(queues).count == names.count)
  }

  @Test("The same failure is said once a minute, another at once")
  func repeated() {
    var news = RepeatedNews(every: .seconds(60))
    let start = ContinuousClock.now
    let said = [("full", 0), ("full", 59), ("full", 60), ("refused", 61), ("full", 62)].map { text, second in
      news.isNew(text, now: start + .seconds(second))
    }
    #expect(said == [true, false, true, true, true])
  }
}
