extension String {
  /// Without the full stop of a sentence at its end, where a text of another library is made a part of ours. Three dots
  /// are none.
  package var withoutFullStop: String { hasSuffix(".") && !hasSuffix("..") ? String(dropLast()) : self }

  /// As a sentence, with another one after it.
  package func followed(by next: String) -> String { hasSuffix(".") ? "\(self) \(next)" : "\(self). \(next)" }
}
