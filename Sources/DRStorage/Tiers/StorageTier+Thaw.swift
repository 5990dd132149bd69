public import DRCore

extension StorageTier {
  /// Waits until every one of these objects can be read: after a thaw was requested.
  ///
  /// - Parameters:
  ///   - interval: Between two looks at an object. Thaws take minutes to days.
  ///   - onProgress: How many of them are readable, each time after all were looked at.
  /// - Throws: ``DRCore/DRError``: `timedOut` naming one that is not readable at the limit, `objectArchived` for one that
  ///   nobody asked for, `objectNotFound`; as ``DRCore/StorageTier/head(_:)``.
  public func waitUntilReadable(
    _ keys: [ObjectKey], limit: Duration, every interval: Duration = .seconds(60),
    clock: some Clock<Duration> = ContinuousClock(), onProgress: (_ readable: Int, _ all: Int) -> Void = { _, _ in }
  ) async throws {
    var waited = Duration.zero
    var open = keys
    while true {
      var still: [ObjectKey] = []
      for key in open {
        guard let info = try await head(key) else {
          throw DRError(.objectNotFound, "there is no such object", object: key.rawValue)
        }
        switch info.archive {
        case nil, .thawed: continue
        case .thawing: still.append(key)
        case .archived:
          throw DRError(
            .objectArchived, "the object is archived and no thaw was requested", advice: "request it, then wait",
            object: key.rawValue)
        }
      }
      open = still
      onProgress(keys.count - open.count, keys.count)
      guard let first = open.first else { return }
      guard waited < limit else {
        throw DRError(
          .timedOut, "\(open.count) objects are not readable after \(limit)", advice: "wait again: the thaw goes on",
          object: first.rawValue)
      }
      try await clock.sleep(for: interval)
      waited += interval
    }
  }
}
