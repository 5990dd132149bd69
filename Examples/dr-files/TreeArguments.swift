import ArgumentParser
import DRCore
import DRFiles
import ExampleSupport

/// Which files.
struct TreeArguments: ParsableArguments {
  @Argument(help: "The folder.", completion: .directory)
  var root: String

  @Argument(
    help: """
      Names, paths or globs below it, as .gitignore has them: '.env' and '*.conf' at any depth, 'certs/*.pem' at its place. \
      None: everything.
      """)
  var patterns: [String] = []

  @Option(name: .customLong("exclude"), help: "Leave out what this pattern matches. May be given several times.")
  var excluded: [String] = []

  @Option(
    name: .customLong("secret"), help: "Take what this pattern matches for a secret. May be given several times.")
  var secrets: [String] = []

  @Option(parsing: .unconditional, help: "Leave out files of more bytes, and say so.")
  var largestFile: Int64?

  @Flag(help: "Go into folders where another file system is mounted.")
  var crossFileSystems = false

  @Flag(help: "Leave out what may not be read, and say so, rather than fail.")
  var leaveOutUnreadable = false

  func validate() throws {
    _ = try usage {
      (
        try PathSelection(included: patterns, excluded: excluded), try SecretJudge(SecretRules(patterns: secrets))
      )
    }
    try allow("--largest-file", largestFile, 0...1_000_000_000_000_000)
  }

  func source(of component: Component) -> FileTreeSource {
    var source = FileTreeSource(component: component, root: absolute(root), included: patterns, excluded: excluded)
    source.largestFile = largestFile
    source.crossesFileSystems = crossFileSystems
    source.unreadable = leaveOutUnreadable ? .leaveOut : .fail
    source.secrets.patterns += secrets
    return source
  }
}
