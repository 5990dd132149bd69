import DRCore
import DRStorage
import Foundation

extension SystemError {
  private var reason: String { "\(call): \(String(cString: strerror(number)))" }

  /// Says it of a file that was to be read.
  func reading(_ path: some Collection<UInt8>) -> DRError {
    let advice =
      switch number {
      case EACCES, EPERM: "run as a user that may read it, or exclude it"
      case EMFILE, ENFILE: "raise the limit of open files (ulimit -n)"
      default: "look at the disk and its mount (dmesg, mount), then try again"
      }
    return DRError(.sourceFailed, "it could not be read (\(reason))", advice: advice, object: FileName.text(path))
  }

  /// Says it of a file that was to be restored.
  func restoring(_ path: some Collection<UInt8>) -> DRError {
    let object = FileName.text(path)
    switch number {
    case ENOSPC, EDQUOT, EFBIG:
      return DRError(
        .noSpace, "no space left for the restore (\(reason))", advice: "free space, or restore elsewhere",
        object: object)
    case EEXIST, ELOOP, ENOTDIR, EISDIR, ENOTEMPTY:
      return DRError(
        .destinationInUse, "something else is in its place (\(reason))",
        advice: "see what lies there, or restore into a new folder", object: object)
    case ENAMETOOLONG, EILSEQ, EINVAL:
      return DRError(
        .invalidKey, "the file system of the destination cannot hold it (\(reason))",
        advice: "restore onto another file system", object: object)
    case EXDEV:
      return DRError(
        .unsupported, "the destination lies on several file systems (\(reason))",
        advice: "restore each of them apart, by --path, or into a new folder", object: object)
    default:
      return DRError(
        .notWritable, "it could not be restored (\(reason))",
        advice: "see who owns the destination, and whether it is mounted read-only", object: object)
    }
  }
}
