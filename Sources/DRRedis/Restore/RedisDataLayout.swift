import DRCore
import Foundation

/// Where a server keeps its data, and which of it the server loads when it starts.
///
/// A server with `appendonly yes` loads its append-only files and nothing else: an RDB file beside them is ignored, and later
/// overwritten. Since Redis 7 those files are a folder with a manifest, before that one file.
public struct RedisDataLayout: Sendable, Hashable {
  public enum AppendOnly: Sendable, Hashable {
    /// `appendonly no`: the RDB file is loaded.
    case off
    /// `appendonly yes`, Redis 7 and later.
    case folder
    /// `appendonly yes`, Redis 4 to 6.
    case singleFile
  }

  /// `dir`; absolute.
  public var folder: String
  public var appendOnly: AppendOnly
  /// `dbfilename`.
  public var dumpFile = "dump.rdb"
  /// `appenddirname`.
  public var appendFolder = "appendonlydir"
  /// `appendfilename`.
  public var appendFile = "appendonly.aof"
  /// `cluster-config-file`: of a node of a cluster.
  public var clusterFile = "nodes.conf"

  public init(folder: String, appendOnly: AppendOnly) {
    self.folder = folder
    self.appendOnly = appendOnly
  }

  /// Reads the layout from a `redis.conf`, and from the files that it includes by absolute paths without patterns.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` if it cannot be read, or names no absolute `dir`.
  public init(configurationFile path: String, singleFile: Bool = false) throws {
    var values: [String: String] = [:]
    try RedisDataLayout.read(path, into: &values, depth: 0)
    guard let folder = values["dir"], folder.hasPrefix("/") else {
      throw DRError(
        .invalidConfiguration, "the server's configuration names no absolute data folder ('dir')",
        advice: "say where the data folder is", object: path)
    }
    self.init(folder: folder, appendOnly: values["appendonly"] != "yes" ? .off : singleFile ? .singleFile : .folder)
    dumpFile = values["dbfilename"] ?? dumpFile
    appendFolder = values["appenddirname"] ?? appendFolder
    appendFile = values["appendfilename"] ?? appendFile
    clusterFile = values["cluster-config-file"] ?? clusterFile
    try check()
  }

  private static func read(_ path: String, into values: inout [String: String], depth: Int) throws {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8), depth < 16 else {
      throw DRError(.invalidConfiguration, "the server's configuration cannot be read", object: path)
    }
    for line in text.split(whereSeparator: \.isNewline) {
      let words = line.split(maxSplits: 1, whereSeparator: { $0 == " " || $0 == "\t" })
      guard words.count == 2, words[0].first != "#" else { continue }
      let value = words[1].trimmingCharacters(in: CharacterSet(charactersIn: " \t\"'"))
      let name = words[0].lowercased()
      // What stands later counts, as it does for the server.
      if name == "include" {
        if value.hasPrefix("/"), !value.contains("*") { try read(value, into: &values, depth: depth + 1) }
      } else {
        values[name] = name.hasPrefix("append") && name == "appendonly" ? value.lowercased() : value
      }
    }
  }

  /// - Throws: ``DRError`` with `invalidConfiguration` unless the folder is absolute and the others are plain names.
  func check() throws {
    guard folder.hasPrefix("/"), folder.count > 1, !folder.contains("\0") else {
      throw DRError(.invalidConfiguration, "the data folder must be an absolute path", object: folder)
    }
    for name in [dumpFile, appendFolder, appendFile, clusterFile]
    where name.isEmpty || name.contains("/") || name.contains("\0") || name.contains(where: \.isWhitespace)
      || name == "."
      || name == ".."
    {
      throw DRError(.invalidConfiguration, "'\(name.prefix(80))' is no name of a file in the data folder")
    }
  }

  /// What a server may find in the folder when it starts, now or after its settings were changed.
  var loadable: [String] { [dumpFile, appendFolder, appendFile] }
}
