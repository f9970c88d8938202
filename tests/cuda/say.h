// SPDX-License-Identifier: MIT
//
// say.h: failures in tests of the CUDA sources as C++: CHECK counts what does not hold, finish() is what main returns.
#ifndef TESTS_CUDA_SAY_H
#define TESTS_CUDA_SAY_H
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "backend/cuda/host.h"

static int failures;
#define CHECK(condition, ...)                                                              \
  do {                                                                                     \
    if (condition) break;                                                                  \
    if (failures++ > 20) exit(1);                                                          \
    fprintf(stderr, "%s:%d: %s does not hold: ", __FILE__, __LINE__, #condition);          \
    fprintf(stderr, __VA_ARGS__);                                                          \
    fprintf(stderr, "\n");                                                                 \
  } while (0)

// What the kernels say when they fail.
static mb_status say(mb_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  va_end(arguments);
  return status;
}
static mb_status take(void **out, size_t bytes) {
  *out = aligned_alloc(64, (bytes + 63) / 64 * 64);
  return *out ? MB_OK : say(MB_ERR_NOMEM, "no memory for %zu bytes", bytes);
}
static void give(void *data, size_t) { free(data); }
static mb_status say_in(mb_status status, const char *prefix) { return say(status, "%s", prefix); }
// The engine's place, which a plugin learns when it is opened.
static inline void begin() {
  static const mbi_plugin_host host = {MBI_PLUGIN_ABI, say, say_in, take, give};
  mbk::engine = &host;
  mbk::fail = say;
}
static inline int finish() {
  if (failures) fprintf(stderr, "%d failures\n", failures);
  return failures != 0;
}

// Numbers in [-1, 1), the same on every run with the same MB_SEED.
struct Numbers {
  uint64_t state;
  explicit Numbers(uint64_t stream) {
    const char *wish = getenv("MB_SEED");
    state = (wish ? strtoull(wish, nullptr, 10) : 20260711u) * 2 + 1 + stream * 0x9E3779B97F4A7C15u;
  }
  double next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(state >> 11) / 4503599627370496.0 - 1.0;
  }
};
#endif
