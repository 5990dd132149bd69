package import DRCore

extension StorageTier {
  /// As a program is told of it: the folder, or `s3://bucket/prefix`.
  package var place: String { name.hasPrefix("local:") ? String(name.dropFirst(6)) : name }
}
