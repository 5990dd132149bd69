/// What is taken for a secret: such a file is stored only encrypted, and only its owner may read it after a restore.
///
/// A heuristic, on purpose on the safe side. A secret in a file of an ordinary name, in a form of its own, is not
/// recognised: set recipients for everything that matters.
public struct SecretRules: Hashable, Sendable {
  /// Names or paths, written as ``FileTreeSource/included``; capital and small letters are one.
  public var patterns: [String]
  /// What `patterns` would take and is none. Their content is looked at all the same.
  public var exceptions: [String]

  /// Environment files, keys and key stores, and the files in which common programs keep passwords.
  public static let usualPatterns = [
    ".env", ".env.*", ".env~", ".env_*", ".env-*", "#.env*#", ".envrc", "*.env", "*.env.*", "*.key", "*.p12", "*.pfx",
    "*.pkcs12", "*.jks", "*.keystore", "*.kdbx", "*.ppk",
    "*.keytab",
    "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", ".pgpass", ".netrc", ".my.cnf", ".htpasswd", ".git-credentials",
    ".vault-token", ".aws/credentials", ".docker/config.json", ".erlang.cookie", "shadow", "gshadow",
    ".npmrc", ".pypirc", ".kube/config", "kubeconfig", ".dockerconfigjson", "pgpass.conf", "credentials.json",
    "secrets.yml", "secrets.yaml", "secrets.json", "terraform.tfstate*", "*.tfstate",
  ]
  /// Samples without values, and programs that read them.
  public static let usualExceptions =
    ["example", "sample", "template", "dist"].flatMap { ["*.env.\($0)", ".env-\($0)", ".env_\($0)"] }
    + ["js", "mjs", "cjs", "ts", "md"].map { "*.env.\($0)" }

  public init(patterns: [String] = usualPatterns, exceptions: [String] = usualExceptions) {
    self.patterns = patterns
    self.exceptions = exceptions
  }
}

/// ``SecretRules``, ready to be asked.
package struct SecretJudge: Sendable {
  private let patterns: [PathPattern]
  private let exceptions: [PathPattern]

  /// - Throws: ``DRError`` with `invalidConfiguration` for what is no pattern.
  package init(_ rules: SecretRules) throws {
    patterns = try rules.patterns.map { try PathPattern(SecretJudge.anyDepth($0)) }
    exceptions = try rules.exceptions.map { try PathPattern(SecretJudge.anyDepth($0)) }
  }

  /// A secret is one wherever it lies.
  private static func anyDepth(_ pattern: String) -> String {
    let pattern = String(decoding: SecretJudge.folded(pattern.utf8), as: UTF8.self)
    return pattern.utf8.contains(UInt8(ascii: "/")) && !pattern.hasPrefix("/") ? "**/\(pattern)" : pattern
  }

  /// With small letters for the capital ones of ASCII.
  private static func folded(_ bytes: some Sequence<UInt8>) -> [UInt8] {
    bytes.map { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) ? $0 | 0x20 : $0 }
  }

  /// By its name alone.
  func isSecret(_ path: [UInt8]) -> Bool {
    let components = FileName.components(SecretJudge.folded(path))
    return patterns.contains { $0.matches(components) } && !exceptions.contains { $0.matches(components) }
  }
}
