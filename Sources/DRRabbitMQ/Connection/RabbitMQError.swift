import CRabbitMQ
public import DRCore

/// What a broker said when it refused: the cause of a ``DRError`` that it gave rise to.
public struct RabbitMQError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The reply code of AMQP, or the status of HTTP: 404, 406, … 0 if the library or the network failed.
  public var code: Int
  /// The broker's text.
  public var text: String
  /// The library's number for what failed, where it has one.
  var status: Int32?

  public init(code: Int, text: String) {
    self.code = code
    self.text = text
  }

  public var description: String { code == 0 ? text : "\(code): \(text)" }
}

extension DRError {
  /// The code of the broker's refusal under this error.
  public var rabbitMQCode: Int? { (cause as? RabbitMQError)?.code }

  init(_ error: RabbitMQError, from settings: RabbitMQSettings, doing what: String, object: String? = nil) {
    var advice: String?
    switch error.code {
    case 401, 403: advice = "see the user's password, tags and permissions in that vhost"
    case 404: advice = "see whether it is there, in that vhost"
    case 405: advice = "another connection owns it"
    case 406 where error.text.contains("delivery acknowledgement"):
      advice = "the broker's consumer_timeout is shorter than what this takes: raise it, or tap the queue"
    case 0 where error.status != nil: advice = error.adviceOfConnection(with: settings)
    default: break
    }
    self.init(.sourceFailed, "\(what) failed at \(settings)", advice: advice, object: object, cause: error)
  }
}

extension RabbitMQError {
  /// What a reply says; nil if all went well.
  init?(_ reply: amqp_rpc_reply_t) {
    switch reply.reply_type {
    case AMQP_RESPONSE_NORMAL: return nil
    case AMQP_RESPONSE_SERVER_EXCEPTION:
      self =
        RabbitMQError(closing: reply.reply.id, reply.reply.decoded)
        ?? RabbitMQError(code: 0, text: "the broker ended the connection")
    default: self.init(status: reply.library_error)
    }
  }

  init(status: Int32) {
    self.init(code: 0, text: amqp_error_string2(status).map { String(cString: $0) } ?? "status \(status)")
    self.status = status
  }

  /// What to look at when a connection cannot be made, or ends without the broker's word.
  fileprivate func adviceOfConnection(with settings: RabbitMQSettings) -> String? {
    guard let status else { return nil }
    switch status {
    case AMQP_STATUS_HOSTNAME_RESOLUTION_FAILED.rawValue: return "see the host's name (--broker)"
    case AMQP_STATUS_SSL_ERROR.rawValue, AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED.rawValue,
      AMQP_STATUS_SSL_PEER_VERIFY_FAILED.rawValue, AMQP_STATUS_SSL_CONNECTION_FAILED.rawValue:
      return
        "TLS: see that the port is the broker's port for TLS, name who signed its certificate (--ca-file), the host as the "
        + "certificate has it, and this client's own one if the broker asks for it (--client-certificate, --client-key)"
    case AMQP_STATUS_SOCKET_ERROR.rawValue, AMQP_STATUS_TCP_ERROR.rawValue, AMQP_STATUS_CONNECTION_CLOSED.rawValue,
      AMQP_STATUS_SOCKET_CLOSED.rawValue, AMQP_STATUS_BAD_AMQP_DATA.rawValue,
      AMQP_STATUS_INCOMPATIBLE_AMQP_VERSION.rawValue:
      return "see whether the broker runs and listens for AMQP on this port"
        + (settings.tls == nil ? "; a port for TLS needs to know who signed the broker's certificate (--ca-file)" : "")
    default: return nil
    }
  }

  /// What a frame says that closes the channel or the connection; nil for any other.
  init?(closing method: UInt32, _ decoded: UnsafeRawPointer?) {
    var code: Int32 = 0
    var text = amqp_bytes_t()
    guard dr_amqp_close_reason(method, decoded, &code, &text) != 0 else { return nil }
    self.init(code: Int(code), text: String(amqp: text))
  }
}

extension String {
  init(amqp bytes: amqp_bytes_t) {
    self.init(decoding: UnsafeRawBufferPointer(start: bytes.bytes, count: bytes.len), as: UTF8.self)
  }
}
