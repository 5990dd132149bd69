package import DRCore

extension StorageTier {
  /// As a program is told of it: the folder, or `s3://bucket/prefix`.
  package var place: String { name.tierPlace }
}

extension String {
  /// Of the name of a tier its place.
  var tierPlace: String { hasPrefix("local:") ? String(dropFirst(6)) : self }
}
