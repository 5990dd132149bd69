import ArgumentParser
import DRCore
import ExampleSupport
import Foundation

/// Makes a key pair.
struct Keygen: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Makes an age key pair: the secret into a new file, the public key on standard output.")

  @Argument(help: "The file for the secret key; it must not exist. Keep it off the backup host, and keep a copy.")
  var file: String

  func run() async throws {
    try await reporting {
      let identity = AgeIdentity.generate()
      guard let secret = identity.secretText(), let recipient = identity.recipient else { return }
      let descriptor = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
      guard descriptor >= 0 else {
        throw DRError(
          .notWritable, "the key file cannot be created: \(String(cString: strerror(errno)))",
          advice: "name a file that does not exist, in a folder that does: no key is ever replaced", object: file)
      }
      let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
      try handle.write(contentsOf: Data("# public key: \(recipient)\n\(secret)\n".utf8))
      try handle.synchronize()
      print(recipient)
    }
  }
}
