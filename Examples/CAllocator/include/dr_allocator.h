#ifndef DR_ALLOCATOR_H
#define DR_ALLOCATOR_H

/// glibc's allocator as a pipeline of large buffers wants it; nothing elsewhere. Call it before any thread is started: an arena that
/// exists is not given up.
///
/// A buffer is filled by one thread and freed by another, again and again. By default each thread has an arena of its own, and a
/// free gives the pages back to the kernel, only to have them faulted in anew: measured with zstd level 1 of 256 MB, 28,000 page
/// faults in place of 4,200, twice the system time, and a fifth more memory. A service that links the library can have the same,
/// without code, by GLIBC_TUNABLES.
void dr_allocator_keep_pages(void);

#endif
