/// The BASE_BACKUP command in the grammar of the server's version.
///
/// Source: PostgreSQL documentation, "Streaming Replication Protocol", of versions 13 to 17. That of 13 and 14 was never
/// seen to be taken by such a server.
package struct BaseBackupCommand: Equatable {
  package var label: String
  /// Checkpoint at once rather than spread over `checkpoint_completion_target`.
  package var fastCheckpoint = true
  /// In KiB a second; nil is as fast as it goes.
  package var maximumRate: Int?
  /// Put the WAL that makes the backup consistent into its `base.tar`.
  package var includesWAL = false
  package var serverVerifiesChecksums = false

  package init(label: String) { self.label = label }

  /// From this version on options stand in parentheses, and everything comes in one copy with typed messages.
  static let parenthesised = 150_000
  /// Before this version there is no backup manifest.
  static let oldest = 130_000

  package func text(serverVersion: Int) -> String {
    let quoted = "'" + label.replacing("'", with: "''") + "'"
    if serverVersion >= BaseBackupCommand.parenthesised {
      var options = ["LABEL \(quoted)", "PROGRESS true", "CHECKPOINT '\(fastCheckpoint ? "fast" : "spread")'"]
      // Whether the WAL is safe is asked of the archive, with a time limit; the server would wait without one.
      options += ["WAIT false", "WAL \(includesWAL)", "MANIFEST 'yes'", "MANIFEST_CHECKSUMS 'CRC32C'"]
      options.append("VERIFY_CHECKSUMS \(serverVerifiesChecksums)")
      if let maximumRate { options.append("MAX_RATE \(maximumRate)") }
      return "BASE_BACKUP (\(options.joined(separator: ", ")))"
    }
    var words = ["BASE_BACKUP LABEL \(quoted) PROGRESS"]
    if fastCheckpoint { words.append("FAST") }
    if includesWAL { words.append("WAL") }
    words.append("NOWAIT")
    if let maximumRate { words.append("MAX_RATE \(maximumRate)") }
    if !serverVerifiesChecksums { words.append("NOVERIFY_CHECKSUMS") }
    words.append("MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'")
    return words.joined(separator: " ")
  }
}
