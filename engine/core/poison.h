// SPDX-License-Identifier: MIT
//
// poison.h: tells the address sanitizer, and in debug builds valgrind, which bytes of a cached block belong to
// somebody. Blocks are recycled and rounded up in size, so that without this a read after release or past the
// end of a tensor would stay inside memory that the process owns. In other builds these functions do nothing.
#ifndef MBI_POISON_H
#define MBI_POISON_H
#include <stddef.h>

#if defined __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#elif !defined NDEBUG && __has_include(<valgrind/memcheck.h>)
#define MBI_VALGRIND 1
#include <valgrind/memcheck.h>
#endif

// Nobody may touch these bytes.
static inline void mbi_poison(void *data, size_t bytes) {
#if defined __SANITIZE_ADDRESS__
  ASAN_POISON_MEMORY_REGION(data, bytes);
#elif defined MBI_VALGRIND
  VALGRIND_MAKE_MEM_NOACCESS(data, bytes);
#else
  (void)data, (void)bytes;
#endif
}

// They may be written again, and read once they have been.
static inline void mbi_unpoison(void *data, size_t bytes) {
#if defined __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(data, bytes);
#elif defined MBI_VALGRIND
  VALGRIND_MAKE_MEM_UNDEFINED(data, bytes);
#else
  (void)data, (void)bytes;
#endif
}
#endif
