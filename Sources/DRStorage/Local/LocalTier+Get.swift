public import DRCore
import NIOCore

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

extension LocalTier {
  /// Bytes of one read.
  private static let readSize: Int64 = 1 << 20

  public func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    let (tier, root) = (name, root)
    let executor = BlockingExecutor(label: "disaster-recovery.local-tier.get")
    let (file, size) = try await LocalTier.blocking(tier, .reading, object: key.rawValue, on: executor) {
      try LocalTier.open(key, in: root)
    }
    let range = range ?? 0..<size
    guard range.lowerBound >= 0, range.upperBound <= size else {
      throw DRError(
        .truncatedData, "bytes \(range.lowerBound) to \(range.upperBound) were asked for, and there are \(size)",
        object: key.rawValue)
    }
    // The file is let go as soon as the end is reached, not when the stream is.
    let rest = MutableBox<(file: Descriptor, offset: Int64)?>(range.isEmpty ? nil : (file, range.lowerBound))
    return ByteStream {
      guard let (file, offset) = rest.value else { return nil }
      try Task.checkCancellation()
      let count = Int(min(LocalTier.readSize, range.upperBound - offset))
      let buffer = try await LocalTier.blocking(tier, .reading, object: key.rawValue, on: executor) {
        try file.read(at: offset, count: count)
      }
      guard buffer.readableBytes == count else {
        throw DRError(
          .truncatedData, "the object ends at byte \(offset + Int64(buffer.readableBytes)), not at \(size)",
          object: key.rawValue)
      }
      let next = offset + Int64(count)
      rest.withLock { $0 = next < range.upperBound ? (file, next) : nil }
      return buffer
    }
  }

  public func head(_ key: ObjectKey) async throws -> ObjectInfo? {
    let root = root
    return try await LocalTier.blocking(name, .reading, object: key.rawValue) {
      let (folders, name) = try LocalTier.split(key)
      return try root.open().folder(folders)?.file(name).map { $0.info(key) }
    }
  }

  private static func open(_ key: ObjectKey, in root: LocalRoot) throws -> (Descriptor, Int64) {
    let absent = DRError(.objectNotFound, "there is no such object", object: key.rawValue)
    let (folders, name) = try split(key)
    guard let folder = try root.open().folder(folders), try folder.file(name) != nil else { throw absent }
    do {
      let file = try folder.descriptor.openFile(name)
      let status = try file.status()
      guard status.kind == .file else { throw absent }
      return (file, status.size)
    } catch let error as SystemError where error.number == ENOENT {
      throw absent
    } catch let error as SystemError where error.number == ELOOP {
      throw folder.symbolicLink(name)
    }
  }
}
