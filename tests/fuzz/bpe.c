// SPDX-License-Identifier: MIT
//
// bpe.c: a fuzz target for merges and texts. The input is a file of merges, then a byte 0, then a text; without that byte it is
// the text as well. Merges that are taken must encode any text to tokens that decode to it. How to run it: run.sh.
#include <stdlib.h>
#include <string.h>

#include "moonbow.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int condition) {
  if (!condition) abort();
}

static void check_text(const mb_bpe *bpe, const uint8_t *text, int64_t bytes, mb_bpe_special special) {
  uint16_t *ids = malloc((size_t)bytes * sizeof *ids + 1);
  int64_t count = 0, back = -1;
  must(mb_bpe_encode(&count, ids, bpe, text, bytes, special, 1) == MB_OK && count <= bytes);
  must(mb_bpe_decoded_size(&back, bpe, ids, count) == MB_OK && back == bytes);
  uint8_t *decoded = malloc((size_t)bytes + 1);
  must(mb_bpe_decode(decoded, bpe, ids, count) == MB_OK && memcmp(decoded, text, (size_t)bytes) == 0);
  free(decoded);
  free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  // An allocation of its own each: reading beyond an end is seen.
  const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
  size_t merges = zero ? (size_t)(zero - data) : size, rest = zero ? size - merges - 1 : size;
  uint8_t *file = malloc(merges + 1), *text = malloc(rest + 1);
  memcpy(file, data, merges);
  memcpy(text, zero ? zero + 1 : data, rest);
  file = realloc(file, merges ? merges : 1);
  text = realloc(text, rest ? rest : 1);
  mb_bpe *bpe = NULL;
  if (mb_bpe_new(&bpe, file, (int64_t)merges, "merges") == MB_OK) {
    must(mb_bpe_vocab_size(bpe) >= 258);
    check_text(bpe, text, (int64_t)rest, MB_BPE_SPECIAL_TEXT);
    check_text(bpe, text, (int64_t)rest, MB_BPE_SPECIAL_TOKEN);
  } else {
    must(bpe == NULL && mb_last_error()[0] != '\0' && !strchr(mb_last_error(), '\n'));
  }
  mb_bpe_release(bpe);
  free(file);
  free(text);
  return 0;
}
