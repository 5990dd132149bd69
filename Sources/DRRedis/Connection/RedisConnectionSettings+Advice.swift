extension RedisConnectionSettings {
  /// What to do about an answer that refuses who asks; where a password came from, and never the password.
  func advice(for error: RedisError) -> String? {
    switch error.kind {
    case "NOPERM": "give this user the right to it with ACL SETUSER"
    case "NOAUTH": "the server wants a password: name a file with it (--password-file), or set REDISCLI_AUTH"
    case "WRONGPASS":
      "see the user, \(user ?? "default"), and the \(password.map { "\($0)" } ?? "password"), which this server does not take"
    case "ERR" where error.message.contains("without any password"):
      "the server has no password for its default user: name the user in --server, or leave the \(password.map { "\($0)" } ?? "password") out"
    case "ERR" where error.message.contains("cluster support disabled"):
      "this server is of no cluster: leave --cluster out"
    case "ERR" where error.message.contains("unknown command"):
      "see whether it is a Redis server, and no Sentinel (those are named with --sentinel and --master-name)"
    default: nil
    }
  }
}
