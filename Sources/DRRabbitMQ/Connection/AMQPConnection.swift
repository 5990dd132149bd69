import CRabbitMQ
import DRCore
package import Logging
import Synchronization

/// One connection to a broker with one channel, through librabbitmq.
///
/// The actor runs on a queue of its own, so that no wait holds a thread of the cooperative pool. Every wait has a limit
/// and ends when its task is cancelled. Calls of one connection must not overlap. Whatever throws leaves the connection
/// closed, but for a refusal that the broker took back to the channel: then too it must be made anew.
package actor AMQPConnection {
  package nonisolated let settings: RabbitMQSettings
  package nonisolated let vhost: String
  nonisolated let logger: Logger
  private nonisolated let executor: BlockingExecutor
  nonisolated let isCancelled = Atomic<Bool>(false)

  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private var handle: AMQPHandle?
  /// Whether the broker told publishers to stop: it is short of memory or disk.
  var isBlocked = false
  /// The delivery tag that the next publish gets; 0: confirms are off.
  var nextTag: UInt64 = 0

  /// How long one wait in the library is: a cancellation is seen after it, and what is less than a reader gathers.
  private var slice = AMQPConnection.longSlice
  private static let longSlice: Duration = .milliseconds(100)
  private static let gatheringSlice: Duration = .milliseconds(20)
  /// Messages that were made ready to be sent together.
  var outgoing = PublishFrames()

  private init(_ settings: RabbitMQSettings, vhost: String, logger: Logger) {
    self.settings = settings
    self.vhost = vhost
    self.logger = logger
    executor = BlockingExecutor(label: "rabbitmq.connection")
  }

  /// Connects and opens a channel.
  ///
  /// - Parameter heartbeat: 0: none, for who may be kept from reading for long by his own consumer.
  /// - Throws: ``DRError``: `sourceFailed` with a ``RabbitMQError`` as the cause; `timedOut`.
  package static func connect(
    _ settings: RabbitMQSettings, vhost: String, heartbeat: Duration = .zero, logger: Logger
  ) async throws -> AMQPConnection {
    let connection = AMQPConnection(settings, vhost: vhost, logger: logger)
    try await connection.open(heartbeat: heartbeat)
    return connection
  }

  /// Connects, runs the body, and closes the connection whatever happens.
  package static func withConnection<Result>(
    _ settings: RabbitMQSettings, vhost: String, logger: Logger, isolation: isolated (any Actor)? = #isolation,
    _ body: (AMQPConnection) async throws -> Result
  ) async throws -> Result {
    let connection = try await connect(settings, vhost: vhost, logger: logger)
    do {
      let result = try await body(connection)
      await connection.close()
      return result
    } catch {
      await connection.abort()
      throw error
    }
  }

  private func open(heartbeat: Duration) throws {
    let handle = try AMQPHandle()
    let connection = handle.connection
    guard let socket = settings.tls == nil ? amqp_tcp_socket_new(connection) : amqp_ssl_socket_new(connection) else {
      throw DRError(.sourceFailed, "there is no memory for a socket")
    }
    if let tls = settings.tls { try configure(socket, tls) }
    dr_amqp_set_limits(connection, settings.connectTimeout.microseconds, settings.timeLimit.microseconds)
    let status = dr_amqp_socket_open(
      socket, settings.host, Int32(settings.port), settings.connectTimeout.microseconds)
    guard status == AMQP_STATUS_OK.rawValue else {
      throw DRError(RabbitMQError(status: status), from: settings, doing: "connecting")
    }
    let properties: AMQPTable = ["connection_name": .string(settings.connectionName)]
    let reply = try handle.withTable(properties) { table in
      var table = table
      return dr_amqp_login(
        connection, vhost, 128 << 10, Int32(clamping: heartbeat.components.seconds), &table, settings.user,
        settings.password)
    }
    if let error = RabbitMQError(reply) {
      throw DRError(error, from: settings, doing: "logging in to vhost '\(vhost)'")
    }
    amqp_channel_open(connection, AMQPHandle.channel)
    if let error = RabbitMQError(amqp_get_rpc_reply(connection)) {
      throw DRError(error, from: settings, doing: "opening a channel")
    }
    self.handle = handle
  }

  private func configure(_ socket: OpaquePointer, _ tls: RabbitMQSettings.TLS) throws {
    amqp_ssl_socket_set_verify_peer(socket, 1)
    amqp_ssl_socket_set_verify_hostname(socket, 1)
    var status = amqp_ssl_socket_set_ssl_versions(socket, AMQP_TLSv1_2, AMQP_TLSvLATEST)
    if status == 0 { status = amqp_ssl_socket_set_cacert(socket, tls.rootCertificates) }
    if status == 0, let certificate = tls.certificate, let key = tls.privateKey {
      status = amqp_ssl_socket_set_key(socket, certificate, key)
    }
    guard status == 0 else {
      throw DRError(
        .invalidConfiguration, "the TLS certificates for \(settings) cannot be used",
        advice: "see whether the files are there and hold PEM", cause: RabbitMQError(status: status))
    }
  }

  /// Closes the connection in good order. Only when nothing is on its way: what is would be read to its end first.
  package func close() {
    if let handle {
      dr_amqp_set_limits(handle.connection, 2_000_000, 2_000_000)
      _ = amqp_connection_close(handle.connection, Int32(AMQP_REPLY_SUCCESS))
    }
    handle = nil
  }

  /// Drops the connection at once, as the end of this process would: the broker puts everything back that it had
  /// handed out, in its order.
  package func abort() { handle = nil }

  package var isOpen: Bool { handle != nil }

  var opened: AMQPHandle {
    get throws {
      guard let handle else {
        throw DRError(.sourceFailed, "the connection to \(settings) is closed", advice: "connect again")
      }
      return handle
    }
  }

  /// Runs blocking work whose waits end when the task is cancelled; closes the connection if it throws.
  func cancellable<Result>(_ work: () throws -> Result) async throws -> Result {
    isCancelled.store(Task.isCancelled, ordering: .relaxed)
    return try await withTaskCancellationHandler {
      do {
        return try work()
      } catch {
        abort()
        throw error
      }
    } onCancel: {
      isCancelled.store(true, ordering: .relaxed)
    }
  }

  /// Waits for the next frame on the channel.
  ///
  /// - Returns: Nil when none came within the limit. What the frame points to lives until ``release()``.
  func nextFrame(within limit: Duration) throws -> dr_amqp_frame? {
    let handle = try opened
    var frame = dr_amqp_frame()
    // The common case: something is there or comes within the first slice, and no clock is asked.
    var waited = min(limit, slice)
    var status = dr_amqp_next_frame(handle.connection, waited.microseconds, &frame)
    if status == AMQP_STATUS_TIMEOUT.rawValue, limit > waited {
      let deadline = ContinuousClock.now + (limit - waited)
      repeat {
        if isCancelled.load(ordering: .relaxed) { throw CancellationError() }
        waited = min(ContinuousClock.now.duration(to: deadline), slice)
        guard waited > .zero else { break }
        status = dr_amqp_next_frame(handle.connection, waited.microseconds, &frame)
      } while status == AMQP_STATUS_TIMEOUT.rawValue
    }
    if status == AMQP_STATUS_TIMEOUT.rawValue { return nil }
    guard status == AMQP_STATUS_OK.rawValue else {
      throw DRError(RabbitMQError(status: status), from: settings, doing: "talking to the broker")
    }
    if frame.kind == 1 {
      if let error = RabbitMQError(closing: frame.method, frame.decoded) {
        throw DRError(error, from: settings, doing: "talking to the broker")
      }
      if frame.method == dr_amqp_connection_blocked { isBlocked = true }
      if frame.method == dr_amqp_connection_unblocked { isBlocked = false }
    }
    return frame
  }

  /// Lets waits end only when many messages are there, while the body runs: each wake-up costs the broker's machine and ours as
  /// much as some messages do. An answer to a call would wait for its like.
  func gathering<Result>(_ body: () throws -> Result) throws -> Result {
    dr_amqp_gather(try opened.connection, 64 << 10)
    slice = Self.gatheringSlice
    defer {
      if let handle { dr_amqp_gather(handle.connection, 1) }
      slice = Self.longSlice
    }
    return try body()
  }

  /// Gives back the memory of frames that are done with.
  func release() throws { amqp_maybe_release_buffers_on_channel(try opened.connection, AMQPHandle.channel) }

  /// Throws what the broker said to the last call.
  func check(_ what: String, _ object: String? = nil) throws {
    guard let error = RabbitMQError(amqp_get_rpc_reply(try opened.connection)) else { return }
    throw DRError(error, from: settings, doing: what, object: object)
  }
}

extension Duration {
  /// Whole microseconds, not less than 0.
  var microseconds: Int64 {
    let (seconds, attoseconds) = components
    return max(0, seconds * 1_000_000 + attoseconds / 1_000_000_000_000)
  }
}
