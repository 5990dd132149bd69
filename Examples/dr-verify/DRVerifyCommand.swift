import ArgumentParser
import ExampleSupport

/// Verifies what must hold in the worst hour.
@main
struct DRVerifyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-verify", abstract: "Verifies reports of drills, recoveries and verifications.",
    discussion: ProgramExit.codes(), subcommands: [Report.self])
}
