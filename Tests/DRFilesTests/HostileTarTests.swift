import DRCore
import DRFiles
import DRTestSupport
import Foundation
import Testing

/// Archives that mean harm, or are broken: each is refused, and nothing anywhere has changed.
@Suite struct HostileTarTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let name: String
    let bytes: [UInt8]
    /// Only where a file system takes names for one.
    var foldsCase = false
    /// Without the blocks that end an archive.
    var isCut = false

    var testDescription: String { name }
  }

  static let cases: [Case] = {
    typealias F = TarForge
    let good = F.member("good", content: "good")
    let big = String(repeating: "x", count: 2000)
    var cases: [Case] = []
    func add(_ name: String, _ bytes: [UInt8]..., foldsCase: Bool = false, isCut: Bool = false) {
      cases.append(Case(name: name, bytes: good + bytes.joined(), foldsCase: foldsCase, isCut: isCut))
    }
    // Paths
    add("an absolute path", F.member("/etc/dr-hostile", content: "x"))
    add("an absolute path in a pax header", F.pax([("path", "/tmp/dr-hostile")]) + F.member("innocent", content: "x"))
    add(".. at the start", F.member("../victim/file", content: "x"))
    add(".. in the middle", F.member("a/../../victim/file", content: "x"))
    add(".. at the end", F.member("a/..", content: "x"))
    add(".. of a folder", F.folder(".."))
    add(".. behind ./", F.member("./../victim/file", content: "x"))
    add(".. in a pax header", F.pax([("path", "../victim/file")]) + F.member("innocent", content: "x"))
    add(
      ".. in a GNU long name",
      F.member("././@LongLink", kind: "L", content: "../victim/file\0") + F.member("a", content: "x"))
    add("a . component", F.member("a/./b", content: "x"))
    add("an empty component", F.member("a//b", content: "x"))
    add("an empty path", F.member("", content: "x"))
    add("a NUL in a path", F.pax([("path", "a\0b")]) + F.member("x", content: "x"))
    add("a component of 300 bytes", F.pax([("path", String(repeating: "n", count: 300))]) + F.member("x"))
    add(
      "a path of 5,000 bytes",
      F.pax([("path", Array(repeating: "abcd", count: 1001).joined(separator: "/"))]) + F.member("x"))
    add("a file whose name ends in a slash", F.member("folder/", content: "x"))
    add("a name that a restore uses itself", F.member(".dr-restore-0/lock", content: "x"))
    add("a folder for old files", F.member(".dr-before-20260101_000000/victim", content: "x"))
    // Symbolic links
    add(
      "a file through a link that the archive made", F.link("way", to: "../victim") + F.member("way/file", content: "x")
    )
    add("a file through an absolute link", F.link("way", to: "/tmp") + F.member("way/dr-hostile", content: "x"))
    add("a folder through a link", F.link("way", to: "../victim") + F.folder("way/inner"))
    add(
      "a folder in place of a link",
      F.link("way", to: "../victim") + F.folder("way") + F.member("way/file", content: "x"))
    add(
      "a file in place of a link, written through it",
      F.link("way", to: "../victim/file") + F.member("way", content: "x"))
    add(
      "a link in place of a folder",
      F.folder("way") + F.link("way", to: "../victim") + F.member("way/file", content: "x"))
    add("a link in place of a file", F.member("way", content: "x") + F.link("way", to: "../victim/file"))
    add("two links of one name", F.link("way", to: "a") + F.link("way", to: "../victim"))
    add(
      "a file through a chain of links",
      F.link("one", to: "../victim") + F.link("two", to: "one") + F.member("two/file", content: "x"))
    add("a link within a link", F.folder("a") + F.link("a/up", to: "..") + F.member("a/up/up/file", content: "x"))
    add("a link that points nowhere", F.link("way", to: ""))
    add("a link with content", F.member("way", kind: "2", content: "x", link: "target"))
    // Hard links
    add("a hard link to an absolute path", F.hardLink("shadow", to: "/etc/passwd"))
    add("a hard link by ..", F.hardLink("shadow", to: "../victim/file"))
    add("a hard link by .. in a pax header", F.pax([("linkpath", "../victim/file")]) + F.hardLink("shadow", to: "good"))
    add("a hard link to what is not in the archive", F.hardLink("shadow", to: "existing"))
    add("a hard link through a link", F.link("way", to: "../victim") + F.hardLink("shadow", to: "way/file"))
    add("a hard link to a folder", F.folder("a") + F.hardLink("b", to: "a"))
    add("a hard link to itself", F.hardLink("a", to: "a"))
    add("a hard link in place of a file", F.member("a", content: "x") + F.hardLink("a", to: "good"))
    add("a hard link with content", F.member("b", kind: "1", content: "x", link: "good"))
    add(
      "a file through a further name of a link",
      F.link("way", to: "../victim") + F.hardLink("other", to: "way") + F.member("other/file", content: "x"))
    // Things that are no files
    add("a character device", F.member("null", kind: "3"))
    add("a block device", F.member("disk", kind: "4"))
    add("a named pipe", F.member("pipe", kind: "6"))
    add("a volume label", F.member("label", kind: "V"))
    add("a GNU dump folder", F.member("dump", kind: "D"))
    add("a member of a later part", F.member("rest", kind: "M", content: "x"))
    add("a kind that nobody knows", F.member("what", kind: "Z", content: "x"))
    // One in place of another
    add("a file below a file", F.member("a", content: "x") + F.member("a/b", content: "x"))
    add("a folder in place of a file", F.member("a", content: "x") + F.folder("a"))
    add("a file in place of a folder", F.member("a/b", content: "x") + F.member("a", content: "x"))
    add(
      "names that differ in case", F.member("Config", content: "1") + F.member("config", content: "2"), foldsCase: true)
    add(
      "folders that differ in case, by a link", F.link("WAY", to: "../victim") + F.member("way/file", content: "x"),
      foldsCase: true)
    add(
      "names that differ in composition", F.member("caf\u{E9}", content: "1") + F.member("cafe\u{301}", content: "2"),
      foldsCase: true)
    // Sparse files
    add("runs that overlap", F.sparse("s", length: "100", map: "2\n0\n5\n3\n5\n", data: "0123456789"))
    add("a run outside the file", F.sparse("s", length: "8", map: "1\n4\n10\n", data: "0123456789"))
    add("a map that does not fit the data", F.sparse("s", length: "100", map: "1\n0\n9\n", data: "0123456789"))
    add("a map without an end", F.sparse("s", length: "100", map: "9\n0\n1\n", data: ""))
    add("a map of a billion runs", F.sparse("s", length: "100", map: "1000000000\n", data: ""))
    add("a map that is no number", F.sparse("s", length: "100", map: "1\n-4\n10\n", data: "0123456789"))
    add(
      "a number beyond all bounds in a map",
      F.sparse("s", length: "100", map: "1\n99999999999999999999999\n1\n", data: "0"))
    add("a sparse file that leads out", F.sparse("../victim/file", length: "10", map: "1\n0\n10\n", data: "0123456789"))
    add(
      "a sparse file of a form that nobody reads",
      F.pax([("GNU.sparse.map", "0,1"), ("GNU.sparse.size", "5")]) + F.member("s", content: "x"))
    add("an old GNU sparse file without a map", F.member("s", kind: "S", content: "x"))
    add("old runs that overlap", F.oldSparse("s", length: 99, runs: [(0, 5), (3, 5)], data: "0123456789"))
    add("an old run outside the file", F.oldSparse("s", length: 8, runs: [(4, 10)], data: "0123456789"))
    add("an old map that does not fit the data", F.oldSparse("s", length: 99, runs: [(0, 9)], data: "0123456789"))
    add(
      "an old map that is no number",
      F.oldSparse(
        "s", length: 99, runs: [(0, 10)], data: "0123456789",
        continuation: [UInt8](repeating: UInt8(ascii: "9"), count: 512)))
    add(
      "an old sparse file that leads out",
      F.oldSparse("../victim/file", length: 10, runs: [(0, 10)], data: "0123456789"))
    // Headers
    add("a checksum that differs", F.member("a", content: "x", breakingChecksum: true))
    add("a negative size", F.member("a", size: [UInt8](repeating: 0xFF, count: 12)))
    add("a size beyond all bounds", F.member("a", size: [0x80, 0x7F] + [UInt8](repeating: 0xFF, count: 10)))
    add("a size that is no number", F.member("a", size: [UInt8]("0000000000x".utf8)))
    add("a negative size in a pax header", F.pax([("size", "-1")]) + F.member("a", content: "x"))
    add("a time that is none", F.pax([("mtime", "1.5e3")]) + F.member("a", content: "x"))
    add("an owner beyond all bounds", F.pax([("uid", "99999999999")]) + F.member("a", content: "x"))
    add("a pax record that lies about its length", F.member("x", kind: "x", content: "99 path=a\n") + F.member("a"))
    add("a pax record without an end", F.member("x", kind: "x", content: "9 path=ab") + F.member("a"))
    add("a pax header for everything", F.pax([("path", "a")], kind: "g") + F.member("b", content: "x"))
    add("a pax header of 2 MB", F.member("x", kind: "x", size: [UInt8]("00007641100".utf8)))
    add("a pax header without its member", F.pax([("path", "a")]))
    add("an attribute without a name", F.pax([("SCHILY.xattr.", "x")]) + F.member("a", content: "x"))
    // Ends
    add("an end within a file", F.member("a", content: big).dropLast(600).map { $0 }, isCut: true)
    add("an end within a header", F.member("a").dropLast(100).map { $0 }, isCut: true)
    add("no end", F.member("a", content: "x"), isCut: true)
    add("a lone block of zeroes", [UInt8](repeating: 0, count: 512) + F.member("a", content: "x"))
    add("bytes after the end", F.trailer + [1])
    return cases
  }()

  @Test("Refused, and nothing has changed", arguments: cases)
  func refused(_ hostile: Case) async throws {
    try await Place.with { place in
      let manifest = try await place.store(tar: hostile.bytes + (hostile.isCut ? [] : TarForge.trailer))
      try await shell(
        """
        mkdir -p "$1/victim" "$1/there/a"; echo untouched > "$1/victim/file"; echo mine > "$1/there/existing"
        echo old > "$1/there/good"; touch -d '2020-01-01' "$1"/*/* "$1/victim" "$1/there"
        """, place.folder)
      let before = try await fingerprint(place.folder, lists: false)
      for (destination, placement) in [("new", FileTreeRestorer.Placement.newFolder), ("there", .inPlace)] {
        await refusal {
          try await place.restore(manifest, to: "\(place.folder)/\(destination)", placement) {
            $0.foldsCase = hostile.foldsCase
          }
        }
        try await shell(#"touch -d '2020-01-01' "$1/there"; touch -r "$1/tree" "$1""#, place.folder)
        let after = try await fingerprint(place.folder, lists: false)
        #expect(unrooted(after) == unrooted(before))
      }
      var restorer = FileTreeRestorer(destination: place.folder + "/there", placement: .inPlace)
      restorer.foldsCase = hostile.foldsCase
      let asked = restorer
      await refusal {
        try await asked.diff(from: place.repository.reader(for: manifest), logger: quiet)
      }
      #expect(!FileManager.default.fileExists(atPath: "/tmp/dr-hostile"))
      #expect(!FileManager.default.fileExists(atPath: "/etc/dr-hostile"))
    }
  }

  @Test("There are enough of them, and an honest archive of the same make is restored")
  func honest() async throws {
    #expect(Self.cases.count >= 30)
    try await Place.with { place in
      let bytes =
        TarForge.folder("a") + TarForge.member("a/b", content: "b") + TarForge.link("a/l", to: "/anywhere")
        + TarForge.hardLink("h", to: "a/b") + TarForge.member("Case", content: "1")
        + TarForge.member("case", content: "2")
        + TarForge.sparse("s", length: "20", map: "1\n5\n10\n", data: "0123456789")
        + TarForge.member("a/b2", content: "1")
        + TarForge.pax([("path", "again")]) + TarForge.member("x", content: "first")
        + TarForge.member("again", content: "second") + TarForge.trailer
      let manifest = try await place.store(tar: bytes)
      try await place.restore(manifest, to: place.folder + "/new") { $0.foldsCase = false }
      let said = try await shell(
        #"cd "$1"; cat a/b h Case case again; readlink a/l; stat -c %h a/b; tr '\0' . < s"#, place.folder + "/new")
      #expect(said == "bb12second/anywhere\n2\n.....0123456789.....")
    }
  }
}
