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
      let outcome = try await snapshotter(place).take(logger: quiet)
      #expect(outcome.snapshot != nil)
      #expect(
        outcome.leftOut.map { "\($0.what): \($0.reason)" } == [
          "app/.env: it looks like a secret", "key.txt: it looks like a secret",
        ])
      // Said too where nothing has changed.
      let idle = try await snapshotter(place).take(logger: quiet)
      #expect(idle.snapshot == nil && idle.leftOut == outcome.leftOut)
      let said = try await shell(
        """
        cd "$1/history.git"; git cat-file --batch-all-objects --batch --unordered 2>/dev/null | grep -c hunter2 || true
        git log -1 --format=%b; git ls-tree -r --name-only main
        """, place.folder)
      #expect(
        said == "0\nLeft-Out: app/.env: it looks like a secret\nLeft-Out: key.txt: it looks like a secret\nplain\n",
        "\(said)")
      // Far behind the beginning of a large file, and under another name, which comes first or is asked for alone.
      try place.write("large", String(repeating: "x", count: 3 << 20) + "-----BEGIN EC PRIVATE KEY-----\nhunter2\n")
      try place.write("plain", "other")
      try await shell(#"ln "$1/app/.env" "$1/aaa"; ln "$1/app/.env" "$1/app/zzz""#, place.tree)
      _ = try #require(try await snapshotter(place).snapshot(logger: quiet))
      var source = try place.source([], excluded: [".env"])
      _ = try await GitSnapshotter(source, to: place.folder + "/history.git", logger: quiet).snapshot(logger: quiet)
      source = try place.source(["aaa", "plain"])
      try place.write("plain", "third")
      _ = try await GitSnapshotter(source, to: place.folder + "/history.git", logger: quiet).snapshot(logger: quiet)
      let later = try await shell(
        """
        cd "$1/history.git"; git cat-file --batch-all-objects --batch --unordered 2>/dev/null | grep -c hunter2 || true
        git log --format=%b main~1 -1; git ls-tree -r --name-only main~1; git ls-tree -r --name-only main
        """, place.folder)
      #expect(
        later == """
          0
          Left-Out: aaa: it looks like a secret
          Left-Out: app/.env: it looks like a secret
          Left-Out: app/zzz: it looks like a secret
          Left-Out: key.txt: it looks like a secret
          Left-Out: large: it looks like a secret
          plain
          plain

          """, "\(later)")
    }
  }

  @Test(
    "Names that git refuses to check out come back, also from a repository that holds such by now; the rest is said")
  func refusedNames() async throws {
    try await Place.with { place in
      try await shell(
        """
        cd "$1"; mkdir 'git~1' '.git.' '.git ' .Git 'GIT~1'
        for f in 'git~1' '.git.' '.git ' .Git 'GIT~1'; do echo "$f" > "$f/file"; done
        echo b > 'a\\.git'; echo b > '.git::$INDEX_ALLOCATION'; ln -s file .gitmodules; echo x > plain; mkdir sub; echo x > sub/.GIT
        """, place.tree)
      _ = try #require(try await snapshotter(place).snapshot(logger: quiet))
      try await restore(place, to: "back")
      let difference = try await shell(#"cd "$1"; diff -r --no-dereference tree back || true"#, place.folder)
      #expect(
        difference == "Only in tree: .Git\nOnly in tree: .gitmodules\nOnly in tree/sub: .GIT\n", "\(difference)")
      #expect(
        try await shell(#"git --git-dir="$1/history.git" log -1 --format=%b"#, place.folder) == """
          Left-Out: .Git: git takes nothing of such a name
          Left-Out: .gitmodules: git takes no symbolic link of such a name
          Left-Out: sub/.GIT: git takes nothing of such a name

          """)
      // Such as other versions made.
      try await shell(
        """
        cd "$1/history.git"; id=$(echo kept | git hash-object -w --stdin); to=$(printf there | git hash-object -w --stdin)
        inner=$(printf '100755 blob %s\tf\n' $id | git mktree)
        tree=$(printf '040000 tree %s\t.Git\n120000 blob %s\t.gitmodules\n100644 blob %s\tplain\n' $inner $to $id | git mktree)
        export GIT_AUTHOR_NAME=x GIT_AUTHOR_EMAIL=x@y GIT_COMMITTER_NAME=x GIT_COMMITTER_EMAIL=x@y
        git update-ref refs/heads/main $(git commit-tree -m old $tree)
        """, place.folder)
      try await restore(place, to: "old")
      let old = try await shell(
        #"cd "$1/old"; cat .Git/f plain; readlink .gitmodules; stat -c %a .Git/f plain"#, place.folder)
      #expect(old == "kept\nkept\nthere\n755\n644\n", "\(old)")
      // A damaged one does not come back in part.
      try await shell(
        #"cd "$1/history.git"; id=$(echo kept | git hash-object --stdin); rm -f objects/${id:0:2}/${id:2}"#,
        place.folder)
      #expect(await refusal { try await restore(place, to: "damaged") }?.code == .corruptData)
      #expect(!FileManager.default.fileExists(atPath: place.folder + "/damaged"))
    }
  }

  @Test("The repository may lie in the tree: it is no part of it. One with a working tree is told from none")
  func repositoryInside() async throws {
    try await Place.with { place in
      try place.write("plain", "plain")
      let snapshotter = GitSnapshotter(try place.source(), to: place.tree + "/deep/h.git", logger: quiet)
      try FileManager.default.createDirectory(atPath: place.tree + "/deep", withIntermediateDirectories: false)
      _ = try #require(try await snapshotter.snapshot(logger: quiet))
      #expect(try await snapshotter.snapshot(logger: quiet) == nil)
      let said = try await shell(
        #"git --git-dir="$1/deep/h.git" ls-tree -r --name-only main; git --git-dir="$1/deep/h.git" log -1 --format=%b; git init -q "$1/other""#,
        place.tree)
      #expect(said == "plain\nLeft-Out: deep/h.git: it is the repository of these snapshots\n", "\(said)")
      let error = await refusal { try await GitSnapshotter.snapshots(in: place.tree + "/other") }
      #expect(error?.message.contains("working tree") == true, "\(String(describing: error))")
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
      // Whoever came late has waited, and has nothing to add.
      let taken = results.filter { if case .success(_?) = $0 { true } else { false } }
      let idle = results.filter { if case .success(nil) = $0 { true } else { false } }
      #expect(taken.count == 1 && idle.count == 2, "\(results)")
      var impatient = snapshotter
      impatient.patience = .milliseconds(200)
      let holder = try await shell(#"flock "$1/history.git" sleep 3 > /dev/null 2>&1 & echo held"#, place.folder)
      #expect(holder == "held\n")
      try await Task.sleep(for: .milliseconds(500))
      #expect(await refusal { try await impatient.snapshot(logger: quiet) }?.code == .timedOut)
      #expect(try await snapshotter.snapshot(logger: quiet) == nil)
      try await restore(place, to: "back")
      try await shell(#"diff -r "$1/tree" "$1/back""#, place.folder)
      let refs = try await shell(
        #"git --git-dir="$1/history.git" for-each-ref --format='%(refname)' refs/dr refs/dr-notes"#, place.folder)
      #expect(refs.isEmpty, "\(refs)")
    }
  }
}
