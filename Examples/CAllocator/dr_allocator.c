#include "dr_allocator.h"

#include <stdlib.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

void dr_allocator_keep_pages(void) {
#if defined(__GLIBC__)
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 128 << 20);
#endif
}
