import DRCore
import DRFiles
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

@Suite struct IncrementalTests {
  private func capture(_ place: Place, since: BackupManifest?, _ included: [String] = []) async throws -> BackupManifest
  {
    var source = try place.source(included)
    source.isIncremental = true
    source.since = since.map { place.repository.reader(for: $0) }
    return try await place.capture(source)
  }

  private func unchanged(_ manifest: BackupManifest) -> Int64? { manifest.properties["unchanged"]?.integer }

  @Test("Only what changed is stored; each backup of a chain gives back its whole tree, as if it were alone")
  func chain() async throws {
    try await Place.with { place in
      try await makeRichTree(place.tree)
      try await shell(
        #"head -c 5000000 /dev/urandom > "$1/large"; for i in {1..50}; do echo $i > "$1/conf/f$i"; done"#, place.tree)
      let steps = [
        ":", #"echo changed > "$1/conf/f7"; rm "$1/conf/f8""#,
        #"touch -d 2020-01-01 "$1/conf/f9"; chmod 600 "$1/conf/f10"; echo new > "$1/conf/new""#,
        // As large and with the same times, but other content.
        #"cp -p "$1/conf/f11" "$1/was"; echo 99 > "$1/conf/f11"; touch -r "$1/was" "$1/conf/f11"; rm "$1/was""#,
        #"mv "$1/conf/f12" "$1/conf/renamed"; rm -r "$1/deep"; ln -s conf "$1/deep""#,
        #"dd if=/dev/urandom of="$1/large" bs=1 count=1 seek=2500000 conv=notrunc status=none"#,
      ]
      var backups: [BackupManifest] = []
      for (number, step) in steps.enumerated() {
        try await shell(step, place.tree)
        backups.append(try await capture(place, since: backups.last))
        let wanted = try await fingerprint(place.tree)
        let back = "\(place.folder)/back-\(number)"
        try await place.restore(backups[number], to: back) { $0.restoresPrivileges = true }
        let (came, was) = (Set(try await unrooted(fingerprint(back))), Set(unrooted(wanted)))
        #expect(came == was, "\(number): \(came.subtracting(was)) instead of \(was.subtracting(came))")
        #expect(
          try await place.diff(backups[number], with: place.tree).entries.filter { $0.change != .attributes }.isEmpty)
      }
      #expect(backups.map(\.parent) == [nil] + backups.dropLast().map(\.id))
      let files = try #require(backups[1].properties["files"]?.integer)
      #expect(try #require(unchanged(backups[1])) > 50 && files > 60)
      // The sizes of the tars: of the last but the large file, nothing.
      let own = try backups.map { try $0.artifact("tree.tar").rawSize }
      #expect(own[0] > 8_000_000 && own[1] < 200_000 && own[5] > 5_000_000)
      // A restore of a part, and a list, see the whole tree too.
      try await place.restore(backups[5], to: place.folder + "/part", paths: ["conf/f1", "conf/f9"])
      #expect(try String(contentsOfFile: place.folder + "/part/conf/f1", encoding: .utf8) == "1\n")
      // Retention keeps what is needed.
      let plan = try await place.repository.prunePlan(RetentionPolicy([.newest(1)]))
      #expect(plan.decisions.allSatisfy { $0.action == .keep } && plan.decisions.count == 6)
    }
  }

  @Test("Secrets and certificates are stored each time; of another root, or without an index, everything is")
  func storedEachTime() async throws {
    try await Place.with { place in
      try await shell(
        """
        cd "$1"; openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=app -days 90 -keyout app.key -out app.pem 2> /dev/null
        echo plain > plain; echo two > two; ln two three
        """, place.tree)
      let identity = AgeIdentity.generate()
      let recipient = try #require(identity.recipient)
      let decoding = Decoding(identities: [identity])
      func capture(since: BackupManifest?, _ change: (inout FileTreeSource) -> Void = { _ in }) async throws
        -> BackupManifest
      {
        var source = try place.source()
        source.isIncremental = true
        source.since = since.map { place.repository.reader(for: $0, decoding: decoding) }
        change(&source)
        return try await place.capture(source, recipients: [recipient])
      }
      let first = try await capture(since: nil)
      let second = try await capture(since: first)
      #expect(unchanged(second) == 1 && second.properties["secrets"] == .integer(1))
      #expect(CertificateFacts.all(of: second) == CertificateFacts.all(of: first))
      #expect(CertificateFacts.all(of: second).first?.keyMatches == true)
      let tar = String(decoding: try await place.tar(of: second, decoding), as: UTF8.self)
      #expect(tar.contains("PRIVATE KEY") && !tar.contains("plain\n"))
      let plain = try await place.capture(try place.source(), recipients: [recipient])
      #expect(unchanged(try await capture(since: plain)) == 0)
      try await shell(#"cp -a "$1" "$1.other""#, place.tree)
      let other = try await capture(since: second) { $0.root += ".other" }
      #expect(unchanged(other) == 0 && other.parent == nil)
      // Without the key nobody knows what has changed.
      var source = try place.source()
      source.isIncremental = true
      source.since = place.repository.reader(for: second)
      let sealed = source
      #expect(await refusal { try await place.capture(sealed, recipients: [recipient]) }?.code == .noMatchingIdentity)
    }
  }

  @Test("A part of a chain that is gone, damaged or another one is missed before anything of the destination changes")
  func damage() async throws {
    try await Place.with { place in
      for number in 0..<20 { try place.write("f\(number)", String(repeating: "\(number) ", count: 5000)) }
      let first = try await capture(place, since: nil)
      try place.write("f3", "changed")
      let second = try await capture(place, since: first)
      let key = try first.artifact("tree.tar").key
      let path = "\(place.folder)/repository/\(key)"
      let whole = try Data(contentsOf: URL(filePath: path))
      var flipped = whole
      flipped[flipped.count / 2] ^= 1
      try flipped.write(to: URL(filePath: path))
      #expect(await refusal { try await place.restore(second, to: place.folder + "/a") } != nil)
      try FileManager.default.removeItem(atPath: path)
      #expect(await refusal { try await place.restore(second, to: place.folder + "/a") }?.code == .objectNotFound)
      try whole.write(to: URL(filePath: path))
      let manifest = "\(place.folder)/repository/config/metadata/\(first.id).json"
      try FileManager.default.moveItem(atPath: manifest, toPath: manifest + ".away")
      let missing = await refusal { try await place.restore(second, to: place.folder + "/a") }
      #expect(missing?.code == .objectNotFound && missing?.message.contains(first.id) == true)
      try FileManager.default.moveItem(atPath: manifest + ".away", toPath: manifest)
      #expect(!FileManager.default.fileExists(atPath: place.folder + "/a"))
      // A tar in which a file is not the one that the index speaks of.
      let index = try #require(
        try await RawTree(
          of: second, place.repository, replacing: "f5", with: String(repeating: "9", count: 64)))
      let forged = try await place.repository.backUp(index, cadence: .daily, logger: quiet)
      let error = await refusal { try await place.restore(forged, to: place.folder + "/a") }
      #expect(error?.code == .corruptData && error?.object?.hasSuffix(": f5") == true, "\(String(describing: error))")
      try await place.restore(second, to: place.folder + "/a")
      // What could not be restored is not committed.
      let count = try await place.repository.catalog().backups.count
      try FileManager.default.moveItem(atPath: manifest, toPath: manifest + ".away")
      #expect(await refusal { try await capture(place, since: second) }?.code == .objectNotFound)
      try FileManager.default.moveItem(atPath: manifest + ".away", toPath: manifest)
      try whole.dropLast(5).write(to: URL(filePath: path))
      #expect(
        await refusal { try await capture(place, since: second) }?.advice?.contains("take a whole backup") == true)
      try FileManager.default.removeItem(atPath: path)
      #expect(await refusal { try await capture(place, since: second) }?.code == .objectNotFound)
      #expect(try await place.repository.catalog().backups.count == count)
      #expect(try await capture(place, since: nil).parent == nil)
    }
  }
}

/// One that goes on from an incremental backup, with another digest for one of its files.
private struct RawTree: BackupSource {
  let component: Component
  let tar: ByteStream
  let index: String
  let parent: String?

  init?(of manifest: BackupManifest, _ repository: Repository, replacing path: String, with digest: String) async throws
  {
    let reader = repository.reader(for: manifest)
    tar = ByteStream(try await reader.read(manifest.artifact("tree.tar")).collect(limit: 1 << 30))
    let text = try await reader.read(manifest.artifact("tree.index")).collect(limit: 1 << 30)
    component = manifest.component
    parent = manifest.id
    index = String(buffer: text).split(separator: "\n", omittingEmptySubsequences: false).map { line in
      line.hasPrefix("\(path)\t")
        ? line.split(separator: "\t").dropLast().joined(separator: "\t") + "\t\(digest)" : String(line)
    }.joined(separator: "\n")
    guard index != String(buffer: text) else { return nil }
  }

  func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
    try await writer.write("tree.tar", tar, expectedLength: nil)
    try await writer.write("tree.index", ByteStream(ByteBuffer(string: index)), expectedLength: nil)
    return Capture(
      recoveryPoint: RecoveryPoint(time: Date(), position: writer.backupID), parent: parent, method: .files)
  }
}
