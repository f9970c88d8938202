// SPDX-License-Identifier: MIT
//
// bpe_merge.c: from the bytes of a piece to its ids. Most pieces of a text are a token as they are and found in a table. For
// the others the merges are applied: again and again the neighbours whose merge comes first in the list, the leftmost of
// equals (Sennrich, Haddow, Birch, arXiv 1508.07909). Short pieces look through all neighbours at every step; long ones
// keep them in a heap, so that a piece of n bytes costs n log n and no text can stall the encoder.
//
// A merge's result comes later in the list than its parts, so ids above 255 are ranks: the pair with the smallest result
// goes first, and what a merge makes new never goes before it.
#include <stdlib.h>
#include <string.h>

#include "text/bpe.h"

enum { SHORT = 48 }; // bytes of a piece that needs no heap

static int64_t merge_short(uint16_t *ids, const mb_bpe *bpe, const unsigned char *p, int64_t n) {
  uint16_t result[SHORT]; // of ids[i], ids[i + 1]
  for (int64_t i = 0; i < n; i++) ids[i] = bpe->of_byte[p[i]];
  for (int64_t i = 0; i + 1 < n; i++) result[i] = mbi_bpe_pair_of(bpe, ids[i], ids[i + 1]);
  while (n > 1) {
    int64_t at = 0;
    for (int64_t i = 1; i + 1 < n; i++) at = result[i] < result[at] ? i : at;
    if (result[at] == MBI_BPE_NONE) break;
    ids[at] = result[at];
    n--;
    memmove(ids + at + 1, ids + at + 2, (size_t)(n - at - 1) * sizeof *ids);
    if (at + 1 < n) {
      memmove(result + at + 1, result + at + 2, (size_t)(n - at - 2) * sizeof *result);
      result[at] = mbi_bpe_pair_of(bpe, ids[at], ids[at + 1]);
    }
    if (at > 0) result[at - 1] = mbi_bpe_pair_of(bpe, ids[at - 1], ids[at]);
  }
  return n;
}

// ----- long pieces --------------------------------------------------------------------------------------

// Symbols of a piece in a doubly linked list, by the place of their first byte; -1 ends it. The heap holds result << 32 |
// place of every pair that can be merged, and of some that no longer can: those whose result is not result[place].
typedef struct list {
  const mb_bpe *bpe;
  uint16_t *ids, *result;
  int32_t *next, *before;
  uint64_t *heap;
  int64_t count; // of the heap
} list;

static void push(list *l, uint64_t value) {
  int64_t i = l->count++;
  for (; i > 0 && l->heap[(i - 1) / 2] > value; i = (i - 1) / 2) l->heap[i] = l->heap[(i - 1) / 2];
  l->heap[i] = value;
}

static uint64_t pop(list *l) {
  uint64_t top = l->heap[0], value = l->heap[--l->count];
  int64_t i = 0, child;
  while ((child = 2 * i + 1) < l->count) {
    if (child + 1 < l->count && l->heap[child + 1] < l->heap[child]) child++;
    if (value <= l->heap[child]) break;
    l->heap[i] = l->heap[child];
    i = child;
  }
  l->heap[i] = value;
  return top;
}

// Looks at the symbol at `place` and its right neighbour.
static void pair_at(list *l, int32_t place) {
  int32_t right = l->next[place];
  l->result[place] = right < 0 ? MBI_BPE_NONE : mbi_bpe_pair_of(l->bpe, l->ids[place], l->ids[right]);
  if (l->result[place] != MBI_BPE_NONE) push(l, (uint64_t)l->result[place] << 32 | (uint32_t)place);
}

static void merge_at(list *l, int32_t place) {
  int32_t gone = l->next[place], right = l->next[gone];
  l->ids[place] = l->result[place];
  l->result[gone] = MBI_BPE_NONE;
  l->next[place] = right;
  if (right >= 0) l->before[right] = place;
  pair_at(l, place);
  if (l->before[place] >= 0) pair_at(l, l->before[place]);
}

static int64_t merge_long(uint16_t *ids, const mb_bpe *bpe, const unsigned char *p, int64_t n) {
  if (n > INT32_MAX) return -1;
  // A merge takes one symbol away and looks at two pairs: no more than 3 n pairs are ever looked at.
  size_t size = (size_t)n;
  char *memory = malloc(size * (3 * sizeof(uint64_t) + 2 * sizeof(int32_t) + sizeof(uint16_t)));
  if (!memory) return -1;
  list l = {.bpe = bpe, .ids = ids, .heap = (uint64_t *)(void *)memory};
  l.next = (int32_t *)(void *)(memory + 3 * size * sizeof(uint64_t));
  l.before = l.next + n;
  l.result = (uint16_t *)(void *)(l.before + n);
  for (int32_t i = 0; i < n; i++) {
    ids[i] = bpe->of_byte[p[i]];
    l.next[i] = i + 1 < n ? i + 1 : -1;
    l.before[i] = i - 1;
  }
  for (int32_t i = 0; i < n; i++) pair_at(&l, i);
  while (l.count > 0) {
    uint64_t top = pop(&l);
    int32_t place = (int32_t)(top & 0xFFFFFFFFu);
    if (l.result[place] == top >> 32) merge_at(&l, place);
  }
  int64_t count = 0;
  for (int32_t i = 0; i >= 0; i = l.next[i]) ids[count++] = ids[i];
  free(memory);
  return count;
}

int64_t mbi_bpe_merge_all(uint16_t *ids, const mb_bpe *bpe, const unsigned char *p, int64_t n) {
  return n <= SHORT ? merge_short(ids, bpe, p, n) : merge_long(ids, bpe, p, n);
}

// ----- the table of words -------------------------------------------------------------------------------

// The first n <= 8 bytes at p, the others zero.
static inline uint64_t load(const unsigned char *p, int64_t n, int64_t readable) {
  uint64_t value = 0;
  if (readable < 8) {
    memcpy(&value, p, (size_t)n);
    return value;
  }
  memcpy(&value, p, 8);
  return n == 8 ? value : value & ((UINT64_C(1) << 8 * n) - 1);
}

int64_t mbi_bpe_merge(uint16_t *ids, const mb_bpe *bpe, const unsigned char *p, int64_t n, int64_t readable) {
  if (n == 1) {
    ids[0] = bpe->of_byte[p[0]];
    return 1;
  }
  if (n <= MBI_BPE_WORD) {
    uint64_t low = load(p, n < 8 ? n : 8, readable), high = n > 8 ? load(p + 8, n - 8, readable - 8) : 0;
    uint32_t at = mbi_bpe_word_slot(bpe, low, high, n);
    for (; bpe->words[at].length > 0; at = (at + 1) & bpe->word_mask) {
      const mbi_bpe_word *word = &bpe->words[at];
      if (word->low == low && word->high == high && word->length == n) {
        ids[0] = word->id;
        return 1;
      }
    }
  }
  return mbi_bpe_merge_all(ids, bpe, p, n);
}
