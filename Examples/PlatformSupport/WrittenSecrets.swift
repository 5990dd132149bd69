/// Secrets that were written into a platform's file, where everybody reads them who may read a plan, and every list of processes shows them.
enum WrittenSecrets {
  /// What a program's word says that looks like a secret; nil: nothing. Never the secret itself.
  static func found(inWord word: String) -> String? {
    // A reference to a variable is none: `$NAME`, `${NAME}`.
    if let match = word.firstMatch(
      of: /(?i)(?:^|[\s?&;,\-])(password|passwd|pwd|secret|token|api[-_]?key)=([^\s&$][^\s&]*)/)
    {
      return "\(match.1)="
    }
    if word.firstMatch(of: /[A-Za-z][A-Za-z0-9+.\-]*:\/\/[^\/\s:@]*:[^\/\s@$][^\/\s@]*@/) != nil {
      return "an address with a password"
    }
    return nil
  }

  /// - Returns: Where in a command one is, for people; nil: nowhere.
  static func found(in command: [String]) -> String? {
    // The program itself may be what holds one.
    if let what = command.first.flatMap(found(inWord:)) { return "\(what) as a command's program" }
    for (index, word) in command.enumerated() {
      if let what = found(inWord: word) { return "\(what) in the command of \(command[0].prefix(60))" }
      let isNext = ["--password", "--pass", "--secret", "--token", "--requirepass"].contains(word.lowercased())
      if isNext, index + 1 < command.count, !command[index + 1].hasPrefix("$") {
        return "\(word) in the command of \(command[0].prefix(60))"
      }
    }
    return nil
  }

  static func found(in environment: [String: String]) -> String? {
    for (name, value) in environment.sorted(by: { $0.key < $1.key }) {
      let upper = name.uppercased()
      if ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "SECRET_ACCESS_KEY", "CLI_AUTH"].contains(where: upper.hasSuffix) {
        return "the variable \(name)"
      }
      if let what = found(inWord: value) { return "\(what) in the variable \(name)" }
    }
    return nil
  }
}
