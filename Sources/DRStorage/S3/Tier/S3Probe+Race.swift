import DRCore
import NIOCore

/// Whether a server decides between writers that come at the same moment.
///
/// Many look first and write then: of two at once both win, and tried out one after the other they cannot be told from a
/// server that decides. On a busy machine writers that were started together do come one after the other. So they are made
/// to meet: each sends the start of its body, and only when all have done so, the rest.
extension S3Probe {
  /// Of several writers under one condition, exactly one may write; on each of several keys.
  ///
  /// Where something between here and the server keeps bodies until they are whole, the writers meet only by chance: several
  /// keys make it unlikely that they never do.
  ///
  /// - Parameter condition: The header for a key; nil if the server does not even let it be set up.
  /// - Throws: ``DRCore/DRError`` with `timedOut` if the writers did not meet, or an answer was lost: nothing is known then.
  func oneWins(
    _ own: String, keys: Int, writers: Int, _ created: Created, pause: Duration,
    condition: @escaping @Sendable (_ key: String) async throws -> (name: String, value: String)?
  ) async throws -> Bool {
    for attempt in 0..<3 {
      var conditions: [(key: String, header: (name: String, value: String))] = []
      for number in 0..<keys {
        let key = "\(own)-\(attempt)-\(number)"
        guard let header = try await condition(key) else { return false }
        conditions.append((key, header))
      }
      if let verdict = try await race(conditions, writers, created, pause) { return verdict }
    }
    throw DRError(
      .timedOut, "\(tier): it could not be found out whether the server decides between two writers",
      advice: "try again when network and server are less busy, or state the features of the server")
  }

  /// Nil: it says nothing.
  private func race(
    _ conditions: [(key: String, header: (name: String, value: String))], _ writers: Int, _ created: Created,
    _ pause: Duration
  ) async throws -> Bool? {
    let gate = StartGate(conditions.count * writers)
    return try await withThrowingTaskGroup(of: Arrival.self) { group in
      group.addTask { .gate(haveMet: try await gate.openOnceAllHaveCome(within: .seconds(10), pause: pause)) }
      for (index, condition) in conditions.enumerated() {
        for writer in 0..<writers {
          let number = index * writers + writer
          group.addTask {
            let outcome = try await write(condition.key, condition.header, number, gate, created)
            await gate.arrive(number)
            return .writer(key: condition.key, outcome)
          }
        }
      }
      var winners: [String: [Int]] = [:]
      var (isCertain, haveFailed) = (true, false)
      for try await arrival in group {
        switch arrival {
        case .gate(let haveMet): if !haveMet { isCertain = false }
        case .writer(let key, .won(let number)): winners[key, default: []].append(number)
        case .writer(_, .lost): break
        case .writer(_, .failed): haveFailed = true
        case .writer(_, .unknown): isCertain = false
        }
      }
      if winners.values.contains(where: { $0.count > 1 }) { return false }
      guard isCertain else { return nil }
      guard winners.count == conditions.count else { return false }
      // Ceph says 500 to who comes second: then the object tells whether the one that won was the last.
      if haveFailed {
        for (key, numbers) in winners {
          guard let answer = try? await client.send(S3Request(.GET, key)) else { return nil }
          let found = S3Response.joined(answer.body)
          if numbers.allSatisfy({ found != S3Response.joined(S3Probe.content($0)) }) { return false }
        }
      }
      return true
    }
  }

  private enum Outcome {
    case won(Int)
    case lost
    /// The server said that it failed, and then that another was there.
    case failed
    /// An answer did not come.
    case unknown
  }

  private static func content(_ writer: Int) -> [ByteBuffer] {
    [ByteBuffer(string: "writer "), ByteBuffer(string: "\(writer)")]
  }

  private enum Arrival {
    case gate(haveMet: Bool)
    case writer(key: String, Outcome)
  }

  private func write(
    _ key: String, _ condition: (name: String, value: String), _ number: Int, _ gate: StartGate, _ created: Created
  ) async throws -> Outcome {
    var request = S3Request(.PUT, key)
    request.headers = [condition]
    request.body = S3Body(S3Probe.content(number), hold: { await gate.pass(number) })
    request.isAttempt = true
    do {
      let answer = try await client.send(request)
      created.withLock { $0.append((key, answer.header("x-amz-version-id"))) }
      return .won(number)
    } catch let failure as S3Failure {
      try refuseToGuess(failure)
      // A writer that comes again finds its own object: was it refused for that, or for another's?
      if failure.wasLost { return .unknown }
      return failure.mayHaveActed ? .failed : .lost
    }
  }
}

/// Holds writers back until all of them have come.
private actor StartGate {
  private var missing: Set<Int>
  private var waiting: [CheckedContinuation<Void, Never>] = []
  private var isOpen = false

  init(_ count: Int) { missing = Set(0..<count) }

  func arrive(_ number: Int) { missing.remove(number) }

  func pass(_ number: Int) async {
    arrive(number)
    if isOpen { return }
    await withCheckedContinuation { waiting.append($0) }
  }

  /// - Returns: Whether all have come.
  func openOnceAllHaveCome(within limit: Duration, pause: Duration) async throws -> Bool {
    defer { open() }
    let end = ContinuousClock.now + limit
    while !missing.isEmpty, ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(5)) }
    // What was sent is on its way: the server has time to look at it.
    try await Task.sleep(for: pause)
    return missing.isEmpty
  }

  private func open() {
    isOpen = true
    for continuation in waiting { continuation.resume() }
    waiting = []
  }
}
