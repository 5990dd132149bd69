import DRCore

/// What a dump holds, as `pg_restore --list --verbose` says it: its entries, and which of them need which.
///
/// Format: `PrintTOCSummary` in PostgreSQL's `pg_backup_archiver.c`: a line `id; class object KIND schema name owner`, and below it, behind a
/// semicolon, the numbers of the entries on which it depends.
struct DumpContents: Sendable {
  struct Entry: Sendable {
    var id: Int
    var kind: String
    /// Schema, name and owner, parted by spaces, which each of them may hold.
    var rest: Substring
    var dependencies: [Int] = []
    var line: Substring

    /// Nil for what is in no schema.
    var schema: Substring? {
      let first = rest.prefix { $0 != " " }
      return first == "-" ? nil : first
    }
  }

  private(set) var entries: [Entry] = []

  init(parsing text: String) {
    for line in text.split(separator: "\n") {
      if line.hasPrefix(";") {
        guard let mark = line.firstRange(of: "depends on:"), !entries.isEmpty else { continue }
        entries[entries.count - 1].dependencies += line[mark.upperBound...].split(separator: " ").compactMap { Int($0) }
        continue
      }
      let fields = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
      guard fields.count == 4, fields[0].hasSuffix(";"), let id = Int(fields[0].dropLast()) else { continue }
      guard let kind = Self.kinds.first(where: { fields[3].hasPrefix($0 + " ") }) else { continue }
      entries.append(Entry(id: id, kind: kind, rest: fields[3].dropFirst(kind.count + 1), line: line))
    }
  }

  /// The longest first, for `TABLE DATA` begins with `TABLE`.
  private static let kinds =
    (Array(relations) + Array(parts) + [
      "ACCESS METHOD", "AGGREGATE", "BLOB", "BLOB COMMENTS", "BLOBS", "CAST", "COLLATION", "CONVERSION", "DATABASE",
      "DATABASE PROPERTIES", "DEFAULT ACL", "DOMAIN", "ENCODING", "EVENT TRIGGER", "EXTENSION", "FOREIGN DATA WRAPPER",
      "FUNCTION", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "PROCEDURAL LANGUAGE", "PROCEDURE", "PUBLICATION",
      "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA", "SCHEMA", "SEARCHPATH", "SERVER", "SHELL TYPE", "STDSTRINGS",
      "SUBSCRIPTION", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER",
      "TEXT SEARCH TEMPLATE",
      "TRANSFORM", "TYPE", "USER MAPPING",
    ]).sorted { $0.utf8.count > $1.utf8.count }

  /// What can be asked for by name.
  static let relations: Set = ["TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE"]

  /// What belongs to the table on which it depends.
  private static let parts: Set = [
    "ACL", "CHECK CONSTRAINT", "COMMENT", "CONSTRAINT", "DEFAULT", "FK CONSTRAINT", "INDEX", "INDEX ATTACH",
    "MATERIALIZED VIEW DATA", "POLICY", "ROW SECURITY", "RULE", "SECURITY LABEL", "SEQUENCE OWNED BY", "SEQUENCE SET",
    "STATISTICS", "TABLE ATTACH", "TABLE DATA", "TRIGGER",
  ]

  /// Of what was asked for: everything that belongs to it.
  struct Choice: Sendable {
    /// For `pg_restore --use-list`, in the order of the dump.
    var list: String
    /// Tables whose rows are among it.
    var tables: Int
    /// Foreign keys to or from tables that were not asked for.
    var leftOut: [String]
  }

  /// Chooses tables and schemas with their constraints, indexes, defaults, triggers, sequences and partitions.
  ///
  /// - Parameters:
  ///   - tables: As SQL reads them: `agents`, `public.agents`, `"We ird"."Tab.le"`.
  ///   - needs: Also what these need of the rest, such as types, functions, and the definition of a table that is inherited from: for a
  ///     database in which nothing is yet.
  /// - Throws: ``DRError`` with `objectNotFound` for a name that the dump has not.
  func choose(tables: [String], schemas: [String], needs: Bool) throws -> Choice {
    var chosen: Set<Int> = []
    for table in tables { chosen.formUnion(try find(table).map(\.id)) }
    for schema in schemas { chosen.formUnion(try find(schema: schema).map(\.id)) }
    let byID = Dictionary(entries.map { ($0.id, $0) }) { first, _ in first }
    var leftOut: [String] = []
    var isGrowing = true
    while isGrowing {
      isGrowing = false
      for entry in entries where !chosen.contains(entry.id) && entry.dependencies.contains(where: chosen.contains) {
        guard let more = belonging(entry, chosen, byID) else { continue }
        chosen.formUnion(more)
        isGrowing = true
      }
    }
    for entry in entries where entry.kind == "FK CONSTRAINT" && !chosen.contains(entry.id) {
      if entry.dependencies.contains(where: chosen.contains) { leftOut.append(String(entry.rest)) }
    }
    let rows = entries.count { chosen.contains($0.id) && $0.kind.hasSuffix(" DATA") }
    if needs {
      // A partition alone needs no parent.
      let attachments = entries.filter { $0.kind.hasSuffix(" ATTACH") }.map { Set($0.dependencies) }
      func isParent(_ need: Int, of id: Int) -> Bool {
        byID[need]?.kind == byID[id]?.kind && attachments.contains { $0.isSuperset(of: [need, id]) }
      }
      var open = Array(chosen)
      while let id = open.popLast() {
        guard let entry = byID[id] else { continue }
        let schema = entry.schema.flatMap { name in
          entries.first { $0.kind == "SCHEMA" && $0.rest.hasPrefix("- \(name) ") }?.id
        }
        for need in entry.dependencies + [schema].compactMap({ $0 }) where !isParent(need, of: id) {
          guard byID[need]?.kind.hasSuffix(" DATA") == false else { continue }
          if chosen.insert(need).inserted { open.append(need) }
        }
      }
    }
    let lines = entries.filter { chosen.contains($0.id) }.map(\.line)
    return Choice(list: lines.joined(separator: "\n") + "\n", tables: rows, leftOut: leftOut)
  }

  /// What comes along of an entry that depends on something that was chosen; nil: it does not belong to that.
  private func belonging(_ entry: Entry, _ chosen: Set<Int>, _ byID: [Int: Entry]) -> [Int]? {
    let needed = entry.dependencies.compactMap { byID[$0] }
    switch entry.kind {
    case "TABLE ATTACH":
      // The one that bears its name is the partition.
      guard let parent = needed.first(where: { Self.relations.contains($0.kind) && $0.rest != entry.rest }),
        chosen.contains(parent.id)
      else { return nil }
      return [entry.id] + needed.filter { Self.relations.contains($0.kind) }.map(\.id)
    case "INDEX ATTACH", "FK CONSTRAINT":
      return needed.filter { Self.relations.contains($0.kind) || $0.kind.hasPrefix("INDEX") }
        .allSatisfy { chosen.contains($0.id) } ? [entry.id] : nil
    case "SEQUENCE OWNED BY":
      return [entry.id] + needed.filter { $0.kind == "SEQUENCE" }.map(\.id)
    case "SEQUENCE":
      // That of an identity column.
      return needed.contains { $0.kind == "TABLE" && chosen.contains($0.id) } ? [entry.id] : nil
    case "SEQUENCE SET", "ACL", "COMMENT", "SECURITY LABEL":
      return [entry.id]
    default:
      let isOfTable = needed.contains { Self.relations.contains($0.kind) && chosen.contains($0.id) }
      let isOfPart = needed.contains { Self.parts.contains($0.kind) && chosen.contains($0.id) }
      return Self.parts.contains(entry.kind) && (isOfTable || isOfPart) ? [entry.id] : nil
    }
  }

  private func find(_ table: String) throws -> [Entry] {
    guard let parts = table.sqlIdentifiers, (1...2).contains(parts.count) else {
      throw DRError(
        .invalidConfiguration, "'\(table.prefix(80))' is no name of a table",
        advice: "write agents, public.agents, or \"We ird\".\"Tab.le\"")
    }
    let matching = entries.filter { entry in
      guard Self.relations.contains(entry.kind) else { return false }
      if parts.count == 2 { return entry.rest.hasPrefix("\(parts[0]) \(parts[1]) ") }
      return entry.rest.drop { $0 != " " }.dropFirst().hasPrefix("\(parts[0]) ")
    }
    // What is behind the name is the owner; a name that goes on has a space in it.
    let plain = matching.filter { entry in
      let start = parts.count == 2 ? parts.joined(separator: " ") : "\(entry.rest.prefix { $0 != " " }) \(parts[0])"
      return !entry.rest.dropFirst(start.count + 1).contains(" ")
    }
    let found = plain.isEmpty ? matching : plain
    guard !found.isEmpty else {
      let names = entries.filter { Self.relations.contains($0.kind) && $0.kind != "SEQUENCE" }.map { entry in
        entry.rest.split(separator: " ").dropLast().joined(separator: ".")
      }
      throw DRError(
        .objectNotFound, "the dump holds no table \(table): nothing was changed",
        advice: "it holds \(names.prefix(10).joined(separator: ", "))\(names.count > 10 ? ", …" : ""); --list says all",
        object: table)
    }
    return found
  }

  private func find(schema: String) throws -> [Entry] {
    guard let parts = schema.sqlIdentifiers, parts.count == 1 else {
      throw DRError(.invalidConfiguration, "'\(schema.prefix(80))' is no name of a schema")
    }
    let found = entries.filter {
      $0.rest.hasPrefix("\(parts[0]) ") || $0.kind == "SCHEMA" && $0.rest.hasPrefix("- \(parts[0]) ")
    }
    guard !found.isEmpty else {
      let names = Set(entries.compactMap { $0.schema.map(String.init) }).sorted()
      throw DRError(
        .objectNotFound, "the dump holds nothing in a schema \(schema): nothing was changed",
        advice: "it has \(names.prefix(20).joined(separator: ", "))", object: schema)
    }
    return found
  }
}

extension String {
  /// The parts of a name as SQL reads them: what is not in quotes is in lower case; nil for what is no name.
  var sqlIdentifiers: [String]? {
    var parts: [String] = []
    var rest = Substring(self)
    while true {
      var part = ""
      if rest.first == "\"" {
        rest = rest.dropFirst()
        while true {
          guard let end = rest.firstIndex(of: "\"") else { return nil }
          part += rest[..<end]
          rest = rest[rest.index(after: end)...]
          guard rest.first == "\"" else { break }
          part += "\""
          rest = rest.dropFirst()
        }
      } else {
        let plain = rest.prefix { $0 != "." && $0 != "\"" }
        part = plain.lowercased()
        rest = rest.dropFirst(plain.count)
      }
      guard !part.isEmpty else { return nil }
      parts.append(part)
      guard let next = rest.first else { return parts }
      guard next == "." else { return nil }
      rest = rest.dropFirst()
    }
  }
}
