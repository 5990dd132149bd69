public import ArgumentParser
public import DRCore

/// A program that backs up one kind of system: what its subcommands share knows it by this.
public protocol BackupProgram: ParsableCommand {
  /// The kind of the components that it works on.
  static var kind: Component.Kind { get }
}

extension BackupProgram {
  /// As it is called.
  static var name: String { configuration.commandName ?? "\(Self.self)" }
}
