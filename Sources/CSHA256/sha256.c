// The compression function of SHA-256 (FIPS 180-4) with the SHA extensions of x86-64, for one stream or for two at once.
//
// A round of one stream waits for the round before it: the processor could do twice as much in that time. Two streams
// interleaved take 1.1 times as long as one.
//
// Source of the instructions' meaning: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, SHA256RNDS2,
// SHA256MSG1, SHA256MSG2.

#include "csha256.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

static const uint32_t constants[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

#define SHA_TARGET __attribute__((target("sha,sse4.1")))

int dr_sha256_is_fast(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1)) return 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 29)) ? 1 : 0;
}

// The instructions want the eight words as a, b, e, f and c, d, g, h, the first in the highest lane.
SHA_TARGET static inline void load(const uint32_t *state, __m128i *abef, __m128i *cdgh) {
  __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xB1);
  __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1B);
  *abef = _mm_alignr_epi8(cdab, efgh, 8);
  *cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
}

SHA_TARGET static inline void store(uint32_t *state, __m128i abef, __m128i cdgh) {
  __m128i feba = _mm_shuffle_epi32(abef, 0x1B);
  __m128i dchg = _mm_shuffle_epi32(cdgh, 0xB1);
  _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

// All loops over `lanes` and over the rounds are unrolled, so that the arrays become registers.
SHA_TARGET static inline __attribute__((always_inline)) void fold(
    const int lanes, uint32_t *const states[], const uint8_t *data[], size_t blocks) {
  const __m128i bigEndian = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
  __m128i abef[2], cdgh[2];
  for (int lane = 0; lane < lanes; lane++) load(states[lane], &abef[lane], &cdgh[lane]);
  for (; blocks > 0; blocks--) {
    __m128i words[2][4], abef0[2], cdgh0[2];
#pragma clang loop unroll(full)
    for (int lane = 0; lane < lanes; lane++) {
      abef0[lane] = abef[lane];
      cdgh0[lane] = cdgh[lane];
#pragma clang loop unroll(full)
      for (int i = 0; i < 4; i++)
        words[lane][i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)data[lane] + i), bigEndian);
      data[lane] += 64;
    }
    // Four rounds a turn. Words 4 * turn and on lie in words[turn % 4], those before them in words[(turn + 3) % 4].
#pragma clang loop unroll(full)
    for (int turn = 0; turn < 16; turn++) {
      const int now = turn & 3, next = (turn + 1) & 3, last = (turn + 3) & 3;
#pragma clang loop unroll(full)
      for (int lane = 0; lane < lanes; lane++) {
        __m128i *w = words[lane];
        __m128i sum = _mm_add_epi32(w[now], _mm_load_si128((const __m128i *)constants + turn));
        cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], sum);
        if (turn >= 3 && turn < 15)
          w[next] = _mm_sha256msg2_epu32(_mm_add_epi32(w[next], _mm_alignr_epi8(w[now], w[last], 4)), w[now]);
        abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], _mm_shuffle_epi32(sum, 0x0E));
        if (turn >= 1 && turn < 13) w[last] = _mm_sha256msg1_epu32(w[last], w[now]);
      }
    }
#pragma clang loop unroll(full)
    for (int lane = 0; lane < lanes; lane++) {
      abef[lane] = _mm_add_epi32(abef[lane], abef0[lane]);
      cdgh[lane] = _mm_add_epi32(cdgh[lane], cdgh0[lane]);
    }
  }
  for (int lane = 0; lane < lanes; lane++) store(states[lane], abef[lane], cdgh[lane]);
}

SHA_TARGET void dr_sha256_fold(uint32_t *state, const uint8_t *data, size_t blocks) {
  uint32_t *const states[] = {state};
  const uint8_t *all[] = {data};
  fold(1, states, all, blocks);
}

SHA_TARGET void dr_sha256_fold_two(
    uint32_t *state0, const uint8_t *data0, uint32_t *state1, const uint8_t *data1, size_t blocks) {
  uint32_t *const states[] = {state0, state1};
  const uint8_t *all[] = {data0, data1};
  fold(2, states, all, blocks);
}

#else

int dr_sha256_is_fast(void) { return 0; }

void dr_sha256_fold(uint32_t *state, const uint8_t *data, size_t blocks) {
  (void)state, (void)data, (void)blocks;
}

void dr_sha256_fold_two(
    uint32_t *state0, const uint8_t *data0, uint32_t *state1, const uint8_t *data1, size_t blocks) {
  (void)state0, (void)data0, (void)state1, (void)data1, (void)blocks;
}

#endif
