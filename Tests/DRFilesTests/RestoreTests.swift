import DRCore
import DRFiles
import DRStorage
import DRTestSupport
import Foundation
import Testing

@Suite struct RestoreTests {
  @Test("A new folder is absent or empty, or nothing is touched; it appears whole")
  func newFolder() async throws {
    try await Place.with { place in
      try place.write("a/file", "x")
      let manifest = try await place.capture(try place.source())
      try await place.restore(manifest, to: place.folder + "/above/new")
      #expect(try await shell(#"diff -r "$1/tree" "$1/above/new"; ls -A "$1/above""#, place.folder) == "new\n")
      let error = await refusal {
        try await place.restore(manifest, to: place.folder + "/above/new")
      }
      #expect(error?.code == .destinationInUse)
      try FileManager.default.createDirectory(atPath: place.folder + "/empty", withIntermediateDirectories: false)
      try await place.restore(manifest, to: place.folder + "/empty/")
      #expect(try await shell(#"diff -r "$1/tree" "$1/empty""#, place.folder).isEmpty)
      for hostile in [place.folder + "/repository/x", "relative"] {
        await refusal { try await place.restore(manifest, to: hostile) }
      }
      await refusal {
        try await place.restore(manifest, to: place.folder + "/repository", .inPlace)
      }
    }
  }

  @Test("In place: what differs is replaced and kept aside, what is the same is not touched, what is more stays")
  func inPlace() async throws {
    try await Place.with { place in
      try place.write("conf/changed", "as it was")
      try place.write("conf/same", "same")
      try place.write("conf/mode", "mode", mode: 0o640)
      try place.write("gone/inner", "gone")
      try await shell(#"ln -s same "$1/conf/link"; ln "$1/conf/same" "$1/second"; chmod 0750 "$1/conf""#, place.tree)
      let manifest = try await place.capture(try place.source())
      let before = try await fingerprint(place.tree)
      let inode = try await shell(#"stat -c %i "$1/conf/same""#, place.tree)
      try await shell(
        #"cd "$1"; echo broken > conf/changed; chmod 0666 conf/mode; rm -r gone; ln -sfn elsewhere conf/link; echo more > more; chmod 0777 conf"#,
        place.tree)

      let broken = try await fingerprint(place.tree)
      let diff = try await place.diff(manifest, with: place.tree)
      let changes = diff.entries.map { "\($0.change) \($0.path)" }
      #expect(
        changes == [
          "attributes conf", "content conf/changed", "content conf/link", "attributes conf/mode", "added gone",
          "added gone/inner",
        ], "\(diff)")
      #expect(diff.same == 3)
      // A dry run writes nothing.
      #expect(try await fingerprint(place.tree) == broken)

      let report = try await place.restore(manifest, to: place.tree, .inPlace)
      #expect(report.replaced == 3 && report.added == 1 && report.same == 2, "\(report)")
      let aside = try #require(report.movedAside)
      #expect(
        try await shell(
          #"cd "$1"; cat conf/changed; readlink conf/link; stat -c %a conf/mode .; find . -type f | wc -l"#, aside)
          == "broken\nelsewhere\n666\n700\n2\n")
      #expect(try await shell(#"stat -c %i "$1/conf/same"; cat "$1/more""#, place.tree) == inode + "more\n")
      try await shell(#"rm -r "$2"; rm "$1/more""#, place.tree, aside)
      let after = try await fingerprint(place.tree)
      #expect(unrooted(after) == unrooted(before))
      #expect(try await shell(#"ls -A "$1" | grep -c dr- || true"#, place.tree) == "0\n")
      let again = try await place.restore(manifest, to: place.tree, .inPlace)
      #expect(again.replaced == 0 && again.added == 0 && again.movedAside == nil)
      #expect(try await place.diff(manifest, with: place.tree).isEmpty)
    }
  }

  @Test("In place, what has not changed is compared and not written again: there need be no room for it")
  func unchanged() async throws {
    try await Place.with { place in
      for number in 0..<400 {
        try place.write("d\(number % 7)/f\(number)", String(repeating: "\(number) ", count: 2000))
      }
      try await shell(
        #"setfattr -n user.comment -v yes "$1/d1/f1"; chmod 0640 "$1/d1/f1"; ln "$1/d1/f1" "$1/d1/second""#, place.tree)
      let manifest = try await place.capture(try place.source())
      let (there, before) = (place.folder + "/there", try await fingerprint(place.tree))
      try await shell(
        #"mkdir "$1"; mount -t tmpfs -o size=4400k,mode=0755 none "$1"; cp -a "$2/." "$1""#, there, place.tree)
      do {
        #expect(
          try await Int(shell(#"df -k --output=avail "$1" | tail -1 | tr -d ' \n'"#, there)).map { $0 < 1500 } == true)
        let report = try await place.restore(manifest, to: there, .inPlace)
        #expect(
          report.added == 0 && report.replaced == 0 && report.same == 401 && report.movedAside == nil, "\(report)")
        // What differs in whatever way is replaced; what had become two files is one again.
        try await shell(
          """
          cd "$1"; touch d2/f2; printf 'X' | dd of=d3/f3 conv=notrunc status=none; touch -r "$2/d3/f3" d3/f3; chmod 0600 d4/f4
          setfattr -n user.more -v x d5/f5; cp -a d1/f1 copy; mv copy d1/second; chmod 0700 d6; rm d6/f6
          """, there, place.tree)
        let again = try await place.restore(manifest, to: there, .inPlace)
        #expect(again.added == 1 && again.replaced == 6, "\(again)")
        try await shell(#"rm -r "$1"/.dr-before-*"#, there)
        #expect(unrooted(try await fingerprint(there)) == unrooted(before))
      } catch {
        try await shell(#"umount --lazy "$1""#, there)
        throw error
      }
      try await shell(#"umount "$1""#, there)
    }
  }

  @Test("A dry run ends as the restore would where that is refused, and does not count it among what would change")
  func dryRunConflict() async throws {
    try await Place.with { place in
      try place.write("conf", "x")
      try place.write("other", "x")
      _ = try await place.capture(try place.source())
      let config = place.folder + "/dr.json"
      try Data(#"{"repository": "\#(place.folder)/repository", "component": "config/app"}"#.utf8).write(
        to: URL(fileURLWithPath: config))
      try await shell(#"mkdir -p "$1/there/conf""#, place.folder)
      let result = try await runCommand(
        ChildProcess.program("dr-files"),
        ["restore", "--config", config, "--to", place.folder + "/there", "--in-place", "--dry-run"],
        timeLimit: .seconds(60))
      let said = String(decoding: result.output, as: UTF8.self)
      #expect(result.status != 0 && result.error.contains("would be refused"), "\(result.status) \(result.error)")
      #expect(
        said.contains("conflict conf") && said.contains("1 would change, ") && said.contains("1 are in the way"),
        "\(said)")
    }
  }

  @Test("A part: by path and by pattern, with the folders above it as they were")
  func parts() async throws {
    try await Place.with { place in
      for path in ["a/one.conf", "a/two.txt", "b/c/three.conf", "b/four"] { try place.write(path, path) }
      try await shell(#"chmod 0711 "$1/b"; chmod 0755 "$1/b/c"; ln "$1/a/two.txt" "$1/z""#, place.tree)
      let manifest = try await place.capture(try place.source())
      try await place.restore(manifest, to: place.folder + "/some", paths: ["*.conf"])
      #expect(
        try await shell(#"cd "$1"; find . -type f | sort; stat -c %a b"#, place.folder + "/some")
          == "./a/one.conf\n./b/c/three.conf\n711\n")
      try await shell(#"chmod 0700 "$1/b"; echo broken > "$1/b/four"; echo broken > "$1/a/one.conf""#, place.tree)
      let report = try await place.restore(manifest, to: place.tree, .inPlace, paths: ["b/four"])
      #expect(report.replaced == 1)
      // A folder that was not asked for keeps its mode.
      #expect(try await shell(#"cd "$1"; cat b/four a/one.conf; stat -c %a b"#, place.tree) == "b/fourbroken\n700\n")
      let missing = await refusal {
        try await place.restore(manifest, to: place.folder + "/none", paths: ["nothing"])
      }
      #expect(missing?.code == .objectNotFound)
      let alone = await refusal {
        try await place.restore(manifest, to: place.folder + "/none", paths: ["z"])
      }
      #expect(alone?.advice?.contains("a/two.txt") == true)
      try await place.restore(manifest, to: place.folder + "/both", paths: ["z", "two.txt"])
      #expect(
        try await shell(#"stat -c %h "$1/both/z"; ls -A "$1" | grep -c restore || true"#, place.folder) == "2\n0\n")
    }
  }

  @Test("A further name of a file that is not in the part is refused, and what to add is said; a dry run says it too")
  func partOfLinks() async throws {
    try await Place.with { place in
      try place.write("a/first", "content")
      try place.write("b/other", "other")
      try await shell(#"ln "$1/a/first" "$1/b/second"; ln "$1/a/first" "$1/b/third""#, place.tree)
      let manifest = try await place.capture(try place.source())
      let destination = place.folder + "/new"
      let errors = [
        await refusal { try await place.restore(manifest, to: destination, paths: ["b"]) },
        await refusal { _ = try await place.diff(manifest, with: place.tree, paths: ["b"]) },
      ]
      for error in errors {
        #expect(error?.code == .invalidConfiguration && error?.object == "b/second", "\(String(describing: error))")
        #expect(error?.advice == "ask as well for 'a/first'", "\(String(describing: error))")
      }
      #expect(!FileManager.default.fileExists(atPath: destination))
      try await place.restore(manifest, to: destination, paths: ["b/second", "a/first"])
      #expect(
        try await shell(#"cat "$1/b/second"; stat -c %h "$1/a/first"; ls "$1/b""#, destination) == "content2\nsecond\n")
    }
  }

  @Test("In place nothing is written through a symbolic link that lies in the destination")
  func linksInTheDestination() async throws {
    try await Place.with { place in
      try place.write("conf/file", "new")
      let manifest = try await place.capture(try place.source())
      try await shell(
        #"mkdir -p "$1/victim" "$1/there"; echo untouched > "$1/victim/file"; ln -s ../victim "$1/there/conf""#,
        place.folder)
      let error = await refusal {
        try await place.restore(manifest, to: place.folder + "/there", .inPlace)
      }
      #expect(error?.code == .destinationInUse)
      #expect(try await place.diff(manifest, with: place.folder + "/there").entries.contains { $0.change == .conflict })
      #expect(
        try await shell(#"cat "$1/victim/file"; ls -A "$1/victim" "$1/there""#, place.folder).contains("untouched\n"))
      // A link in the place of a file is replaced, and what it points to is not written.
      try await shell(
        #"rm "$1/there/conf"; mkdir "$1/there/conf"; ln -s ../../victim/file "$1/there/conf/file""#, place.folder)
      try await place.restore(manifest, to: place.folder + "/there", .inPlace)
      #expect(
        try await shell(#"cat "$1/victim/file" "$1/there/conf/file"; test ! -L "$1/there/conf/file""#, place.folder)
          == "untouched\nnew")
    }
  }

  @Test("A damaged backup changes nothing, wherever the damage is")
  func damaged() async throws {
    try await Place.with { place in
      for number in 0..<40 {
        try place.write(
          "f\(number)", String(decoding: TestData.rows(20_000, seed: UInt64(number)).readableBytesView, as: UTF8.self))
      }
      let manifest = try await place.capture(try place.source())
      try await shell(#"cp -a "$1/tree" "$1/there"; for f in "$1"/there/f*; do echo old > "$f"; done"#, place.folder)
      let before = try await fingerprint(place.folder + "/there")
      let key = try manifest.artifact("tree.tar").key
      let file = "\(place.folder)/repository/\(key)"
      let good = try Data(contentsOf: URL(fileURLWithPath: file))
      for part in 0..<12 {
        var bytes = good
        bytes[good.count * part / 12 + 3] ^= 0x10
        try bytes.write(to: URL(fileURLWithPath: file))
        for (folder, placement) in [("new", FileTreeRestorer.Placement.newFolder), ("there", .inPlace)] {
          await refusal {
            try await place.restore(manifest, to: "\(place.folder)/\(folder)", placement)
          }
        }
        #expect(!FileManager.default.fileExists(atPath: place.folder + "/new"))
      }
      try await shell(#"touch -r "$1/tree" "$1/there""#, place.folder)
      let after = try await fingerprint(place.folder + "/there")
      #expect(after == before)
    }
  }

  @Test("Set-user-ID bits come back only when told, and the report says so; unknown accounts in lists too")
  func privileges() async throws {
    try await Place.with { place in
      try place.write("tool", "x")
      try await shell(#"chmod 4755 "$1/tool""#, place.tree)
      let manifest = try await place.capture(try place.source())
      let report = try await place.restore(manifest, to: place.folder + "/without")
      #expect(report.findings.map(\.check) == ["restored-privileges"])
      #expect(try await shell(#"stat -c %a "$1""#, place.folder + "/without/tool") == "755\n")
      let list = TarForge.pax([
        ("SCHILY.acl.access", "user::rw-,user:nobody-knows-him:rw-,group::r--,mask::rw-,other::r--")
      ])
      let foreign = try await place.store(tar: list + TarForge.member("a", content: "x") + TarForge.trailer)
      let told = try await place.restore(foreign, to: place.folder + "/list")
      #expect(told.findings.map(\.check) == ["restored-acls"])
    }
  }

  @Test("A backup is chosen by time, and one that is later than the target is refused")
  func time() async throws {
    try await Place.with { place in
      try place.write("a", "x")
      let manifest = try await place.capture(try place.source())
      let restorer = FileTreeRestorer(destination: place.folder + "/new")
      let reader = place.repository.reader(for: manifest)
      let early = await refusal {
        try await restorer.restore(from: reader, to: .time(manifest.started - 60), logger: quiet)
      }
      #expect(early?.code == .targetUnreachable)
      #expect(try await restorer.restore(from: reader, to: .time(Date() + 1), logger: quiet).items == 1)
    }
  }
}
