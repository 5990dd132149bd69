import DRStorage
import Foundation

/// Extended attributes of an open file or folder.
enum ExtendedAttributes {
  #if canImport(Darwin)
    private static func list(_ descriptor: Int32, _ memory: UnsafeMutablePointer<CChar>?, _ size: Int) -> Int {
      flistxattr(descriptor, memory, size, 0)
    }
    private static func get(
      _ descriptor: Int32, _ name: String, _ memory: UnsafeMutableRawPointer?, _ size: Int
    ) -> Int { fgetxattr(descriptor, name, memory, size, 0, 0) }
    private static func set(_ descriptor: Int32, _ name: String, _ memory: UnsafeRawPointer?, _ size: Int) -> Int32 {
      fsetxattr(descriptor, name, memory, size, 0, 0)
    }
  #else
    // Linux has them, but its C library shows them in no header that Swift imports.
    private typealias List = @convention(c) (Int32, UnsafeMutablePointer<CChar>?, Int) -> Int
    private typealias Get = @convention(c) (Int32, UnsafePointer<CChar>, UnsafeMutableRawPointer?, Int) -> Int
    private typealias Set = @convention(c) (Int32, UnsafePointer<CChar>, UnsafeRawPointer?, Int, Int32) -> Int32
    private static let listCall = dlsym(nil, "flistxattr").map { unsafeBitCast($0, to: List.self) }
    private static let getCall = dlsym(nil, "fgetxattr").map { unsafeBitCast($0, to: Get.self) }
    private static let setCall = dlsym(nil, "fsetxattr").map { unsafeBitCast($0, to: Set.self) }

    private static func list(_ descriptor: Int32, _ memory: UnsafeMutablePointer<CChar>?, _ size: Int) -> Int {
      errno = ENOSYS
      return listCall?(descriptor, memory, size) ?? -1
    }
    private static func get(
      _ descriptor: Int32, _ name: String, _ memory: UnsafeMutableRawPointer?, _ size: Int
    ) -> Int {
      errno = ENOSYS
      return getCall?(descriptor, name, memory, size) ?? -1
    }
    private static func set(_ descriptor: Int32, _ name: String, _ memory: UnsafeRawPointer?, _ size: Int) -> Int32 {
      errno = ENOSYS
      return setCall?(descriptor, name, memory, size, 0) ?? -1
    }
  #endif

  /// Every attribute that can be read, in the order of their names. A file system without attributes has none.
  ///
  /// - Parameter unnamed: Told how many there are whose names are not UTF-8, and which therefore are left out.
  static func all(
    _ file: Descriptor, unnamed: (Int) -> Void = { _ in }
  ) throws(SystemError) -> [(name: String, value: [UInt8])] {
    guard let raw = try names(file), !raw.isEmpty else { return [] }
    let names = raw.compactMap { String(validating: $0, as: UTF8.self) }
    if names.count < raw.count { unnamed(raw.count - names.count) }
    var attributes: [(name: String, value: [UInt8])] = []
    for name in names.sorted() {
      if let value = try value(name, file) { attributes.append((name, value)) }
    }
    return attributes
  }

  private static func names(_ file: Descriptor) throws(SystemError) -> [[UInt8]]? {
    while true {
      let size = try allowing(ENOTSUP, ENOSYS) { () throws(SystemError) in
        try systemCall("flistxattr") { list(file.number, nil, 0) }
      }
      guard let size, size > 0 else { return nil }
      var memory = [CChar](repeating: 0, count: size)
      // It may have grown since it was asked for its size.
      let count = try allowing(ERANGE) { () throws(SystemError) in
        try systemCall("flistxattr") {
          memory.withUnsafeMutableBufferPointer { list(file.number, $0.baseAddress, size) }
        }
      }
      guard let count else { continue }
      return memory.prefix(count).split(separator: 0).map { $0.map { UInt8(bitPattern: $0) } }
    }
  }

  /// Nil: it is gone, or only another user may read it.
  private static func value(_ name: String, _ file: Descriptor) throws(SystemError) -> [UInt8]? {
    while true {
      let size = try allowing(ENODATA, EPERM, EACCES, ENOTSUP) { () throws(SystemError) in
        try systemCall("fgetxattr") { get(file.number, name, nil, 0) }
      }
      guard let size else { return nil }
      if size == 0 { return [] }
      var memory = [UInt8](repeating: 0, count: size)
      let count = try allowing(ERANGE) { () throws(SystemError) in
        try systemCall("fgetxattr") {
          memory.withUnsafeMutableBytes { get(file.number, name, $0.baseAddress, size) }
        }
      }
      if let count { return [UInt8](memory.prefix(count)) }
    }
  }

  static func set(_ name: String, _ value: [UInt8], of file: Descriptor) throws(SystemError) {
    try systemCall("fsetxattr") { value.withUnsafeBytes { set(file.number, name, $0.baseAddress, $0.count) } }
  }
}
