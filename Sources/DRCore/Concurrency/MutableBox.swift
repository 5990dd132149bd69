import Synchronization

/// A value behind a lock and a reference: what a Sendable closure needs to keep state between calls.
package final class MutableBox<Value: Sendable>: Sendable {
  private let mutex: Mutex<Value>

  package init(_ value: Value) { mutex = Mutex(value) }

  package func withLock<Result: Sendable>(_ body: (inout Value) throws -> Result) rethrows -> Result {
    try mutex.withLock { try body(&$0) }
  }

  package var value: Value { mutex.withLock { $0 } }
}
