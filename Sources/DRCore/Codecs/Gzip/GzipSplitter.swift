import NIOCore

/// Cuts a stream of gzip members (RFC 1952), ours or of any other tool. Zeros after the last member are padding, as
/// for `gzip`.
struct GzipSplitter: FrameSplitter {
  private enum State {
    case between
    case whole(GzipMemberHeader)
    case streaming(GzipStreamDecoder)
    case padding
  }

  private var input: SplitInput
  private var state = State.between
  private var index: Int
  private var memberOffset: Int64 = 0
  private var anyMember = false
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
          if atEnd, !anyMember {
            throw DRError(.truncatedData, "there is no gzip member: the stored object is empty", object: object)
          }
          return nil
        }
        guard input.buffer.readableBytes >= GzipMemberHeader.size || atEnd else { return nil }
        try startMember()
      case .whole(let header):
        guard input.buffer.readableBytes >= header.memberSize else {
          if atEnd { throw truncated() }
          return nil
        }
        let piece = SplitPiece.frame(
          input.take(header.memberSize), rawSize: header.rawSize, index: index, offset: memberOffset)
        finishMember()
        return piece
      case .streaming(let decoder):
        let step = try decoder.step(input.buffer) {
          DRError.damagedFrame(index, offset: memberOffset, $0, object: object)
        }
        input.skip(step.consumed)
        if step.memberEnded { finishMember() }
        if step.output.readableBytes > 0 { return .raw(step.output) }
        if !step.memberEnded, input.buffer.readableBytes == 0 {
          if atEnd { throw truncated() }
          return nil
        }
      case .padding:
        guard input.buffer.readableBytesView.allSatisfy({ $0 == 0 }) else { throw trailing() }
        input.skip(input.buffer.readableBytes)
        return nil
      }
    }
  }

  private mutating func startMember() throws {
    memberOffset = input.offset
    let first = input.buffer.getInteger(at: input.buffer.readerIndex, as: UInt16.self)
    if first != 0x1F8B {
      guard anyMember else {
        throw DRError(
          .malformedData, "this is not gzip data: it starts with other bytes",
          advice: "read this artifact from another tier, or choose another backup", object: object)
      }
      guard input.buffer.readableBytesView.first == 0 else { throw trailing() }
      state = .padding
      return
    }
    if let header = GzipMemberHeader(input.buffer), header.rawSize <= largestWholeFrame,
      header.memberSize <= largestWholeFrame + largestWholeFrame >> 6,
      header.memberSize > GzipMemberHeader.size + GzipMemberHeader.trailerSize
    {
      state = .whole(header)
    } else {
      state = .streaming(try GzipStreamDecoder())
    }
  }

  private mutating func finishMember() {
    index += 1
    anyMember = true
    state = .between
  }

  private func truncated() -> DRError {
    DRError(
      .truncatedData,
      "the gzip stream ends inside member \(index), which starts at offset \(memberOffset) of the compressed stream",
      advice: "read this artifact from another tier, or choose another backup", object: object)
  }

  private func trailing() -> DRError {
    DRError(
      .corruptData,
      "no gzip member where member \(index) should start, at offset \(input.offset) of the compressed stream",
      advice: "read this artifact from another tier, or choose another backup", object: object)
  }
}
