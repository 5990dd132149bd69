import DRCore
import DRFiles
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

let quiet = Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() })

/// A temporary folder with a repository and room for trees.
struct Place {
  let folder: String
  let repository: Repository

  var tree: String { folder + "/tree" }

  /// - Parameter inMemory: On a file system of its own, which needs no disk.
  static func with<Result>(inMemory: Bool = false, _ body: (Place) async throws -> Result) async throws -> Result {
    try await withTemporaryFolder { folder in
      if inMemory { try await shell(#"mount -t tmpfs -o size=4g,nr_inodes=2m none "$1""#, folder) }
      do {
        let tier = try await LocalTier(root: folder + "/repository", creating: true)
        try FileManager.default.createDirectory(atPath: folder + "/tree", withIntermediateDirectories: false)
        let result = try await body(Place(folder: folder, repository: Repository(tier: tier)))
        if inMemory { try await shell(#"umount "$1""#, folder) }
        return result
      } catch {
        if inMemory { try await shell(#"umount --lazy "$1""#, folder) }
        throw error
      }
    }
  }

  func source(_ included: [String] = [], excluded: [String] = []) throws -> FileTreeSource {
    FileTreeSource(component: try Component(.config, "app"), root: tree, included: included, excluded: excluded)
  }

  func capture(_ source: FileTreeSource, recipients: [AgeRecipient] = []) async throws -> BackupManifest {
    try await repository.backUp(
      source, cadence: .daily, encoding: Encoding(recipients: recipients, frameSize: 64 << 10), logger: quiet)
  }

  /// Captures the tree, and gives the tar.
  func tar(of manifest: BackupManifest, _ decoding: Decoding = Decoding()) async throws -> [UInt8] {
    let reader = repository.reader(for: manifest, decoding: decoding)
    return [UInt8](
      try await reader.read(manifest.artifact("tree.tar")).collect(limit: 1 << 30).readableBytesView)
  }

  func write(_ path: String, _ content: String, mode: Int = 0o644) throws {
    let whole = "\(tree)/\(path)"
    try FileManager.default.createDirectory(
      atPath: (whole as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try Data(content.utf8).write(to: URL(fileURLWithPath: whole))
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: whole)
  }

  /// A tar that is not ours, as a backup.
  func store(tar: [UInt8]) async throws -> BackupManifest {
    try await repository.backUp(
      RawTar(component: try Component(.config, "app"), bytes: tar), cadence: .daily,
      encoding: Encoding(frameSize: 64 << 10), logger: quiet)
  }

  @discardableResult
  func restore(
    _ manifest: BackupManifest, to destination: String, _ placement: FileTreeRestorer.Placement = .newFolder,
    paths: [String] = [], decoding: Decoding = Decoding(), _ change: (inout FileTreeRestorer) -> Void = { _ in }
  ) async throws -> FileTreeRestorer.Report {
    var restorer = FileTreeRestorer(destination: destination, placement: placement, paths: paths)
    change(&restorer)
    return try await restorer.run(from: repository.reader(for: manifest, decoding: decoding), logger: quiet)
  }

  func diff(_ manifest: BackupManifest, with destination: String, paths: [String] = []) async throws -> FileTreeDiff {
    try await FileTreeRestorer(destination: destination, placement: .inPlace, paths: paths)
      .diff(from: repository.reader(for: manifest), logger: quiet)
  }
}

/// Gives bytes as the tree of a backup.
struct RawTar: BackupSource {
  let component: Component
  let bytes: [UInt8]

  func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
    try await writer.write("tree.tar", ByteStream(ByteBuffer(bytes: bytes)), expectedLength: nil)
    return Capture(recoveryPoint: RecoveryPoint(time: Date(), position: writer.backupID), method: .files)
  }
}

/// Runs a shell script, and gives what it wrote.
@discardableResult
func shell(_ script: String, _ arguments: String...) async throws -> String {
  let result = try await runCommand("bash", ["-c", "set -euo pipefail; " + script, "bash"] + arguments)
  guard result.status == 0 else {
    throw DRError(.programFailed, "the script ended with \(result.status): \(result.error)", object: script)
  }
  return String(decoding: result.output, as: UTF8.self)
}

/// Everything about a tree that stock tools can tell: names, kinds, modes, owners, times, links, content, attributes, lists.
func fingerprint(_ folder: String, lists: Bool = true) async throws -> String {
  try await shell(
    """
    cd "$1"
    find . -printf '%P|%y|%m|%U|%G|%T@|%l\\n' | LC_ALL=C sort
    find . -type f -printf '%P %n %s\\n' | LC_ALL=C sort
    find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum
    find . \\( -type f -o -type d \\) -print0 | LC_ALL=C sort -z | xargs -0 -r getfattr -d -m '^user[.]' -e hex --absolute-names
    if [ "$2" = true ]; then find . \\( -type f -o -type d \\) -print0 | LC_ALL=C sort -z | xargs -0 -r getfacl -n -p; fi
    """, folder, "\(lists)")
}

/// A tree with everything that a file system of Linux has. Needs root.
func makeRichTree(_ folder: String) async throws {
  try await shell(
    """
    cd "$1"; umask 022
    long=$(printf 'd%.0s' {1..90})
    mkdir -p conf/d certs empty "deep/$long/$long"
    echo 'port: 8080' > conf/app.yml
    head -c 700 /dev/urandom > "deep/$long/$long/$(printf 'n%.0s' {1..150})"
    ln -s "../$(printf 't%.0s' {1..180})" "deep/$long/far"
    ln "deep/$long/$long"/n* "deep/$long/again"
    echo latin > $'latin-\\xe9'; echo u > 'Zürich und Umgebung'; echo n > $'two\\nlines'; echo e > 'a=b %25'
    head -c 3000000 /dev/urandom > big.bin; : > nothing
    ln conf/app.yml conf/hard; ln -s ../conf/app.yml certs/link; ln -s /etc/hostname absolute; ln -s nowhere dangling
    truncate -s 3M hole.img
    dd if=/dev/urandom of=sparse.img bs=64K count=1 status=none
    dd if=/dev/urandom of=sparse.img bs=64K count=1 seek=40 conv=notrunc status=none; truncate -s 5M sparse.img
    dd if=/dev/urandom of=small-sparse.img bs=4K count=1 seek=20 status=none; truncate -s 200K small-sparse.img
    setfattr -n user.comment -v 'runs' conf/app.yml; setfattr -n user.binary -v 0x00ff0a3d00 big.bin
    setfattr -n user.folder -v yes conf/d; setfattr -n 'user.a=b%' -v x big.bin
    chown 1234:4321 conf/d big.bin; chown -h 1234:4321 dangling; chown daemon:mail certs
    chmod 2775 conf/d; chmod 0640 big.bin; chmod 4755 nothing; chmod 0 small-sparse.img; chmod 0500 empty
    setfacl -m u:1234:r,g:4321:rw conf/app.yml; setfacl -d -m g:4321:rwx,u:daemon:r conf/d
    touch -d '1969-12-31 23:59:58.25 UTC' big.bin; touch -d '1901-12-31 23:59:58 UTC' sparse.img
    touch -hd '2001-02-03 04:05:06.789 UTC' dangling
    touch -d '2026-01-02 03:04:05.123456789 UTC' conf/app.yml conf/d certs .
    """, folder)
}

/// A fingerprint without the time of the folder itself, in which a restore works.
func unrooted(_ fingerprint: String) -> [Substring] {
  fingerprint.split(separator: "\n").filter { !$0.hasPrefix("|d|") }
}

/// The error that a body throws; nil, and an issue, if it throws none, or another kind.
@discardableResult
func refusal<Result>(
  at location: SourceLocation = #_sourceLocation, _ body: () async throws -> Result
) async -> DRError? {
  do {
    _ = try await body()
    Issue.record("nothing was refused", sourceLocation: location)
  } catch let error as DRError {
    return error
  } catch {
    Issue.record("\(error)", sourceLocation: location)
  }
  return nil
}
