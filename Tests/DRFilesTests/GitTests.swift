import DRCore
import DRFiles
import DRTestSupport
import Foundation
import Testing

/// The history of a tree, through the real git.
@Suite struct GitTests {
  private func snapshotter(_ place: Place, _ included: [String] = []) throws -> GitSnapshotter {
    GitSnapshotter(try place.source(included), to: place.folder + "/history.git", logger: quiet)
  }

  private func restore(
    _ place: Place, _ commit: String? = nil, by moment: Date? = nil, to name: String, _ paths: [String] = []
  ) async throws {
    try await GitSnapshotter.withSnapshot(commit, by: moment, in: place.folder + "/history.git") { reader in
      _ = try await FileTreeRestorer(destination: "\(place.folder)/\(name)", paths: paths)
        .run(from: reader, logger: quiet)
    }
  }

  @Test(
    "Whatever a tree holds and says of itself, each commit gives it back: bytes, names, modes, owners, times, links")
  func everything() async throws {
    try await Place.with { place in
      try await shell(
        """
        cd "$1"; git init -q .; printf '*.yml\\n' > .gitignore; printf '*.txt export-ignore text eol=lf\\n*.c ident\\n' > .gitattributes
        mkdir -p conf empty sub/deep; git init -q sub; echo inner > sub/deep/inner
        printf 'crlf\\r\\nline\\r\\n' > conf/w.txt; echo '$Id$' > conf/v.c; echo x: 1 > conf/app.yml; chmod 750 conf
        echo latin > $'latin-\\xe9'; echo n > $'two\\nlines "quoted" \\\\'; ln -s app.yml conf/link; ln conf/app.yml conf/hard
        chown 1234:4321 conf/v.c; touch -d '2001-02-03 04:05:06.789 UTC' conf/v.c; chmod 600 conf/w.txt; truncate -s 200K hole
        """, place.tree)
      let snapshotter = try snapshotter(place)
      let first = try #require(try await snapshotter.snapshot(logger: quiet))
      #expect(try await snapshotter.snapshot(logger: quiet) == nil)
      try await restore(place, to: "back")
      try await shell(#"rm -rf "$1/.git" "$1/sub/.git"; ln -f "$1/conf/app.yml" "$1/conf/hard""#, place.tree)
      try await shell(#"ln -f "$1/conf/app.yml" "$1/conf/hard""#, place.folder + "/back")
      func without(_ folder: String) async throws -> [Substring] {
        try await fingerprint(folder, lists: false).split(separator: "\n").filter {
          // git's own folders were removed from the one.
          !$0.hasPrefix("|d|") && !$0.hasPrefix("sub|d|") && !$0.hasPrefix("conf|d|")
        }
      }
      #expect(try await without(place.tree) == without(place.folder + "/back"))
      // Stock git opens it, and finds nothing wrong.
      let clone = try await shell(
        """
        cd "$1"; git --git-dir=history.git fsck --strict 2>&1 | grep -v dangling || true
        git clone -q history.git clone; cmp tree/conf/w.txt <(git --git-dir=history.git show main:conf/w.txt)
        git --git-dir=history.git log --format='%an <%ae> %s'
        """, place.folder)
      #expect(clone == "Disaster recovery <disaster-recovery@localhost> \(first.subject)\n", "\(clone)")
    }
  }

  @Test("Any commit and any moment comes back, whole or in parts; in place, only what differs is replaced")
  func history() async throws {
    try await Place.with { place in
      var snapshotter = try snapshotter(place)
      snapshotter.author = "Somebody <some@body.example>"
      var taken: [GitSnapshotter.Snapshot] = []
      for number in 1...3 {
        try place.write("app.yml", "number: \(number)")
        try place.write("only-\(number)", "x")
        snapshotter.message = "number \(number)\nand more"
        taken.append(try #require(try await snapshotter.snapshot(logger: quiet)))
        try FileManager.default.removeItem(atPath: "\(place.tree)/only-\(number)")
        try await Task.sleep(for: .milliseconds(1100))
      }
      let listed = try await GitSnapshotter.snapshots(in: place.folder + "/history.git")
      #expect(
        listed.map(\.id) == taken.reversed().map(\.id) && listed.map(\.subject) == ["number 3", "number 2", "number 1"])
      func content(_ path: String) throws -> String {
        try String(contentsOfFile: "\(place.folder)/\(path)", encoding: .utf8)
      }
      try await restore(place, by: taken[1].time, to: "second")
      #expect(try content("second/app.yml") == "number: 2" && content("second/only-2") == "x")
      try await restore(place, taken[0].id, to: "part", ["only-*"])
      #expect(try FileManager.default.contentsOfDirectory(atPath: place.folder + "/part") == ["only-1"])
      let error = await refusal { try await restore(place, by: taken[0].time.addingTimeInterval(-0.5), to: "none") }
      #expect(error?.code == .targetUnreachable)
      #expect(await refusal { try await restore(place, "--all", to: "none") }?.code == .objectNotFound)
      let report = try await GitSnapshotter.withSnapshot(taken[0].id, in: place.folder + "/history.git") {
        try await FileTreeRestorer(destination: place.tree, placement: .inPlace).run(from: $0, logger: quiet)
      }
      #expect(report.added == 1 && report.replaced == 1)
      #expect(try content("tree/app.yml") == "number: 1")
    }
  }

  @Test(
    "Secrets never reach the repository, not even as an object that no commit names; the commit says what was left out")
  func secrets() async throws {
    try await Place.with { place in
      try place.write("app/.env", "PASSWORD=hunter2")
      try place.write("key.txt", "-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----\n")
      try place.write("plain", "plain")
      _ = try #require(try await snapshotter(place).snapshot(logger: quiet))
      let said = try await shell(
        """
        cd "$1/history.git"; git cat-file --batch-all-objects --batch --unordered 2>/dev/null | grep -c hunter2 || true
        git log -1 --format=%b; git ls-tree -r --name-only main
        """, place.folder)
      #expect(
        said == "0\nLeft-Out: app/.env: it looks like a secret\nLeft-Out: key.txt: it looks like a secret\nplain\n",
        "\(said)")
      // Far behind the beginning of a large file.
      try place.write("large", String(repeating: "x", count: 3 << 20) + "-----BEGIN EC PRIVATE KEY-----\nhunter2\n")
      let error = await refusal { try await snapshotter(place).snapshot(logger: quiet) }
      #expect(error?.code == .secretsUnencrypted && error?.object == "large", "\(String(describing: error))")
      #expect(try await GitSnapshotter.snapshots(in: place.folder + "/history.git").count == 1)
    }
  }

  @Test("Killed while it commits, it leaves the branch as it was; two at once lose nothing")
  func concurrent() async throws {
    try await Place.with { place in
      try place.write("app.yml", "first")
      _ = try await snapshotter(place).snapshot(logger: quiet)
      try await shell(#"mkdir "$1/many"; cd "$1/many"; for i in {1..2000}; do echo $i > $i; done"#, place.tree)
      let snapshotter = try snapshotter(place)
      for milliseconds in [5, 20, 60, 120] {
        let running = Task { try await snapshotter.snapshot(logger: quiet) }
        try await Task.sleep(for: .milliseconds(milliseconds))
        running.cancel()
        _ = await running.result
        try await shell(#"git --git-dir="$1/history.git" fsck --strict --connectivity-only"#, place.folder)
      }
      // A cancelled one may have come to its end.
      try place.write("many/1", "changed")
      let results = await withTaskGroup(of: Result<GitSnapshotter.Snapshot?, any Error>.self) { group in
        for _ in 0..<3 { group.addTask { await Task { try await snapshotter.snapshot(logger: quiet) }.result } }
        return await group.reduce(into: []) { $0.append($1) }
      }
      #expect(results.contains { if case .success(_?) = $0 { true } else { false } }, "\(results)")
      // Whoever came late is refused, and has nothing to add the next time.
      #expect(try await snapshotter.snapshot(logger: quiet) == nil)
      try await restore(place, to: "back")
      try await shell(#"diff -r "$1/tree" "$1/back""#, place.folder)
      let refs = try await shell(
        #"git --git-dir="$1/history.git" for-each-ref --format='%(refname)' refs/dr refs/dr-notes"#, place.folder)
      #expect(refs.isEmpty, "\(refs)")
    }
  }
}
