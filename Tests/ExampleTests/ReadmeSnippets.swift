import DRCore

// The README's Swift blocks, compiled. Each stands between its marks as it stands there, indented.

func compressAndEncrypt(rows: ByteStream) async throws -> EncodedStream.Summary {
  // README
  let keys = AgeIdentity.generate()
  let encoding = Encoding(compression: .zstd(level: 3), recipients: [keys.recipient].compactMap { $0 })
  let encoded = try encoding.encode(rows)
  for try await buffer in encoded.stored { print(buffer.readableBytes) }
  let summary = try encoded.summary()
  // README end
  return summary
}
