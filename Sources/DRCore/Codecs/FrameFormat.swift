import NIOCore

/// How the frames of one format follow one another in a stream.
protocol FrameFormat: Sendable {
  associatedtype Extent: FrameExtent

  /// The format, and what it calls a frame.
  static var name: String { get }
  static var unit: String { get }

  /// Looks at what starts at the reader index. There is at least one byte.
  ///
  /// - Parameters:
  ///   - isFirst: Nothing came before.
  ///   - atEnd: No more bytes follow.
  static func start(of input: ByteBuffer, isFirst: Bool, atEnd: Bool) throws -> FrameStart<Extent>
}

/// What starts at a place in a stream.
enum FrameStart<Extent> {
  /// More bytes are needed to tell.
  case unclear
  /// Nothing of this format.
  case foreign
  /// Zeroes up to the end of the stream.
  case padding
  /// So many bytes that hold no data.
  case skipped(Int)
  /// A frame of a size that it states and that fits into memory, to be decoded as a whole.
  case whole(Extent, rawSize: Int)
  /// Any other frame, to be decoded piece by piece.
  case stream(any FrameStreamDecoder)
}

/// Finds the end of a frame.
protocol FrameExtent: Sendable {
  /// The size of the frame once enough of it is there; nil if more bytes are needed to tell.
  ///
  /// - Throws: ``FrameDamage`` if the frame cannot be what it says.
  mutating func frameSize(in buffer: ByteBuffer, rawSize: Int) throws(FrameDamage) -> Int?
}

/// Decodes one frame of any size and any maker, piece by piece. Used by one task at a time.
protocol FrameStreamDecoder: AnyObject, Sendable {
  /// - Throws: ``FrameDamage``.
  func step(_ input: ByteBuffer) throws(FrameDamage) -> FrameStep
}

/// What a decoder made of a piece.
struct FrameStep {
  var consumed: Int
  var output: ByteBuffer
  var frameEnded: Bool
}
