import DRCore
import DRStorage
import Foundation
import NIOCore

/// Walks a tree, depth first and in the order of names, and gives it as the frames of a tar.
///
/// Holds one folder's names for each level, the open file, and one buffer: memory does not depend on how many files
/// there are, but for those with several names. Blocking.
///
/// `@unchecked Sendable`: one task uses it at a time, on its `BlockingExecutor`.
final class TreeCursor: @unchecked Sendable {
  static let frameSize = 1 << 20
  /// Files up to this size are read whole before anything of them is stored.
  private static let smallSize: Int64 = 1 << 20
  private static let readings = 4
  /// Longer than a tick of any kernel.
  private static let calmMilliseconds: Int64 = 20
  /// A file with more holes is stored with them.
  private static let mostRuns = 4096

  struct Settings: Sendable {
    let root: String
    let selection: PathSelection
    let judge: SecretJudge
    let encrypts: Bool
    let largestFile: Int64
    let largestTotal: Int64
    let crossesFileSystems: Bool
    let leavesOutUnreadable: Bool
    /// The identity of this backup, where it keeps an index for the next.
    var indexedAs: String?
    /// What the backup before knows.
    var known = TreeIndex()
    /// Secrets are passed over, and said to be.
    var leavesOutSecrets = false
    /// Sparse files keep their holes.
    var keepsHoles = true
    /// Why something of a name cannot be kept, where not everything can.
    var refusal: @Sendable (_ name: [UInt8], FileStatus.Kind) -> String? = { _, _ in nil }
    /// A folder that is passed over, and why.
    var passedOver: (folder: FileStatus.Identity, reason: String)?

    init(_ source: FileTreeSource, encrypts: Bool) throws {
      guard source.root.hasPrefix("/"), !source.root.utf8.contains(0) else {
        throw DRError(.invalidConfiguration, "the root of a tree is an absolute path", object: source.root)
      }
      root = source.root
      selection = try PathSelection(included: source.included, excluded: source.excluded)
      judge = try SecretJudge(source.secrets)
      self.encrypts = encrypts
      largestFile = source.largestFile ?? .max
      largestTotal = source.largestTotal ?? .max
      crossesFileSystems = source.crossesFileSystems
      leavesOutUnreadable = source.unreadable == .leaveOut
    }
  }

  /// A folder on the way.
  private struct Level {
    var folder: Descriptor
    var path: [UInt8]
    var status: FileStatus
    var names: ArraySlice<[UInt8]>
    var isIncluded: Bool
    /// Whether it is in the archive already.
    var isWritten: Bool
  }

  /// A file that is too large to be read whole before it is stored.
  private struct Stream {
    var file: Descriptor
    var member: TarMember
    var name: [UInt8]
    var before: FileStatus
    var isCalm: Bool
    var reading: Int
    /// What of the file is still to be read.
    var runs: ArraySlice<Range<Int64>>
    var scanner: SecretScanner?
    var isShort = false
    /// Of what is stored, where it is for the index.
    var digest: StreamDigest?
  }

  private(set) var report: TreeReport

  private let settings: Settings
  private let isSurvey: Bool
  private let accounts = Accounts()
  private var levels: [Level] = []
  private var names: [FileStatus.Identity: [UInt8]] = [:]
  /// Files of several names, of which one is a secret's.
  private var linkedSecrets: Set<FileStatus.Identity> = []
  private var pending = ByteBuffer()
  private var stream: Stream?
  private var rootDevice: UInt64 = 0
  private var scratch: UnsafeMutableRawBufferPointer
  private var isEnded = false

  /// - Parameter isSurvey: Only look for secrets.
  init(_ settings: Settings, isSurvey: Bool) throws {
    self.settings = settings
    self.isSurvey = isSurvey
    report = TreeReport(patterns: settings.selection.count)
    scratch = .allocate(byteCount: Int(TreeCursor.smallSize) + 1, alignment: 64)
    do {
      let root = try Descriptor.root(settings.root)
      let status = try root.fileStatus()
      rootDevice = status.identity.device
      if !settings.encrypts || settings.leavesOutSecrets {
        linkedSecrets = try LinkedSecrets.find(in: root, settings)
      }
      try enter(root, [], status, isIncluded: settings.selection.isEverything)
    } catch let error as SystemError {
      throw error.reading(settings.root.utf8)
    }
  }

  deinit { scratch.deallocate() }

  /// The next frame, full but for the last, or nil at the end.
  func fill(_ empty: ByteBuffer) throws -> ByteBuffer? {
    var frame = empty
    while frame.readableBytes < TreeCursor.frameSize {
      let room = TreeCursor.frameSize - frame.readableBytes
      if pending.readableBytes > 0 {
        let count = min(room, pending.readableBytes)
        if var part = pending.readSlice(length: count) { frame.writeBuffer(&part) }
        continue
      }
      pending.clear()
      if stream != nil {
        try readStream(into: &frame, room: room)
      } else if isEnded {
        break
      } else if try !advance() {
        isEnded = true
        pending.writeRepeatingByte(0, count: TarWriter.trailerSize)
      }
    }
    return frame.readableBytes > 0 ? frame : nil
  }

  /// One step of the walk; false at its end.
  func advance() throws -> Bool {
    guard let last = levels.indices.last else { return false }
    guard let name = levels[last].names.popFirst() else {
      levels.removeLast()
      return true
    }
    let path = FileName.join(levels[last].path, name)
    do {
      try visit(name, path, in: levels[last])
    } catch let error as SystemError {
      guard settings.leavesOutUnreadable, [EACCES, EPERM, EIO].contains(error.number) else { throw error.reading(path) }
      report.omit(path, "it could not be read (\(error.call): \(String(cString: strerror(error.number))))")
    }
    return true
  }

  private func visit(_ name: [UInt8], _ path: [UInt8], in parent: Level) throws {
    if parent.path.isEmpty, FileName.isOwn(name) {
      return report.omit(path, "a restore gives such names to what it works on and what it keeps aside")
    }
    let components = FileName.components(path)
    if settings.selection.excludes(components) { return }
    let matching = settings.selection.matching(components)
    let isIncluded = parent.isIncluded || !matching.isEmpty
    guard let status = try parent.folder.statusIfPresent(name) else {
      if isIncluded { report.omit(path, "it was removed while the tree was read") }
      return
    }
    report.matched(matching)
    if isIncluded, let reason = settings.refusal(name, status.kind) { return report.omit(path, reason) }
    switch status.kind {
    case .folder:
      guard
        let folder = try allowing(
          ENOENT, ENOTDIR, ELOOP, call: { () throws(SystemError) in try parent.folder.folder(name) })
      else { return report.omit(path, "it was removed while the tree was read") }
      let status = try folder.fileStatus()
      if let passed = settings.passedOver, passed.folder == status.identity { return report.omit(path, passed.reason) }
      if status.identity.device != rootDevice, !settings.crossesFileSystems {
        if isIncluded { try write(folder, path, status) }
        return report.omit(path, "another file system is mounted there")
      }
      try enter(folder, path, status, isIncluded: isIncluded)
    case .file: if isIncluded { try writeFile(name, path, status, in: parent.folder) }
    case .symbolicLink: if isIncluded { try writeLink(name, path, status, in: parent.folder) }
    case .socket, .pipe, .device: if isIncluded { report.omit(path, "it is \(status.kind.text)") }
    }
  }

  private func enter(_ folder: Descriptor, _ path: [UInt8], _ status: FileStatus, isIncluded: Bool) throws {
    let names = try folder.names()
    if names.contains([UInt8](LocalTier.marker.utf8)) {
      return report.omit(path, "it holds a repository of backups")
    }
    if isIncluded { try write(folder, path, status) }
    levels.append(
      Level(
        folder: folder, path: path, status: status, names: names[...], isIncluded: isIncluded, isWritten: isIncluded))
  }

  // MARK: Members

  /// Writes the folders above what is about to be written that are not in the archive yet, the uppermost first.
  private func writeParents() throws {
    for index in levels.indices where !levels[index].isWritten {
      levels[index].isWritten = true
      try writeFolder(levels[index].folder, levels[index].path, levels[index].status)
    }
  }

  private func write(_ folder: Descriptor, _ path: [UInt8], _ status: FileStatus) throws {
    if isSurvey { return }
    try writeParents()
    try writeFolder(folder, path, status)
  }

  private func writeFolder(_ folder: Descriptor, _ path: [UInt8], _ status: FileStatus) throws {
    var member = member(.folder, path, status)
    try addAttributes(&member, folder)
    TarWriter.write(member, into: &pending)
    report.folders += 1
  }

  private func writeLink(_ name: [UInt8], _ path: [UInt8], _ status: FileStatus, in folder: Descriptor) throws {
    if isSurvey { return }
    if try writeFurtherName(path, status) { return }
    let target = try allowing(ENOENT, EINVAL) { () throws(SystemError) in try folder.linkTarget(name) }
    guard let target else { return report.omit(path, "it was removed while the tree was read") }
    try writeParents()
    var member = member(.symbolicLink, path, status)
    member.rawLinkTarget = target
    TarWriter.write(member, into: &pending)
    report.links += 1
    if status.links > 1 { names[status.identity] = path }
  }

  /// A file of several names is stored under the first of them.
  private func writeFurtherName(_ path: [UInt8], _ status: FileStatus) throws -> Bool {
    guard status.links > 1, let first = names[status.identity] else { return false }
    try writeParents()
    var member = member(.hardLink, path, status)
    member.rawLinkTarget = first
    TarWriter.write(member, into: &pending)
    report.links += 1
    return true
  }

  private func writeFile(_ name: [UInt8], _ path: [UInt8], _ status: FileStatus, in folder: Descriptor) throws {
    if !isSurvey, try writeFurtherName(path, status) { return }
    guard status.size <= settings.largestFile else {
      return report.omit(path, "it has \(status.size) bytes, more than \(settings.largestFile)")
    }
    if isSurvey { return try survey(name, path, status, in: folder) }
    if let known = settings.known[path], known.isStill(status) {
      report.index[path] = known
      report.unchanged += 1
      try writeParents()
      return try count(status.size)
    }
    var readings = 0
    while true {
      readings += 1
      let file = try allowing(ENOENT, ELOOP, ENXIO) { () throws(SystemError) in try folder.file(name) }
      guard let file else { return report.omit(path, "it was removed while the tree was read") }
      let (before, isCalm) = try calmStatus(file)
      guard before.kind == .file else {
        return report.omit(path, "it became \(before.kind.text) while the tree was read")
      }
      guard before.size <= TreeCursor.smallSize else {
        return try start(
          Stream(
            file: file, member: member(.file, path, before), name: name, before: before, isCalm: isCalm,
            reading: readings, runs: []))
      }
      let count = try file.read(at: 0, into: scratch)
      let after = try file.fileStatus()
      let named = try folder.statusIfPresent(name)
      let isSettled =
        isCalm && before.isSame(as: after) && Int64(count) == before.size
        && (named.map { $0.identity == before.identity } ?? true)
      if !isSettled, readings < TreeCursor.readings {
        // Whoever writes it may need a moment to finish.
        usleep(useconds_t(10_000 << readings))
        continue
      }
      if readings > 1 { report.changed(path, readings: readings, settled: isSettled) }
      var member = member(.file, path, after)
      member.size = min(Int64(count), TreeCursor.smallSize)
      try writeSmall(member, file, after, isSettled: isSettled)
      return
    }
  }

  /// Writes a file whose content is in `scratch`.
  private func writeSmall(_ given: TarMember, _ file: Descriptor, _ status: FileStatus, isSettled: Bool) throws {
    var member = given
    let runs = isSettled ? sparseRuns(file, status) : nil
    let content = UnsafeRawBufferPointer(rebasing: scratch[..<Int(member.size)])
    var scanner = SecretScanner(length: member.size)
    scanner.scan(content)
    let isSecret = judge(&member, hasSecretContent: scanner.isSecret || isLinkedSecret(status))
    if isRefusing || isLeftOut(isSecret, given.rawPath) { return }
    let isSpecial = report.certificates.scan(member.rawPath, content) || isSecret
    try addAttributes(&member, file, isSecret: isSecret)
    try writeParents()
    try count(member.size)
    if let runs {
      member.sparse = map(runs, length: member.size)
      member.size = member.sparse?.dataSize ?? 0
    }
    TarWriter.write(member, into: &pending)
    var digest = isSettled && !isSpecial ? indexDigest(status) : nil
    for run in runs ?? [0..<Int64(content.count)] {
      let piece = UnsafeRawBufferPointer(rebasing: content[Int(run.lowerBound)..<Int(run.upperBound)])
      digest?.update(piece)
      pending.writeBytes(piece)
    }
    note(member.rawPath, status, digest)
    pending.writeRepeatingByte(0, count: TarWriter.padding(member.size))
    if status.links > 1 { names[status.identity] = member.rawPath }
  }

  /// The status of a file from which every later change can be told: the clock of a file system stands still for some
  /// milliseconds, and two changes within may look like one. False: it went on changing.
  private func calmStatus(_ file: Descriptor) throws(SystemError) -> (FileStatus, isCalm: Bool) {
    var status = try file.fileStatus()
    for _ in 0..<3 {
      var now = timespec()
      clock_gettime(CLOCK_REALTIME, &now)
      let age =
        (Int64(now.tv_sec) - status.changed.seconds) * 1000 + (Int64(now.tv_nsec) - Int64(status.changed.nanoseconds))
        / 1_000_000
      // A file from the future (a clock was set back) is no measure.
      if age < 0 || age >= TreeCursor.calmMilliseconds { return (status, true) }
      usleep(useconds_t(TreeCursor.calmMilliseconds * 1000))
      status = try file.fileStatus()
    }
    return (status, false)
  }

  // MARK: Large files

  private func start(_ given: Stream) throws {
    var stream = given
    // What is left out must be known before anything of it is handed out; else the beginning has to do.
    let isFound = try holdsSecret(
      stream.file, length: stream.before.size, limit: settings.leavesOutSecrets ? .max : Int64(scratch.count))
    let isSecret = judge(&stream.member, hasSecretContent: isFound || isLinkedSecret(stream.before))
    if isRefusing || isLeftOut(isSecret, given.member.rawPath) { return }
    if !isSecret { stream.scanner = SecretScanner(length: stream.before.size) }
    try addAttributes(&stream.member, stream.file, isSecret: isSecret)
    try writeParents()
    if stream.reading == 1 { try count(stream.before.size) }
    stream.member.size = stream.before.size
    stream.runs = [0..<stream.before.size]
    if let runs = sparseRuns(stream.file, stream.before) {
      stream.member.sparse = map(runs, length: stream.before.size)
      stream.member.size = stream.member.sparse?.dataSize ?? 0
      stream.runs = runs[...]
    }
    TarWriter.write(stream.member, into: &pending)
    stream.digest = isSecret ? nil : indexDigest(stream.before)
    self.stream = stream
  }

  private func readStream(into frame: inout ByteBuffer, room: Int) throws {
    guard var current = stream else { return }
    guard let run = current.runs.first else { return try endStream(current) }
    let count = Int(min(Int64(room), Int64(run.count)))
    do {
      try frame.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { memory in
        let part = UnsafeMutableRawBufferPointer(rebasing: memory[..<count])
        let got = try current.file.read(at: run.lowerBound, into: part)
        if got < count {
          // It was cut: what the header promised is filled up, and the file read again.
          UnsafeMutableRawBufferPointer(rebasing: part[got...]).initializeMemory(as: UInt8.self, repeating: 0)
          current.isShort = true
        }
        current.scanner?.scan(UnsafeRawBufferPointer(part))
        current.digest?.update(UnsafeRawBufferPointer(part))
        return count
      }
    } catch let error as SystemError {
      throw error.reading(current.member.rawPath)
    }
    if current.scanner?.isSecret == true {
      guard settings.encrypts, !settings.leavesOutSecrets else {
        // Not even a part of it is handed out.
        throw DRError(
          .secretsUnencrypted, "a file holds a private key, and what is stored of it would not be encrypted",
          advice: settings.leavesOutSecrets
            ? "it came into the file while that was read: try again" : "set a recipient, or exclude it",
          object: FileName.text(current.member.rawPath))
      }
      // Its mode is stored already: a restore, which looks at all of the content too, knows better.
      addSecret(current.member.rawPath)
      current.scanner = nil
      current.digest = nil
    }
    let rest = run.lowerBound + Int64(count)..<run.upperBound
    if rest.isEmpty { current.runs.removeFirst() } else { current.runs[current.runs.startIndex] = rest }
    stream = current
  }

  /// Looks whether the file stood still. If not it is stored once more: of two members of one path the last counts.
  private func endStream(_ ended: Stream) throws {
    stream = nil
    pending.writeRepeatingByte(0, count: TarWriter.padding(ended.member.size))
    let path = ended.member.rawPath
    do {
      let after = try ended.file.fileStatus()
      let folder = levels.last?.folder
      let named = try folder?.statusIfPresent(ended.name)
      let isSettled =
        ended.isCalm && !ended.isShort && ended.before.isSame(as: after)
        && (named.map { $0.identity == after.identity } ?? true)
      if isSettled || ended.reading >= TreeCursor.readings || named == nil {
        if ended.reading > 1 || !isSettled { report.changed(path, readings: ended.reading, settled: isSettled) }
        if after.links > 1 { names[after.identity] = path }
        note(path, after, isSettled && named != nil ? ended.digest : nil)
        return
      }
      guard let folder,
        let file = try allowing(ENOENT, ELOOP, ENXIO, call: { () throws(SystemError) in try folder.file(ended.name) })
      else { return report.changed(path, readings: ended.reading, settled: false) }
      let (status, isCalm) = try calmStatus(file)
      guard status.kind == .file else { return report.changed(path, readings: ended.reading, settled: false) }
      try start(
        Stream(
          file: file, member: member(.file, path, status), name: ended.name, before: status, isCalm: isCalm,
          reading: ended.reading + 1, runs: []))
    } catch let error as SystemError {
      throw error.reading(path)
    }
  }

  // MARK: Secrets

  /// Where secrets may not be stored and one was found, nothing more is: the capture fails.
  private var isRefusing: Bool { !settings.encrypts && report.secrets.count > 0 }

  private func isLeftOut(_ isSecret: Bool, _ path: [UInt8]) -> Bool {
    guard isSecret, settings.leavesOutSecrets else { return false }
    report.omit(path, "it looks like a secret")
    return true
  }

  private func judge(_ member: inout TarMember, hasSecretContent: Bool) -> Bool {
    guard hasSecretContent || settings.judge.isSecret(member.rawPath) else { return false }
    addSecret(member.rawPath)
    member.mode = FileAttributes.secretMode(member.mode)
    return true
  }

  private func addSecret(_ path: [UInt8]) {
    let path = FileName.text(path)
    // One that is read again is no other secret.
    if report.secrets.kept.last != path { report.secrets.add(path) }
  }

  private func isLinkedSecret(_ status: FileStatus) -> Bool {
    status.links > 1 && linkedSecrets.contains(status.identity)
  }

  private func survey(_ name: [UInt8], _ path: [UInt8], _ status: FileStatus, in folder: Descriptor) throws {
    if isLinkedSecret(status) || settings.judge.isSecret(path) { return addSecret(path) }
    guard let file = try allowing(ENOENT, ELOOP, ENXIO, call: { () throws(SystemError) in try folder.file(name) })
    else { return }
    if try holdsSecret(file, length: status.size, limit: settings.largestFile) { addSecret(path) }
  }

  /// Whether a file holds a private key in as many bytes.
  private func holdsSecret(_ file: Descriptor, length: Int64, limit: Int64) throws(SystemError) -> Bool {
    var scanner = SecretScanner(length: length)
    var offset: Int64 = 0
    while offset < limit {
      let count = try file.read(at: offset, into: scratch)
      scanner.scan(UnsafeRawBufferPointer(rebasing: scratch[..<count]))
      offset += Int64(count)
      if scanner.isSecret { return true }
      if count < scratch.count { break }
    }
    return false
  }

  // MARK: The index

  private func indexDigest(_ status: FileStatus) -> StreamDigest? {
    settings.indexedAs != nil && status.links == 1 ? StreamDigest() : nil
  }

  private func note(_ path: [UInt8], _ status: FileStatus, _ digest: StreamDigest?) {
    guard let digest, let home = settings.indexedAs else { return }
    report.index[path] = TreeIndex.Entry(status, home: home, sha256: digest.hex())
  }

  // MARK: Details

  private func count(_ bytes: Int64) throws {
    report.files += 1
    report.bytes += bytes
    guard report.bytes <= settings.largestTotal else {
      throw DRError(
        .sourceFailed, "the tree has more than \(settings.largestTotal) bytes",
        advice: "raise the limit, or exclude more",
        object: settings.root)
    }
  }

  private func member(_ kind: TarMember.Kind, _ path: [UInt8], _ status: FileStatus) -> TarMember {
    var member = TarMember(kind: kind, rawPath: path, mode: status.mode, modified: status.modified.seconds)
    member.nanoseconds = status.modified.nanoseconds
    member.userID = status.userID
    member.groupID = status.groupID
    member.userName = accounts.userName(status.userID)
    member.groupName = accounts.groupName(status.groupID)
    return member
  }

  private func addAttributes(
    _ member: inout TarMember, _ file: Descriptor, isSecret: Bool = false
  ) throws(SystemError) {
    var unnamed = 0
    for (name, value) in try ExtendedAttributes.all(file, unnamed: { unnamed = $0 }) {
      switch name {
      case AccessControlList.access: if !isSecret { member.accessACL = AccessControlList.text(value) }
      case AccessControlList.inherited: member.defaultACL = AccessControlList.text(value)
      default:
        // The system's own views of other things, and labels that belong to this system's policy.
        if name.hasPrefix("system.") || FileAttributes.foreign.contains(name) { continue }
        member.attributes.append(TarMember.Attribute(name: name, value: value))
      }
    }
    if unnamed > 0 {
      report.omit(member.rawPath, "\(unnamed) of its extended attributes, whose names are not UTF-8")
    }
  }

  private func sparseRuns(_ file: Descriptor, _ status: FileStatus) -> [Range<Int64>]? {
    guard status.isSparse, status.size > 0, settings.keepsHoles else { return nil }
    guard let runs = file.dataRuns(length: status.size, limit: TreeCursor.mostRuns) else { return nil }
    // A compressing file system has fewer blocks too, and no holes.
    return runs == [0..<status.size] ? nil : runs
  }

  private func map(_ runs: [Range<Int64>], length: Int64) -> TarSparseMap {
    TarSparseMap(
      runs: runs.map { TarSparseMap.Run(offset: $0.lowerBound, count: Int64($0.count)) }, length: length)
  }
}
