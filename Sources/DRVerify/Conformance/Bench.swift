import DRCore
import NIOCore

/// What one check works with: a folder of its own, and a place for what it saw.
final class Bench: Sendable {
  let tier: any StorageTier
  /// Writes what is read; the same tier, unless that is read-only.
  let writer: any StorageTier
  let folder: String
  let settings: StorageTierConformance.Settings
  private let check: String
  private let state = MutableBox((findings: [Finding](), looks: 0))

  init(
    tier: any StorageTier, writer: any StorageTier, folder: String, check: String,
    settings: StorageTierConformance.Settings
  ) {
    self.tier = tier
    self.writer = writer
    self.folder = folder
    self.check = check
    self.settings = settings
  }

  var findings: [Finding] { state.value.findings }
  /// How many expectations were looked at.
  var looks: Int { state.value.looks }

  func key(_ name: String) throws -> ObjectKey { try ObjectKey("\(folder)/\(name)") }

  func expect(_ holds: Bool, _ evidence: @autoclosure () -> String, _ advice: String? = nil) {
    state.withLock { $0.looks += 1 }
    if !holds { fail(evidence(), advice) }
  }

  func fail(_ evidence: String, _ advice: String? = nil) {
    state.withLock {
      $0.findings.append(Finding(check, .failure, subject: tier.name, evidence: evidence, advice: advice))
    }
  }

  func note(_ evidence: String, _ advice: String? = nil) {
    state.withLock {
      $0.findings.append(Finding(check, .notice, subject: tier.name, evidence: evidence, advice: advice))
    }
  }

  /// That a call is refused with this code.
  func expect(_ code: DRError.Code, _ what: String, _ body: () async throws -> Void) async throws {
    do {
      try await body()
      expect(false, "\(what) did not throw; \(code) was promised")
    } catch let error as DRError {
      expect(error.code == code, "\(what) threw \(error.code), not \(code): \(error.message)")
    }
  }

  func put(_ key: ObjectKey, _ content: ByteBuffer, _ options: PutOptions = PutOptions()) async throws -> ObjectInfo {
    try await writer.put(key, ByteStream(Bench.pieces(content)), options)
  }

  /// Reads an object that others replace meanwhile. A read that such a replacement, or a failure, has cut short may say so
  /// (`tierUnavailable`), and is begun again, as its error advises; what it must not do is to mix two objects.
  func readThoughReplaced(_ key: ObjectKey) async throws -> ByteBuffer {
    for _ in 0..<30 {
      do {
        return try await read(key)
      } catch let error as DRError where error.code == .tierUnavailable {
        try Task.checkCancellation()
      }
    }
    return try await read(key)
  }

  func read(_ key: ObjectKey) async throws -> ByteBuffer { try await tier.read(key, limit: 1 << 30) }

  /// That an object reads back.
  func expectContent(_ key: ObjectKey, _ content: ByteBuffer, _ what: String) async throws {
    let stored = try await read(key)
    expect(stored == content, "\(what): \(Bench.difference(stored, content))")
  }

  static func difference(_ stored: ByteBuffer, _ content: ByteBuffer) -> String {
    guard stored.readableBytes == content.readableBytes else {
      return "\(stored.readableBytes) bytes were read, \(content.readableBytes) were put"
    }
    let first = zip(stored.readableBytesView, content.readableBytesView).enumerated().first { $1.0 != $1.1 }
    return "byte \(first?.offset ?? 0) differs"
  }

  /// Bytes that no two seeds share, and that do not compress.
  static func bytes(_ count: Int, _ seed: UInt64) -> ByteBuffer {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 0x2545_F491_4F6C_DD1D
    var buffer = ByteBufferAllocator().buffer(capacity: count + 8)
    while buffer.readableBytes < count {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      buffer.writeInteger(state)
    }
    return buffer.readSlice(length: count) ?? ByteBuffer()
  }

  /// Cut at odd places, as a compressor would hand it over.
  static func pieces(_ buffer: ByteBuffer) -> [ByteBuffer] {
    var (rest, pieces) = (buffer, [ByteBuffer]())
    var size = 4093
    while rest.readableBytes > 0 {
      if let piece = rest.readSlice(length: min(size, rest.readableBytes)) { pieces.append(piece) }
      size = size * 7 % 900_001 + 1
    }
    return pieces
  }
}
