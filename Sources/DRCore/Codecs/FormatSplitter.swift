import NIOCore

/// Cuts a stream of frames of one format, ours or of any other tool.
struct FormatSplitter<Format: FrameFormat>: FrameSplitter {
  private enum State {
    case between
    case skipping(Int)
    case whole(Format.Extent, rawSize: Int)
    case streaming(any FrameStreamDecoder)
    case padding
  }

  private var input: SplitInput
  private var state = State.between
  private var index: Int
  private var frameOffset: Int64 = 0
  private var anyFrame = false
  private let object: String

  init(object: String, origin: FrameOrigin) {
    self.object = object
    input = SplitInput(offset: origin.offset)
    index = origin.index
  }

  mutating func feed(_ buffer: ByteBuffer) { input.feed(buffer) }

  mutating func next(atEnd: Bool) throws -> SplitPiece? {
    while true {
      switch state {
      case .between:
        guard input.buffer.readableBytes > 0 else {
          if atEnd, !anyFrame {
            throw DRError(
              .truncatedData, "there is no \(Format.name) \(Format.unit): the stored object is empty", object: object)
          }
          return nil
        }
        guard try startFrame(atEnd: atEnd) else { return try needsMore(atEnd) }
      case .skipping(let rest):
        let count = min(rest, input.buffer.readableBytes)
        input.skip(count)
        guard count == rest else {
          state = .skipping(rest - count)
          return try needsMore(atEnd)
        }
        state = .between
      case .whole(var extent, let rawSize):
        let size = try located { () throws(FrameDamage) in
          try extent.frameSize(in: input.buffer, rawSize: rawSize)
        }
        guard let size, input.buffer.readableBytes >= size else {
          state = .whole(extent, rawSize: rawSize)
          return try needsMore(atEnd)
        }
        let piece = SplitPiece.frame(input.take(size), rawSize: rawSize, index: index, offset: frameOffset)
        finishFrame()
        return piece
      case .streaming(let decoder):
        let step = try located { () throws(FrameDamage) in try decoder.step(input.buffer) }
        input.skip(step.consumed)
        if step.frameEnded { finishFrame() }
        if step.output.readableBytes > 0 { return .raw(step.output) }
        if !step.frameEnded, input.buffer.readableBytes == 0 { return try needsMore(atEnd) }
      case .padding:
        guard input.buffer.readableBytesView.allSatisfy({ $0 == 0 }) else { throw foreign() }
        input.skip(input.buffer.readableBytes)
        return nil
      }
    }
  }

  /// Looks at what starts here. Returns false when more bytes are needed.
  private mutating func startFrame(atEnd: Bool) throws -> Bool {
    frameOffset = input.offset
    switch try Format.start(of: input.buffer, isFirst: !anyFrame, atEnd: atEnd) {
    case .unclear: return false
    case .foreign: throw foreign()
    case .padding: state = .padding
    case .skipped(let count): state = .skipping(count)
    case .whole(let extent, let rawSize): state = .whole(extent, rawSize: rawSize)
    case .stream(let decoder): state = .streaming(decoder)
    }
    anyFrame = true
    return true
  }

  private mutating func finishFrame() {
    index += 1
    state = .between
  }

  private func located<Result>(_ work: () throws(FrameDamage) -> Result) throws -> Result {
    do throws(FrameDamage) {
      return try work()
    } catch {
      throw DRError.damagedFrame(index, offset: frameOffset, error.reason, object: object)
    }
  }

  private func needsMore(_ atEnd: Bool) throws -> SplitPiece? {
    guard atEnd else { return nil }
    throw DRError(
      .truncatedData,
      "the \(Format.name) stream ends inside \(Format.unit) \(index), which starts at offset \(frameOffset) of the "
        + "compressed stream",
      advice: DRError.otherCopy, object: object)
  }

  private func foreign() -> DRError {
    guard anyFrame else {
      return DRError(
        .malformedData, "this is not \(Format.name) data: it starts with other bytes", advice: DRError.otherCopy,
        object: object)
    }
    return DRError(
      .corruptData,
      "no \(Format.name) \(Format.unit) where \(Format.unit) \(index) should start, at offset \(input.offset) of the "
        + "compressed stream",
      advice: DRError.otherCopy, object: object)
  }
}

extension DRError {
  static let otherCopy = "read this artifact from another tier, or choose another backup"

  static func damagedFrame(_ index: Int, offset: Int64, _ why: String, object: String) -> DRError {
    DRError(
      .corruptData, "frame \(index), at offset \(offset) of the compressed stream, is damaged: \(why)",
      advice: otherCopy, object: object)
  }
}
