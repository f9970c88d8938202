// SPDX-License-Identifier: MIT
//
// bpe_load.c: reads merges, the contents of vocab.bpe (Hugging Face calls it merges.txt): a line "#version: 0.2", then one
// merge a line, two tokens with a space between them, each made by a line above or a single byte. Bytes are written as
// characters: those that print (33..126, 161..172, 174..255) as themselves in Latin-1, the 68 others as U+0100..U+0143.
//
// The reading is strict, because a merge that is left out or misread shifts the ids of all that follow: what does not fit
// is refused with the number of its line, and two lines that give the same token too, as its id would be ambiguous.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "text/bpe.h"

enum { ALPHABET = 0x144, FIRST_MERGE = 256, MOST_MERGES = 65536 - FIRST_MERGE - 1 };

// The state of reading, beside the tables themselves.
typedef struct reader {
  mb_bpe *bpe;
  const unsigned char *p, *end; // what is left of the text
  const char *name, *who;
  int64_t line;
  int16_t byte_of[ALPHABET]; // byte of a code point, or -1
  uint32_t *by_bytes;        // open addressing over tokens by their bytes: id + 1, 0 = empty
  uint32_t mask;             // of by_bytes
} reader;

// ----- bytes and what errors show of them ---------------------------------------------------------------

enum { SHOWN = 24, SHOWN_TEXT = 4 * SHOWN + 4 };

// The first bytes of a text for an error, in quotes that no byte can break.
static const char *shown(char text[SHOWN_TEXT + 4], const unsigned char *p, int64_t n) {
  static const char digits[] = "0123456789ABCDEF";
  char *t = text;
  *t++ = '\'';
  for (int64_t i = 0; i < n && i < SHOWN; i++) {
    if (p[i] >= 0x20 && p[i] < 0x7F) {
      *t++ = (char)p[i];
      continue;
    }
    *t++ = '\\';
    *t++ = 'x';
    *t++ = digits[p[i] >> 4];
    *t++ = digits[p[i] & 15];
  }
  memcpy(t, n > SHOWN ? "'..." : "'", n > SHOWN ? 5 : 2);
  return text;
}

static void fill_alphabet(reader *r) {
  uint16_t id = 0;
  int beyond = 256;
  memset(r->byte_of, -1, sizeof r->byte_of);
  unsigned char *bytes = r->bpe->bytes;
  for (int pass = 0; pass < 2; pass++) {
    for (int b = 0; b < 256; b++) {
      int prints = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      if (prints == pass) continue; // those that print have the first ids
      r->byte_of[prints ? b : beyond++] = (int16_t)b;
      r->bpe->of_byte[b] = id;
      r->bpe->begin[id] = id;
      bytes[id++] = (unsigned char)b;
    }
  }
  r->bpe->begin[FIRST_MERGE] = FIRST_MERGE;
}

// ----- tokens by their bytes ----------------------------------------------------------------------------

static uint32_t token_slot(const reader *r, const unsigned char *p, int64_t n) {
  uint64_t h = 0xCBF29CE484222325u; // FNV-1a
  for (int64_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001B3u;
  return (uint32_t)(h ^ h >> 32) & r->mask;
}

// The slot of the token with these bytes, or the empty one where it would go.
static uint32_t find_token(const reader *r, const unsigned char *p, int64_t n) {
  const mb_bpe *bpe = r->bpe;
  uint32_t at = token_slot(r, p, n);
  for (; r->by_bytes[at] != 0; at = (at + 1) & r->mask) {
    uint32_t id = r->by_bytes[at] - 1;
    if (bpe->begin[id + 1] - bpe->begin[id] == n && memcmp(bpe->bytes + bpe->begin[id], p, (size_t)n) == 0) break;
  }
  return at;
}

static void add_pair(mb_bpe *bpe, uint16_t a, uint16_t b, uint16_t result) {
  if ((a | b) < 256) {
    bpe->first_pairs[a * 256 + b] = result;
    return;
  }
  uint32_t parts = (uint32_t)a << 16 | b, at = mbi_bpe_pair_slot(bpe, parts);
  while (bpe->pairs[at].result != MBI_BPE_NONE) at = (at + 1) & bpe->pair_mask;
  bpe->pairs[at] = (mbi_bpe_pair){parts, result};
}

// ----- lines --------------------------------------------------------------------------------------------

// Takes one token of a merge, which `stop` ends, puts its bytes at `to` and their number into *bytes.
static mb_status take_token(uint16_t *id, int64_t *bytes, reader *r, unsigned char *to, int stop) {
  const unsigned char *start = r->p;
  char text[SHOWN_TEXT + 4];
  int64_t n = 0;
  while (r->p < r->end && *r->p != ' ' && *r->p != '\n') {
    unsigned code = *r->p;
    int64_t length = 1;
    if (code >= 0xC2 && code <= 0xDF && r->p + 1 < r->end && (r->p[1] & 0xC0) == 0x80) {
      code = (code & 0x1F) << 6 | (r->p[1] & 0x3Fu);
      length = 2;
    } else if (code >= 0x80) {
      code = ALPHABET;
    }
    if (code >= ALPHABET || r->byte_of[code] < 0)
      MB_FAIL(MB_ERR_IO, "%s: '%s' line %" PRId64 ": a byte 0x%02X, which begins no character that stands for a byte", r->who, r->name, r->line, *r->p);
    to[n++] = (unsigned char)r->byte_of[code];
    r->p += length;
  }
  int found = r->p < r->end ? *r->p : '\n'; // the last line may lack its line break
  if (n == 0 || found != stop)
    MB_FAIL(MB_ERR_IO, "%s: '%s' line %" PRId64 ": two tokens with one space between them were expected, %s after %" PRId64 " bytes", r->who, r->name, r->line,
            found == ' ' ? "there is a space" : "the line ends", (int64_t)(r->p - start));
  uint32_t at = find_token(r, to, n);
  if (r->by_bytes[at] == 0)
    MB_FAIL(MB_ERR_IO, "%s: '%s' line %" PRId64 ": %s is no token: no line above makes it", r->who, r->name, r->line, shown(text, start, r->p - start));
  if (r->p < r->end) r->p++;
  *id = (uint16_t)(r->by_bytes[at] - 1);
  *bytes = n;
  return MB_OK;
}

static mb_status take_merge(reader *r) {
  mb_bpe *bpe = r->bpe;
  char text[SHOWN_TEXT + 4];
  uint32_t id = FIRST_MERGE + (uint32_t)bpe->merges;
  const unsigned char *start = r->p;
  unsigned char *to = bpe->bytes + bpe->begin[id];
  uint16_t a, b;
  int64_t bytes_a, bytes_b;
  MB_TRY(take_token(&a, &bytes_a, r, to, ' '));
  MB_TRY(take_token(&b, &bytes_b, r, to + bytes_a, '\n'));
  uint32_t at = find_token(r, to, bytes_a + bytes_b);
  if (r->by_bytes[at] != 0)
    MB_FAIL(MB_ERR_IO, "%s: '%s' line %" PRId64 ": %s makes a token that is there already, with id %" PRIu32, r->who, r->name, r->line,
            shown(text, start, r->p - start - (r->p[-1] == '\n')), r->by_bytes[at] - 1);
  r->by_bytes[at] = id + 1;
  bpe->begin[id + 1] = bpe->begin[id] + (uint32_t)(bytes_a + bytes_b);
  add_pair(bpe, a, b, (uint16_t)id);
  bpe->merges++;
  return MB_OK;
}

static mb_status take_version(reader *r) {
  static const char version[] = "#version: 0.2\n";
  char text[SHOWN_TEXT + 4];
  int64_t length = sizeof version - 1, left = r->end - r->p;
  if (left < length || memcmp(r->p, version, (size_t)length) != 0) {
    const unsigned char *stop = left > 0 ? memchr(r->p, '\n', (size_t)left) : NULL;
    MB_FAIL(MB_ERR_IO, "%s: '%s' line 1: '#version: 0.2' was expected, not %s", r->who, r->name, shown(text, r->p, stop ? stop - r->p : left));
  }
  r->p += length;
  r->line = 2;
  return MB_OK;
}

// ----- tables -------------------------------------------------------------------------------------------

static uint32_t mask_for(int64_t count) { // of a table that `count` entries fill at most by half
  uint32_t size = 1024;
  while (size < 2 * count) size *= 2;
  return size - 1;
}

static mb_status allocate(reader *r, int64_t lines, int64_t text_bytes) {
  mb_bpe *bpe = r->bpe;
  bpe->pair_mask = bpe->word_mask = mask_for(lines);
  r->mask = mask_for(lines + FIRST_MERGE);
  bpe->pairs = malloc((bpe->pair_mask + (size_t)1) * sizeof *bpe->pairs);
  bpe->words = calloc(bpe->word_mask + (size_t)1, sizeof *bpe->words);
  bpe->begin = malloc(((size_t)lines + FIRST_MERGE + 2) * sizeof *bpe->begin);
  // A token is no longer than its line; one more line may be read to be refused.
  bpe->bytes = malloc((size_t)text_bytes + FIRST_MERGE + MBI_BPE_ENDOFTEXT_BYTES);
  r->by_bytes = calloc(r->mask + (size_t)1, sizeof *r->by_bytes);
  if (!bpe->pairs || !bpe->words || !bpe->begin || !bpe->bytes || !r->by_bytes)
    MB_FAIL(MB_ERR_NOMEM, "%s: no memory for the %" PRId64 " merges of '%s'", r->who, lines, r->name);
  memset(bpe->first_pairs, 0xFF, sizeof bpe->first_pairs);
  memset(bpe->pairs, 0xFF, (bpe->pair_mask + (size_t)1) * sizeof *bpe->pairs);
  return MB_OK;
}

// A token goes into the table of words if the merges, applied to its bytes, do give it.
static mb_status fill_words(reader *r) {
  mb_bpe *bpe = r->bpe;
  uint16_t ids[MBI_BPE_WORD];
  for (int64_t id = FIRST_MERGE; id < FIRST_MERGE + bpe->merges; id++) {
    const unsigned char *p = bpe->bytes + bpe->begin[id];
    int64_t n = bpe->begin[id + 1] - bpe->begin[id];
    if (n > MBI_BPE_WORD || mbi_bpe_merge_all(ids, bpe, p, n) != 1) continue;
    mbi_bpe_word word = {.length = (uint16_t)n, .id = ids[0]};
    memcpy(&word.low, p, n < 8 ? (size_t)n : 8);
    if (n > 8) memcpy(&word.high, p + 8, (size_t)n - 8);
    uint32_t at = mbi_bpe_word_slot(bpe, word.low, word.high, n);
    while (bpe->words[at].length > 0) at = (at + 1) & bpe->word_mask;
    bpe->words[at] = word;
  }
  return MB_OK;
}

static mb_status parse(reader *r, int64_t bytes) {
  MB_TRY(take_version(r));
  int64_t lines = r->p < r->end && r->end[-1] != '\n';
  for (const unsigned char *p = r->p; p < r->end; p++) lines += *p == '\n';
  if (lines == 0 || lines > MOST_MERGES)
    MB_FAIL(MB_ERR_IO, "%s: '%s' has %" PRId64 " lines of merges, 1 to %d were expected", r->who, r->name, lines, MOST_MERGES);
  MB_TRY(allocate(r, lines, bytes));
  fill_alphabet(r);
  for (uint32_t id = 0; id < FIRST_MERGE; id++) r->by_bytes[find_token(r, r->bpe->bytes + id, 1)] = id + 1;
  for (; r->p < r->end; r->line++) MB_TRY(take_merge(r));
  uint32_t *end = r->bpe->begin + FIRST_MERGE + r->bpe->merges;
  memcpy(r->bpe->bytes + end[0], MBI_BPE_ENDOFTEXT, MBI_BPE_ENDOFTEXT_BYTES);
  end[1] = end[0] + MBI_BPE_ENDOFTEXT_BYTES;
  mbi_bpe_fill_classes(r->bpe->classes);
  return fill_words(r);
}

mb_status mb_bpe_new(mb_bpe **out, const void *merges, int64_t bytes, const char *name) {
  const char *who = "mb_bpe_new";
  enum { MOST_BYTES = 1 << 28 };
  *out = NULL;
  if (!merges || bytes < 0 || bytes > MOST_BYTES)
    MB_FAIL(MB_ERR_ARG, "%s: '%s' has %" PRId64 " bytes, at most %d are possible", who, name, merges ? bytes : 0, MOST_BYTES);
  reader r = {.bpe = calloc(1, sizeof *r.bpe), .p = merges, .end = (const unsigned char *)merges + bytes, .name = name, .who = who, .line = 1};
  if (!r.bpe) MB_FAIL(MB_ERR_NOMEM, "%s: no memory for the %zu bytes of a table", who, sizeof *r.bpe);
  mb_status status = parse(&r, bytes);
  free(r.by_bytes);
  if (status == MB_OK) *out = r.bpe;
  else mb_bpe_release(r.bpe);
  return status;
}
