import DRCore
import NIOCore

/// Stores the artifacts of one backup in progress and keeps what its manifest will say of them.
final class ArtifactWriter: BackupWriter {
  let backupID: String
  private let tier: any StorageTier
  private let prefix: String
  private let encoding: Encoding
  private let component: Component
  private let meter: ProgressMeter?

  var encrypts: Bool { !encoding.recipients.isEmpty }

  private struct State {
    /// Every key that a write has begun on, whatever became of it.
    var keys: [String: ObjectKey] = [:]
    var artifacts: [BackupManifest.Artifact] = []
    var writing = 0
    var closed = false
  }

  private let state: MutableBox<State>

  init(
    _ id: String, of component: Component, tier: any StorageTier, prefix: String, encoding: Encoding,
    progress: ProgressHandler?
  ) {
    backupID = id
    self.component = component
    self.tier = tier
    self.prefix = prefix
    self.encoding = encoding
    meter = progress.map { ProgressMeter(id, total: 0, handler: $0) }
    state = MutableBox(State())
  }

  func write(
    _ name: String, _ content: ByteStream, expectedLength: Int64?
  ) async throws -> BackupManifest.Artifact {
    let key = try begin(name, expectedLength)
    defer { state.withLock { $0.writing -= 1 } }
    let encoded = try encoding.encode(counting(content) { $0.add($1) })
    _ = try await tier.put(
      key, counting(encoded.stored) { $0.addStored($1) },
      PutOptions(onlyIfAbsent: true, expectedLength: expectedLength))
    let summary = try encoded.summary()
    let artifact = BackupManifest.Artifact(
      name: name, key: key, rawSize: summary.rawSize, rawSHA256: summary.rawSHA256, storedSize: summary.storedSize,
      storedSHA256: summary.storedSHA256, compression: encoding.compression.format,
      recipients: encoding.recipients.map(\.description))
    try await tier.checkPresence(of: artifact)
    state.withLock { $0.artifacts.append(artifact) }
    return artifact
  }

  private func begin(_ name: String, _ expectedLength: Int64?) throws -> ObjectKey {
    guard !name.utf8.contains(UInt8(ascii: "/")) else {
      throw DRError(.invalidKey, "the name of an artifact holds no slash", component: component, object: name)
    }
    _ = try ObjectKey(name)
    let key = try ObjectKey(prefix + name + encoding.pathExtension)
    try state.withLock { state in
      guard !state.closed else {
        throw DRError(
          .sourceFailed, "an artifact was written after the capture had ended", component: component, object: name)
      }
      guard state.keys[name] == nil else {
        throw DRError(.sourceFailed, "the artifact was written twice", component: component, object: name)
      }
      state.keys[name] = key
      state.writing += 1
    }
    meter?.expect(expectedLength)
    return key
  }

  /// Ends the capture and gives the artifacts in the order of their names.
  func close() throws -> [BackupManifest.Artifact] {
    let (artifacts, writing) = state.withLock { state in
      state.closed = true
      return (state.artifacts, state.writing)
    }
    guard writing == 0 else {
      throw DRError(
        .sourceFailed, "the capture ended while artifacts were still being written", component: component)
    }
    guard !artifacts.isEmpty else {
      throw DRError(.sourceFailed, "the source captured nothing", component: component)
    }
    meter?.finish()
    return artifacts.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
  }

  /// Refuses further writes and gives every key that may have been stored.
  func abandon() -> [ObjectKey] {
    state.withLock { state in
      state.closed = true
      return state.keys.values.sorted()
    }
  }

  private func counting(
    _ stream: ByteStream, _ count: @escaping @Sendable (ProgressMeter, Int) -> Void
  ) -> ByteStream {
    guard let meter else { return stream }
    return ByteStream {
      var iterator = stream.makeAsyncIterator()
      guard let buffer = try await iterator.next() else { return nil }
      count(meter, buffer.readableBytes)
      return buffer
    }
  }
}

extension StorageTier {
  /// Makes sure that an artifact is stored with the size that it should have.
  func checkPresence(of artifact: BackupManifest.Artifact) async throws {
    guard let info = try await head(artifact.key) else {
      throw DRError(
        .objectNotFound, "the artifact \(artifact.name) is not in the tier",
        advice: "look for another process that cleans this tier", object: artifact.key.rawValue)
    }
    guard info.size == artifact.storedSize else {
      throw DRError(
        .corruptData, "the artifact \(artifact.name) has \(info.size) bytes in the tier, not \(artifact.storedSize)",
        object: artifact.key.rawValue)
    }
  }
}
