package import DRCore
package import DRStorage
import Foundation
import NIOCore

extension RabbitMQTapLog {
  /// What was found out while a queue's segments were read.
  package struct Reading: Sendable {
    package var segments = 0
    package var messages: Int64 = 0
    /// Messages of segments of an earlier version, which hold no times of their own.
    package var withoutTimes: Int64 = 0
    /// When the last message came, in milliseconds since 1970; nil: it is not known.
    package var until: Int64?
    /// Everything that came by then is in the segments, by the note beside them; nil: there is none.
    package var through: Int64?
    /// When the tap's queue was made, each time.
    package var beginnings: [TapSequence.Beginning] = []
    package var findings: [Finding] = []
  }

  /// Every message of a queue in the order in which it came, with the earliest and the latest moment (milliseconds since 1970)
  /// at which it can have come to the tap.
  ///
  /// Of segments of an earlier version, which hold no times: when the segment was begun, and when the next one was. Of the last of
  /// these that is not known.
  ///
  /// - Parameters:
  ///   - moment: What certainly came before it may be left out; nil: nothing may.
  ///   - backup: When the dump began that is gone on from: what the tap had no copies of before that is in the dump.
  ///   - limit: To which moment it is gone on; nil: to the latest.
  ///   - allowsGaps: Whether what is missing is only said.
  /// - Throws: ``DRError``: `changeLogGap` if a segment is missing; what the store says.
  @discardableResult
  package func read(
    vhost: String, queue: String, since moment: Int64? = nil, after backup: Int64? = nil, through limit: Int64? = nil,
    allowsGaps: Bool = false,
    _ body: (ArchivedMessage, _ arrival: ClosedRange<Int64>) async throws -> Void
  ) async throws -> Reading {
    try await read(
      Self.key(vhost: vhost, queue: queue), title: "\(vhost)/\(queue)", allowsGaps: allowsGaps, since: moment,
      after: backup, through: limit, body)
  }

  func read(
    _ key: String, title: String, allowsGaps: Bool, since moment: Int64?, after backup: Int64? = nil,
    through limit: Int64? = nil,
    _ body: (ArchivedMessage, _ arrival: ClosedRange<Int64>) async throws -> Void
  ) async throws -> Reading {
    let (sequence, all) = try await sequence(key)
    var reading = Reading()
    reading.through = try await head(key)?.through
    reading.beginnings = sequence.beginnings
    let found = sequence.findings(since: moment, title: title).filter { $0.severity == .failure }
    // Nothing is known to be missing.
    for var headless in found where headless.check == TapSequence.headCheck {
      headless.severity = .warning
      reading.findings.append(headless)
    }
    try Self.say(
      found.filter { $0.check != TapSequence.headCheck }
        + (backup.map { sequence.gaps(after: $0, through: limit, title: title) } ?? []), allowsGaps, &reading)
    var groups = Dictionary(grouping: all, by: \.number).sorted { $0.key < $1.key }.map(\.value)
    if let moment {
      // All of a segment came before the next one says that its last message did.
      let first = groups.lastIndex { group in
        group.contains { $0.segment.previousUntil.map { $0 < moment } ?? false }
      }
      groups.removeFirst(first ?? 0)
    }
    var held: [Opened] = []
    for group in groups {
      var opened: [Opened] = []
      for stored in group { opened.append(try await open(stored)) }
      try await pass(held, before: opened, title, allowsGaps, &reading, body)
      held = opened
    }
    try await pass(held, before: [], title, allowsGaps, &reading, body)
    if reading.withoutTimes > 0 {
      reading.findings.append(
        Finding(
          "tap-times", .notice, subject: title,
          evidence:
            "\(reading.withoutTimes) messages are in segments of an earlier version, which hold no times of their own: "
            + "when they came is known by the bounds of their segments alone"))
    }
    return reading
  }

  /// What came before a moment, as far back as nothing is missing and the tap was not made anew.
  ///
  /// - Parameter first: The number with which the tap began; nil: it is not known.
  /// - Returns: Whether that is everything since it began.
  func readBack(
    vhost: String, queue: String, from first: Int?, before moment: Int64,
    _ body: (ArchivedMessage) throws -> Void
  ) async throws -> Bool {
    let groups = Dictionary(grouping: try await stored(Self.key(vhost: vhost, queue: queue)), by: \.number)
    guard var number = groups.keys.max() else { return first != nil }
    while number > first ?? 1, groups[number - 1] != nil { number -= 1 }
    let isWhole = first.map { number <= $0 } ?? false
    while let group = groups[number] {
      var isBefore = false
      for stored in group {
        try await MessageArchiveReader.read(ByteStream(try await get(stored)), object: stored.info.name) { event in
          guard case .message(let message) = event, let arrival = message.arrival, arrival.upperBound < moment else {
            return
          }
          isBefore = true
          try body(message)
        }
      }
      guard isBefore else { break }
      number += 1
    }
    return isWhole
  }

  private struct Opened {
    var stored: Stored
    var archive: ByteBuffer
    var header: MessageArchive.Header
    var begun: Int64
  }

  private func open(_ stored: Stored) async throws -> Opened {
    let archive = try await get(stored)
    var reader = MessageArchiveReader(object: stored.info.name)
    reader.feed(archive)
    guard case .header(let header) = try reader.event() else {
      throw DRError(.malformedData, "the segment does not begin as one does", object: stored.info.key.rawValue)
    }
    let begun = Timestamp.parse(header.captured).map { Int64(($0.timeIntervalSince1970 * 1000).rounded(.down)) }
    return Opened(stored: stored, archive: archive, header: header, begun: begun ?? 0)
  }

  /// Hands on what is in segments of one number: usually one.
  private func pass(
    _ held: [Opened], before next: [Opened], _ title: String, _ allowsGaps: Bool, _ reading: inout Reading,
    _ body: (ArchivedMessage, ClosedRange<Int64>) async throws -> Void
  ) async throws {
    guard let number = held.first?.stored.number else { return }
    var chosen = held
    if let follower = next.first, follower.stored.number == number + 1, let previous = follower.header.previous {
      let named = held.filter { $0.stored.info.sha256 == previous }
      if named.isEmpty {
        try Self.say(
          [
            Finding(
              "tap-segments", .failure, subject: title,
              evidence: "segment \(number) of the tap is not the one after which segment \(number + 1) was stored",
              advice: TapSequence.repair)
          ], allowsGaps, &reading)
      } else {
        chosen = named
      }
    }
    if held.count > 1 {
      reading.findings.append(
        Finding(
          "tap-conflict", .warning, subject: title,
          evidence: "two taps stored segment \(number): "
            + (chosen.count == 1
              ? "the one after which the tap went on was taken"
              : "both were taken, so that messages may be there twice")))
    }
    let end = next.first.map { $0.begun + 1 } ?? .max
    for opened in chosen {
      reading.segments += 1
      try await MessageArchiveReader.read(ByteStream(opened.archive), object: opened.stored.info.name) { event in
        guard case .message(let message) = event else { return }
        reading.messages += 1
        if message.arrival == nil { reading.withoutTimes += 1 }
        let arrival = message.arrival ?? min(opened.begun, end)...end
        reading.until = arrival.upperBound == .max ? nil : arrival.upperBound
        try await body(message, arrival)
      }
    }
  }

  private static func say(_ findings: [Finding], _ allowsGaps: Bool, _ reading: inout Reading) throws {
    guard let first = findings.first else { return }
    guard allowsGaps else {
      throw DRError(.changeLogGap, first.evidence, advice: first.advice, object: first.subject)
    }
    reading.findings += findings
  }
}
