package import NIOCore

/// The `RESTORE` of an entry of an RDB file. Source: Redis documentation, "RESTORE".
package enum RestoreCommand {
  /// Writes the command. The time to live is given as a moment, so that it does not start anew.
  ///
  /// - Parameter value: The value's bytes as the file has them.
  package static func write(
    _ entry: RDBEntry, value: ByteBuffer, as name: ByteBuffer, replacing: Bool, into buffer: inout ByteBuffer
  ) {
    let hasUse = entry.idle != nil || entry.frequency != nil
    buffer.writeRESPHeader("*", 4 + (replacing ? 1 : 0) + (entry.expiry != nil ? 1 : 0) + (hasUse ? 2 : 0))
    buffer.writeStaticString("$7\r\nRESTORE\r\n")
    buffer.writeRESPBulk(name)
    if let expiry = entry.expiry { buffer.writeRESPBulk("\(expiry)") } else { buffer.writeStaticString("$1\r\n0\r\n") }
    buffer.writeRESPHeader("$", value.readableBytes + DumpPayload.overhead)
    DumpPayload.write(value, type: entry.type, into: &buffer)
    buffer.writeStaticString("\r\n")
    if replacing { buffer.writeStaticString("$7\r\nREPLACE\r\n") }
    if entry.expiry != nil { buffer.writeStaticString("$6\r\nABSTTL\r\n") }
    if let frequency = entry.frequency {
      buffer.writeStaticString("$4\r\nFREQ\r\n")
      buffer.writeRESPBulk("\(frequency)")
    } else if let idle = entry.idle {
      buffer.writeStaticString("$8\r\nIDLETIME\r\n")
      buffer.writeRESPBulk("\(idle)")
    }
  }
}
