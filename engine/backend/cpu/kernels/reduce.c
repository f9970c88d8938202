// SPDX-License-Identifier: MIT
//
// reduce.c: sums and extremes over any set of dimensions. Dimensions are split into kept and reduced ones,
// neighbours that memory passes through evenly merged; a unit of work is then
//   a strip    up to STRIP outputs that lie side by side, when the reduced elements do not: vector code down
//              the columns
//   rows       else: one output after another, a single one when it is made from many elements
// over a chunk of the reduced elements. There is one chunk when there are units enough for every thread;
// otherwise the partial results are added in the order of the chunks. Where the cuts lie depends on the
// shape only, so the number of threads changes no bit. Sums are kept in float64.
// Measured on one Zen 4 core, f32 in cache: sums read 35 GB/s along rows and 25 to 35 down columns, extremes
// 15 to 30; a bias gradient of (4096, 768) takes 0.5 ms.
#include "backend/cpu/cpu.h"

#if MBK_REAL == 64
typedef int64_t bits; // an integer of real's width
#else
typedef int32_t bits;
#endif
enum { STRIP = 256, LANES = 32, SHORT_ROW = 128, ENOUGH_UNITS = 64, CHUNK_WORK = 16384 };

typedef struct plan {
  int n_kept, n_reduced;
  int64_t kept[MB_MAX_DIMS], kept_stride[MB_MAX_DIMS];
  int64_t reduced[MB_MAX_DIMS], reduced_stride[MB_MAX_DIMS];
  int64_t outputs, elements; // products of the two
  int is_strips;
  int64_t width, strip;      // outputs along the last kept dimension, and how many of them a unit takes
  int64_t units, chunks, chunk;
} plan;

static void add_dim(int64_t *sizes, int64_t *strides, int *n, int64_t size, int64_t stride) {
  if (*n > 0 && strides[*n - 1] == stride * size) { // walks as one with its neighbour
    sizes[*n - 1] *= size;
    strides[*n - 1] = stride;
  } else {
    sizes[*n] = size;
    strides[(*n)++] = stride;
  }
}

// Order of the dimensions: as they are, or by falling stride where the order of elements does not matter.
static void order_dims(int *order, const mbi_view *x, int any_order) {
  for (int d = 0; d < x->ndim; d++) {
    int at = d;
    while (any_order && at > 0 && x->stride[order[at - 1]] < x->stride[d]) {
      order[at] = order[at - 1];
      at--;
    }
    order[at] = d;
  }
}

static plan make_plan(const mbi_view *x, unsigned dims, int any_order) {
  plan p = {.outputs = 1, .elements = 1};
  int order[MB_MAX_DIMS] = {0};
  order_dims(order, x, any_order);
  for (int d = 0; d < x->ndim; d++) {
    if (x->size[d] == 1 || dims >> d & 1) continue;
    add_dim(p.kept, p.kept_stride, &p.n_kept, x->size[d], x->stride[d]);
    p.outputs *= x->size[d];
  }
  for (int i = 0; i < x->ndim; i++) {
    int d = order[i];
    if (x->size[d] == 1 || !(dims >> d & 1)) continue;
    add_dim(p.reduced, p.reduced_stride, &p.n_reduced, x->size[d], x->stride[d]);
    p.elements *= x->size[d];
  }
  int rows_are_dense = p.n_reduced > 0 && p.reduced_stride[p.n_reduced - 1] == 1;
  p.is_strips = !rows_are_dense && p.n_kept > 0 && p.kept_stride[p.n_kept - 1] == 1;
  p.width = p.n_kept > 0 ? p.kept[p.n_kept - 1] : 1;
  p.strip = p.is_strips || p.elements < SHORT_ROW ? STRIP : 1;
  if (p.strip > p.width) p.strip = p.width;
  p.units = p.outputs / p.width * ((p.width + p.strip - 1) / p.strip);
  p.chunks = p.units >= ENOUGH_UNITS ? 1 : (p.elements * p.strip + CHUNK_WORK - 1) / CHUNK_WORK;
  if (p.chunks > ENOUGH_UNITS) p.chunks = ENOUGH_UNITS;
  p.chunk = (p.elements + p.chunks - 1) / p.chunks;
  p.chunks = (p.elements + p.chunk - 1) / p.chunk;
  return p;
}

static inline int64_t offset_of(int64_t i, int n, const int64_t *size, const int64_t *stride) {
  int64_t offset = 0;
  for (int d = n - 1; d > 0; d--) {
    offset += i % size[d] * stride[d];
    i /= size[d];
  }
  return n > 0 ? offset + i * stride[0] : 0;
}

// One unit over one chunk: `n` outputs from `output` on, reduced elements [from, to).
typedef struct work {
  const real *x; // of the first output; those of the next lie `step` further
  int64_t output, n, step, from, to;
} work;

static work find_work(const plan *p, const real *x, int64_t unit, int64_t chunk) {
  int64_t strips = (p->width + p->strip - 1) / p->strip, start = unit % strips * p->strip;
  work w = {.output = unit / strips * p->width + start, .from = chunk * p->chunk, .to = (chunk + 1) * p->chunk};
  w.n = p->width - start < p->strip ? p->width - start : p->strip;
  w.step = p->n_kept > 0 ? p->kept_stride[p->n_kept - 1] : 0;
  if (w.to > p->elements) w.to = p->elements;
  w.x = x + offset_of(w.output, p->n_kept, p->kept, p->kept_stride);
  return w;
}

// The next run of reduced elements that lie one stride apart, from element e on.
typedef struct run {
  const real *x;
  int64_t n, stride;
} run;

static inline run find_run(const plan *p, const work *w, int64_t e) {
  if (p->n_reduced == 0) return (run){w->x, 1, 1};
  int inner = p->n_reduced - 1;
  int64_t size = p->reduced[inner], stride = p->reduced_stride[inner], row = 0, at = e;
  if (inner > 0) row = e / size, at = e % size;
  int64_t n = size - at < w->to - e ? size - at : w->to - e;
  return (run){w->x + offset_of(row, inner, p->reduced, p->reduced_stride) + at * stride, n, stride};
}

// ----- sums -------------------------------------------------------------------------------------------

static double sum_run(const real *x, int64_t n, int64_t stride) {
  double sum = 0;
  int64_t i = 0;
  if (stride == 1) {
    double lanes[LANES] = {0}; // several vectors: an addition does not wait for the one before
    for (; i + LANES <= n; i += LANES)
      for (int k = 0; k < LANES; k++) lanes[k] += (double)x[i + k];
    for (int width = LANES / 2; width > 0; width /= 2)
      for (int k = 0; k < width; k++) lanes[k] += lanes[k + width];
    sum = lanes[0];
  }
  for (; i < n; i++) sum += (double)x[i * stride];
  return sum;
}

// sum[i] += rows of n numbers, `stride` apart; four rows at once, to visit sum less often.
static void sum_rows(double *restrict sum, const real *restrict x, int64_t rows, int64_t stride, int64_t n) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const real *a = x + r * stride, *b = a + stride, *c = b + stride, *d = c + stride;
    for (int64_t i = 0; i < n; i++) sum[i] += ((double)a[i] + (double)b[i]) + ((double)c[i] + (double)d[i]);
  }
  for (; r < rows; r++)
    for (int64_t i = 0; i < n; i++) sum[i] += (double)x[r * stride + i];
}

static void sum_work(double *sum, const plan *p, const work *w) {
  for (int64_t i = 0; i < w->n; i++) sum[i] = 0;
  for (int64_t e = w->from; e < w->to;) {
    run r = find_run(p, w, e);
    if (p->is_strips) sum_rows(sum, r.x, r.n, r.stride, w->n);
    else for (int64_t i = 0; i < w->n; i++) sum[i] += sum_run(r.x + i * w->step, r.n, r.stride);
    e += r.n;
  }
}

static void put(real *out, int accumulate, double sum) { *out = accumulate ? *out + (real)sum : (real)sum; }

static mb_status sums(real *out, int accumulate, const real *x, const plan *p, double alpha) {
  void *memory = NULL;
  if (p->chunks > 1) MB_TRY(mbi_scratch(&memory, 7, (size_t)(p->chunks * p->outputs) * sizeof(double)));
  double *partial = memory; // (chunks, outputs)
#pragma omp parallel for schedule(static) if (p->outputs * p->elements >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < p->units * p->chunks; i++) {
    work w = find_work(p, x, i / p->chunks, i % p->chunks);
    double sum[STRIP];
    sum_work(sum, p, &w);
    if (partial) {
      for (int64_t k = 0; k < w.n; k++) partial[i % p->chunks * p->outputs + w.output + k] = sum[k];
    } else {
      for (int64_t k = 0; k < w.n; k++) put(out + w.output + k, accumulate, alpha * sum[k]);
    }
  }
  for (int64_t k = 0; partial && k < p->outputs; k++) {
    double sum = 0;
    for (int64_t c = 0; c < p->chunks; c++) sum += partial[c * p->outputs + k];
    put(out + k, accumulate, alpha * sum);
  }
  return MB_OK;
}

// ----- extremes ---------------------------------------------------------------------------------------
// A NaN is more extreme than any number; of equals the first counts. The minimum is the maximum of -x.

static inline int beats(real challenger, real best) { return challenger > best || (challenger != challenger && best == best); }

// The largest of sign * x over n contiguous numbers, and whether there is a NaN among them.
static real most_of(int *nan, const real *x, int64_t n, real sign) {
  real lanes[LANES];
  bits bad[LANES];
  for (int k = 0; k < LANES; k++) lanes[k] = sign * x[0], bad[k] = 0;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int k = 0; k < LANES; k++) {
      real v = sign * x[i + k];
      lanes[k] = v > lanes[k] ? v : lanes[k];
      bad[k] |= v != v;
    }
  for (int k = 0; i < n; i++, k++) {
    real v = sign * x[i];
    lanes[k] = v > lanes[k] ? v : lanes[k];
    bad[k] |= v != v;
  }
  real most = lanes[0];
  *nan = 0;
  for (int k = 0; k < LANES; k++) {
    most = lanes[k] > most ? lanes[k] : most;
    *nan |= bad[k] != 0;
  }
  return most;
}

// Value and place of the extreme of one run. Only a block that brings a new one is searched for its place.
static void best_of_run(real *best, int64_t *at, const real *x, int64_t n, int64_t stride, real sign) {
  enum { BLOCK = 2048 };
  *best = sign * x[0];
  *at = 0;
  for (int64_t i = 0; stride != 1 && i < n; i++)
    if (beats(sign * x[i * stride], *best)) *best = sign * x[i * stride], *at = i;
  for (int64_t start = 0; stride == 1 && start < n; start += BLOCK) {
    int nan;
    real most = most_of(&nan, x + start, n - start < BLOCK ? n - start : BLOCK, sign);
    if (!nan && !(most > *best)) continue;
    int64_t i = start;
    if (nan) while (x[i] == x[i]) i++;
    else while (sign * x[i] != most) i++;
    *best = sign * x[i];
    *at = i;
    if (nan) return;
  }
}

// The same for n columns of one run: rows r of `stride`, the first of them element `e`.
static void best_of_columns(real *restrict best, int32_t *restrict at, const real *restrict x, int64_t rows, int64_t stride, int64_t n,
                            int32_t e, real sign) {
  for (int64_t r = 0; r < rows; r++, e++)
    for (int64_t i = 0; i < n; i++) {
      real v = sign * x[r * stride + i];
      int wins = beats(v, best[i]);
      best[i] = wins ? v : best[i];
      at[i] = wins ? e : at[i];
    }
}

static void best_of_work(real *best, int32_t *at, const plan *p, const work *w, real sign) {
  run first = find_run(p, w, w->from);
  for (int64_t i = 0; i < w->n; i++) best[i] = sign * first.x[i * w->step], at[i] = (int32_t)w->from;
  for (int64_t e = w->from; e < w->to;) {
    run r = find_run(p, w, e);
    if (p->is_strips) best_of_columns(best, at, r.x, r.n, r.stride, w->n, (int32_t)e, sign);
    for (int64_t i = 0; !p->is_strips && i < w->n; i++) {
      real challenger;
      int64_t place;
      best_of_run(&challenger, &place, r.x + i * w->step, r.n, r.stride, sign);
      if (beats(challenger, best[i])) best[i] = challenger, at[i] = (int32_t)(e + place);
    }
    e += r.n;
  }
}

static mb_status extremes(real *out, int32_t *index, const real *x, const plan *p, real sign) {
  void *memory = NULL;
  size_t count = (size_t)(p->chunks * p->outputs);
  if (p->chunks > 1) MB_TRY(mbi_scratch(&memory, 7, count * (sizeof(real) + sizeof(int32_t))));
  real *values = memory; // (chunks, outputs)
  int32_t *places = memory ? (int32_t *)(values + count) : NULL;
#pragma omp parallel for schedule(static) if (p->outputs * p->elements >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < p->units * p->chunks; i++) {
    work w = find_work(p, x, i / p->chunks, i % p->chunks);
    real best[STRIP];
    int32_t at[STRIP];
    best_of_work(best, at, p, &w, sign);
    int64_t to = i % p->chunks * p->outputs + w.output;
    for (int64_t k = 0; values && k < w.n; k++) values[to + k] = best[k], places[to + k] = at[k];
    for (int64_t k = 0; !values && out && k < w.n; k++) out[to + k] = sign * best[k];
    for (int64_t k = 0; !values && index && k < w.n; k++) index[to + k] = at[k];
  }
  for (int64_t k = 0; values && k < p->outputs; k++) {
    int64_t winner = k;
    for (int64_t c = 1; c < p->chunks; c++)
      if (beats(values[c * p->outputs + k], values[winner])) winner = c * p->outputs + k;
    if (out) out[k] = sign * values[winner];
    if (index) index[k] = places[winner];
  }
  return MB_OK;
}

mb_status MBK(reduce)(enum mbi_reduce f, void *out, int32_t *index, const mbi_view *x, unsigned dims, double alpha) {
  plan p = make_plan(x, dims, f == MBI_REDUCE_SUM);
  if (f == MBI_REDUCE_SUM) return sums(out, 0, x->data, &p, alpha);
  return extremes(out, index, x->data, &p, f == MBI_REDUCE_MAX ? 1 : -1);
}

mb_status MBK(sum_over)(void *out, int accumulate, const mbi_view *x, unsigned dims) {
  plan p = make_plan(x, dims, 1);
  return sums(out, accumulate, x->data, &p, 1);
}

mb_status MBK(reduce_pick_backward)(void *dx, const void *dy, const int32_t *index, const mbi_view *x_sizes, unsigned dims,
                                    int accumulate) {
  mbi_view dense = *x_sizes;
  int64_t count = 1;
  for (int d = dense.ndim - 1; d >= 0; d--) {
    dense.stride[d] = count;
    count *= dense.size[d];
  }
  plan p = make_plan(&dense, dims, 0);
  real *x = dx;
  const real *y = dy;
  if (!accumulate) {
#pragma omp parallel for simd schedule(static) if (count >= MBK_PARALLEL_FROM)
    for (int64_t i = 0; i < count; i++) x[i] = 0;
  }
#pragma omp parallel for schedule(static) if (p.outputs >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < p.outputs; i++) {
    int64_t at = offset_of(i, p.n_kept, p.kept, p.kept_stride) + offset_of(index[i], p.n_reduced, p.reduced, p.reduced_stride);
    x[at] += y[i];
  }
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
