import DRCore
public import DRStorage
public import Foundation
import NIOCore

/// A text page to print and to keep where the platform is not: where the backups are, which keys open them, and how to open
/// everything with stock tools.
///
/// It holds no secret: of the keys the public halves, with fingerprints against typing errors.
public struct RecoveryKit: Sendable {
  /// Where the repository is, and its copies.
  public var repository: String
  public var copies: [String]
  /// age public keys.
  public var recipients: [String]
  /// What is there now.
  public var catalog: Catalog
  public var made: Date

  public init(
    repository: String, copies: [String] = [], recipients: [String], catalog: Catalog, made: Date = Date()
  ) {
    self.repository = repository
    self.copies = copies
    self.recipients = recipients
    self.catalog = catalog
    self.made = made
  }

  /// The first 16 digits of the SHA-256 of a public key's text, in groups of four.
  public static func fingerprint(_ recipient: String) -> String {
    let digits = Array(StreamDigest.hex(ByteBuffer(string: recipient)).prefix(16))
    return stride(from: 0, to: digits.count, by: 4).map { String(digits[$0..<min($0 + 4, digits.count)]) }
      .joined(separator: " ")
  }

  /// Lines of at most 80 characters, but for addresses and keys.
  public var page: String {
    var lines = [
      "RECOVERY KIT", "made \(Timestamp.format(made)) by \(Library.version)", "",
      "Keep it on paper, where the platform is not. It holds no secret: the private",
      "keys are to be kept elsewhere, and found without the platform too.", "", "1. WHERE THE BACKUPS ARE", "",
      "   \(repository)",
    ]
    lines += copies.map { "   copy: \($0)" }
    lines += [
      "", "   Credentials of a bucket are not here. They are kept:", "", "   _________________________________________",
      "",
      "2. WHICH KEYS OPEN THEM", "",
    ]
    if recipients.isEmpty {
      lines += ["   None: what new backups hold is not encrypted.", ""]
    } else {
      lines += ["   Any one of these (age public keys, with fingerprints):", ""]
      for recipient in recipients {
        lines += [
          "   \(recipient)", "   fingerprint \(RecoveryKit.fingerprint(recipient))", "   its private key is kept:", "",
          "   _________________________________________", "",
        ]
      }
      lines += [
        "   A private key is a line AGE-SECRET-KEY-1… in a file, here key.txt. It is the",
        "   right one if this prints one of the keys above:",
        "", "     age-keygen -y key.txt", "",
        "   and the key was typed without an error if the fingerprint is the same:", "",
        "     printf %s age1… | sha256sum | cut -c 1-16", "",
      ]
    }
    lines += ["3. WHAT IS THERE", ""] + contents + [""] + RecoveryKit.commands
    return lines.joined(separator: "\n") + "\n"
  }

  /// The newest backup of each component.
  private var contents: [String] {
    let components = Set(catalog.backups.map(\.component)).sorted { $0.description < $1.description }
    guard !components.isEmpty else { return ["   nothing yet"] }
    return components.flatMap { component -> [String] in
      let own = catalog.backups.filter { $0.component == component }
      guard let newest = own.max(by: { $0.recoveryPoint.time < $1.recoveryPoint.time }) else { return [] }
      let isOpen = newest.artifacts.allSatisfy(\.recipients.isEmpty)
      return [
        "   \(component): \(own.count) backups, the newest \(newest.id)",
        "     of \(Timestamp.format(newest.recoveryPoint.time))" + (isOpen ? ", not encrypted" : ""),
      ]
    }
  }

  private static let commands = [
    "4. HOW TO OPEN THEM", "",
    "   With age, zstd, tar and sha256sum (Debian: apt install age zstd). Fetch the",
    "   repository first if it is in a bucket:",
    "   aws s3 sync s3://BUCKET/PREFIX backups", "",
    "   A backup is there if its manifest is: backups/KIND/metadata/ID.json, a text. It",
    "   names the files of the backup (key), with their SHA-256 (storedSHA256):", "",
    "     sha256sum FILE", "", "   Any file that ends in .zst.age (without .age: leave the first command out):", "",
    "     age -d -i key.txt FILE.zst.age | zstd -d > FILE", "",
    "   PostgreSQL: base.tar is the data folder, NUMBER.tar are tablespaces.", "",
    "     mkdir -m 700 data; age -d -i key.txt base.tar.zst.age | zstd -d | tar x -C data",
    "     Segments: backups/postgres/wal/SYSTEM/DIGITS/SEGMENT-SHA256.zst.age. Decode them all",
    "     to wal/SEGMENT, then in data/postgresql.auto.conf:",
    "       restore_command = 'cp /path/to/wal/%f %p'",
    "       recovery_target_time = '2026-01-31 12:00:00+00'",
    "     touch data/recovery.signal, and start the server of the same major version.",
    "     A dump (NAME.dump): pg_restore -d DATABASE NAME.dump", "",
    "   Redis: dump.rdb into the stopped server's folder, appendonly off, start. The",
    "     segments under aof/ are append-only files: redis-cli --pipe < SEGMENT", "",
    "   RabbitMQ: definitions.json: rabbitmqctl import_definitions definitions.json.",
    "     Messages (.drmq) need this library; their format is written down in it.", "",
    "   Files: tree.tar, as root, with GNU tar (bsdtar -x --acls --xattrs does as well):",
    "     age -d -i key.txt tree.tar.zst.age | zstd -d |",
    "       tar -xp --acls --xattrs --xattrs-include='*'",
    "     A private key deep inside a large file keeps that file's mode: chmod 600 it.",
    "     With a parent in the manifest (an incremental one), open the parents first,",
    "     the oldest before the others, all into one folder; tree.index names the files.", "",
    "5. TRY IT", "", "   A kit that nobody has tried is none. Tried last on ____________ by ____________",
  ]
}
