/// Lets many through, or closes and waits until nobody is inside.
actor Gate {
  private var isClosed = false
  private var inside = 0
  private var waiting: [CheckedContinuation<Void, Never>] = []
  private var closer: CheckedContinuation<Void, Never>?

  nonisolated func pass(_ body: @Sendable () async throws -> Void) async throws {
    await enter()
    do {
      try await body()
      await leave()
    } catch {
      await leave()
      throw error
    }
  }

  /// Runs the body while nobody is inside.
  nonisolated func whileClosed<Result: Sendable>(_ body: @Sendable () async throws -> Result) async rethrows -> Result {
    await close()
    do {
      let result = try await body()
      await open()
      return result
    } catch {
      await open()
      throw error
    }
  }

  private func close() async {
    isClosed = true
    if inside > 0 { await withCheckedContinuation { closer = $0 } }
  }

  private func open() {
    isClosed = false
    for continuation in waiting { continuation.resume() }
    waiting = []
  }

  private func enter() async {
    while isClosed { await withCheckedContinuation { waiting.append($0) } }
    inside += 1
  }

  private func leave() {
    inside -= 1
    if inside == 0, let closer {
      self.closer = nil
      closer.resume()
    }
  }
}
