import DRCore

/// A file's content as it comes out of an archive: where each part of it belongs, and whether it holds a secret.
struct ContentCursor {
  let member: TarMember
  private var runs: ArraySlice<TarSparseMap.Run>
  private var inRun: Int64 = 0
  private var scanner: SecretScanner

  /// As far as the content was looked at.
  var holdsSecret: Bool { scanner.isSecret }

  init(_ member: TarMember) {
    self.member = member
    scanner = SecretScanner(length: member.length)
    runs = (member.sparse?.runs ?? [TarSparseMap.Run(offset: 0, count: member.size)])[...]
  }

  /// Looks at what came next for secrets.
  mutating func scan(_ bytes: UnsafeRawBufferPointer) { scanner.scan(bytes) }

  /// Takes from what came next as much as belongs together, and says where in the file; nil: the rest is behind its end.
  mutating func next(of rest: inout UnsafeRawBufferPointer) -> (offset: Int64, part: UnsafeRawBufferPointer)? {
    while let run = runs.first, inRun == run.count {
      runs.removeFirst()
      inRun = 0
    }
    guard let run = runs.first else { return nil }
    let part = UnsafeRawBufferPointer(rebasing: rest.prefix(Int(min(Int64(rest.count), run.count - inRun))))
    let offset = run.offset + inRun
    inRun += Int64(part.count)
    rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(part.count))
    return (offset, part)
  }
}
