import DRCore
import DRStorage
import ExampleSupport

/// How to open what a drill left, with stock tools alone.
enum KeptRepository {
  static func lines(_ folder: DrillFolder, _ settings: RepositoryConfiguration, _ catalog: Catalog) -> [String] {
    guard let manifest = catalog.backups.last, let base = try? manifest.artifact("base.tar") else { return [] }
    let open = settings.recipients == nil ? "cat" : "age -d -i \(folder.identity)"
    let file = "\(folder.repository)/\(base.key)"
    return [
      "", "The repository is in \(folder.repository). Stock tools open it:",
      "  \(open) \(file) | zstd -d | tar tf - | head",
      "  \(open) \(file) | zstd -d | sha256sum    # \(base.rawSHA256)",
      "  sha256sum \(file)    # \(base.storedSHA256)",
      "  find \(folder.repository)/postgres/wal -type f",
      "Remove it with: rm -r \(folder.path)",
    ]
  }
}
