// SPDX-License-Identifier: MIT
//
// status.c: the text of the last failure, and what the library says of itself.
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_CAPACITY = 2048 };
static _Thread_local char last_error[TEXT_CAPACITY];

static const char *const status_names[] = { /* ORDER STATUS */
  "MB_OK", "MB_ERR_ARG", "MB_ERR_SHAPE", "MB_ERR_DTYPE", "MB_ERR_DEVICE", "MB_ERR_NOMEM",
  "MB_ERR_IO", "MB_ERR_STATE", "MB_ERR_NONFINITE", "MB_ERR_NUMERIC", "MB_ERR_INTERNAL",
};
_Static_assert(sizeof status_names / sizeof *status_names == MB_ERR_INTERNAL + 1, "ORDER STATUS");

mb_status mbi_fail(mb_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
  return status;
}

mb_status mb_fail(mb_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
  return status;
}

mb_status mbi_fail_in(mb_status status, const char *prefix) {
  char text[TEXT_CAPACITY];
  memcpy(text, last_error, sizeof text);
  snprintf(last_error, sizeof last_error, "%s: %.*s", prefix, TEXT_CAPACITY / 2, text);
  return status;
}

const char *mb_last_error(void) { return last_error; }

const char *mb_status_name(mb_status status) {
  unsigned code = (unsigned)status;
  return code <= MB_ERR_INTERNAL ? status_names[code] : "unknown status";
}

int mb_abi_version(void) { return MB_ABI_VERSION; }
const char *mb_version(void) { return MOONBOW_VERSION; }
