import DRStorage
import Testing

@testable import DRRabbitMQ

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
    #expect(news.isNew("the disk is full", now: start))
    #expect(!news.isNew("the disk is full", now: start + .seconds(59)))
    #expect(news.isNew("the disk is full", now: start + .seconds(60)))
    #expect(news.isNew("refused", now: start + .seconds(61)))
    #expect(news.isNew("the disk is full", now: start + .seconds(62)))
  }
}
