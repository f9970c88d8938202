// SPDX-License-Identifier: MIT
//
// cpu.h: what kernel files of the CPU backend share. Every file in kernels/ is compiled once for each
// element type and instruction set (MBK_REAL is 32 or 64, MBK_ISA one of base, v3, v4); MBK(name) is the
// name of this copy, and table.c gathers the copies. Which set is used is decided once, from cpuid.
//
// Loops over elements run under OpenMP with static schedules. A reduction is cut into blocks of fixed
// size, whose partial results are added in order: the result does not depend on the number of threads.
#ifndef MBK_CPU_H
#define MBK_CPU_H
#include <math.h>
#include <omp.h>

#include "backend/backend.h"

#if MBK_REAL == 64
typedef double real;
#define MBK_SUFFIX f64
#else
typedef float real;
#define MBK_SUFFIX f32
#endif
#define MBK_JOIN_(name, suffix, isa) mbk_cpu_##name##_##suffix##_##isa
#define MBK_JOIN(name, suffix, isa) MBK_JOIN_(name, suffix, isa)
#define MBK(name) MBK_JOIN(name, MBK_SUFFIX, MBK_ISA)

#define MB_KERNEL(name, ...) mb_status MBK(name)(__VA_ARGS__);
#include "backend/kernels.def"
#undef MB_KERNEL

// Work below this many element visits is done by the calling thread: starting a team costs more.
enum { MBK_PARALLEL_FROM = 16384 };

// The numbers of those of `count` matrices that a call is about, in scratch of slot 6.
static inline mb_status mbk_members(int64_t **members, int64_t *n, const mbi_mask *mask, int64_t count) {
  void *memory;
  MB_TRY(mbi_scratch(&memory, 6, (size_t)count * sizeof(int64_t)));
  *members = memory;
  *n = 0;
  for (int64_t i = 0; i < count; i++)
    if (!mask->flags || (mask->flags[i] & mask->wanted) == mask->wanted) (*members)[(*n)++] = i;
  return MB_OK;
}

// Element-wise kernels walk views as rows: the longest run of dimensions that every view passes through
// with one stride each becomes the inner loop.
typedef struct mbk_rows {
  int64_t rows, length;
  int ndim;                       // outer dimensions
  int64_t size[MB_MAX_DIMS];
  int n_views;
  int64_t stride[4][MB_MAX_DIMS]; // of view v in outer dimension d
  int64_t step[4];                // of view v within a row
  real *data[4];
} mbk_rows;

static inline void mbk_rows_make(mbk_rows *r, int n_views, const mbi_view *const *views) {
  int64_t size[MB_MAX_DIMS], stride[4][MB_MAX_DIMS];
  int ndim = 0;
  // Drop dimensions of size 1, merge neighbours that all views walk as one.
  for (int d = 0; d < views[0]->ndim; d++) {
    if (views[0]->size[d] == 1) continue;
    int merge = ndim > 0;
    for (int v = 0; v < n_views && merge; v++)
      if (stride[v][ndim - 1] != views[v]->stride[d] * views[0]->size[d]) merge = 0;
    if (!merge) size[ndim++] = 1;
    size[ndim - 1] *= views[0]->size[d];
    for (int v = 0; v < n_views; v++) stride[v][ndim - 1] = views[v]->stride[d];
  }
  r->n_views = n_views;
  r->ndim = ndim > 0 ? ndim - 1 : 0;
  r->length = ndim > 0 ? size[ndim - 1] : 1;
  r->rows = 1;
  for (int d = 0; d < r->ndim; d++) {
    r->size[d] = size[d];
    r->rows *= size[d];
  }
  for (int v = 0; v < n_views; v++) {
    r->data[v] = views[v]->data;
    r->step[v] = ndim > 0 ? stride[v][ndim - 1] : 0;
    for (int d = 0; d < r->ndim; d++) r->stride[v][d] = stride[v][d];
  }
}

// Address of view v at the start of a row.
static inline real *mbk_row(const mbk_rows *r, int v, int64_t row) {
  real *p = r->data[v];
  for (int d = r->ndim - 1; d >= 0; d--) {
    p += row % r->size[d] * r->stride[v][d];
    row /= r->size[d];
  }
  return p;
}

// A unit of work is a row, or a piece of one when there are few rows: pieces of `*piece` elements,
// `*pieces` to a row.
static inline void mbk_rows_split(const mbk_rows *r, int64_t *pieces, int64_t *piece) {
  enum { PIECE = 8192 };
  *piece = r->length > PIECE ? PIECE : r->length;
  *pieces = (r->length + *piece - 1) / *piece;
}
#endif
