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
  /// How much is written in one step on the blocking queue, at least: the first one tells that an object is large.
  private static let step = Int(DiskWriter.large)

  public func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    try checkSupported(options, for: key)
    let executor = BlockingExecutor(label: "disaster-recovery.local-tier.put")
    let root = root
    let upload = try await LocalTier.blocking(name, .writing, object: key.rawValue, on: executor) {
      try LocalUpload(key, in: root, options)
    }
    // While one batch is written the next is pulled. The queue keeps their order.
    let name = name
    var batch: Task<Void, any Error>?
    do {
      var waiting: [ByteBuffer] = []
      var size = 0
      for try await buffer in body {
        try Task.checkCancellation()
        waiting.append(buffer)
        size += buffer.readableBytes
        guard size >= LocalTier.step else { continue }
        let buffers = waiting
        (waiting, size) = ([], 0)
        try await batch?.value
        batch = Task {
          try await LocalTier.blocking(name, .writing, object: key.rawValue, on: executor) { try upload.write(buffers) }
        }
      }
      try await batch?.value
      try Task.checkCancellation()
      let rest = waiting
      return try await LocalTier.blocking(name, .writing, object: key.rawValue, on: executor) {
        try upload.write(rest)
        return try upload.commit()
      }
    } catch {
      // The batch may not have reached the queue yet; nothing is written after the abandon.
      _ = try? await batch?.value
      // The queue runs this whether or not the task is cancelled.
      _ = try? await LocalTier.blocking(name, .writing, on: executor) { upload.abandon() }
      throw error
    }
  }

  /// One put in progress: a temporary file in the folder of its object. Its calls block and never overlap.
  private final class LocalUpload: Sendable {
    private let key: ObjectKey
    private let folder: OpenFolder
    private let name: String
    private let temporaryName: String
    private let file: Descriptor
    private let onlyIfAbsent: Bool
    private let disk = DiskWriter()
    private let hasBegun = MutableBox(false)

    init(_ key: ObjectKey, in root: LocalRoot, _ options: PutOptions) throws {
      let (folders, name) = try LocalTier.split(key)
      self.key = key
      self.name = name
      onlyIfAbsent = options.onlyIfAbsent
      temporaryName = LocalRoot.temporaryName()
      (folder, file) = try LocalUpload.start(folders, temporaryName, in: root)
      do {
        if let owner = folder.owner { try file.give(to: owner.user, owner.group) }
        try checkPlace()
      } catch {
        abandon()
        throw error
      }
    }

    /// Says early, before the body is pulled, what the commit would refuse.
    private func checkPlace() throws {
      let status = try allowing(ENOENT) { () throws(SystemError) in try folder.descriptor.status(name) }
      switch status?.kind {
      case nil: return
      case .file: if onlyIfAbsent { throw LocalUpload.exists(key) }
      case .symbolicLink: throw folder.symbolicLink(name)
      case .folder, .other:
        throw DRError(
          .invalidKey, "'\(key)' is a folder or something else that is no object",
          advice: "a local tier cannot hold both an object and a key below it", object: key.rawValue)
      }
    }

    /// Creates the folders and the temporary file. A delete may remove a folder that became empty at the same time: once
    /// the file is in it, it stays.
    private static func start(
      _ folders: ArraySlice<String>, _ temporaryName: String, in root: LocalRoot
    ) throws -> (OpenFolder, Descriptor) {
      var attempts = 100
      while true {
        do {
          let folder = try root.open().creatingFolder(folders)
          return (folder, try folder.descriptor.createFile(temporaryName))
        } catch let error as SystemError where error.number == ENOENT && attempts > 0 {
          attempts -= 1
        }
      }
    }

    func write(_ buffers: [ByteBuffer]) throws {
      let isFirst = hasBegun.withLock { hasBegun in
        defer { hasBegun = true }
        return !hasBegun
      }
      if isFirst {
        disk.begin(file.number, expecting: buffers.reduce(0) { $0 + Int64($1.readableBytes) })
      }
      try onDisk { () throws(DiskWriter.Failure) in
        for buffer in buffers { try disk.write(buffer) }
      }
    }

    private func onDisk(_ work: () throws(DiskWriter.Failure) -> Void) throws {
      do {
        try work()
      } catch {
        throw SystemError(error.call, error.number)
      }
    }

    func commit() throws -> ObjectInfo {
      try onDisk { () throws(DiskWriter.Failure) in try disk.end() }
      if !onlyIfAbsent, let old = try folder.file(name) { try file.makeYounger(than: old) }
      try file.sync()
      let status = try file.status()
      if onlyIfAbsent {
        try link()
        do {
          try? folder.descriptor.unlink(temporaryName)
          try folder.sync()
        } catch {
          try? folder.descriptor.unlink(name)
          throw error
        }
      } else {
        try folder.descriptor.rename(temporaryName, to: name)
        try folder.sync()
      }
      return status.info(key)
    }

    private func link() throws {
      do {
        try folder.descriptor.link(temporaryName, to: name)
      } catch  where error.number == EEXIST {
        // NFS may repeat a call whose answer was lost: two names mean that the first one did it.
        guard try file.status().links == 2 else { throw LocalUpload.exists(key) }
      } catch  where [EPERM, ENOTSUP, EMLINK, ENOSYS].contains(error.number) {
        throw DRError(
          .notWritable, "the file system cannot link files, so it cannot decide which of two writers wins",
          advice: "use a file system with hard links (ext4, xfs, btrfs, zfs, apfs, NFS)", object: key.rawValue,
          cause: error)
      }
    }

    func abandon() {
      try? folder.descriptor.unlink(temporaryName)
      folder.removeIfEmpty()
    }

    private static func exists(_ key: ObjectKey) -> DRError {
      DRError(.objectExists, "the object is there already", object: key.rawValue)
    }
  }
}
