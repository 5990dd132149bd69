/// Where a RabbitMQ broker is, and as whom to reach it: AMQP and the management API.
///
/// The password is shown by no description, no mirror and no error.
public struct RabbitMQSettings: Sendable, Hashable {
  /// TLS for both ways to the broker. The broker's certificate and its name are always verified.
  public struct TLS: Sendable, Hashable {
    /// The file of certificates to trust (PEM).
    public var rootCertificates: String
    /// The files of the client's own certificate and key (PEM), where the broker asks for one.
    public var certificate: String?
    public var privateKey: String?

    public init(rootCertificates: String, certificate: String? = nil, privateKey: String? = nil) {
      self.rootCertificates = rootCertificates
      self.certificate = certificate
      self.privateKey = privateKey
    }
  }

  public var host: String
  /// Of AMQP: 5672, or 5671 with TLS.
  public var port: UInt16
  /// Of the management API: 15672, or 15671 with TLS.
  public var managementPort: UInt16
  public var user: String
  /// Never printed.
  public var password: String
  /// For AMQP; nil: in clear, for loopback and closed networks only.
  public var tls: TLS?
  /// For the management API; nil: in clear.
  public var managementTLS: TLS?
  /// What the broker's lists call this connection.
  public var connectionName: String
  /// How long connecting may take.
  public var connectTimeout: Duration
  /// How long any one wait for the broker may take: an answer, or the next piece of one.
  public var timeLimit: Duration

  public init(
    host: String, port: UInt16? = nil, managementPort: UInt16? = nil, user: String, password: String,
    tls: TLS? = nil, managementTLS: TLS? = nil, connectionName: String = "disaster-recovery",
    connectTimeout: Duration = .seconds(15), timeLimit: Duration = .seconds(60)
  ) {
    self.host = host
    self.port = port ?? (tls == nil ? 5672 : 5671)
    self.managementPort = managementPort ?? (managementTLS == nil ? 15672 : 15671)
    self.user = user
    self.password = password
    self.tls = tls
    self.managementTLS = managementTLS
    self.connectionName = connectionName
    self.connectTimeout = connectTimeout
    self.timeLimit = timeLimit
  }
}

extension RabbitMQSettings: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// User, host and port; never the password.
  public var description: String { "\(user)@\(host):\(port)" }
  public var debugDescription: String { description }
  /// Only what ``description`` says, so that `dump` and string interpolation of an enclosing value show no password.
  public var customMirror: Mirror { Mirror(self, children: ["broker": description]) }
}
