/// How raw bytes become stored bytes: compressed in frames, then encrypted.
public struct Encoding: Sendable {
  public var compression: Compression
  /// Who can open it. Empty: not encrypted.
  public var recipients: [AgeRecipient]
  /// How many frames are compressed at the same time, from 1.
  public var workers: Int
  /// Raw bytes of a frame, 64 KiB to 16 MiB. A range read decodes whole frames.
  public var frameSize: Int

  /// Creates an encoding. The default is zstd at level 1 on two workers, not encrypted.
  public init(
    compression: Compression = .zstd(), recipients: [AgeRecipient] = [], workers: Int = 2, frameSize: Int = 1 << 20
  ) {
    self.compression = compression
    self.recipients = recipients
    self.workers = max(1, workers)
    self.frameSize = min(max(frameSize, 64 << 10), 16 << 20)
  }

  /// The ending of stored names: `.zst.age`.
  public var pathExtension: String { compression.format.pathExtension + (recipients.isEmpty ? "" : ".age") }
}
