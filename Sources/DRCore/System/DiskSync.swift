import Foundation

/// Linux's own ways to get data to the disk, which its C library shows only to C.
package enum DiskSync {
  #if os(Linux)
    private typealias SyncFileRange = @convention(c) (Int32, Int64, Int64, UInt32) -> Int32
    private typealias SyncFS = @convention(c) (Int32) -> Int32

    private static let syncFileRange = dlsym(nil, "sync_file_range").map { unsafeBitCast($0, to: SyncFileRange.self) }
    private static let syncFS = dlsym(nil, "syncfs").map { unsafeBitCast($0, to: SyncFS.self) }
  #endif

  /// Starts to write a part of a file to the disk and does not wait: a later sync has less left to do. Promises nothing.
  package static func startWriteback(_ descriptor: Int32, from offset: Int64, count: Int64) {
    #if os(Linux)
      let write: UInt32 = 2  // SYNC_FILE_RANGE_WRITE
      _ = syncFileRange?(descriptor, offset, count, write)
    #endif
  }

  /// Makes everything that was written to the file system of a descriptor durable, in one go.
  ///
  /// - Returns: False if it failed (`errno` says why) or if there is no such call here.
  package static func syncFileSystem(_ descriptor: Int32) -> Bool {
    #if os(Linux)
      return syncFS.map { $0(descriptor) == 0 } ?? false
    #else
      return false
    #endif
  }
}
