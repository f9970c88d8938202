// SPDX-License-Identifier: MIT
//
// bpe.h: the parts of GPT-2's byte-pair encoding. bpe_load.c reads the merges into the tables below, bpe_split.c cuts text
// into pieces, bpe_merge.c turns a piece into ids, bpe_encode.c does that to whole texts and back.
//
// Ids are those of GPT-2: 0..255 the single bytes in the order of the alphabet that merges are written in, 256 + i the i-th
// merge, the one after those <|endoftext|>.
#ifndef MBI_BPE_H
#define MBI_BPE_H
#include "core/status.h"

enum {
  MBI_BPE_NONE = 0xFFFF,     // no such pair: never an id that a merge gives, which is less
  MBI_BPE_WORD = 16,         // longest token that the table of words holds
  MBI_BPE_CODES = 0x40000,   // code points from here on are of no class
};

typedef struct mbi_bpe_pair { // (left << 16 | right) -> what it becomes; empty where result is MBI_BPE_NONE
  uint32_t parts;
  uint16_t result;
} mbi_bpe_pair;

typedef struct mbi_bpe_word { // the bytes, padded with zeros; empty where length is 0
  uint64_t low, high;
  uint16_t length, id;
} mbi_bpe_word;

struct mb_bpe {
  int64_t merges;
  uint16_t of_byte[256];           // id of a byte
  uint16_t first_pairs[256 * 256]; // result of a pair of ids below 256
  mbi_bpe_pair *pairs;             // open addressing; size pair_mask + 1, at most half full
  uint32_t pair_mask;
  mbi_bpe_word *words;             // tokens of at most MBI_BPE_WORD bytes that the merges make of their own bytes
  uint32_t word_mask;
  uint32_t *begin;                 // token i is bytes[begin[i]] .. bytes[begin[i + 1] - 1]; merges + 258 values
  unsigned char *bytes;
  unsigned char classes[MBI_BPE_CODES / 4]; // mbi_bpe_class of every code point, two bits each
};

typedef enum mbi_bpe_class { MBI_BPE_OTHER = 0, MBI_BPE_LETTER, MBI_BPE_NUMBER, MBI_BPE_SPACE } mbi_bpe_class;

#define MBI_BPE_ENDOFTEXT "<|endoftext|>"
enum { MBI_BPE_ENDOFTEXT_BYTES = sizeof MBI_BPE_ENDOFTEXT - 1 };

void mbi_bpe_fill_classes(unsigned char *classes);
// Bytes of the piece of text that begins at p, of n >= 1 bytes.
int64_t mbi_bpe_piece(const mb_bpe *bpe, const unsigned char *p, int64_t n);

// Ids of the piece p of n >= 1 bytes, at most n; `readable` bytes may be read from p on. -1 if there is no memory for it.
int64_t mbi_bpe_merge(uint16_t *ids, const mb_bpe *bpe, const unsigned char *p, int64_t n, int64_t readable);
// The same by merges alone, without the table of words.
int64_t mbi_bpe_merge_all(uint16_t *ids, const mb_bpe *bpe, const unsigned char *p, int64_t n);

static inline uint32_t mbi_bpe_pair_slot(const mb_bpe *bpe, uint32_t parts) {
  return (uint32_t)((parts * 0x9E3779B97F4A7C15u) >> 40) & bpe->pair_mask;
}
static inline uint32_t mbi_bpe_word_slot(const mb_bpe *bpe, uint64_t low, uint64_t high, int64_t length) {
  uint64_t h = (low ^ (high * 0x94D049BB133111EBu) ^ (uint64_t)length) * 0x9E3779B97F4A7C15u;
  return (uint32_t)((h ^ (h >> 29)) >> 24) & bpe->word_mask;
}

// What ids a, b become together, or MBI_BPE_NONE.
static inline uint16_t mbi_bpe_pair_of(const mb_bpe *bpe, uint16_t a, uint16_t b) {
  if ((a | b) < 256) return bpe->first_pairs[a * 256 + b];
  uint32_t parts = (uint32_t)a << 16 | b, at = mbi_bpe_pair_slot(bpe, parts);
  while (bpe->pairs[at].result != MBI_BPE_NONE && bpe->pairs[at].parts != parts) at = (at + 1) & bpe->pair_mask;
  return bpe->pairs[at].result;
}
#endif
