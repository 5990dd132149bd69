import ArgumentParser
import DRCore
import DRStorage
import ExampleSupport
import Foundation
import NIOCore

/// Stores a file, or every file of a folder.
struct Put: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Stores a file, or every file below a folder.",
    discussion: "Of a folder that is a repository, the manifests come last: a backup is there once all of it is.")

  @OptionGroup var tier: TierArguments
  @Argument(help: "A file or a folder.")
  var source: String
  @Option(help: "The key of the file, or what the keys of a folder's files start with. Default: their names.")
  var key: String?
  @Option(help: "The storage class, as S3 names it: STANDARD_IA.")
  var storageClass: String?
  @Flag(help: "Also put other bytes in the place of an object that is there.")
  var replace = false

  func run() async throws {
    try await reporting {
      let tier = try await tier.open(.unconditional)
      let files = try LocalFile.find(source, key: key)
      let storageClass = storageClass.map { StorageClass(rawValue: $0) }
      for part in [files.filter { !$0.isManifest }, files.filter(\.isManifest)] {
        try await forEach(part, atOnce: self.tier.concurrency) { [replace] file in
          if !replace { try await file.refuseToReplace(on: tier) }
          // In an archive class, a manifest could not be read before it was thawed.
          let archives = storageClass?.isArchive == true
          let options = PutOptions(
            expectedLength: file.size, storageClass: file.isManifest && archives ? nil : storageClass)
          _ = try await tier.put(file.key, BlockingFile(reading: file.path).stream(), options)
        }
      }
    }
  }
}

/// Reads an object, or every object of a folder, into files.
struct Get: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Reads an object, or every object below a folder, into files.")

  @OptionGroup var tier: TierArguments
  @Argument(help: "A key; or with a slash at its end a folder, '/' for everything.")
  var key: String
  @Option(name: .customLong("to"), help: "The file, or the folder for a folder's objects.")
  var destination: String

  func run() async throws {
    try await reporting {
      let tier = try await tier.open(.nothing)
      guard key.hasSuffix("/") else { return try await Get.get(ObjectKey(key), from: tier, to: destination) }
      let prefix = key == "/" ? "" : key
      let objects = try await tier.listAll(prefix: prefix)
      if objects.isEmpty {
        throw DRError(
          .objectNotFound, nothing(under: key, of: tier), advice: "look at what is there: dr-tier list --tier …")
      }
      let folder = destination
      try await forEach(objects, atOnce: self.tier.concurrency) { object in
        try await Get.get(object.key, from: tier, to: "\(folder)/\(object.key.rawValue.dropFirst(prefix.count))")
      }
    }
  }

  /// Into a file beside it first: what has the name is whole.
  private static func get(_ key: ObjectKey, from tier: any StorageTier, to path: String) async throws {
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let partial = "\(path).partial"
    do {
      let file = try BlockingFile(writing: partial)
      for try await buffer in try await tier.get(key, range: nil) { try await file.write(buffer) }
    } catch {
      try? FileManager.default.removeItem(atPath: partial)
      throw error
    }
    guard rename(partial, path) == 0 else {
      throw DRError(.notWritable, "the file cannot be named: \(String(cString: strerror(errno)))", object: path)
    }
  }
}

/// A file that is to be stored.
struct LocalFile: Sendable {
  var path: String
  var key: ObjectKey
  var size: Int64
  /// By which a backup exists: `…/metadata/….json`.
  var isManifest: Bool {
    key.rawValue.hasSuffix(".json") && key.rawValue.split(separator: "/").dropLast().last == "metadata"
  }

  /// Up to which size the bytes of what is there are compared, and not its size alone.
  private static let compared: Int64 = 1 << 20

  /// What is put again is the same; other bytes under the name of a part of a backup, or of a log, would take it away.
  ///
  /// - Throws: ``DRError`` with `objectExists`.
  func refuseToReplace(on tier: any StorageTier) async throws {
    guard let there = try await tier.head(key) else { return }
    var isSame = there.size == size
    if isSame, size <= Self.compared, there.archive?.isReadable ?? true {
      let own = ByteBuffer(bytes: try Data(contentsOf: URL(fileURLWithPath: path)))
      isSame = try await tier.read(key) == own
    }
    guard isSame else {
      throw DRError(
        .objectExists, "\(tier.name) has other bytes of that name: they were not replaced",
        advice: "put it under another --key, or give --replace if what is there may go", object: key.rawValue)
    }
  }

  static func find(_ source: String, key: String?) throws -> [LocalFile] {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: source, isDirectory: &isFolder) else {
      throw DRError(.invalidConfiguration, "there is no such file or folder", object: source)
    }
    if !isFolder.boolValue {
      return [try LocalFile(source, key ?? URL(fileURLWithPath: source).lastPathComponent)]
    }
    let names = FileManager.default.enumerator(atPath: source)?.compactMap { $0 as? String } ?? []
    let start = key.map { $0.hasSuffix("/") ? $0 : $0 + "/" } ?? ""
    return try names.sorted().compactMap { name in
      let path = "\(source)/\(name)"
      var status = stat()
      // A folder's own mark says nothing of another tier.
      guard name != LocalTier.marker, lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
      return try LocalFile(path, start + name)
    }
  }

  private init(_ path: String, _ key: String) throws {
    var status = stat()
    guard stat(path, &status) == 0 else {
      throw DRError(.invalidConfiguration, "the file cannot be looked at", object: path)
    }
    self.path = path
    self.key = try ObjectKey(key)
    size = Int64(status.st_size)
  }
}
