// SPDX-License-Identifier: MIT
//
// status.h: how the engine fails. A function that finds a problem writes one line of text with the
// real values into a thread-local buffer and returns a code; everything above passes the code on.
#ifndef MBI_STATUS_H
#define MBI_STATUS_H
#include "moonbow.h"

// Writes the text of mb_last_error() and returns `status`. Longer texts are cut.
mb_status mbi_fail(mb_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Puts "prefix: " before the text that a failed callee left, and returns `status`.
mb_status mbi_fail_in(mb_status status, const char *prefix);

#define MB_FAIL(code, ...) return mbi_fail((code), __VA_ARGS__)
#define MB_TRY(expr)                          \
  do {                                        \
    mb_status mbi_status_ = (expr);           \
    if (mbi_status_ != MB_OK) return mbi_status_; \
  } while (0)

// For bugs of the engine only, never for what a user may pass; gone in release builds.
#include <assert.h>
#define mbi_assert(condition) assert(condition)
#endif
