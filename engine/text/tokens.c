// SPDX-License-Identifier: MIT
//
// tokens.c: token files mapped into memory and read as windows of T + 1 tokens. Formats, told apart by their first bytes:
//
//   llm.c      256 int32: 20240520, 1, number of tokens n, zeros; then n uint16. Size 1024 + 2 n to the byte. Of Llama 3:
//              20240801, 7, n; then n uint32
//   nanoGPT    uint16 after uint16, no header
//
// A nanoGPT file cannot be taken for one of llm.c's: the first token would have to be above 54911, and the second 308.
// Window w of a file begins at its token w T, so that windows share no target. A file has so many of them that groups are
// whole: in the order of the files, batches of `group` windows are those of llm.c's loader, which drops what is left.
//
// Shuffled order is a permutation of all windows that is computed, not stored: a Feistel network over 2 k bits, the least
// even number that holds the windows, whose round function is Philox; what falls beyond the last window goes through again
// (Black, Rogaway, CT-RSA 2002). So sample s is a function of (seed, s), and a resumed run goes on with nothing but s.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/rng.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files hold little-endian numbers");

enum { HEADER_INTS = 256, HEADER_BYTES = 4 * HEADER_INTS, MAGIC = 20240520, MAGIC_WIDE = 20240801, ROUNDS = 6, STREAM = 0x73686172 };

typedef struct token_file {
  char *path;
  void *map;
  int64_t bytes;               // of the map
  const unsigned char *tokens; // in the map
  int64_t count, width;        // tokens, and the bytes of one: 2 or 4
  int64_t first;               // number of its first window
} token_file;

struct mb_tokens {
  int64_t n_files, count, windows, window, group, vocab_size;
  token_file files[];
};

// ----- opening ------------------------------------------------------------------------------------------

static mb_status read_header(token_file *f, const char *who) {
  const unsigned char *bytes = f->map;
  int32_t header[3] = {0};
  memcpy(header, bytes, f->bytes < 12 ? (size_t)f->bytes : 12);
  if (header[0] / 10000 != MAGIC / 10000) { // no header
    if (f->bytes % 2 != 0) MB_FAIL(MB_ERR_IO, "%s: '%s' has %" PRId64 " bytes, which is no whole number of 16-bit tokens, and no header of llm.c", who, f->path, f->bytes);
    f->width = 2;
    f->count = f->bytes / 2;
    f->tokens = bytes;
    return MB_OK;
  }
  if (header[0] != MAGIC && header[0] != MAGIC_WIDE)
    MB_FAIL(MB_ERR_IO, "%s: '%s' begins with %d: a file of llm.c's, but not of tokens, which begin with %d or %d", who, f->path, header[0], MAGIC, MAGIC_WIDE);
  if (f->bytes < HEADER_BYTES) MB_FAIL(MB_ERR_IO, "%s: '%s' has %" PRId64 " bytes, the header alone has %d", who, f->path, f->bytes, HEADER_BYTES);
  int version = header[0] == MAGIC ? 1 : 7;
  if (header[1] != version) MB_FAIL(MB_ERR_IO, "%s: '%s' has version %d, files of %d have version %d", who, f->path, header[1], header[0], version);
  f->width = header[0] == MAGIC ? 2 : 4;
  f->count = header[2];
  int64_t expected = HEADER_BYTES + f->width * f->count;
  if (f->count < 1 || f->bytes != expected)
    MB_FAIL(MB_ERR_IO, "%s: '%s' says that it has %" PRId64 " tokens, which take %" PRId64 " bytes with the header; it has %" PRId64, who, f->path, f->count,
            f->count < 1 ? HEADER_BYTES : expected, f->bytes);
  f->tokens = bytes + HEADER_BYTES;
  return MB_OK;
}

static mb_status map_file(token_file *f, const char *path, const char *who) {
  struct stat info;
  MB_TRY(mbi_check_path(path, who));
  f->path = strdup(path);
  if (!f->path) MB_FAIL(MB_ERR_NOMEM, "%s: no memory for the name of '%s'", who, path);
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a pipe without a writer would wait
  if (file < 0) return mbi_refused(who, "open", path);
  mb_status status = fstat(file, &info) != 0 ? mbi_refused(who, "look at", path) : MB_OK;
  if (status == MB_OK && !S_ISREG(info.st_mode)) status = mbi_fail(MB_ERR_IO, "%s: '%s' is %s, a file was expected", who, path, S_ISDIR(info.st_mode) ? "a folder" : "a device");
  if (status == MB_OK && info.st_size == 0) status = mbi_fail(MB_ERR_IO, "%s: '%s' is empty", who, path);
  if (status == MB_OK) {
    f->map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, file, 0);
    f->bytes = info.st_size;
    if (f->map == MAP_FAILED) {
      f->map = NULL;
      status = mbi_refused(who, "map", path);
    }
  }
  close(file);
  return status == MB_OK ? read_header(f, who) : status;
}

mb_status mb_tokens_open(mb_tokens **out, const char *const *paths, int64_t n_paths, int64_t window, int64_t group, int64_t vocab_size) {
  const char *who = "mb_tokens_open";
  *out = NULL;
  if (n_paths < 1 || n_paths > INT32_MAX || window < 1 || group < 1 || window > INT32_MAX || group > INT32_MAX || vocab_size < 0)
    MB_FAIL(MB_ERR_ARG, "%s: %" PRId64 " files, windows of %" PRId64 " tokens in groups of %" PRId64 ", vocabulary of %" PRId64 ": the first three must be >= 1 (and below 2^31), the last >= 0",
            who, n_paths, window, group, vocab_size);
  mb_tokens *t = calloc(1, sizeof *t + (size_t)n_paths * sizeof *t->files);
  if (!t) MB_FAIL(MB_ERR_NOMEM, "%s: no memory for %" PRId64 " files", who, n_paths);
  t->window = window;
  t->group = group;
  t->vocab_size = vocab_size;
  mb_status status = MB_OK;
  for (int64_t i = 0; i < n_paths && status == MB_OK; i++) {
    token_file *f = &t->files[t->n_files++];
    status = map_file(f, paths[i], who);
    f->first = t->windows;
    t->count += f->count;
    t->windows += (f->count - 1) / (window * group) * group;
  }
  if (status == MB_OK && t->windows == 0)
    status = mbi_fail(MB_ERR_ARG, "%s: none of the %" PRId64 " files ('%s', ...) has the %" PRId64 " tokens of %" PRId64 " windows of %" PRId64 " and one more: they have %" PRId64 " in all",
                      who, n_paths, paths[0], window * group + 1, group, window, t->count);
  if (status == MB_OK) *out = t;
  else mb_tokens_release(t);
  return status;
}

void mb_tokens_release(mb_tokens *t) {
  if (!t) return;
  for (int64_t i = 0; i < t->n_files; i++) {
    if (t->files[i].map) munmap(t->files[i].map, (size_t)t->files[i].bytes);
    free(t->files[i].path);
  }
  free(t);
}

int64_t mb_tokens_count(const mb_tokens *t) { return t->count; }
int64_t mb_tokens_windows(const mb_tokens *t) { return t->windows; }

// ----- order --------------------------------------------------------------------------------------------

int64_t mb_shuffled_index(int64_t index, int64_t count, uint64_t seed, uint64_t epoch) {
  if (index < 0 || index >= count) return -1;
  unsigned half = 1; // bits
  while (half < 31 && (INT64_C(1) << 2 * half) < count) half++;
  uint64_t mask = (UINT64_C(1) << half) - 1, value = (uint64_t)index;
  do {
    uint64_t left = value >> half, right = value & mask;
    for (uint64_t round = 0; round < ROUNDS; round++) {
      uint32_t words[4];
      mbi_philox(words, seed, epoch, STREAM, round << half | right);
      uint64_t mixed = left ^ (words[0] & mask);
      left = right;
      right = mixed;
    }
    value = left << half | right;
  } while (value >= (uint64_t)count);
  return (int64_t)value;
}

// ----- reading ------------------------------------------------------------------------------------------

static const token_file *file_of(const mb_tokens *t, int64_t window) {
  int64_t low = 0, high = t->n_files - 1; // the last file whose first window is not behind this one
  while (low < high) {
    int64_t middle = (low + high + 1) / 2;
    if (t->files[middle].first <= window) low = middle;
    else high = middle - 1;
  }
  return &t->files[low];
}

static inline uint32_t token_at(const token_file *f, int64_t i) {
  uint16_t narrow;
  uint32_t wide;
  if (f->width == 4) {
    memcpy(&wide, f->tokens + 4 * i, 4);
    return wide;
  }
  memcpy(&narrow, f->tokens + 2 * i, 2);
  return narrow;
}

// inputs[i] and targets[i] are tokens i and i + 1 of the window.
static mb_status read_window(int32_t *inputs, int32_t *targets, const mb_tokens *t, int64_t window, const char *who) {
  const token_file *f = file_of(t, window);
  int64_t begin = (window - f->first) * t->window;
  uint32_t limit = t->vocab_size > 0 && t->vocab_size <= INT32_MAX ? (uint32_t)t->vocab_size : INT32_MAX;
  for (int64_t i = 0; i <= t->window; i++) {
    uint32_t token = token_at(f, begin + i);
    if (token >= limit) MB_FAIL(MB_ERR_IO, "%s: token %" PRId64 " of '%s' is %" PRIu32 ", tokens are 0 to %" PRIu32, who, begin + i, f->path, token, limit - 1);
    if (i < t->window) inputs[i] = (int32_t)token;
    if (i > 0) targets[i - 1] = (int32_t)token;
  }
  return MB_OK;
}

mb_status mb_tokens_batch(int32_t *inputs, int32_t *targets, const mb_tokens *t, int64_t first, int64_t rows, int shuffle, uint64_t seed) {
  const char *who = "mb_tokens_batch";
  if (first < 0 || rows < 1 || first > INT64_MAX - rows)
    MB_FAIL(MB_ERR_ARG, "%s: %" PRId64 " samples from number %" PRId64 " on, at least 1 from 0 on was expected", who, rows, first);
  for (int64_t b = 0; b < rows; b++) {
    int64_t sample = first + b, window = sample % t->windows;
    if (shuffle) window = mb_shuffled_index(window, t->windows, seed, (uint64_t)(sample / t->windows));
    MB_TRY(read_window(inputs + b * t->window, targets + b * t->window, t, window, who));
  }
  return MB_OK;
}
