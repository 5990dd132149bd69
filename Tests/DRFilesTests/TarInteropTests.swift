import DRCore
import DRFiles
import DRTestSupport
import Foundation
import Testing

/// GNU tar and bsdtar read ours, and ours reads theirs.
@Suite struct TarInteropTests {
  /// GNU tar warns of what it does not know (the character set of a name that is no UTF-8), and goes on.
  private static let extract = [
    "tar": "tar --extract --preserve-permissions --xattrs --acls --file \"$1\" --directory \"$2\"",
    "bsdtar": "export LC_ALL=C.UTF-8; bsdtar -x -p --acls --xattrs -f \"$1\" -C \"$2\"",
  ]
  private static let create = [
    "tar": "tar --create --format=posix --xattrs --acls --sparse --file \"$1\" --directory \"$2\" .",
    "bsdtar": "export LC_ALL=C.UTF-8; bsdtar -c --format pax --acls --xattrs -f \"$1\" -C \"$2\" .",
  ]

  @Test("A tree comes back as it was: content, names, times, owners, modes, links, holes, attributes, lists")
  func roundTrip() async throws {
    try await Place.with { place in
      try await makeRichTree(place.tree)
      let before = try await fingerprint(place.tree)
      let manifest = try await place.capture(try place.source())
      #expect(manifest.leftOut.isEmpty, "\(manifest.leftOut)")
      let report = try await place.restore(manifest, to: place.folder + "/back") { $0.restoresPrivileges = true }
      #expect(report.findings.isEmpty)
      #expect(try await fingerprint(place.folder + "/back") == before)
      // Holes are holes again.
      let blocks = try await shell(#"stat -c %b "$1"/hole.img "$1"/sparse.img"#, place.folder + "/back")
      let counts = blocks.split(separator: "\n").compactMap { Int($0) }
      #expect(counts.count == 2 && counts[0] <= 16 && counts[1] <= 512, "\(blocks)")
      #expect(
        try await place.diff(manifest, with: place.tree).entries.map(\.description) == [
          "attributes nothing: mode 04755 instead of 0755"
        ])
    }
  }

  @Test("The stock tools restore ours", arguments: ["tar", "bsdtar"])
  func theyReadOurs(tool: String) async throws {
    try await Place.with { place in
      try await makeRichTree(place.tree)
      let before = try await fingerprint(place.tree)
      let manifest = try await place.capture(try place.source())
      try Data(try await place.tar(of: manifest)).write(to: URL(fileURLWithPath: place.folder + "/ours.tar"))
      let script = try #require(Self.extract[tool])
      try await shell("mkdir \"$2\"; \(script)", place.folder + "/ours.tar", place.folder + "/back")
      let after = try await fingerprint(place.folder + "/back")
      #expect(Self.comparable(after, tool) == Self.comparable(before, tool))
    }
  }

  @Test("Ours restores what the stock tools made", arguments: ["tar", "bsdtar"])
  func weReadTheirs(tool: String) async throws {
    try await Place.with { place in
      try await makeRichTree(place.tree)
      let before = try await fingerprint(place.tree)
      let script = try #require(Self.create[tool])
      try await shell(script, place.folder + "/theirs.tar", place.tree)
      let manifest = try await place.store(
        tar: [UInt8](Data(contentsOf: URL(fileURLWithPath: place.folder + "/theirs.tar"))))
      try await place.restore(manifest, to: place.folder + "/back") { $0.restoresPrivileges = true }
      let after = try await fingerprint(place.folder + "/back")
      #expect(Self.comparable(after, tool) == Self.comparable(before, tool))
    }
  }

  @Test("Ours restores sparse files in GNU tar's own form, with as many runs as they have")
  func oldSparse() async throws {
    try await Place.with { place in
      try await shell(
        """
        cd "$1"; mkdir t; printf x > t/plain; truncate -s 3M t/hole; truncate -s 200M t/many-$(printf 'n%.0s' {1..120})
        for i in {0..60}; do printf "run $i" | dd of=t/many-* bs=1 seek=$((i * 1000000)) conv=notrunc status=none; done
        for i in 0 5 9; do head -c 4096 /dev/urandom | dd of=t/few bs=4096 seek=$((i * 20)) conv=notrunc status=none; done
        tar -cSf theirs.tar -C t .
        """, place.folder)
      let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: place.folder + "/theirs.tar")))
      // It is the form that is meant.
      #expect(stride(from: 0, to: bytes.count, by: 512).contains { bytes[$0 + 156] == UInt8(ascii: "S") })
      let manifest = try await place.store(tar: bytes)
      try await place.restore(manifest, to: place.folder + "/back")
      let said = try await shell(#"cd "$1"; diff -r t back; du -sk back | cut -f 1"#, place.folder)
      #expect(Int(said.trimmingCharacters(in: .newlines)).map { $0 < 4000 } == true, "\(said)")
    }
  }

  /// Line by line, without what these tools lose: bsdtar does not know GNU tar's way to write `=` in an attribute's name,
  /// reads the fraction of a moment before 1970 with the wrong sign, and dates the root anew.
  private static func comparable(_ fingerprint: String, _ tool: String) -> [Substring] {
    guard tool == "bsdtar" else { return fingerprint.split(separator: "\n") }
    return unrooted(fingerprint).filter { !$0.hasPrefix("user.a") && !$0.hasPrefix("big.bin|") }
  }
}
