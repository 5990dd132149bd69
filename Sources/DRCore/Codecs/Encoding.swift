/// How raw bytes become stored bytes: compressed in frames, then encrypted.
public struct Encoding: Sendable {
  public var compression: Compression
  /// Who can open it. Empty: not encrypted.
  public var recipients: [AgeRecipient]
  /// How many frames are compressed at the same time, 1 to 64; what lies outside becomes the nearest of them.
  public var workers: Int { didSet { workers = WorkerCount.clamped(workers) } }
  /// Raw bytes of a frame, 64 KiB to 16 MiB; what lies outside becomes the nearest of them. A range read decodes whole frames.
  public var frameSize: Int { didSet { frameSize = Self.clamped(frameSize: frameSize) } }

  /// Creates an encoding. The default is zstd at level 1 on two workers, not encrypted.
  public init(
    compression: Compression = .zstd(), recipients: [AgeRecipient] = [], workers: Int = 2, frameSize: Int = 1 << 20
  ) {
    self.compression = compression
    self.recipients = recipients
    self.workers = WorkerCount.clamped(workers)
    self.frameSize = Self.clamped(frameSize: frameSize)
  }

  private static func clamped(frameSize: Int) -> Int { min(max(frameSize, 64 << 10), 16 << 20) }

  /// The ending of stored names: `.zst.age`.
  public var pathExtension: String { compression.format.pathExtension + (recipients.isEmpty ? "" : ".age") }
}

/// Workers of one stream: each holds frames, a thread and a context.
enum WorkerCount {
  static func clamped(_ count: Int) -> Int { min(max(1, count), 64) }
}
