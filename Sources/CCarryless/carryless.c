#include "CCarryless.h"

#if defined(__x86_64__)

#include <immintrin.h>

bool dr_carryless_is_there(void) { return __builtin_cpu_supports("pclmul"); }

// A block is a polynomial with its first byte's lowest bit as the highest power. To move it on by n bits is to multiply
// its first half by x^(n+64) and its second by x^n; a product of reflected halves comes out one bit short, so the keys
// are of powers one less (Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction").
__attribute__((target("pclmul"), always_inline)) static inline __m128i move_on(__m128i block, __m128i keys) {
  return _mm_xor_si128(_mm_clmulepi64_si128(block, keys, 0x00), _mm_clmulepi64_si128(block, keys, 0x11));
}

__attribute__((target("pclmul"))) void dr_carryless_fold(
  uint64_t crc, const uint8_t *bytes, size_t count, const uint64_t keys[4], uint8_t folded[16]) {
  const __m128i far = _mm_loadu_si128((const __m128i *)keys);
  const __m128i near = _mm_loadu_si128((const __m128i *)(keys + 2));
  const __m128i *next = (const __m128i *)bytes;
  // Four at once: one product need not wait for another.
  __m128i one = _mm_xor_si128(_mm_loadu_si128(next), _mm_cvtsi64_si128((long long)crc));
  __m128i two = _mm_loadu_si128(next + 1);
  __m128i three = _mm_loadu_si128(next + 2);
  __m128i four = _mm_loadu_si128(next + 3);
  for (size_t done = 64; done < count; done += 64) {
    next += 4;
    one = _mm_xor_si128(move_on(one, far), _mm_loadu_si128(next));
    two = _mm_xor_si128(move_on(two, far), _mm_loadu_si128(next + 1));
    three = _mm_xor_si128(move_on(three, far), _mm_loadu_si128(next + 2));
    four = _mm_xor_si128(move_on(four, far), _mm_loadu_si128(next + 3));
  }
  two = _mm_xor_si128(two, move_on(one, near));
  three = _mm_xor_si128(three, move_on(two, near));
  four = _mm_xor_si128(four, move_on(three, near));
  _mm_storeu_si128((__m128i *)folded, four);
}

#else

bool dr_carryless_is_there(void) { return false; }

void dr_carryless_fold(
  uint64_t crc, const uint8_t *bytes, size_t count, const uint64_t keys[4], uint8_t folded[16]) {
  (void)crc, (void)bytes, (void)count, (void)keys, (void)folded;
}

#endif
