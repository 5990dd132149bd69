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
    // Behind what a large file is judged by before it is stored.
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
      let secrets = try fill(place)
      try await shell(#"setfacl -m u:1234:rw "$1/certs/server.key""#, place.tree)
      let identity = AgeIdentity.generate()
      let manifest = try await place.capture(try place.source(), recipients: [try #require(identity.recipient)])
      #expect(manifest.properties["secrets"] == .integer(Int64(secrets.count)))
      let decoding = Decoding(identities: [identity])
      try await place.restore(manifest, to: place.folder + "/back", decoding: decoding)
      try Data(try await place.tar(of: manifest, decoding)).write(to: URL(fileURLWithPath: place.folder + "/ours.tar"))
      try await shell(#"mkdir "$1/stock"; tar --acls -xpf "$1/ours.tar" -C "$1/stock""#, place.folder)
      for folder in ["back", "stock"] {
        // To the stock tools, a key deep within a large file comes too late.
        for path in folder == "back" ? secrets : secrets.subtracting(["late.txt"]) {
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

  @Test("By their names, in capital or small letters: environment files, their copies, and what common programs keep")
  func names() async throws {
    try await Place.with { place in
      let secrets = [
        ".env", ".env~", "a/.envrc", ".ENV", ".Env.Local", ".env_old", ".env-prod", "#.env#", "app.env.local", ".npmrc",
        ".pypirc",
        ".kube/config", ".dockerconfigjson", "pgpass.conf", "credentials.json", "secrets.yml", "secrets.yaml",
        "b/Secrets.JSON",
        "terraform.tfstate", "terraform.tfstate.backup", "TLS.KEY", "ID_RSA",
      ]
      let others = [
        "env", "environment.ts", "config", "kube/config.yml", "a.env.js", ".env.example", "app.env.sample",
        ".ENV-EXAMPLE", "secret.yml",
        "credentials.md", "terraform.tf", "keys.txt", "monkey", "npmrc.md",
      ]
      for path in secrets + others { try place.write(path, "x") }
      let error = await refusal { try await place.capture(try place.source()) }
      #expect(
        error?.object?.components(separatedBy: ", ").sorted() == secrets.sorted(), "\(error?.object ?? "none")")
    }
  }

  @Test("By their content: keys in DER, key stores, UTF-16, WireGuard; certificates, requests and public keys are none")
  func contents() async throws {
    try await Place.with { place in
      try await shell(
        """
        cd "$1"; mkdir s o; exec 2> /dev/null
        openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=a -days 9 -keyout s/rsa.txt -out o/cert.txt
        openssl pkcs8 -topk8 -nocrypt -in s/rsa.txt -outform DER -out s/pkcs8.bin
        openssl pkcs8 -topk8 -passout pass:x -in s/rsa.txt -outform DER -out s/encrypted.bin
        openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES -passout pass:x -in s/rsa.txt -outform DER -out s/encrypted-v1.bin
        openssl rsa -traditional -in s/rsa.txt -outform DER -out s/pkcs1.bin
        openssl ecparam -genkey -noout -name prime256v1 -outform DER -out s/sec1.bin
        openssl genpkey -algorithm ed25519 -outform DER -out s/ed.bin
        openssl pkcs12 -export -in o/cert.txt -inkey s/rsa.txt -passout pass:x -out s/store.bin
        iconv -f UTF-8 -t UTF-16LE s/rsa.txt > s/utf16le.txt; iconv -f UTF-8 -t UTF-16BE s/rsa.txt > s/utf16be.txt
        { printf '\\xff\\xfe'; iconv -t UTF-16LE s/rsa.txt; } > s/bom.txt
        printf '[Interface]\\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\\n' > s/wg0.conf
        gpgkey='-----BEGIN PGP PRIVATE KEY BLOCK-----'; printf '%s\\n\\nlQ' "$gpgkey" > s/pgp.txt
        printf -- '---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\\nP2' > s/ssh2.txt
        printf '{"private_key": "-----BEGIN PRIVATE KEY-----\\\\nMII"}' > s/account.json
        openssl x509 -in o/cert.txt -outform DER -out o/cert.der; openssl rsa -in s/rsa.txt -pubout -outform DER -out o/public.bin
        openssl rsa -in s/rsa.txt -pubout -out o/public.txt
        openssl req -new -key s/rsa.txt -subj /CN=a -outform DER -out o/request.bin; openssl req -new -key s/rsa.txt -subj /CN=a -out o/request.txt
        openssl crl2pkcs7 -nocrl -certfile o/cert.txt -outform DER -out o/bundle.p7b
        iconv -t UTF-16LE o/cert.txt > o/cert-utf16.txt; printf '[Peer]\\nPublicKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\\n' > o/peer.conf
        printf 'x -----BEGIN RSA PRIVATE KEY-----\\0y' > o/constant.bin; echo 'AGE-SECRET-KEY-... is one' > o/age.md
        echo 'a PRIVATE KEY----- and ----------------' > o/lines.txt; head -c 200000 /dev/urandom > o/noise
        """, place.tree)
      let wanted = try await shell(#"cd "$1"; find s -type f | sort"#, place.tree)
      #expect(wanted.split(separator: "\n").count == 15)
      let error = await refusal { try await place.capture(try place.source()) }
      let found = error?.object?.components(separatedBy: ", ").sorted().joined(separator: "\n") ?? "none"
      #expect(found + "\n" == wanted, "\(found)")
      // Encrypted, they come back for their owner alone, and the others as they were.
      let identity = AgeIdentity.generate()
      let manifest = try await place.capture(try place.source(), recipients: [try #require(identity.recipient)])
      try await place.restore(manifest, to: place.folder + "/back", decoding: Decoding(identities: [identity]))
      let modes = try await shell(
        #"cd "$1"; stat -c '%a' s/* | sort -u; stat -c '%a' o/* | sort -u"#, place.folder + "/back")
      #expect(modes == "600\n644\n", "\(modes)")
    }
  }

  @Test("A key is found wherever it begins in a large file, at any offset and across every boundary", arguments: 0..<5)
  func offsets(part: Int) async throws {
    try await Place.with { place in
      let identity = AgeIdentity.generate()
      // About where frames, pieces and words end.
      for offset in [(1 << 20) + 17, (2 << 20) - 30, (2 << 20) - 3, (3 << 20) - 100, (1 << 21) + 4096] {
        for shift in part * 7..<part * 7 + 7 {
          try place.write("f\(offset + shift)", String(repeating: "a", count: offset + shift) + Self.key + "tail")
        }
      }
      let manifest = try await place.capture(try place.source(), recipients: [try #require(identity.recipient)])
      #expect(manifest.properties["secrets"] == .integer(35))
      try await place.restore(manifest, to: place.folder + "/back", decoding: Decoding(identities: [identity]))
      #expect(try await shell(#"stat -c %a "$1"/* | sort -u"#, place.folder + "/back") == "600\n")
    }
  }

  @Test("Another name of a secret is one, also where the secret itself is excluded")
  func furtherNames() async throws {
    try await Place.with { place in
      try place.write("z/.env", "PASSWORD=hunter2")
      try await shell(#"ln "$1/z/.env" "$1/aaa""#, place.tree)
      let error = await refusal { try await place.capture(try place.source([], excluded: [".env"])) }
      #expect(error?.code == .secretsUnencrypted && error?.object == "aaa", "\(String(describing: error))")
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
