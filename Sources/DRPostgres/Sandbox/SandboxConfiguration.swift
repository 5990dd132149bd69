import DRCore

/// The settings of a sandbox's server: a pure value.
///
/// What must hold is given as arguments, which win over every file, `postgresql.auto.conf` of a restored data folder
/// included.
struct SandboxConfiguration {
  var majorVersion: Int
  var runFolder: String
  /// The sandbox's name: the title of each of the server's processes holds it.
  var name: String
  var port: UInt16
  var options: PostgresSandbox.Options
  /// Nothing of the source may be reached or changed.
  var isHarmless: Bool
  /// The data folder is somebody's who may want to keep it.
  var isDurable: Bool
  /// The least values that recovery accepts.
  var minimums: [String: Int] = [:]

  /// For `postgres`, after `-D`.
  var arguments: [String] {
    var settings: [(String, String)] = []
    if isHarmless { settings += options.settings.filter { !isSource(of: $0.key) }.sorted { $0.key < $1.key } }
    settings += own.sorted { $0.key < $1.key }
    if isHarmless { settings += harmless.sorted { $0.key < $1.key } }
    return settings.flatMap { ["-c", "\($0.0)=\($0.1)"] }
  }

  /// `postgresql.conf`.
  var file: String {
    let settings = isHarmless ? [:] : options.settings
    return settings.sorted { $0.key < $1.key }.map { name, value in
      let quoted = value.replacing("\\", with: "\\\\").replacing("'", with: "''")
      return "\(name) = '\(quoted)'\n"
    }.joined()
  }

  /// `pg_hba.conf`: the socket lies in a folder that only the server's user may enter.
  var hostBasedAuthentication: String {
    """
    local all all trust
    local replication all trust
    host all all 127.0.0.1/32 scram-sha-256
    host replication all 127.0.0.1/32 scram-sha-256

    """
  }

  private var own: [String: String] {
    var settings = [
      "config_file": "\(runFolder)/postgresql.conf", "hba_file": "\(runFolder)/pg_hba.conf",
      "ident_file": "\(runFolder)/pg_ident.conf", "external_pid_file": "",
      "unix_socket_directories": runFolder, "unix_socket_permissions": "0700", "unix_socket_group": "",
      "port": "\(port)", "listen_addresses": options.listensOnLoopback ? "127.0.0.1" : "",
      "cluster_name": name, "update_process_title": "on",
      // Everything goes to the sandbox's own log; statements, which may hold passwords, do not.
      "logging_collector": "off", "log_destination": "stderr", "log_min_error_statement": "panic",
      "lc_messages": "C",
      // Nothing outside the data folder is left behind by a kill, and a restored server's sizes may not fit here.
      "shared_memory_type": "mmap", "dynamic_shared_memory_type": "mmap", "huge_pages": "off",
    ]
    if options.settings["shared_buffers"] == nil { settings["shared_buffers"] = "128MB" }
    if !isDurable { settings["fsync"] = "off" }
    for (name, least) in minimums {
      settings[name] = "\(max(least, options.settings[name].flatMap { Int($0) } ?? 0))"
    }
    return settings
  }

  private var harmless: [String: String] {
    var settings = [
      // Nothing is written into the source's archive, and no command of the source's is run but restore_command.
      "archive_mode": "off", "archive_command": "", "archive_cleanup_command": "", "recovery_end_command": "",
      // Nothing is asked of the source or of its peers.
      "primary_conninfo": "", "primary_slot_name": "", "synchronous_standby_names": "",
      "max_logical_replication_workers": "0", "ssl": "off", "bonjour": "off", "hot_standby": "on",
    ]
    if majorVersion >= 15 { settings["archive_library"] = "" }
    if majorVersion >= 17 { settings["sync_replication_slots"] = "off" }
    if !options.keepsPreloadLibraries {
      for list in ["shared", "session", "local"] { settings["\(list)_preload_libraries"] = "" }
    }
    return settings
  }

  private func isSource(of name: String) -> Bool { own[name] != nil || harmless[name] != nil }

  /// Refuses what cannot be said to a server in this way.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`.
  func check() throws {
    for (name, value) in options.settings {
      let isName = name.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."):
          true
        default: false
        }
      }
      guard isName, !name.isEmpty, !value.utf8.contains(where: { $0 == 0 || $0 == 10 || $0 == 13 }) else {
        throw DRError(.invalidConfiguration, "'\(name)' is no server setting, or its value has more than one line")
      }
      guard !(isHarmless && value.lowercased().contains("password")) else {
        throw DRError(
          .invalidConfiguration, "the setting \(name) would show a password in the server's argument list",
          advice: "put it into a password file")
      }
    }
    guard (1...1024).contains(options.walSegmentSize), options.walSegmentSize.nonzeroBitCount == 1 else {
      throw DRError(.invalidConfiguration, "a WAL segment has 1 to 1024 MiB, a power of two")
    }
  }
}
