public import DRCore
package import Logging
package import NIOCore

/// Commands and their answers, one after the other, on one connection.
///
/// One task uses it at a time. A connection that threw anything but the server's own error reply is of no further use.
package actor RedisConnection {
  package nonisolated let settings: RedisConnectionSettings
  package nonisolated let link: RedisLink
  private var parser = RESPParser()
  private var hasHeard = false

  private init(_ link: RedisLink, _ settings: RedisConnectionSettings) {
    self.link = link
    self.settings = settings
  }

  /// Connects, signs on, and selects the database.
  ///
  /// - Parameter version: Of the protocol: 2 or 3.
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`, `invalidConfiguration`.
  package static func connect(
    _ settings: RedisConnectionSettings, protocol version: Int = 2, logger: Logger
  ) async throws -> RedisConnection {
    let password = try settings.password?.read()
    let connection = RedisConnection(try await RedisLink.connect(to: settings), settings)
    do {
      try await withTimeLimit(
        settings.connectTimeout, "signing on at \(settings)",
        advice: "see whether the server is stopped, or blocked by a slow command or a script"
      ) {
        try await connection.signOn(password: password, version: version)
      }
    } catch {
      await connection.close()
      throw error
    }
    return connection
  }

  /// Connects, runs the body, and closes whatever happens.
  ///
  /// - Throws: As ``connect(_:protocol:logger:)``, or the body.
  package static func withConnection<Result>(
    _ settings: RedisConnectionSettings, protocol version: Int = 2, logger: Logger,
    isolation: isolated (any Actor)? = #isolation, _ body: (RedisConnection) async throws -> Result
  ) async throws -> Result {
    let connection = try await connect(settings, protocol: version, logger: logger)
    do {
      let result = try await body(connection)
      await connection.close()
      return result
    } catch {
      await connection.close()
      throw error
    }
  }

  package func close() async { await link.close() }

  /// Sends one command and gives its answer, which may be an error.
  ///
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`, `malformedData`.
  package func send(_ arguments: [String], limit: Duration? = nil) async throws -> RESPValue {
    var buffer = ByteBuffer()
    buffer.writeRESPCommand(arguments)
    do {
      try await link.send(buffer, limit: limit ?? settings.timeLimit)
      return try await reply(limit: limit)
    } catch let error as DRError where error.code == .sourceFailed && !hasHeard {
      guard await RedisLink.answersWithTLS(settings) else { throw error }
      throw DRError(
        .sourceFailed, "the server at \(settings.address) speaks TLS only",
        advice:
          "write rediss:// in place of redis://, and name who signed its certificate (--ca); or name its other port",
        cause: error)
    }
  }

  /// Sends one command and gives its answer.
  ///
  /// - Throws: As ``send(_:limit:)``, and `sourceFailed` with the server's ``RedisError`` as its cause. Arguments are in no
  ///   error but the first two words.
  @discardableResult
  package func command(_ arguments: String..., limit: Duration? = nil) async throws -> RESPValue {
    try await command(arguments, limit: limit)
  }

  @discardableResult
  package func command(_ arguments: [String], limit: Duration? = nil) async throws -> RESPValue {
    let answer = try await send(arguments, limit: limit)
    guard case .error(let error) = answer else { return answer }
    throw DRError(
      .sourceFailed, "the server at \(settings) refused \(Self.name(arguments))", advice: settings.advice(for: error),
      cause: error)
  }

  /// Sends encoded commands without waiting for answers; ``reply(limit:)`` gives those in their order.
  ///
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`.
  package nonisolated func write(_ commands: ByteBuffer, limit: Duration? = nil) async throws {
    try await link.send(commands, limit: limit ?? settings.timeLimit)
  }

  /// The next answer.
  ///
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`, `malformedData`.
  package func reply(limit: Duration? = nil) async throws -> RESPValue {
    while true {
      while let value = try parser.next() {
        // Said unasked, as of a key that was changed.
        if case .push = value { continue }
        return value
      }
      try await receive(limit)
    }
  }

  /// So many answers, at once for those that have come already.
  ///
  /// - Throws: As ``reply(limit:)``.
  package func replies(_ count: Int, limit: Duration? = nil) async throws -> [RESPValue] {
    var values: [RESPValue] = []
    values.reserveCapacity(count)
    while values.count < count {
      guard let value = try parser.next() else {
        try await receive(limit)
        continue
      }
      if case .push = value { continue }
      values.append(value)
    }
    return values
  }

  /// Takes what was received and belongs to no answer: where another protocol begins.
  package func takeRest() -> ByteBuffer { parser.takeRest() }

  private func receive(_ limit: Duration?) async throws {
    let limit = limit ?? settings.timeLimit
    let pieces = try await link.receive(waiting: limit)
    guard !pieces.isEmpty else {
      throw DRError(
        .timedOut, "the server at \(settings) did not answer within \(limit)",
        advice: "see whether it is blocked by a slow command or a script")
    }
    hasHeard = true
    for piece in pieces { parser.append(piece) }
  }

  private func signOn(password: String?, version: Int) async throws {
    func checked(_ what: String, _ answer: RESPValue) throws {
      guard case .error(let error) = answer else { return }
      throw DRError(
        .sourceFailed, "\(what) at \(settings) failed", advice: settings.advice(for: error), cause: error)
    }
    var credentials: [String] = []
    if let password { credentials = settings.user.map { [$0, password] } ?? [password] }
    if version == 3 {
      let hello = credentials.isEmpty ? [] : ["AUTH", settings.user ?? "default", credentials.last ?? ""]
      try checked("signing on", try await send(["HELLO", "3"] + hello))
    } else if !credentials.isEmpty {
      try checked("signing on", try await send(["AUTH"] + credentials))
    }
    if settings.database != 0 {
      try checked("choosing database \(settings.database)", try await send(["SELECT", "\(settings.database)"]))
    }
  }

  private static func name(_ arguments: [String]) -> String {
    let secretive = arguments.first.map { ["AUTH", "HELLO", "CONFIG", "ACL"].contains($0.uppercased()) } ?? true
    return arguments.prefix(secretive ? 1 : 2).map { $0.prefix(40) }.joined(separator: " ")
  }
}

extension DRError {
  /// What the Redis server said, if that is the cause of this error.
  public var redisError: RedisError? { cause as? RedisError }
}
