import NIOCore

/// Cuts a stream of zstd frames (RFC 8878), ours or of any other tool.
struct ZstdSplitter: FrameSplitter {
  private enum State {
    case between
    case skipping(UInt32)
    case walking(ZstdBlockWalk, rawSize: Int)
    case streaming(ZstdStreamDecoder)
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
        guard input.buffer.readableBytes >= 4 else {
          if atEnd { try checkEnd() }
          return nil
        }
        guard try startFrame() else {
          if atEnd { throw truncated() }
          return nil
        }
      case .skipping(let rest):
        let count = min(Int(rest), input.buffer.readableBytes)
        input.skip(count)
        guard count == Int(rest) else {
          state = .skipping(rest - UInt32(count))
          if atEnd { throw truncated() }
          return nil
        }
        state = .between
      case .walking(var walk, let rawSize):
        let size: Int?
        do {
          size = try walk.frameSize(in: input.buffer)
        } catch {
          throw damaged("\(error)")
        }
        // A frame that stores its bytes as they are is larger than them by a little for each block of 128 KiB.
        guard walk.offset <= rawSize + rawSize >> 7 + 1024 else {
          throw damaged("its blocks are larger than the content that it states")
        }
        guard let size, input.buffer.readableBytes >= size else {
          state = .walking(walk, rawSize: rawSize)
          if atEnd { throw truncated() }
          return nil
        }
        let piece = SplitPiece.frame(input.take(size), rawSize: rawSize, index: index, offset: frameOffset)
        finishFrame()
        return piece
      case .streaming(let decoder):
        let step = try decoder.step(input.buffer) { damaged($0) }
        input.skip(step.consumed)
        if step.frameEnded { finishFrame() }
        if step.output.readableBytes > 0 { return .raw(step.output) }
        if !step.frameEnded, input.buffer.readableBytes == 0 {
          if atEnd { throw truncated() }
          return nil
        }
      }
    }
  }

  /// Looks at what starts here. Returns false when more bytes are needed.
  private mutating func startFrame() throws -> Bool {
    frameOffset = input.offset
    guard
      let magic = input.buffer.getInteger(at: input.buffer.readerIndex, endianness: .little, as: UInt32.self)
    else { return false }
    if magic & 0xFFFF_FFF0 == 0x184D_2A50 {
      guard
        let size = input.buffer.getInteger(at: input.buffer.readerIndex + 4, endianness: .little, as: UInt32.self)
      else { return false }
      input.skip(8)
      anyFrame = true
      state = .skipping(size)
      return true
    }
    guard magic == ZstdFrameHeader.magic else {
      throw DRError(
        anyFrame ? .corruptData : .malformedData,
        anyFrame
          ? "no zstd frame where frame \(index) should start, at offset \(input.offset) of the compressed stream"
          : "this is not zstd data: it starts with other bytes",
        advice: "read this artifact from another tier, or choose another backup", object: object)
    }
    guard let header = ZstdFrameHeader(input.buffer) else { return false }
    anyFrame = true
    if let size = header.contentSize, size <= UInt64(largestWholeFrame) {
      state = .walking(ZstdBlockWalk(header), rawSize: Int(size))
    } else {
      state = .streaming(try ZstdStreamDecoder())
    }
    return true
  }

  private mutating func finishFrame() {
    index += 1
    state = .between
  }

  private func checkEnd() throws {
    guard input.buffer.readableBytes == 0 else { throw truncated() }
    guard anyFrame else {
      throw DRError(.truncatedData, "there is no zstd frame: the stored object is empty", object: object)
    }
  }

  private func truncated() -> DRError {
    DRError(
      .truncatedData,
      "the zstd stream ends inside frame \(index), which starts at offset \(frameOffset) of the compressed stream",
      advice: "read this artifact from another tier, or choose another backup", object: object)
  }

  private func damaged(_ why: String) -> DRError {
    DRError.damagedFrame(index, offset: frameOffset, why, object: object)
  }
}

extension DRError {
  static func damagedFrame(_ index: Int, offset: Int64, _ why: String, object: String) -> DRError {
    DRError(
      .corruptData, "frame \(index), at offset \(offset) of the compressed stream, is damaged: \(why)",
      advice: "read this artifact from another tier, or choose another backup", object: object)
  }
}
