public import DRCore
public import Foundation

/// An independent JSON Schema validator, the one of Python, and what it says of documents.
public enum SchemaJudge {
  private static let script = """
    import json, sys
    from jsonschema import Draft202012Validator
    case = json.load(sys.stdin)
    Draft202012Validator.check_schema(case["schema"])
    validator = Draft202012Validator(case["schema"])
    def verdict(document):
        error = next(validator.iter_errors(document), None)
        return error and "%s: %s" % (error.json_path, error.message)
    json.dump([verdict(document) for document in case["documents"]], sys.stdout)
    """

  /// What is wrong with each document, or nil where it follows the schema.
  ///
  /// - Throws: ``DRError`` with `programFailed` if there is no validator, or the schema itself is not valid.
  public static func verdicts(on documents: [Data], schema: Data = BackupManifest.jsonSchema) async throws -> [String?]
  {
    var input = Data(#"{"schema":"#.utf8) + schema + Data(#","documents":["#.utf8)
    input += Data(documents.joined(separator: Data(",".utf8))) + Data("]}".utf8)
    // Debian's own Python has Debian's modules; another one may stand before it on the path.
    for python in ["/usr/bin/python3", "python3"] {
      let result = try await runCommand(python, ["-c", script], input: Array(input))
      if result.status == 0 { return try JSONDecoder().decode([String?].self, from: Data(result.output)) }
      guard result.error.contains("ImportError") || result.error.contains("ModuleNotFoundError") else {
        throw DRError(.programFailed, "the schema validator failed: \(result.error)")
      }
    }
    throw DRError(
      .programFailed, "there is no python3 with jsonschema 4", advice: "apt-get install python3-jsonschema")
  }
}
