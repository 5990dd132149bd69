import DRCore
import DRSandbox
import Foundation

/// The files of a sandbox, its ports and its secrets.
///
///     run/epmd             the port mapper, so named that its command line says whose it is
///     data/home/           HOME of all nodes, with the cookie (0400)
///     data/node1/          mnesia, logs, rabbitmq.conf, enabled_plugins
struct SandboxLayout: Sendable {
  struct Node: Sendable {
    var name: String
    var port: UInt16
    var managementPort: UInt16
    var tlsPort: UInt16
    var managementTLSPort: UInt16
    var distributionPort: UInt16
    var toolPort: UInt16
  }

  /// No user of a backup's is called so.
  static let user = "dr-sandbox"

  let nodes: [Node]
  let mapperPort: UInt16
  let password: String
  private let cookie: String
  private let home: SandboxHome

  var epmd: String { "\(home.runFolder)/epmd" }
  func folder(_ index: Int) -> String { "\(home.ownDataFolder)/node\(index + 1)" }

  init(home: SandboxHome, nodes count: Int) throws {
    self.home = home
    var ports = try Self.freePorts(count * 6 + 1)
    func next() -> UInt16 { ports.removeFirst() }
    mapperPort = next()
    nodes = (0..<count).map { index in
      Node(
        name: "n\(index + 1)@localhost", port: next(), managementPort: next(), tlsPort: next(),
        managementTLSPort: next(), distributionPort: next(), toolPort: next())
    }
    password = Self.secret()
    cookie = Self.secret()
  }

  private static func secret() -> String {
    (0..<4).map { _ in String(UInt64.random(in: .min ... .max), radix: 36) }.joined()
  }

  /// Different from one another: one that is free is given again at once.
  private static func freePorts(_ count: Int) throws -> [UInt16] {
    var ports: [UInt16] = []
    for _ in 0..<(count * 20) where ports.count < count {
      let port = try freePort()
      if !ports.contains(port) { ports.append(port) }
    }
    guard ports.count == count else { throw DRError(.invalidConfiguration, "there are no \(count) free ports") }
    return ports
  }

  func write(_ options: RabbitMQSandbox.Options, epmd program: String) throws {
    let files = FileManager.default
    func make(_ folder: String) throws {
      try files.createDirectory(
        atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }
    func put(_ text: String, _ path: String, mode: Int = 0o600) throws {
      guard files.createFile(atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: mode]) else {
        throw DRError(.notWritable, "cannot be written", object: path)
      }
    }
    if (try? files.destinationOfSymbolicLink(atPath: epmd)) == nil {
      try files.createSymbolicLink(atPath: epmd, withDestinationPath: program)
    }
    try make("\(home.ownDataFolder)/home")
    try put(cookie, "\(home.ownDataFolder)/home/.erlang.cookie", mode: 0o400)
    for (index, node) in nodes.enumerated() {
      let folder = folder(index)
      for name in ["mnesia", "log", "schema", "generated"] { try make("\(folder)/\(name)") }
      try put("[\((["rabbitmq_management"] + options.plugins).joined(separator: ","))].", "\(folder)/enabled_plugins")
      try put(configuration(node, options), "\(folder)/rabbitmq.conf")
      // Without it the server would read the machine's own.
      try put("", "\(folder)/rabbitmq-env.conf")
    }
  }

  private func configuration(_ node: Node, _ options: RabbitMQSandbox.Options) -> String {
    var lines = [
      "listeners.tcp.1 = 127.0.0.1:\(node.port)", "management.tcp.ip = 127.0.0.1",
      "management.tcp.port = \(node.managementPort)", "loopback_users = none",
      "default_user = \(Self.user)", "default_pass = \(password)", "default_user_tags.administrator = true",
      "disk_free_limit.absolute = 50MB", "vm_memory_high_watermark.absolute = \(options.memoryLimit)",
      "log.console = false", "log.file = rabbit.log", "log.file.level = info",
    ]
    if let folder = options.certificates {
      lines += [
        "listeners.ssl.1 = 127.0.0.1:\(node.tlsPort)", "management.ssl.ip = 127.0.0.1",
        "management.ssl.port = \(node.managementTLSPort)",
      ]
      for prefix in ["ssl_options", "management.ssl"] {
        lines += [
          "\(prefix).cacertfile = \(folder)/ca.pem", "\(prefix).certfile = \(folder)/server.pem",
          "\(prefix).keyfile = \(folder)/server.key",
        ]
      }
    }
    if nodes.count > 1 {
      lines.append("cluster_formation.peer_discovery_backend = classic_config")
      for (index, node) in nodes.enumerated() {
        lines.append("cluster_formation.classic_config.nodes.\(index + 1) = \(node.name)")
      }
    }
    lines += options.configuration.sorted { $0.key < $1.key }.map { "\($0.key) = \($0.value)" }
    return lines.joined(separator: "\n") + "\n"
  }

  func environment(_ index: Int) -> [String: String] {
    let node = nodes[index]
    let folder = folder(index)
    let loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
    return [
      "HOME": "\(home.ownDataFolder)/home", "RABBITMQ_CONF_ENV_FILE": "\(folder)/rabbitmq-env.conf",
      "RABBITMQ_NODENAME": node.name, "RABBITMQ_MNESIA_BASE": "\(folder)/mnesia", "RABBITMQ_LOG_BASE": "\(folder)/log",
      "RABBITMQ_CONFIG_FILE": "\(folder)/rabbitmq.conf", "RABBITMQ_CONFIG_FILES": "\(folder)/conf.d",
      "RABBITMQ_ADVANCED_CONFIG_FILE": "\(folder)/advanced.config",
      "RABBITMQ_ENABLED_PLUGINS_FILE": "\(folder)/enabled_plugins", "RABBITMQ_SCHEMA_DIR": "\(folder)/schema",
      "RABBITMQ_GENERATED_CONFIG_DIR": "\(folder)/generated", "RABBITMQ_PID_FILE": "\(folder)/pid",
      "RABBITMQ_DIST_PORT": "\(node.distributionPort)", "RABBITMQ_CTL_DIST_PORT_MIN": "\(node.toolPort)",
      "RABBITMQ_CTL_DIST_PORT_MAX": "\(min(65_535, Int(node.toolPort) + 20))", "ERL_EPMD_PORT": "\(mapperPort)",
      "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_CRASH_DUMP": "\(folder)/log/erl_crash.dump",
      // The first is for who looks for this sandbox's processes.
      "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-sandbox \(home.name) \(loopback) +S 2:2",
      "RABBITMQ_CTL_ERL_ARGS": loopback,
      "NOTIFY_SOCKET": "",
      // The script becomes the server, and no shell stays between.
      "RUNNING_UNDER_SYSTEMD": "1",
    ]
  }
}
