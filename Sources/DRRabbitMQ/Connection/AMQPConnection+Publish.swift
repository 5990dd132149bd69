import CRabbitMQ
import DRCore
import Foundation
package import NIOCore

/// What is done to a message when it is published again.
package struct Republishing: Sendable {
  /// What becomes of a message's own time to live.
  package enum TimeToLive: Sendable, Hashable {
    /// What was left of it, by the message's timestamp, as far as it has one.
    case remaining
    /// The whole of it, from now on.
    case fresh
    /// It never expires.
    case none
  }

  package var exchange: String
  /// The queue that all of it is for: what was published to it through the default exchange, and names no copies, goes that way
  /// again, which costs a broker less. Nil: everything goes through ``exchange``.
  package var queue: ByteBuffer?
  /// Nil: the message's own.
  package var routingKey: String?
  package var timeToLive = TimeToLive.fresh
  /// The only user as whom a message can be published; the property of any other is left out.
  package var user: String?
  /// Seconds since 1970, for ``TimeToLive/remaining``.
  package var now: UInt64 = 0

  package init(exchange: String, routingKey: String? = nil) {
    self.exchange = exchange
    self.routingKey = routingKey
  }
}

extension AMQPConnection {
  /// Turns confirms on.
  package func selectConfirms() async throws {
    try await cancellable {
      amqp_confirm_select(try opened.connection, AMQPHandle.channel)
      try check("turning confirms on")
      nextTag = 1
    }
  }

  /// Whether this user may publish to the default exchange: asked with a message for a queue that is not there. If not, the
  /// connection is closed. Confirms must be on, and nothing on its way.
  package func mayPublishToDefaultExchange() async throws -> Bool {
    let key = ByteBuffer(string: "dr.probe.\(UUID().uuidString)")
    let message = ArchivedMessage(
      number: 0, redelivered: false, exchange: "", routingKey: key, properties: ByteBuffer(repeating: 0, count: 2),
      body: key)
    var window = PublishWindow(limit: 1)
    do {
      try await publish([message], as: Republishing(exchange: ""), window: &window) { _ in }
      try await settle(&window) { _ in }
      return true
    } catch let error as DRError where error.rabbitMQCode == 403 {
      return false
    }
  }

  /// Publishes messages in their order, mandatory, no more than the window unconfirmed.
  ///
  /// Stops at the first that the broker refuses or gives back: then the window says which.
  ///
  /// - Parameter onProgress: Called on this connection's thread with the number up to which everything is confirmed,
  ///   before more than a window has gone out since the last call.
  package func publish(
    _ messages: [ArchivedMessage], as republishing: Republishing, window: inout PublishWindow,
    onProgress: @Sendable (UInt64) throws -> Void
  ) async throws {
    try await cancellable {
      // A local: each use of an actor's property is checked for exclusive access.
      var outgoing = PublishFrames()
      swap(&outgoing, &self.outgoing)
      defer { swap(&outgoing, &self.outgoing) }
      for message in messages {
        try makeRoom(for: message.number, in: &window, &outgoing, onProgress)
        guard window.failures.isEmpty else { break }
        try publishOne(message, republishing, &window, &outgoing)
        if outgoing.buffer.readableBytes >= Self.sendSize || window.published & 0xFF == 0 {
          try send(&outgoing, &window)
          try takeConfirms(&window, within: .zero)
          if isCancelled.load(ordering: .relaxed) { throw CancellationError() }
        }
      }
      try send(&outgoing, &window)
    }
  }

  /// Waits until everything is confirmed, or refused.
  package func settle(
    _ window: inout PublishWindow, onProgress: @Sendable (UInt64) throws -> Void
  ) async throws {
    try await cancellable {
      while window.count > 0, window.failures.isEmpty { try wait(&window) }
      // What the broker says of the others after a refusal makes the count of what is there exact.
      while window.count > 0, try takeConfirms(&window, within: .milliseconds(500)) {}
      try onProgress(window.confirmed)
    }
  }

  /// Nothing goes out that a journal would not know to be within a window of what it has noted.
  private func makeRoom(
    for number: UInt64, in window: inout PublishWindow, _ outgoing: inout PublishFrames,
    _ onProgress: (UInt64) throws -> Void
  ) throws {
    window.pass(to: number)
    guard window.isFull || number >= window.noted + UInt64(window.limit) else { return }
    try send(&outgoing, &window)
    // A whole half at once: each record of it costs a write to disk.
    while !window.isHalfEmpty, window.failures.isEmpty { try wait(&window) }
    window.pass(to: number)
    try onProgress(window.confirmed)
    window.noted = window.confirmed
  }

  private func wait(_ window: inout PublishWindow) throws {
    guard try !takeConfirms(&window, within: settings.timeLimit) else { return }
    throw tookNothing("confirmed nothing")
  }

  private func tookNothing(_ what: String) -> DRError {
    DRError(
      .timedOut, "the broker \(what) for \(settings.timeLimit)",
      advice: isBlocked
        ? "it has stopped publishers: see its memory and disk alarms"
        : "see its load, and its alarms; a restore with a journal goes on where this one stopped")
  }

  /// Bytes after which what is to be published is sent.
  private static let sendSize = 64 << 10

  private func publishOne(
    _ message: ArchivedMessage, _ republishing: Republishing, _ window: inout PublishWindow,
    _ outgoing: inout PublishFrames
  ) throws {
    let handle = try opened
    try message.properties.withUnsafeReadableBytes { raw in
      let properties = try handle.decode(properties: raw)
      let isChanged = prepare(properties, of: handle, republishing, &window)
      let isDirect = isForDefaultExchange(message, properties, republishing)
      try AMQPHandle.withBytes(isDirect ? "" : republishing.exchange) { exchange in
        func put(_ key: UnsafeRawBufferPointer) throws {
          guard exchange.len < 256, key.count < 256 else {
            throw DRError(.malformedData, "an exchange or routing key is too long", object: "message \(message.number)")
          }
          guard settings.tls == nil else { return try publishByLibrary(message, exchange, key, properties) }
          let name = UnsafeRawBufferPointer(start: exchange.bytes, count: exchange.len)
          func add(_ properties: UnsafeRawBufferPointer) {
            outgoing.add(
              exchange: name, routingKey: key, properties: properties, body: message.body,
              channel: AMQPHandle.channel, frameLimit: Int(amqp_get_frame_max(handle.connection)))
          }
          if isChanged { try handle.withEncoded(properties, capacity: raw.count + 32, add) } else { add(raw) }
        }
        if var key = republishing.routingKey { return try key.withUTF8 { try put(UnsafeRawBufferPointer($0)) } }
        return try message.routingKey.withUnsafeReadableBytes(put)
      }
    }
    window.add(tag: nextTag, message)
    nextTag += 1
  }

  private func isForDefaultExchange(
    _ message: ArchivedMessage, _ properties: UnsafeMutablePointer<amqp_basic_properties_t>,
    _ republishing: Republishing
  ) -> Bool {
    guard let queue = republishing.queue, message.exchange.isEmpty, message.routingKey == queue else { return false }
    guard properties.pointee._flags & AMQPFlag.headers != 0 else { return true }
    return dr_amqp_has_header(&properties.pointee.headers, "CC") == 0
      && dr_amqp_has_header(&properties.pointee.headers, "BCC") == 0
  }

  /// The way through TLS, whose state the library has to itself.
  private func publishByLibrary(
    _ message: ArchivedMessage, _ exchange: amqp_bytes_t, _ key: UnsafeRawBufferPointer,
    _ properties: UnsafeMutablePointer<amqp_basic_properties_t>
  ) throws {
    func bytes(_ raw: UnsafeRawBufferPointer) -> amqp_bytes_t {
      amqp_bytes_t(len: raw.count, bytes: UnsafeMutableRawPointer(mutating: raw.baseAddress))
    }
    let connection = try opened.connection
    let status = message.body.withUnsafeReadableBytes {
      amqp_basic_publish(connection, AMQPHandle.channel, exchange, bytes(key), 1, 0, properties, bytes($0))
    }
    guard status == 0 else { try failSending(RabbitMQError(status: status)) }
  }

  /// Sends what was made ready, and hears the broker while there is no room for it.
  private func send(_ outgoing: inout PublishFrames, _ window: inout PublishWindow) throws {
    let connection = try opened.connection
    var deadline: ContinuousClock.Instant?
    while outgoing.buffer.readableBytes > 0 {
      let sent = outgoing.buffer.withUnsafeReadableBytes { dr_amqp_send(connection, $0.baseAddress, $0.count) }
      guard sent >= 0 else { try failSending(RabbitMQError(code: 0, text: "the connection is broken")) }
      if sent > 0 {
        outgoing.buffer.moveReaderIndex(forwardBy: Int(sent))
        deadline = nil
        continue
      }
      if isCancelled.load(ordering: .relaxed) { throw CancellationError() }
      if let deadline, ContinuousClock.now > deadline { throw tookNothing("took no message") }
      deadline = deadline ?? ContinuousClock.now + settings.timeLimit
      var descriptor = pollfd(fd: amqp_get_sockfd(connection), events: Int16(POLLIN | POLLOUT), revents: 0)
      _ = poll(&descriptor, 1, 100)
      if descriptor.revents & Int16(POLLIN) != 0 { try takeConfirms(&window, within: .zero) }
    }
    // What one large message took is given back.
    if outgoing.buffer.capacity > 1 << 20 { outgoing.buffer = ByteBuffer() } else { outgoing.buffer.clear() }
  }

  private func failSending(_ error: RabbitMQError) throws -> Never {
    // The broker's own words, if it said why before it closed: those are thrown.
    while try nextFrame(within: .milliseconds(200)) != nil {}
    throw DRError(error, from: settings, doing: "publishing")
  }

  /// - Returns: Whether anything was changed.
  private func prepare(
    _ properties: UnsafeMutablePointer<amqp_basic_properties_t>, of handle: AMQPHandle,
    _ republishing: Republishing, _ window: inout PublishWindow
  ) -> Bool {
    var isChanged = false
    if properties.pointee._flags & AMQPFlag.headers != 0 {
      // The broker's own notes: it makes them anew.
      let removed =
        dr_amqp_remove_header(&properties.pointee.headers, "x-stream-offset")
        + dr_amqp_remove_header(&properties.pointee.headers, "x-delivery-count")
      isChanged = removed > 0
      if removed > 0, properties.pointee.headers.num_entries == 0 { properties.pointee._flags &= ~AMQPFlag.headers }
    }
    if properties.pointee._flags & AMQPFlag.userID != 0, let user = republishing.user,
      String(amqp: properties.pointee.user_id).exact != user.exact
    {
      properties.pointee._flags &= ~AMQPFlag.userID
      window.usersLeftOut += 1
      isChanged = true
    }
    guard properties.pointee._flags & AMQPFlag.expiration != 0, republishing.timeToLive != .fresh else {
      return isChanged
    }
    switch republishing.timeToLive {
    case .fresh: break
    case .none: properties.pointee._flags &= ~AMQPFlag.expiration
    case .remaining:
      guard properties.pointee._flags & AMQPFlag.timestamp != 0,
        let whole = UInt64(String(amqp: properties.pointee.expiration))
      else { return isChanged }
      let age = republishing.now > properties.pointee.timestamp ? republishing.now - properties.pointee.timestamp : 0
      let (ageInMilliseconds, overflow) = age.multipliedReportingOverflow(by: 1000)
      // 0 expires at once, as it would have done, unless a consumer is waiting.
      let left = overflow || ageInMilliseconds >= whole ? 0 : whole - ageInMilliseconds
      properties.pointee.expiration = handle.keep("\(left)")
    }
    return true
  }

  /// Takes the broker's answers that are there; waits for the first no longer than is said.
  ///
  /// - Returns: Whether there was any.
  @discardableResult
  private func takeConfirms(_ window: inout PublishWindow, within limit: Duration) throws -> Bool {
    var any = false
    while let frame = try nextFrame(within: any ? .zero : limit) {
      any = true
      guard frame.kind == 1 else { continue }
      switch frame.method {
      case dr_amqp_basic_ack:
        guard let ack = frame.decoded?.assumingMemoryBound(to: amqp_basic_ack_t.self).pointee else { continue }
        window.confirm(ack.delivery_tag, multiple: ack.multiple != 0, isRefused: false)
      case dr_amqp_basic_nack:
        guard let nack = frame.decoded?.assumingMemoryBound(to: amqp_basic_nack_t.self).pointee else { continue }
        window.confirm(nack.delivery_tag, multiple: nack.multiple != 0, isRefused: true)
      case dr_amqp_basic_return:
        guard let back = frame.decoded?.assumingMemoryBound(to: amqp_basic_return_t.self).pointee else { continue }
        let reason = "the broker gave it back: \(back.reply_code) \(String(amqp: back.reply_text))"
        window.giveBack(try returnedBody(), reason)
      default: continue
      }
    }
    try release()
    return any
  }

  private func returnedBody() throws -> ByteBuffer {
    var body = ByteBuffer()
    var size: UInt64?
    while UInt64(body.readableBytes) < size ?? 1 {
      guard let frame = try nextFrame(within: settings.timeLimit) else {
        throw DRError(.timedOut, "the broker stopped in the middle of a message that it gave back")
      }
      if frame.kind == 2 { size = frame.body_size }
      if frame.kind == 3 { body.writeBytes(UnsafeRawBufferPointer(start: frame.bytes, count: frame.length)) }
    }
    return body
  }
}
