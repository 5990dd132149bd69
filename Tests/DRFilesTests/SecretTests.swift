import DRCore
import DRFiles
import DRTestSupport
import Foundation
import Testing

@Suite struct SecretTests {
  private static let key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIDtop-secret-bytes\n-----END EC PRIVATE KEY-----\n"

  /// A tree with secrets of every kind that is recognised; their paths.
  private func fill(_ place: Place) throws -> Set<String> {
    try place.write("app/.env", "PASSWORD=hunter2")
    try place.write("app/.env.production", "PASSWORD=hunter2", mode: 0o666)
    try place.write("certs/innocent.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n" + Self.key)
    try place.write("certs/server.key", "whatever", mode: 0o640)
    try place.write("notes.txt", String(repeating: "-", count: 70_000) + Self.key, mode: 0o755)
    try place.write("backup/age.txt", "# created\nAGE-SECRET-KEY-1QQQQ")
    try place.write("home/.aws/credentials", "[default]")
    // Beyond what is looked at where only the mode depends on it.
    try place.write("late.txt", String(repeating: "x", count: 3 << 20) + Self.key)
    // None.
    try place.write("app/.env.example", "PASSWORD=")
    try place.write("certs/ca.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    try place.write("readme.md", "How a PRIVATE KEY is made, and what -----BEGIN means")
    return [
      "app/.env", "app/.env.production", "certs/innocent.pem", "certs/server.key", "notes.txt", "backup/age.txt",
      "home/.aws/credentials", "late.txt",
    ]
  }

  @Test("Without a recipient the capture is refused with the list of files, and nothing is stored")
  func refused() async throws {
    try await Place.with { place in
      let secrets = try fill(place)
      let error = await refusal { try await place.capture(try place.source()) }
      #expect(error?.code == .secretsUnencrypted)
      #expect(Set(error?.object?.components(separatedBy: ", ") ?? []) == secrets, "\(error?.object ?? "")")
      let said = error?.description ?? ""
      for word in ["hunter2", "secret-bytes", "QQQQ"] { #expect(!said.contains(word)) }
      let kept = try await shell(
        #"grep -rlE 'hunter2|secret-bytes|QQQQ' "$1/repository" || true; find "$1/repository" -name '*.tar*'"#,
        place.folder)
      #expect(kept.isEmpty, "\(kept)")
      #expect(try await place.repository.catalog().backups.isEmpty)
      // What remains once they are excluded can be stored.
      let manifest = try await place.capture(try place.source([], excluded: Array(secrets)))
      #expect(manifest.properties["secrets"] == .integer(0) && manifest.properties["files"] == .integer(3))
    }
  }

  @Test(
    "With a recipient they are stored, encrypted; restored, only their owner may read them, with the stock tools too")
  func encrypted() async throws {
    try await Place.with { place in
      let secrets = try fill(place).subtracting(["late.txt"])
      try await shell(#"setfacl -m u:1234:rw "$1/certs/server.key""#, place.tree)
      let identity = AgeIdentity.generate()
      let manifest = try await place.capture(try place.source(), recipients: [try #require(identity.recipient)])
      #expect(manifest.properties["secrets"] == .integer(Int64(secrets.count)))
      let decoding = Decoding(identities: [identity])
      try await place.restore(manifest, to: place.folder + "/back", decoding: decoding)
      try Data(try await place.tar(of: manifest, decoding)).write(to: URL(fileURLWithPath: place.folder + "/ours.tar"))
      try await shell(#"mkdir "$1/stock"; tar --acls -xpf "$1/ours.tar" -C "$1/stock""#, place.folder)
      for folder in ["back", "stock"] {
        for path in secrets {
          let mode = try await shell(
            #"stat -c %a "$1"; getfacl -pcn "$1" | grep -c 1234 || true"#, "\(place.folder)/\(folder)/\(path)")
          #expect(mode == "600\n0\n", "\(folder)/\(path): \(mode)")
        }
        #expect(try await shell(#"stat -c %a "$1""#, "\(place.folder)/\(folder)/readme.md") == "644\n")
      }
      #expect(try await shell(#"diff -r "$1/tree" "$1/back""#, place.folder).isEmpty)
      #expect(try await shell(#"grep -rlE 'hunter2|secret-bytes' "$1/repository" || true"#, place.folder).isEmpty)
    }
  }

  @Test(
    "An archive that gives a secret to everybody is restored for its owner alone, by name, by content, by a second name"
  )
  func foreign() async throws {
    try await Place.with { place in
      let bytes =
        TarForge.member(".env", content: "A=1", mode: "0000666")
        + TarForge.member("plain.txt", content: Self.key, mode: "0000777")
        + TarForge.pax([("SCHILY.acl.access", "user::rw-\nuser:1234:rw-\ngroup::r--\nmask::rw-\nother::r--")])
        + TarForge.member("a.key", content: "k", mode: "0000664")
        + TarForge.member("other", content: "x", mode: "0000644")
        + TarForge.hardLink("tls.key", to: "other") + TarForge.trailer
      let manifest = try await place.store(tar: bytes)
      try await place.restore(manifest, to: place.folder + "/back")
      let modes = try await shell(
        #"cd "$1"; stat -c '%n %a' .env plain.txt a.key other tls.key"#, place.folder + "/back")
      #expect(modes == ".env 600\nplain.txt 600\na.key 600\nother 600\ntls.key 600\n")
    }
  }
}
