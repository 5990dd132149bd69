public import DRCore

public import struct Foundation.Date

/// How far one change log goes on each tier.
public struct ChangeLogStatus: Sendable {
  /// What one tier has of the log.
  public struct Place: Hashable, Sendable {
    /// Full segments.
    public var segments = 0
    /// Stored, of full and partial segments.
    public var bytes: Int64 = 0
    /// The newest segment that is there, a partial one too.
    public var newest: String?
    /// When that one was stored in the repository, on its tier's clock; on a copy that goes further, on the copy's.
    public var stored: Date?
    /// Segments that a backup needs, and that the repository has and this tier has not, or not in their size.
    public var missing = 0
    /// Those among the missing behind which the log goes on here.
    public var holes = 0
    /// Since when something that the repository has is missing here; nil: nothing is.
    public var behindSince: Date?
    /// Segments behind the end of the repository's log that its backups need.
    public var ahead = 0

    public init() {}
  }

  public var component: Component
  /// The folder of the log within its component's: `wal`.
  public var log: String
  /// Or the line of the log, for logs whose folders are named otherwise.
  public var systemIdentifier: String
  /// In the order of the tiers; nil: it could not be read.
  public var places: [Place?]
  /// What is missing of it in the repository, as far as the names of its segments say.
  public var findings: [Finding] = []
}

extension ChangeLogStatus {
  /// One log as one tier lists it.
  typealias Listing = [ObjectInfo]

  /// The repository's own.
  static func place(of listing: Listing, by rule: ChangeLogRule) -> Place {
    var place = Place()
    // Of the end of each line: an older segment that was stored again, from a copy say, brings nothing newer.
    var ends: [Substring: ObjectInfo] = [:]
    for object in listing {
      let line = rule.line(of: object.key)
      guard let end = ends[line] else {
        ends[line] = object
        continue
      }
      let isSame = stem(of: end.key) == stem(of: object.key)
      if isSame ? end.modified < object.modified : end.key < object.key { ends[line] = object }
    }
    let newest = ends.values.max { ($0.modified, $0.key) < ($1.modified, $1.key) }
    (place.newest, place.stored) = (newest.flatMap { name(of: $0) }, newest?.modified)
    count(listing, &place)
    return place
  }

  /// A copy, compared with the repository's.
  ///
  /// - Parameters:
  ///   - needed: Of each of the repository's objects whether a backup needs it; nil: it is no segment.
  ///   - neededBack: The same of the copy's objects, by the repository's backups.
  static func place(
    of copy: Listing, neededBack: [Bool?], comparedWith repository: Listing, needed: [Bool?], by rule: ChangeLogRule
  ) -> Place {
    var place = Place()
    count(copy, &place)
    let there = Dictionary(copy.map { ($0.key, $0) }) { first, _ in first }
    var (lastThere, lastInRepository) = ([Substring: ObjectKey](), [Substring: ObjectKey]())
    var newest: ObjectInfo?
    var missing: [ObjectInfo] = []
    for (object, isNeeded) in zip(repository, needed) {
      guard isNeeded != nil else { continue }
      let line = rule.line(of: object.key)
      lastInRepository[line] = max(lastInRepository[line] ?? object.key, object.key)
      if isWhole(there[object.key], as: object) {
        lastThere[line] = max(lastThere[line] ?? object.key, object.key)
        if newest.map({ ($0.modified, $0.key) < (object.modified, object.key) }) ?? true { newest = object }
      } else if isNeeded == true {
        missing.append(object)
      }
    }
    place.missing = missing.count
    place.holes = missing.count { object in lastThere[rule.line(of: object.key)].map { $0 > object.key } ?? false }
    place.behindSince = missing.map { object in
      guard isPartial(object.key) else { return object.modified }
      // Written again and again: the copy was as far as this when it was made, or as the segment before.
      let before = repository.last { $0.key < object.key && !isPartial($0.key) }
      return min(object.modified, there[object.key]?.modified ?? before?.modified ?? object.modified)
    }.min()
    let own = Set(repository.map(\.key))
    let further = zip(copy, neededBack).filter { object, isNeeded in
      guard isNeeded == true, !own.contains(object.key), !rule.isNote(object.key) else { return false }
      // A partial one whose place something has taken since is no more than that.
      if isPartial(object.key), repository.contains(where: { $0.key.rawValue.hasPrefix(stem(of: object.key)) }) {
        return false
      }
      return lastInRepository[rule.line(of: object.key)].map { $0 < object.key } ?? true
    }.map(\.0)
    place.ahead = further.count
    newest = further.max { ($0.modified, $0.key) < ($1.modified, $1.key) } ?? newest
    (place.newest, place.stored) = (newest.flatMap { name(of: $0) }, newest?.modified)
    return place
  }

  private static func count(_ listing: Listing, _ place: inout Place) {
    for object in listing {
      guard let file = SegmentFileName(parsing: object.key.lastComponent) else { continue }
      place.bytes += object.size
      if file.sha256 != nil { place.segments += 1 }
    }
  }

  /// A partial segment is written anew under the same name.
  private static func isWhole(_ copy: ObjectInfo?, as object: ObjectInfo) -> Bool {
    guard let copy, copy.size == object.size else { return false }
    return !isPartial(object.key) || copy.modified >= object.modified
  }

  private static func name(of object: ObjectInfo) -> String? {
    SegmentFileName(parsing: object.key.lastComponent).map { $0.name + ($0.sha256 == nil ? " (partial)" : "") }
  }

  /// What a key has in common with those of segments that begin at the same place in the log.
  private static func stem(of key: ObjectKey) -> Substring {
    let name = key.lastComponent
    let place = name.prefix { $0 != "-" && $0 != "." }
    return key.rawValue.dropLast(name.count - place.count)
  }

  private static func isPartial(_ key: ObjectKey) -> Bool {
    SegmentFileName(parsing: key.lastComponent).map { $0.sha256 == nil } ?? false
  }
}

extension ChangeLogRule {
  /// Within what the keys of a system's segments are in the order of the log: all of them, or each folder for itself.
  fileprivate func line(of key: ObjectKey) -> Substring {
    switch scope {
    case .component: key.rawValue.dropLast(key.lastComponent.count)
    case .system: ""
    }
  }
}
