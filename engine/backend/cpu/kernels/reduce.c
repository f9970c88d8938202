// SPDX-License-Identifier: MIT
//
// reduce.c: sums and extremes over any set of dimensions. The view is reordered so that kept dimensions
// come first; then one of two loops runs:
//   rows     the innermost reduced dimension has stride 1, or nothing has: one output after another
//   columns  the innermost kept dimension has stride 1: a strip of outputs side by side, vector code
// Sums are kept in float64, in vector lanes folded in a fixed order.
#include "backend/cpu/cpu.h"

enum { STRIP = 64 };

typedef struct plan {
  int n_kept, n_reduced;
  int64_t kept[MB_MAX_DIMS], kept_stride[MB_MAX_DIMS];
  int64_t reduced[MB_MAX_DIMS], reduced_stride[MB_MAX_DIMS];
  int64_t outputs, elements; // products of the two
} plan;

static plan make_plan(const mbi_view *x, unsigned dims) {
  plan p = {.outputs = 1, .elements = 1};
  for (int d = 0; d < x->ndim; d++) {
    int64_t size = x->size[d], stride = x->stride[d];
    if (size == 1) continue;
    int is_reduced = dims >> d & 1;
    int64_t *sizes = is_reduced ? p.reduced : p.kept, *strides = is_reduced ? p.reduced_stride : p.kept_stride;
    int *n = is_reduced ? &p.n_reduced : &p.n_kept;
    *(is_reduced ? &p.elements : &p.outputs) *= size;
    if (*n > 0 && strides[*n - 1] == stride * size) { // walks as one with its neighbour
      sizes[*n - 1] *= size;
      strides[*n - 1] = stride;
    } else {
      sizes[*n] = size;
      strides[(*n)++] = stride;
    }
  }
  return p;
}

static int64_t offset_of(int64_t i, int n, const int64_t *size, const int64_t *stride) {
  int64_t offset = 0;
  for (int d = n - 1; d >= 0; d--) {
    offset += i % size[d] * stride[d];
    i /= size[d];
  }
  return offset;
}

// Sum of n strided numbers.
static double sum_run(const real *x, int64_t n, int64_t stride) {
  double sum = 0;
  if (stride == 1) {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)x[i];
  } else {
    for (int64_t i = 0; i < n; i++) sum += (double)x[i * stride];
  }
  return sum;
}

static double sum_one(const real *x, const plan *p) {
  if (p->n_reduced == 0) return (double)*x;
  int inner = p->n_reduced - 1;
  int64_t runs = p->elements / p->reduced[inner];
  double sum = 0;
  for (int64_t r = 0; r < runs; r++)
    sum += sum_run(x + offset_of(r, inner, p->reduced, p->reduced_stride), p->reduced[inner], p->reduced_stride[inner]);
  return sum;
}

// A NaN is extreme: it wins and stays.
static int beats(enum mbi_reduce f, real challenger, real best) {
  if (best != best) return 0;
  if (challenger != challenger) return 1;
  return f == MBI_REDUCE_MAX ? challenger > best : challenger < best;
}

static real extreme_one(enum mbi_reduce f, const real *x, const plan *p, int32_t *index) {
  real best = *x;
  int64_t at = 0;
  for (int64_t e = 1; e < p->elements; e++) {
    real value = x[offset_of(e, p->n_reduced, p->reduced, p->reduced_stride)];
    if (beats(f, value, best)) best = value, at = e;
  }
  if (index) *index = (int32_t)at;
  return best;
}

// Outputs [first, first + n) of one strip: their inputs lie side by side.
static void sum_strip(real *out, const real *x, const plan *p, int64_t n, double alpha) {
  double sum[STRIP] = {0};
  for (int64_t e = 0; e < p->elements; e++) {
    const real *row = x + offset_of(e, p->n_reduced, p->reduced, p->reduced_stride);
    for (int64_t i = 0; i < n; i++) sum[i] += (double)row[i];
  }
  for (int64_t i = 0; i < n; i++) out[i] = (real)(alpha * sum[i]);
}

static void sum_columns(real *out, const real *x, const plan *p, double alpha) {
  int inner = p->n_kept - 1;
  int64_t width = p->kept[inner], strips = (width + STRIP - 1) / STRIP, rows = p->outputs / width;
#pragma omp parallel for schedule(static) if (p->outputs * p->elements >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < rows * strips; i++) {
    int64_t row = i / strips, start = i % strips * STRIP, n = width - start < STRIP ? width - start : STRIP;
    sum_strip(out + row * width + start, x + offset_of(row, inner, p->kept, p->kept_stride) + start, p, n, alpha);
  }
}

// One output over contiguous elements: blocks of fixed size, added in order.
static double sum_all(const real *x, int64_t n) {
  enum { BLOCK = 16384, MOST = 4096 };
  double partial[MOST];
  int64_t block = (n + MOST - 1) / MOST < BLOCK ? BLOCK : (n + MOST - 1) / MOST, blocks = (n + block - 1) / block;
#pragma omp parallel for schedule(static) if (n >= MBK_PARALLEL_FROM)
  for (int64_t b = 0; b < blocks; b++) partial[b] = sum_run(x + b * block, n - b * block < block ? n - b * block : block, 1);
  double sum = 0;
  for (int64_t b = 0; b < blocks; b++) sum += partial[b];
  return sum;
}

mb_status MBK(reduce)(enum mbi_reduce f, void *out, int32_t *index, const mbi_view *x, unsigned dims, double alpha) {
  plan p = make_plan(x, dims);
  const real *in = x->data;
  real *y = out;
  if (f == MBI_REDUCE_SUM && p.outputs == 1 && p.n_reduced == 1 && p.reduced_stride[0] == 1) {
    *y = (real)(alpha * sum_all(in, p.elements));
    return MB_OK;
  }
  int reduced_is_dense = p.n_reduced > 0 && p.reduced_stride[p.n_reduced - 1] == 1;
  if (f == MBI_REDUCE_SUM && !reduced_is_dense && p.n_kept > 0 && p.kept_stride[p.n_kept - 1] == 1) {
    sum_columns(y, in, &p, alpha);
    return MB_OK;
  }
#pragma omp parallel for schedule(static) if (p.outputs * p.elements >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < p.outputs; i++) {
    const real *first = in + offset_of(i, p.n_kept, p.kept, p.kept_stride);
    double value = f == MBI_REDUCE_SUM ? sum_one(first, &p) : (double)extreme_one(f, first, &p, index ? index + i : NULL);
    if (y) y[i] = (real)(alpha * value);
  }
  return MB_OK;
}

mb_status MBK(reduce_pick_backward)(void *dx, const void *dy, const int32_t *index, const mbi_view *x_sizes, unsigned dims, int accumulate) {
  mbi_view dense = *x_sizes;
  int64_t step = 1;
  for (int d = dense.ndim - 1; d >= 0; d--) {
    dense.stride[d] = step;
    step *= dense.size[d];
  }
  plan p = make_plan(&dense, dims);
  real *x = dx;
  for (int64_t i = 0; !accumulate && i < step; i++) x[i] = 0;
  for (int64_t i = 0; i < p.outputs; i++)
    x[offset_of(i, p.n_kept, p.kept, p.kept_stride) + offset_of(index[i], p.n_reduced, p.reduced, p.reduced_stride)] += ((const real *)dy)[i];
  return MB_OK;
}

mb_status MBK(sum_squares)(double *out, const void *x, int64_t count) {
  enum { BLOCK = 16384 };
  const real *v = x;
  int64_t blocks = (count + BLOCK - 1) / BLOCK;
  void *memory;
  MB_TRY(mbi_scratch(&memory, 7, (size_t)blocks * sizeof(double)));
  double *partial = memory;
#pragma omp parallel for schedule(static) if (count >= MBK_PARALLEL_FROM)
  for (int64_t b = 0; b < blocks; b++) {
    int64_t n = count - b * BLOCK < BLOCK ? count - b * BLOCK : BLOCK;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)v[b * BLOCK + i] * (double)v[b * BLOCK + i];
    partial[b] = sum;
  }
  for (int64_t b = 0; b < blocks; b++) *out += partial[b];
  return MB_OK;
}

mb_status MBK(find_nonfinite)(int64_t *index, const void *x, int64_t count) {
  enum { BLOCK = 65536 };
  const real *v = x;
  int64_t blocks = (count + BLOCK - 1) / BLOCK, first = blocks;
  // A finite number times zero is zero; the sum of a block is NaN as soon as one is not.
#pragma omp parallel for schedule(static) reduction(min : first) if (count >= MBK_PARALLEL_FROM)
  for (int64_t b = 0; b < blocks; b++) {
    int64_t n = count - b * BLOCK < BLOCK ? count - b * BLOCK : BLOCK;
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += v[b * BLOCK + i] * 0;
    if (sum != 0 && b < first) first = b;
  }
  *index = -1;
  for (int64_t i = first * BLOCK; i < count; i++)
    if (!isfinite(v[i])) {
      *index = i;
      break;
    }
  return MB_OK;
}
