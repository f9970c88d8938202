// SPDX-License-Identifier: MIT
//
// bpe_split.c: cuts text into the pieces that are encoded one by one, as GPT-2's pattern does
//
//   '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// by hand: the alternatives are tried in this order at every place, and each takes what it can. The one look-ahead means
// that white space before a word leaves its last character to the word (a space) or to a piece of its own (a line break).
// A byte that begins no valid UTF-8 (RFC 3629) is a character of its own here, neither letter nor number nor space: so any
// bytes can be encoded, and decoded to what they were.
#include <string.h>

#include "text/bpe.h"

#define MBI_RANGE(first, last, kind) _Static_assert((last) < MBI_BPE_CODES, "the table of classes is too short");
#include "text/classes.def"
#undef MBI_RANGE

static const struct {
  uint32_t first, last;
  mbi_bpe_class kind;
} ranges[] = {
#define MBI_RANGE(first, last, kind) {first, last, MBI_BPE_##kind},
#include "text/classes.def"
#undef MBI_RANGE
};

void mbi_bpe_fill_classes(unsigned char *classes) {
  memset(classes, 0, MBI_BPE_CODES / 4);
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
    for (uint32_t code = ranges[i].first; code <= ranges[i].last; code++)
      classes[code >> 2] = (unsigned char)(classes[code >> 2] | (unsigned)ranges[i].kind << (code & 3) * 2);
  }
}

// Bytes of the UTF-8 sequence that begins at p, and its code point; 0 if none is valid there.
static int64_t decode(uint32_t *code, const unsigned char *p, int64_t n) {
  unsigned a = p[0];
  if (a < 0xC2 || a > 0xF4 || n < 2) return 0;
  // The second byte's range keeps out overlong forms, surrogates and what lies above U+10FFFF.
  unsigned low = a == 0xE0 ? 0xA0 : a == 0xF0 ? 0x90 : 0x80, high = a == 0xED ? 0x9F : a == 0xF4 ? 0x8F : 0xBF;
  if (p[1] < low || p[1] > high) return 0;
  *code = (a & 0x1F) << 6 | (p[1] & 0x3Fu);
  if (a < 0xE0) return 2;
  if (n < 3 || (p[2] & 0xC0) != 0x80) return 0;
  *code = (a & 0x0F) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
  if (a < 0xF0) return 3;
  if (n < 4 || (p[3] & 0xC0) != 0x80) return 0;
  *code = (a & 0x07) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
  return 4;
}

static inline mbi_bpe_class class_of(const mb_bpe *bpe, uint32_t code) {
  if (code >= MBI_BPE_CODES) return MBI_BPE_OTHER;
  return (mbi_bpe_class)(bpe->classes[code >> 2] >> (code & 3) * 2 & 3);
}

// Class of the character at p, and its bytes.
static inline mbi_bpe_class class_at(int64_t *length, const mb_bpe *bpe, const unsigned char *p, int64_t n) {
  uint32_t code = p[0];
  *length = 1;
  if (code >= 0x80) {
    *length = decode(&code, p, n);
    if (*length == 0) {
      *length = 1;
      return MBI_BPE_OTHER;
    }
  }
  return class_of(bpe, code);
}

// Where the characters of one class end, which begin at p[i] or before it.
static inline int64_t end_of_run(const mb_bpe *bpe, const unsigned char *p, int64_t i, int64_t n, mbi_bpe_class kind) {
  int64_t length;
  while (i < n && class_at(&length, bpe, p + i, n - i) == kind) i += length;
  return i;
}

// Bytes of 's, 't, 'm, 'd, 'll, 've or 're at p, or 0.
static int64_t contraction(const unsigned char *p, int64_t n) {
  if (n < 2) return 0;
  unsigned a = p[1], b = n > 2 ? p[2] : 0;
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  return (a == 'l' && b == 'l') || (a == 'v' && b == 'e') || (a == 'r' && b == 'e') ? 3 : 0;
}

int64_t mbi_bpe_piece(const mb_bpe *bpe, const unsigned char *p, int64_t n) {
  if (p[0] == '\'') {
    int64_t length = contraction(p, n);
    if (length > 0) return length;
  }
  int64_t i = p[0] == ' ', length;
  if (i == n) return n;
  mbi_bpe_class kind = class_at(&length, bpe, p + i, n - i);
  if (kind != MBI_BPE_SPACE) return end_of_run(bpe, p, i + length, n, kind);
  int64_t last = 0; // where the last character of the white space begins
  for (i = 0; i < n && class_at(&length, bpe, p + i, n - i) == MBI_BPE_SPACE; i += length) last = i;
  return i == n || last == 0 ? i : last;
}
