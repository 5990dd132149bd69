#pragma once
#include <stddef.h>
#include <stdint.h>

/// 1 if this processor has instructions for SHA-256 that are used here, 0 if not: then call nothing else.
int dr_sha256_is_fast(void);

/// Folds whole blocks of 64 bytes into a state, the words a to h of FIPS 180-4.
void dr_sha256_fold(uint32_t *state, const uint8_t *data, size_t blocks);

/// The same for two independent streams at once, as many blocks of each.
void dr_sha256_fold_two(
    uint32_t *state0, const uint8_t *data0, uint32_t *state1, const uint8_t *data1, size_t blocks);
