// SPDX-License-Identifier: MIT
//
// copy.c: dst = src between two views of the same sizes, whatever their strides. The order in which
// elements are copied is free, so dimensions are sorted by the destination's stride, dropped where their
// size is 1 and merged where both views walk through two as through one. Then one of three loops runs:
//   rows       both views have stride 1 in the innermost dimension: memcpy, row by row
//   planes     the source has stride 1 in another one: a transposition, in tiles of one cache line squared
//   strided    anything else, element by element
// A tile is turned in a small buffer, so that every line of source and destination is touched once even
// when rows lie a power of two apart and would push each other out of the first-level cache.
#include <string.h>

#include "backend/backend.h"
#include "backend/cpu/device.h"

enum { LINE = 64, PARALLEL_FROM = 1 << 17, PIECE = 1 << 16 };

typedef struct walk {
  char *dst;
  const char *src;
  int ndim; // at least 1
  int64_t size[MB_MAX_DIMS], to[MB_MAX_DIMS], from[MB_MAX_DIMS]; // strides in bytes
  int64_t element, bytes;
} walk;

static walk make_walk(const mbi_view *dst, const mbi_view *src, size_t element) {
  walk w = {.dst = dst->data, .src = src->data, .element = (int64_t)element, .bytes = (int64_t)element};
  int order[MB_MAX_DIMS], n = 0;
  for (int d = 0; d < dst->ndim; d++) {
    if (dst->size[d] == 1) continue;
    int at = n++;
    for (; at > 0 && dst->stride[order[at - 1]] < dst->stride[d]; at--) order[at] = order[at - 1];
    order[at] = d;
  }
  for (int i = 0; i < n; i++) {
    int64_t size = dst->size[order[i]], to = dst->stride[order[i]] * w.element, from = src->stride[order[i]] * w.element;
    int last = w.ndim - 1;
    w.bytes *= size;
    if (w.ndim > 0 && w.to[last] == to * size && w.from[last] == from * size) {
      w.size[last] *= size;
    } else {
      last = w.ndim++;
      w.size[last] = size;
    }
    w.to[last] = to;
    w.from[last] = from;
  }
  if (w.ndim == 0) {
    w.ndim = 1;
    w.size[0] = 1;
    w.to[0] = w.from[0] = w.element;
  }
  return w;
}

// Moves dimension d to place `at`, keeping the order of the others.
static void move_dim(walk *w, int d, int at) {
  int64_t size = w->size[d], to = w->to[d], from = w->from[d];
  int step = d < at ? 1 : -1;
  for (; d != at; d += step) {
    w->size[d] = w->size[d + step];
    w->to[d] = w->to[d + step];
    w->from[d] = w->from[d + step];
  }
  w->size[at] = size;
  w->to[at] = to;
  w->from[at] = from;
}

// Offsets of the i-th position of the first n dimensions.
static void place(const walk *w, int n, int64_t i, int64_t *to, int64_t *from) {
  *to = *from = 0;
  for (int d = n - 1; d >= 0; d--) {
    *to += i % w->size[d] * w->to[d];
    *from += i % w->size[d] * w->from[d];
    i /= w->size[d];
  }
}

static int64_t positions(const walk *w, int n) {
  int64_t count = 1;
  for (int d = 0; d < n; d++) count *= w->size[d];
  return count;
}

// ----- rows and strided elements ----------------------------------------------------------------------

static void copy_run(char *to, int64_t st, const char *from, int64_t sf, int64_t n, int64_t element) {
  if (st == element && sf == element) {
    memcpy(to, from, (size_t)(n * element));
    return;
  }
  switch (element) {
    case 1: for (int64_t i = 0; i < n; i++) to[i * st] = from[i * sf]; break;
    case 2: for (int64_t i = 0; i < n; i++) *(uint16_t *)(void *)(to + i * st) = *(const uint16_t *)(const void *)(from + i * sf); break;
    case 4: for (int64_t i = 0; i < n; i++) *(uint32_t *)(void *)(to + i * st) = *(const uint32_t *)(const void *)(from + i * sf); break;
    default: for (int64_t i = 0; i < n; i++) *(uint64_t *)(void *)(to + i * st) = *(const uint64_t *)(const void *)(from + i * sf); break;
  }
}

// One element all over a contiguous run.
static void fill_run(char *to, const char *from, int64_t n, int64_t element) {
  switch (element) {
    case 1: memset(to, *from, (size_t)n); break;
    case 2: for (int64_t i = 0; i < n; i++) ((uint16_t *)(void *)to)[i] = *(const uint16_t *)(const void *)from; break;
    case 4: for (int64_t i = 0; i < n; i++) ((uint32_t *)(void *)to)[i] = *(const uint32_t *)(const void *)from; break;
    default: for (int64_t i = 0; i < n; i++) ((uint64_t *)(void *)to)[i] = *(const uint64_t *)(const void *)from; break;
  }
}

// The last dimension is the run; the one before it is cut into pieces of about PIECE bytes.
static void copy_rows(const walk *w) {
  int inner = w->ndim - 1, outer = inner > 0 ? inner - 1 : 0;
  int64_t n = w->size[inner], st = w->to[inner], sf = w->from[inner];
  int64_t rows = inner > 0 ? w->size[outer] : 1, row_to = inner > 0 ? w->to[outer] : 0, row_from = inner > 0 ? w->from[outer] : 0;
  int64_t piece = PIECE / (n * w->element) + 1, pieces = (rows + piece - 1) / piece;
  int is_fill = sf == 0 && st == w->element;
#pragma omp parallel for schedule(static) if (w->bytes >= PARALLEL_FROM)
  for (int64_t i = 0; i < positions(w, outer) * pieces; i++) {
    int64_t to, from, first = i % pieces * piece, last = first + piece < rows ? first + piece : rows;
    place(w, outer, i / pieces, &to, &from);
    for (int64_t r = first; r < last; r++) {
      if (is_fill) fill_run(w->dst + to + r * row_to, w->src + from + r * row_from, n, w->element);
      else copy_run(w->dst + to + r * row_to, st, w->src + from + r * row_from, sf, n, w->element);
    }
  }
}

// ----- planes -------------------------------------------------------------------------------------------
// The last dimension a is dense in dst, the one before it, b, in src: dst[b][a] = src[a][b].

typedef uint32_t quad __attribute__((vector_size(16)));
typedef uint64_t pair __attribute__((vector_size(16)));

// Four rows of src, `step` bytes apart, 16 columns: into columns 0..3 of `tile`.
static inline void turn_quads(uint32_t (*tile)[16], const char *src, int64_t step) {
  for (int b = 0; b < 16; b += 4) {
    quad r[4];
    for (int k = 0; k < 4; k++) memcpy(&r[k], src + k * step + 4 * b, 16);
    quad x = __builtin_shuffle(r[0], r[1], (quad){0, 4, 1, 5}), y = __builtin_shuffle(r[2], r[3], (quad){0, 4, 1, 5});
    quad z = __builtin_shuffle(r[0], r[1], (quad){2, 6, 3, 7}), u = __builtin_shuffle(r[2], r[3], (quad){2, 6, 3, 7});
    quad c[4] = {__builtin_shuffle(x, y, (quad){0, 1, 4, 5}), __builtin_shuffle(x, y, (quad){2, 3, 6, 7}),
                 __builtin_shuffle(z, u, (quad){0, 1, 4, 5}), __builtin_shuffle(z, u, (quad){2, 3, 6, 7})};
    for (int k = 0; k < 4; k++) memcpy(tile[b + k], &c[k], 16);
  }
}

static void turn_tile4(char *dst, int64_t to, const char *src, int64_t from) {
  uint32_t tile[16][16];
  for (int a = 0; a < 16; a += 4) turn_quads((uint32_t (*)[16])(void *)&tile[0][a], src + a * from, from);
  for (int b = 0; b < 16; b++) memcpy(dst + b * to, tile[b], LINE);
}

static void turn_tile8(char *dst, int64_t to, const char *src, int64_t from) {
  uint64_t tile[8][8];
  for (int a = 0; a < 8; a += 2)
    for (int b = 0; b < 8; b += 2) {
      pair x, y;
      memcpy(&x, src + a * from + 8 * b, 16);
      memcpy(&y, src + (a + 1) * from + 8 * b, 16);
      pair low = __builtin_shuffle(x, y, (pair){0, 2}), high = __builtin_shuffle(x, y, (pair){1, 3});
      memcpy(&tile[b][a], &low, 16);
      memcpy(&tile[b + 1][a], &high, 16);
    }
  for (int b = 0; b < 8; b++) memcpy(dst + b * to, tile[b], LINE);
}

// A tile of na x nb elements, at the border or of a small element.
static void turn_rest(char *dst, int64_t to, const char *src, int64_t from, int64_t na, int64_t nb, int64_t element) {
  for (int64_t b = 0; b < nb; b++) copy_run(dst + b * to, element, src + b * element, from, na, element);
}

static void copy_planes(const walk *w) {
  int a = w->ndim - 1, b = a - 1;
  int64_t na = w->size[a], nb = w->size[b], to = w->to[b], from = w->from[a], element = w->element;
  int64_t side = LINE / element < 16 ? LINE / element : 16, strips = (nb + side - 1) / side;
#pragma omp parallel for schedule(static) if (w->bytes >= PARALLEL_FROM)
  for (int64_t i = 0; i < positions(w, b) * strips; i++) {
    int64_t plane_to, plane_from, first = i % strips * side, height = nb - first < side ? nb - first : side;
    place(w, b, i / strips, &plane_to, &plane_from);
    char *dst = w->dst + plane_to + first * to;
    const char *src = w->src + plane_from + first * element;
    for (int64_t at = 0; at < na; at += side) {
      int64_t length = na - at < side ? na - at : side;
      if (height < side || length < side || element < 4) turn_rest(dst + at * element, to, src + at * from, from, length, height, element);
      else if (element == 4) turn_tile4(dst + at * element, to, src + at * from, from);
      else turn_tile8(dst + at * element, to, src + at * from, from);
    }
  }
}

mb_status mbi_cpu_copy_view(const mbi_view *dst, const mbi_view *src, size_t element) {
  walk w = make_walk(dst, src, element);
  int inner = w.ndim - 1;
  if (w.ndim == 1 && w.to[0] == w.element && w.from[0] == w.element) return mbi_cpu_copy(w.dst, w.src, (size_t)w.bytes);
  if (w.to[inner] == w.element && w.from[inner] != w.element)
    for (int d = 0; d < inner; d++)
      if (w.from[d] == w.element) {
        move_dim(&w, d, inner - 1);
        copy_planes(&w);
        return MB_OK;
      }
  copy_rows(&w);
  return MB_OK;
}
