#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Whether this processor multiplies without carries, and this was compiled for such a one.
bool dr_carryless_is_there(void);

/// Folds bytes into 16 that have the same CRC-64, for any reflected polynomial.
///
/// Standing alone: what `dr_carryless_is_there` says must be true, and `count` a multiple of 64 and 64 at least.
///
/// - Parameters:
///   - crc: The checksum of what came before.
///   - keys: The polynomial's reflected remainders of x to the powers of 575, 511, 191 and 127.
///   - folded: 16 bytes; their checksum, begun with 0, is the checksum of everything.
void dr_carryless_fold(
  uint64_t crc, const uint8_t *bytes, size_t count, const uint64_t keys[4], uint8_t folded[16]);
