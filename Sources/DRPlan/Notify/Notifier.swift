import DRCore

public import struct Foundation.Date

/// Sends messages over several channels at once. None of them fails or delays anything: each has its time, and what became of it is told.
public struct Notifier: Sendable {
  /// What became of one message on one channel.
  public struct Delivery: Hashable, Sendable, CustomStringConvertible {
    public var channel: String
    public var subject: String
    /// Nil: it was taken.
    public var error: String?

    public var description: String { "\(channel): \(subject): \(error.map { "NOT SENT: \($0)" } ?? "sent")" }
  }

  public var channels: [any NotificationChannel]
  /// How long a channel has for one message.
  public var patience: Duration

  public init(_ channels: [any NotificationChannel], patience: Duration = .seconds(15)) {
    self.channels = channels
    self.patience = patience
  }

  /// Sends over every channel, and returns within the time that they have, whatever they do.
  public func send(_ announcement: Announcement) async -> [Delivery] {
    await withTaskGroup(of: (Int, Delivery).self) { group in
      for (index, channel) in channels.enumerated() {
        group.addTask { (index, await deliver(announcement, over: channel)) }
      }
      var deliveries: [(Int, Delivery)] = []
      for await delivery in group { deliveries.append(delivery) }
      return deliveries.sorted { $0.0 < $1.0 }.map(\.1)
    }
  }

  private func deliver(_ announcement: Announcement, over channel: any NotificationChannel) async -> Delivery {
    var delivery = Delivery(channel: channel.name, subject: announcement.subject)
    let (answers, answer) = AsyncStream<String?>.makeStream()
    // Not a child: one that does not answer to cancellation is left behind.
    let work = Task {
      do {
        try await channel.send(announcement)
        answer.yield(nil)
      } catch {
        answer.yield(DRError.text(of: error))
      }
      answer.finish()
    }
    let timer = Task { [patience] in
      guard (try? await Task.sleep(for: patience)) != nil else { return }
      answer.yield("it took longer than \(patience)")
      answer.finish()
    }
    var said: String?? = .none
    for await text in answers {
      said = .some(text)
      break
    }
    work.cancel()
    timer.cancel()
    delivery.error = said ?? "it was not waited for"
    return delivery
  }

  /// Tells everybody what they are to know by a plan while something goes on, and at its end that it is over.
  ///
  /// The body never waits for a channel. At its end, what is being sent has the rest of its time; nothing else is sent but that it is over.
  ///
  /// - Parameters:
  ///   - incident: What is known now; asked before each message.
  ///   - onDelivery: Is told what became of each.
  /// - Returns: What the body returns.
  /// - Throws: What the body throws; then nobody is told that it is over.
  public func accompany<Result: Sendable>(
    _ plan: CommunicationPlan, clock: RecoveryClock = .system,
    onDelivery: @escaping @Sendable (Delivery) -> Void = { _ in },
    incident: @escaping @Sendable () -> Incident, isolation: isolated (any Actor)? = #isolation,
    _ body: () async throws -> Result
  ) async throws -> Result {
    let companion = Task {
      let began = incident().began
      // What was due before somebody began to tell is due now, once.
      var (from, next) = (began, Optional(began))
      while let moment = next {
        let wait = moment.timeIntervalSince(clock.now())
        if wait > 0 {
          guard (try? await clock.sleep(.seconds(wait))) != nil, !Task.isCancelled else { return }
        }
        let until = max(clock.now(), moment).addingTimeInterval(0.001)
        var told: [CommunicationPlan.Due] = []
        for var due in plan.due(in: from..<until, began: began) {
          due.at = began
          if !told.contains(due) { told.append(due) }
        }
        let after = plan.next(from: until, began: began)
        // What is being sent is sent, whenever the body ends.
        for delivery in await Task(operation: { [told] in await tell(told, clock.now(), next: after, incident) }).value
        {
          onDelivery(delivery)
        }
        (from, next) = (until, after)
        if Task.isCancelled { return }
      }
    }
    let result: Result
    do {
      result = try await body()
    } catch {
      companion.cancel()
      await companion.value
      throw error
    }
    companion.cancel()
    await companion.value
    let known = incident()
    if known.resolved != nil {
      for delivery in await send(IncidentMessage.allClear.announcement(known, now: clock.now(), to: plan.everybody)) {
        onDelivery(delivery)
      }
    }
    return result
  }

  /// All at once: a channel that stands still costs its time once.
  private func tell(
    _ messages: [CommunicationPlan.Due], _ now: Date, next: Date?, _ incident: @escaping @Sendable () -> Incident
  ) async -> [Delivery] {
    await withTaskGroup(of: (Int, [Delivery]).self) { group in
      for (index, due) in messages.enumerated() {
        group.addTask {
          var known = incident()
          known.nextUpdate = next
          return (index, await send(due.message.announcement(known, now: now, to: due.audience)))
        }
      }
      var deliveries: [(Int, [Delivery])] = []
      for await delivery in group { deliveries.append(delivery) }
      return deliveries.sorted { $0.0 < $1.0 }.flatMap(\.1)
    }
  }
}

extension IncidentMessage {
  /// As it is sent.
  public func announcement(_ incident: Incident, now: Date, to audience: [String]) -> Announcement {
    Announcement(subject: subject(incident), text: text(incident, now: now), audience: audience)
  }
}
