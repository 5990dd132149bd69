import DRCore
import Testing

/// Reading and showing keys.
@Suite("age: keys")
struct AgeKeyTests {
  /// Right checksums; wrong in their length, their prefix or their padding.
  static let wellFormed = [
    "age1gfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgg7enat4",
    "age1gfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyys3nez5",
    "agf1gfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpqwtzg87",
    "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGGEGVYQK",
    "AGE-SECRET-KEYX1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQVDDA09",
    "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73epp9g8nq",
    "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73eqqhruuh4",
    "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPGTDV38M",
    "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQQ74RJQ6",
  ]

  @Test("a key with any one character changed, left out, doubled or in the other case is refused")
  func mistyped() throws {
    for text in [AgeForge.recipientText, AgeForge.identityText] {
      func isRefused(_ characters: [Character]) -> Bool {
        let text = String(characters)
        return (try? AgeRecipient(parsing: text)) == nil && (try? AgeIdentity(parsing: text)) == nil
      }
      let characters = Array(text)
      for index in characters.indices {
        for replacement: Character in ["q", "Q", "l", "L", "1", "b", "-", "é", " "] {
          var changed = characters
          changed[index] = replacement
          #expect(changed == characters || isRefused(changed), "\(index) \(replacement)")
        }
        #expect(isRefused(Array(characters[..<index] + characters[(index + 1)...])))
        #expect(isRefused(Array(characters[..<index] + [characters[index]] + characters[index...])))
        #expect(isRefused(Array(characters[..<index])))
      }
      #expect(isRefused(Array(text.lowercased() == text ? text.uppercased() : text.lowercased())))
    }
    for text in ["", "1", "age1", "age", "11111111", "AGE-SECRET-KEY-1", "age1qqqqqq"] + Self.wellFormed {
      #expect(throws: DRError.self) { try AgeRecipient(parsing: text) }
      #expect(throws: DRError.self) { try AgeIdentity(parsing: text) }
    }
  }

  @Test("white space around a key is ignored")
  func whiteSpace() throws {
    #expect(try AgeRecipient(parsing: " \(AgeForge.recipientText)\r\n").description == AgeForge.recipientText)
    #expect(try AgeIdentity(parsing: "\t\(AgeForge.identityText)\n").secretText() == AgeForge.identityText)
  }

  @Test("keys of another kind are named as such, and never repeated")
  func otherKinds() throws {
    let secret = try #require(#expect(throws: DRError.self) { try AgeRecipient(parsing: AgeForge.identityText) })
    #expect(secret.message.contains("secret key"))
    #expect(!secret.description.contains("GFPYY"))
    for text in ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 a@b", "age1yubikey1qqqqqq", "alice@example.org"] {
      #expect(#expect(throws: DRError.self) { try AgeRecipient(parsing: text) }?.code == .invalidConfiguration)
    }
    for text in ["AGE-PLUGIN-YUBIKEY-1QQQQ", "-----BEGIN OPENSSH PRIVATE KEY-----", "age-encryption.org/v1\n"] {
      let error = #expect(throws: DRError.self) { try AgeIdentity(parsing: text) }
      #expect(error?.code == .invalidConfiguration)
      #expect(error?.advice?.isEmpty == false)
    }
    #expect(throws: DRError.self) { try AgeIdentity(parsing: AgeForge.recipientText) }
  }

  @Test("public keys of low order are refused")
  func lowOrder() throws {
    // Zero, one, the two points of order 8, and minus one, in Bech32.
    for text in [
      "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z",
      "age1qyqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqj7vrya",
      "age1ur4h5lpmgxu2u9jku0a0r87ydtdqnr0tnsetrlvxvgz3vh6fhqqqzyt4v9",
      "age1t7wft09r2zxzfvwsk92eeql0tvzyghxytqwgapkcyf8dm5ylz9ts6wm9s8",
      "age1anlllllllllllllllllllllllllllllllllllllllllllllllals4n2t7m",
    ] {
      let error = #expect(throws: DRError.self) { try AgeRecipient(parsing: text) }
      #expect(error?.message.contains("low order") == true)
    }
  }

  @Test("files of keys: comments, empty lines, DOS line ends, and errors that name the line alone")
  func files() throws {
    let other = try #require(AgeIdentity.generate().secretText())
    let identities = try AgeIdentity.parseFile("# created\r\n\r\n\(AgeForge.identityText)\r\n  \(other)  \n#end")
    #expect(identities.map { $0.secretText() } == [AgeForge.identityText, other])
    let recipients = try AgeRecipient.parseFile(
      "\(AgeForge.recipientText)\n# x\n\n\(identities[1].recipient?.description ?? "")")
    #expect(recipients == identities.compactMap(\.recipient))

    let broken = AgeForge.identityText.dropLast() + "Q"
    let error = #expect(throws: DRError.self) { try AgeIdentity.parseFile("#\n\n\(other)\n\(broken)\n") }
    #expect(error?.code == .invalidConfiguration)
    #expect(error?.message.contains("line 4 of the identity file") == true)
    #expect(error?.description.contains("GFPYY") == false)
    let mixed = #expect(throws: DRError.self) { try AgeRecipient.parseFile("#\n\(AgeForge.identityText)") }
    #expect(mixed?.message.contains("line 2 of the recipient file: a secret key") == true)
    #expect(mixed?.description.contains("GFPYY") == false)
    for empty in ["", "\n", "# nothing\n"] {
      #expect(throws: DRError.self) { try AgeIdentity.parseFile(empty) }
      #expect(throws: DRError.self) { try AgeRecipient.parseFile(empty) }
    }
  }

  @Test("what recipients may be combined")
  func combinations() throws {
    let recipient = try AgeRecipient(parsing: AgeForge.recipientText)
    for refused in [
      [], [.passphrase("p"), recipient], [recipient, .passphrase("p")], [.passphrase("p"), .passphrase("q")],
      [.passphrase("")], [.passphrase("p", workFactor: 0)], [.passphrase("p", workFactor: 23)],
      [.passphrase("p", workFactor: .min)], [.passphrase("p", workFactor: .max)],
      Array(repeating: recipient, count: 1025),
    ] as [[AgeRecipient]] {
      let error = #expect(throws: DRError.self) { try AgeEncryptor(recipients: refused) }
      #expect(error?.code == .invalidConfiguration)
    }
    #expect(throws: Never.self) { try AgeEncryptor(recipients: [recipient, recipient]) }
    #expect(AgeRecipient.passphrase("p") == .passphrase("p"))
    #expect(AgeRecipient.passphrase("p") != .passphrase("q"))
  }

  @Test("no secret is shown, by any way to show a value")
  func noSecretIsShown() throws {
    let identity = try AgeIdentity(parsing: AgeForge.identityText)
    func shown<Value>(_ value: Value) -> String {
      var text = "\(value)\n" + String(reflecting: value) + "\n"
      dump(value, to: &text)
      for child in Mirror(reflecting: value).children { dump(child.value, to: &text) }
      return text
    }
    let secrets = ["GFPYY", "hunter2", "66, 66", "424242"]
    let texts = [
      shown(identity), shown(AgeIdentity.passphrase("hunter2")), shown(AgeRecipient.passphrase("hunter2")),
      shown(Encoding(recipients: [.passphrase("hunter2")])),
      shown(Decoding(identities: [identity, .passphrase("hunter2")])),
      shown(AgeDecryptor(identities: [identity, .passphrase("hunter2")], object: "o")),
      shown(try AgeEncryptor(recipients: [.passphrase("hunter2")])),
    ]
    for text in texts {
      for secret in secrets { #expect(!text.contains(secret)) }
    }
    #expect(AgeRecipient.passphrase("hunter2").description == "scrypt")
    #expect(AgeIdentity.passphrase("hunter2").description == "passphrase")
    #expect(identity.description == "identity of \(AgeForge.recipientText)")
    #expect(AgeIdentity.passphrase("hunter2").secretText() == nil)
    #expect(AgeIdentity.passphrase("hunter2").recipient == nil)
  }
}
