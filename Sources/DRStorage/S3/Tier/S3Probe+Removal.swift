import DRCore

/// What a trial has put goes again.
extension S3Probe {
  /// Best effort, and not cut short by a cancellation: what stays is hidden by its name, and removed with the abandoned uploads.
  ///
  /// - Parameters:
  ///   - own: What every key of this trial starts with.
  ///   - keepsVersions: To remove a key without its version would hide it, and keep it. A writer that was refused, or whose answer was
  ///     lost, may have made a version too (OpenStack Swift): so they are listed.
  func remove(_ created: [(key: String, version: String?)], _ own: String, keepsVersions: Bool) async {
    await Task {
      guard keepsVersions else { return await remove(grouped(created)) }
      // Some servers refuse to remove two versions of a key at the same moment, or show one late.
      for _ in 0..<3 {
        guard let left = try? await versions(own), !left.isEmpty else { return }
        await remove(grouped(left))
      }
    }.value
  }

  private func grouped(_ versions: [(key: String, version: String?)]) -> [String: [String?]] {
    versions.reduce(into: [:]) { $0[$1.key, default: []].append($1.version) }
  }

  /// Keys side by side, the versions of each one after the other.
  private func remove(_ versions: [String: [String?]]) async {
    let client = client
    await withTaskGroup(of: Void.self) { group in
      for (key, ids) in versions {
        group.addTask {
          for id in ids {
            let query = id.map { [(name: "versionId", value: $0)] } ?? []
            _ = try? await client.send(S3Request(.DELETE, key, query: query))
          }
        }
      }
    }
  }

  /// A trial puts fewer than a page of them.
  private func versions(_ own: String) async throws -> [(key: String, version: String?)] {
    let page = try await client.send(S3Request(.GET, query: [("versions", ""), ("prefix", own)]))
      .document("ListVersionsResult")
    return page.children.filter { ["Version", "DeleteMarker"].contains($0.name) }.compactMap { element in
      guard let key = element.text("Key"), key.hasPrefix(own), let id = element.text("VersionId") else { return nil }
      return (key, id)
    }
  }
}
