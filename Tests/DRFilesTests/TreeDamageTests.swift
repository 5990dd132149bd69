import DRCore
import DRFiles
import Foundation
import Testing

/// What is wrong with a restored tree, and what the comparison with its backup must say.
struct TreeDamage: Sendable, CustomTestStringConvertible {
  var name: String
  /// In a shell, within the tree.
  var harm: String
  var path: String
  var change: FileTreeDiff.Change
  /// In the detail.
  var detail = ""

  var testDescription: String { name }

  static let all: [TreeDamage] = [
    TreeDamage(name: "a file that is gone", harm: "rm big.bin", path: "big.bin", change: .added),
    TreeDamage(name: "a folder that is gone", harm: "rmdir empty", path: "empty", change: .added),
    TreeDamage(name: "a link that is gone", harm: "rm dangling", path: "dangling", change: .added),
    TreeDamage(
      name: "a byte in the midst, at the same size and time",
      harm:
        "t=$(stat -c %y big.bin); printf x | dd of=big.bin bs=1 seek=1500000 conv=notrunc status=none; touch -d \"$t\" big.bin",
      path: "big.bin", change: .content),
    TreeDamage(name: "a byte less", harm: "truncate -s -1 big.bin", path: "big.bin", change: .content),
    TreeDamage(name: "a byte more", harm: "printf x >> nothing", path: "nothing", change: .content),
    TreeDamage(
      name: "a byte in a hole", harm: "printf x | dd of=hole.img bs=1 seek=1000000 conv=notrunc status=none",
      path: "hole.img", change: .content),
    TreeDamage(
      name: "a byte at the end of a hole", harm: "printf x | dd of=hole.img bs=1 seek=3145727 conv=notrunc status=none",
      path: "hole.img", change: .content),
    TreeDamage(
      name: "a link to elsewhere", harm: "ln -sfn /etc/passwd absolute", path: "absolute", change: .content,
      detail: "/etc/passwd"),
    TreeDamage(
      name: "a file in place of a link", harm: "rm absolute; echo x > absolute", path: "absolute", change: .content),
    TreeDamage(
      name: "a link in place of a file", harm: "rm big.bin; ln -s nothing big.bin", path: "big.bin", change: .content),
    TreeDamage(
      name: "a folder in place of a file", harm: "rm big.bin; mkdir big.bin", path: "big.bin", change: .conflict),
    TreeDamage(
      name: "a file in place of a folder", harm: "rmdir empty; echo x > empty", path: "empty", change: .conflict),
    TreeDamage(
      name: "a second file in place of a second name",
      harm: "cp --preserve=all conf/app.yml x; rm conf/hard; mv x conf/hard",
      path: "conf/hard", change: .content, detail: "further name"),
    TreeDamage(name: "another mode", harm: "chmod o+r big.bin", path: "big.bin", change: .attributes, detail: "mode"),
    TreeDamage(
      name: "another mode of a folder", harm: "chmod g-s conf/d", path: "conf/d", change: .attributes, detail: "mode"),
    TreeDamage(
      name: "a right that is lost", harm: "chmod u-x nothing", path: "nothing", change: .attributes, detail: "mode"),
    TreeDamage(
      name: "another owner", harm: "chown 99 big.bin; chmod 0640 big.bin", path: "big.bin", change: .attributes,
      detail: "owner"),
    TreeDamage(
      name: "another owner of a link", harm: "chown -h 99 dangling", path: "dangling", change: .attributes,
      detail: "owner"),
    TreeDamage(
      name: "another time", harm: "touch -d '2020-01-01 UTC' big.bin", path: "big.bin", change: .attributes,
      detail: "time"),
    TreeDamage(
      name: "another extended attribute", harm: "setfattr -n user.comment -v halts conf/app.yml", path: "conf/app.yml",
      change: .attributes),
    TreeDamage(
      name: "an extended attribute less", harm: "setfattr -x user.folder conf/d", path: "conf/d", change: .attributes),
    TreeDamage(
      name: "another right in an access list", harm: "setfacl -m u:1234:rwx conf/app.yml", path: "conf/app.yml",
      change: .attributes),
    TreeDamage(
      name: "a default list that is gone", harm: "setfacl -k conf/d", path: "conf/d", change: .attributes),
  ]
}

@Suite struct TreeDamageTests {
  @Test("Each damage of a restored tree is noticed, and nothing before it was done", arguments: TreeDamage.all)
  func damages(damage: TreeDamage) async throws {
    try await Place.with { place in
      try await makeRichTree(place.tree)
      let manifest = try await place.capture(try place.source())
      let restored = place.folder + "/restored"
      try await place.restore(manifest, to: restored)
      let sound = try await place.diff(manifest, with: restored)
      #expect(sound.isEmpty, "\(sound.entries)")
      try await shell("cd \"$1\"; \(damage.harm)", restored)
      let entries = try await place.diff(manifest, with: restored).entries
      let isNoticed = entries.contains {
        $0.path == damage.path && $0.change == damage.change
          && (damage.detail.isEmpty || $0.detail.contains(damage.detail))
      }
      #expect(isNoticed, "\(damage.name): \(entries)")
    }
  }
}
