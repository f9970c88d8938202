// SPDX-License-Identifier: MIT
//
// tokens.c: a fuzz target for token files. The first byte chooses window, group and vocabulary; the second, how the rest is cut
// into two files; a file that is opened must give every sample, or say which token is none. How to run it: run.sh.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "moonbow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition) {
  if (!condition) abort();
}

static char paths[2][64];

static void write_file(int i, const uint8_t *data, size_t size) {
  if (!paths[i][0]) snprintf(paths[i], sizeof paths[i], "%s/moonbow_fuzz_%ld_%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (long)getpid(), i);
  int file = open(paths[i], O_WRONLY | O_CREAT | O_TRUNC, 0600);
  must(file >= 0 && write(file, data, size) == (ssize_t)size);
  close(file);
}

static void read_all(const mb_tokens *tokens, int64_t window, int64_t rows) {
  size_t values = (size_t)(window * rows);
  int32_t *x = malloc(values * sizeof *x), *y = malloc(values * sizeof *y);
  int64_t windows = mb_tokens_windows(tokens);
  must(windows >= 1 && mb_tokens_count(tokens) > windows * window / 2);
  for (int shuffle = 0; shuffle < 2; shuffle++) {
    for (int64_t s = 0; s < windows && s < 300; s += rows) {
      if (mb_tokens_batch(x, y, tokens, s, rows, shuffle, 5) != MB_OK) must(strstr(mb_last_error(), "tokens are 0 to") != NULL);
      else must(window < 2 || x[1] == y[0]);
    }
  }
  must(mb_tokens_batch(x, y, tokens, INT64_MAX - rows, rows, 1, 5) == MB_OK || strstr(mb_last_error(), "tokens are 0 to"));
  free(x);
  free(y);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2) return 0;
  int64_t window = 1 + data[0] % 7, group = 1 + data[0] / 7 % 3, vocab_size = data[0] & 0x80 ? 50257 : 0;
  size_t first = data[1] == 0 ? size - 2 : (size - 2) * data[1] / 256;
  write_file(0, data + 2, first);
  write_file(1, data + 2 + first, size - 2 - first);
  const char *names[] = {paths[0], paths[1]};
  mb_tokens *tokens = NULL;
  if (mb_tokens_open(&tokens, names, data[1] == 0 ? 1 : 2, window, group, vocab_size) == MB_OK) read_all(tokens, window, 1 + data[0] % 3);
  else must(tokens == NULL && mb_last_error()[0] != '\0' && !strchr(mb_last_error(), '\n'));
  mb_tokens_release(tokens);
  unlink(paths[0]);
  unlink(paths[1]);
  return 0;
}
