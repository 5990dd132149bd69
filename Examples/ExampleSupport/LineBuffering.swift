// `stdout` is a variable in C: nothing here changes it, and only its buffering is set, before anything is written.
#if canImport(Darwin)
  @preconcurrency import Darwin
#elseif canImport(Musl)
  @preconcurrency import Musl
#else
  @preconcurrency import Glibc
#endif

/// Standard output line by line, also into a pipe: who reads a program's output there wants to see it as it happens.
enum LineBuffering {
  /// Before the first line is written.
  static func start() { setvbuf(stdout, nil, _IOLBF, 0) }
}
