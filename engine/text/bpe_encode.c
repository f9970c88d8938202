// SPDX-License-Identifier: MIT
//
// bpe_encode.c: whole texts to ids and back. A long text is cut between a word and white space, where a piece ends whatever
// stands around it, so that its parts can be encoded by several threads and give the ids that one thread gives.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "text/bpe.h"

void mb_bpe_release(mb_bpe *bpe) {
  if (!bpe) return;
  free(bpe->pairs);
  free(bpe->words);
  free(bpe->begin);
  free(bpe->bytes);
  free(bpe);
}

int64_t mb_bpe_vocab_size(const mb_bpe *bpe) { return 256 + bpe->merges + 1; }

// ----- encoding -----------------------------------------------------------------------------------------

// A part of the text, encoded to ids + begin.
typedef struct part {
  int64_t begin, end, count;
  int64_t special; // where <|endoftext|> was refused, or -1
  int64_t too_long; // bytes of a piece that there was no memory for, or 0
} part;

// Where <|endoftext|> begins in [i, n), or n.
static int64_t find_special(const unsigned char *p, int64_t i, int64_t n) {
  while (n - i >= MBI_BPE_ENDOFTEXT_BYTES) {
    const unsigned char *found = memchr(p + i, '<', (size_t)(n - i - MBI_BPE_ENDOFTEXT_BYTES + 1));
    if (!found) break;
    i = found - p;
    if (memcmp(found, MBI_BPE_ENDOFTEXT, MBI_BPE_ENDOFTEXT_BYTES) == 0) return i;
    i++;
  }
  return n;
}

// Encodes text[i..end), which holds nothing special, to `ids`; returns how many, or -1 with the piece in part->too_long.
static int64_t encode_plain(uint16_t *ids, const mb_bpe *bpe, const unsigned char *text, int64_t i, int64_t end, int64_t bytes, part *whole) {
  int64_t count = 0;
  while (i < end) {
    int64_t n = mbi_bpe_piece(bpe, text + i, end - i);
    int64_t made = mbi_bpe_merge(ids + count, bpe, text + i, n, bytes - i);
    if (made < 0) {
      whole->too_long = n;
      return -1;
    }
    count += made;
    i += n;
  }
  return count;
}

static void encode_part(part *p, uint16_t *all, const mb_bpe *bpe, const unsigned char *text, int64_t bytes, mb_bpe_special special) {
  uint16_t *ids = all + p->begin;
  p->special = -1;
  for (int64_t i = p->begin; i < p->end;) {
    int64_t stop = special == MB_BPE_SPECIAL_TEXT ? p->end : find_special(text, i, p->end);
    int64_t made = encode_plain(ids + p->count, bpe, text, i, stop, bytes, p);
    if (made < 0) return;
    p->count += made;
    i = stop;
    if (stop == p->end) continue;
    if (special == MB_BPE_SPECIAL_REFUSE) {
      p->special = stop;
      return;
    }
    ids[p->count++] = (uint16_t)(256 + bpe->merges);
    i += MBI_BPE_ENDOFTEXT_BYTES;
  }
}

static int is_space(unsigned c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// The first place from `i` on where white space follows a character that is none, both ASCII; or n.
static int64_t find_cut(const unsigned char *p, int64_t i, int64_t n) {
  for (i = i > 0 ? i : 1; i < n; i++) {
    if (is_space(p[i]) && p[i - 1] < 0x80 && !is_space(p[i - 1])) return i;
  }
  return n;
}

enum { LEAST_PART = 1 << 16, MOST_PARTS = 256 };

static int cut_text(part *parts, const unsigned char *text, int64_t bytes, int threads) {
  int64_t most = bytes / LEAST_PART;
  int count = 0, wanted = threads < MOST_PARTS / 4 ? 4 * threads : MOST_PARTS; // more parts than threads even out their times
  if (threads == 1 || most < 2) wanted = 1;
  else if (wanted > most) wanted = (int)most;
  for (int64_t begin = 0; begin < bytes; count++) {
    int64_t end = count + 1 < wanted ? find_cut(text, begin + (bytes - begin) / (wanted - count), bytes) : bytes;
    parts[count] = (part){.begin = begin, .end = end};
    begin = end;
  }
  return count;
}

mb_status mb_bpe_encode(int64_t *count, uint16_t *ids, const mb_bpe *bpe, const void *text, int64_t bytes, mb_bpe_special special, int threads) {
  const char *who = "mb_bpe_encode";
  part parts[MOST_PARTS];
  if (bytes < 0) MB_FAIL(MB_ERR_ARG, "%s: the text has %" PRId64 " bytes", who, bytes);
  if (special > MB_BPE_SPECIAL_REFUSE) MB_FAIL(MB_ERR_ARG, "%s: special is %d, which is no mb_bpe_special", who, (int)special);
  if (threads < 1) MB_FAIL(MB_ERR_ARG, "%s: %d threads, at least 1 was expected", who, threads);
  int n = cut_text(parts, text, bytes, threads);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (n > 1)
  for (int i = 0; i < n; i++) encode_part(&parts[i], ids, bpe, text, bytes, special);
  int64_t total = 0;
  for (int i = 0; i < n; i++) {
    if (parts[i].too_long > 0) MB_FAIL(MB_ERR_NOMEM, "%s: no memory to merge a piece of %" PRId64 " bytes", who, parts[i].too_long);
    if (parts[i].special >= 0) MB_FAIL(MB_ERR_ARG, "%s: the text has %s at byte %" PRId64 ", which is not allowed here", who, MBI_BPE_ENDOFTEXT, parts[i].special);
    memmove(ids + total, ids + parts[i].begin, (size_t)parts[i].count * sizeof *ids);
    total += parts[i].count;
  }
  *count = total;
  return MB_OK;
}

// ----- decoding -----------------------------------------------------------------------------------------

mb_status mb_bpe_decoded_size(int64_t *bytes, const mb_bpe *bpe, const uint16_t *ids, int64_t count) {
  int64_t size = mb_bpe_vocab_size(bpe), total = 0;
  for (int64_t i = 0; i < count; i++) {
    if (ids[i] >= size)
      MB_FAIL(MB_ERR_ARG, "mb_bpe_decoded_size: token %" PRId64 " is %d, tokens are 0 to %" PRId64, i, ids[i], size - 1);
    total += bpe->begin[ids[i] + 1] - bpe->begin[ids[i]];
  }
  *bytes = total;
  return MB_OK;
}

mb_status mb_bpe_decode(void *text, const mb_bpe *bpe, const uint16_t *ids, int64_t count) {
  int64_t size = mb_bpe_vocab_size(bpe);
  unsigned char *to = text;
  for (int64_t i = 0; i < count; i++) {
    if (ids[i] >= size) MB_FAIL(MB_ERR_ARG, "mb_bpe_decode: token %" PRId64 " is %d, tokens are 0 to %" PRId64, i, ids[i], size - 1);
    size_t length = bpe->begin[ids[i] + 1] - bpe->begin[ids[i]];
    memcpy(to, bpe->bytes + bpe->begin[ids[i]], length);
    to += length;
  }
  return MB_OK;
}
