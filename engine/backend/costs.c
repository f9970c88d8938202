// SPDX-License-Identifier: MIT
//
// costs.c: one function a slot, see costs.h. In the formulas e is the size of an element of the table's dtype, w that of the wide
// one (float32 for bf16), in which losses and row statistics are.
#include "backend/costs.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// A slot's cost need not look at every argument.
#pragma GCC diagnostic ignored "-Wunused-parameter"

typedef long long Long;

static double size_of(const mbi_cost *c) { return (double)mbi_dtype_size(c->dtype); }
static double wide_of(const mbi_cost *c) { return (double)mbi_dtype_size(mbi_wide_dtype(c->dtype)); }

int64_t mbi_view_elements(const mbi_view *v) {
  int64_t n = 1;
  for (int d = 0; d < v->ndim; d++) n *= v->stride[d] == 0 ? 1 : v->size[d];
  return n;
}

static int64_t all_of(const mbi_view *v) {
  int64_t n = 1;
  for (int d = 0; d < v->ndim; d++) n *= v->size[d];
  return n;
}

void mbi_cost_shape(mbi_cost *cost, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(cost->shape, sizeof cost->shape, format, arguments);
  va_end(arguments);
}

void mbi_cost_view(mbi_cost *cost, const mbi_view *v) {
  size_t used = 1;
  cost->shape[0] = '(', cost->shape[1] = 0;
  for (int d = 0; d < v->ndim && used < sizeof cost->shape; d++) {
    int n = snprintf(cost->shape + used, sizeof cost->shape - used, "%s%lld", d ? ", " : "", (Long)v->size[d]);
    used += n > 0 ? (size_t)n : 0;
  }
  if (used < sizeof cost->shape) snprintf(cost->shape + used, sizeof cost->shape - used, ")");
}

// Contiguous elements: `moved` of them for each of `count`, and `operations`.
static void flat(mbi_cost *c, int64_t count, double moved, double operations) {
  c->bytes = moved * (double)count * size_of(c);
  c->flops = operations * (double)count;
  mbi_cost_shape(c, "%lld", (Long)count);
}

// ----- element-wise --------------------------------------------------------------------------------------------

static double operations_of(enum mbi_unary f) {
  switch (f) {
    case MBI_AFFINE: return 2;
    case MBI_SIGMOID: return 3;   // 1 / (1 + exp(-x))
    case MBI_SILU: return 4;
    case MBI_GELU_TANH: return 9; // x/2 (1 + tanh(c (x + d x x x)))
    case MBI_GELU_ERF: return 5;
    default: return 1;
  }
}

void mbi_cost_unary(mbi_cost *c, enum mbi_unary f, const mbi_view *y, const mbi_view *x, double alpha, double beta) {
  c->bytes = (double)(all_of(y) + mbi_view_elements(x)) * size_of(c);
  c->flops = operations_of(f) * (double)all_of(y);
  mbi_cost_view(c, y);
}

void mbi_cost_unary_backward(mbi_cost *c, enum mbi_unary f, void *dx, const void *dy, const void *x, const void *y, int64_t count,
                             double alpha) {
  flat(c, count, 3, 1 + 2 * operations_of(f)); // dx, dy, and one of x and y
}

void mbi_cost_binary(mbi_cost *c, enum mbi_binary f, const mbi_view *out, const mbi_view *a, const mbi_view *b) {
  c->bytes = (double)(all_of(out) + mbi_view_elements(a) + mbi_view_elements(b)) * size_of(c);
  c->flops = (double)all_of(out);
  mbi_cost_view(c, out);
}

void mbi_cost_binary_backward(mbi_cost *c, enum mbi_binary f, int side, void *dx, const void *dy, const mbi_view *a, const mbi_view *b) {
  int needs_a = f != MBI_MUL || side == 1, needs_b = f != MBI_MUL || side == 0;
  if (f == MBI_DIV && side == 0) needs_a = 0;
  int64_t read = (needs_a ? mbi_view_elements(a) : 0) + (needs_b ? mbi_view_elements(b) : 0);
  c->bytes = (double)(2 * all_of(a) + read) * size_of(c);
  c->flops = (f == MBI_MUL ? 1 : 3) * (double)all_of(a);
  mbi_cost_view(c, a);
}

void mbi_cost_axpby(mbi_cost *c, const mbi_view *y, const mbi_view *x, double alpha, double beta) {
  c->bytes = (double)(all_of(y) * (beta == 0 ? 1 : 2) + mbi_view_elements(x)) * size_of(c);
  c->flops = (beta == 0 ? 1 : 3) * (double)all_of(y);
  mbi_cost_view(c, y);
}

void mbi_cost_where(mbi_cost *cost, const mbi_view *out, const mbi_view *c, const mbi_view *a, const mbi_view *b) {
  cost->bytes = (double)(all_of(out) + mbi_view_elements(c) + mbi_view_elements(a) + mbi_view_elements(b)) * size_of(cost);
  mbi_cost_view(cost, out);
}

// ----- reductions -----------------------------------------------------------------------------------------------

static int64_t kept_by(const mbi_view *x, unsigned dims) {
  int64_t n = 1;
  for (int d = 0; d < x->ndim; d++) n *= dims >> d & 1 ? 1 : x->size[d];
  return n;
}

void mbi_cost_reduce(mbi_cost *c, enum mbi_reduce f, void *out, int32_t *index, const mbi_view *x, unsigned dims, double alpha) {
  int64_t kept = kept_by(x, dims);
  c->bytes = (double)(mbi_view_elements(x) + (out ? kept : 0)) * size_of(c) + (index ? 4.0 * (double)kept : 0);
  c->flops = (double)all_of(x);
  mbi_cost_view(c, x);
}

void mbi_cost_sum_over(mbi_cost *c, void *out, int accumulate, const mbi_view *x, unsigned dims) {
  c->bytes = (double)mbi_view_elements(x) * size_of(c) + (1 + !!accumulate) * (double)kept_by(x, dims) * wide_of(c);
  c->flops = (double)all_of(x);
  mbi_cost_view(c, x);
}

void mbi_cost_reduce_pick_backward(mbi_cost *c, void *dx, const void *dy, const int32_t *index, const mbi_view *x_sizes, unsigned dims,
                                   int accumulate) {
  int64_t kept = kept_by(x_sizes, dims);
  c->bytes = (double)((accumulate ? 2 * kept : all_of(x_sizes)) + kept) * size_of(c) + 4.0 * (double)kept;
  mbi_cost_view(c, x_sizes);
}

void mbi_cost_sum_squares(mbi_cost *c, double *out, const void *x, int64_t count) { flat(c, count, 1, 2); }
void mbi_cost_find_nonfinite(mbi_cost *c, int64_t *index, const void *x, int64_t count) { flat(c, count, 1, 0); }

// ----- random ---------------------------------------------------------------------------------------------------

void mbi_cost_random_normal(mbi_cost *c, void *out, int64_t count, double mean, double std, uint64_t seed, uint64_t step, uint64_t stream) {
  flat(c, count, 1, 6); // a logarithm, a root, a sine or cosine, and what they are joined by
}
void mbi_cost_random_uniform(mbi_cost *c, void *out, int64_t count, double low, double high, uint64_t seed, uint64_t step, uint64_t stream) {
  flat(c, count, 1, 2);
}
void mbi_cost_dropout(mbi_cost *c, void *y, const void *x, int64_t count, double p, uint64_t seed, uint64_t step, uint64_t stream) {
  flat(c, count, 2, 1);
}
void mbi_cost_round_stochastic(mbi_cost *c, void *out, const void *x, int64_t count, uint64_t seed, uint64_t step, uint64_t stream) {
  flat(c, count, 0, 0);
  c->bytes = (4.0 + 2.0) * (double)count;
}

// ----- products -------------------------------------------------------------------------------------------------

static double times(int64_t batch, int64_t stride, double elements) { return stride == 0 ? elements : elements * (double)batch; }

void mbi_cost_gemm(mbi_cost *c, const mbi_gemm *g) {
  double m = (double)g->m, n = (double)g->n, k = (double)g->k;
  double moved = times(g->batch, g->stride_a, m * k) + times(g->batch, g->stride_b, k * n);
  double written = (double)g->batch * m * n * (g->beta == 0 ? 1 : 2) + (g->gelu ? (double)g->batch * m * n : 0); // aux, one way or the other
  c->bytes = (moved + (g->bias ? n : 0)) * size_of(c) + written * (g->c_is_wide ? wide_of(c) : size_of(c));
  c->flops = 2 * m * n * k * (double)g->batch;
  c->is_product = 1;
  // Members that share B and lie one after another are the rows of one product.
  int are_rows = g->stride_b == 0 && !g->transpose_a && g->stride_a == g->m * g->lda && g->stride_c == g->m * g->ldc;
  int64_t batch = are_rows ? 1 : g->batch, rows = are_rows ? g->m * g->batch : g->m;
  mbi_cost_shape(c, batch > 1 ? "m %lld, n %lld, k %lld, batch %lld" : "m %lld, n %lld, k %lld", (Long)rows, (Long)g->n, (Long)g->k,
                 (Long)batch);
  // Rows of bf16 that do not begin on 16 bytes keep a GPU's fastest loads away: a product of its own kind.
  size_t used = strlen(c->shape);
  if (g->half) used += (size_t)snprintf(c->shape + used, sizeof c->shape - used, ", f16");
  if (g->gelu) used += (size_t)snprintf(c->shape + used, sizeof c->shape - used, g->gelu == MBI_GELU_OF ? ", gelu" : ", gelu's slope");
  if (c->dtype == MB_BF16 && (g->lda | g->ldb | g->ldc) % 8 != 0) snprintf(c->shape + used, sizeof c->shape - used, ", rows apart");
}

void mbi_cost_gemm_symmetric(mbi_cost *c, const mbi_gemm *g) {
  mbi_cost_gemm(c, g);
  c->flops /= 2;
}

// ----- attention ------------------------------------------------------------------------------------------------

// T queries over `before` keys each and the causal triangle.
static void attend(mbi_cost *c, const mbi_attention *s, int64_t before, double products) {
  double heads = (double)(s->batch * s->heads), t = (double)s->time;
  c->flops = products * 2 * (double)s->width * heads * (t * (double)before + t * (t + 1) / 2);
  c->is_product = 1;
  mbi_cost_shape(c, "batch %lld, time %lld, heads %lld, width %lld", (Long)s->batch, (Long)s->time, (Long)s->heads, (Long)s->width);
}
static double heads_of(const mbi_attention *s) { return (double)(s->batch * s->time * s->heads); }

void mbi_cost_attention(mbi_cost *c, const mbi_attention *s, const mbi_heads *out, void *lse, const mbi_heads *q, const mbi_heads *k,
                        const mbi_heads *v) {
  attend(c, s, 0, 2);
  c->bytes = 4 * heads_of(s) * (double)s->width * size_of(c) + (lse ? heads_of(s) * wide_of(c) : 0);
}

void mbi_cost_attention_backward(mbi_cost *c, const mbi_attention *s, const mbi_attention_gradients *g, const void *lse, const mbi_heads *q,
                                 const mbi_heads *k, const mbi_heads *v) {
  int wanted = !!g->dq.data + !!g->dk.data + !!g->dv.data;
  attend(c, s, 0, 2 + wanted); // q k^T and dout v^T, then one product a gradient
  c->bytes = (5 + wanted) * heads_of(s) * (double)s->width * size_of(c) + heads_of(s) * wide_of(c);
}

void mbi_cost_attention_cached(mbi_cost *c, const mbi_attention *s, const mbi_heads *out, const mbi_heads *q, const mbi_heads *k,
                               const mbi_heads *v, int64_t first) {
  attend(c, s, first, 2);
  c->bytes = 2 * (double)(s->batch * s->heads * (2 * s->time + first)) * (double)s->width * size_of(c);
}

// ----- layers ---------------------------------------------------------------------------------------------------

static void rows_of(mbi_cost *c, int64_t rows, int64_t columns) { mbi_cost_shape(c, "(%lld, %lld)", (Long)rows, (Long)columns); }

void mbi_cost_embedding(mbi_cost *c, void *out, const void *table, const int32_t *ids, int64_t count, int64_t columns) {
  c->bytes = 2 * (double)(count * columns) * size_of(c) + 4.0 * (double)count;
  rows_of(c, count, columns);
}

// As if every id occurred once.
void mbi_cost_embedding_backward(mbi_cost *c, void *dtable, int accumulate, const void *dy, const int32_t *ids, int64_t count, int64_t rows,
                                 int64_t columns) {
  int64_t moved = accumulate ? 2 * (count < rows ? count : rows) : rows;
  c->bytes = (double)(count * columns) * size_of(c) + (double)(moved * columns) * wide_of(c) + 4.0 * (double)count;
  c->flops = (double)(count * columns);
  rows_of(c, count, columns);
}

void mbi_cost_layernorm(mbi_cost *c, void *y, void *mean, void *rstd, void *sum, const void *x, const void *added, const void *weight,
                        const void *bias, int64_t rows, int64_t columns, double epsilon) {
  int64_t moved = added ? 4 : 2, operations = (added ? 6 : 5) + !!weight + !!bias;
  c->bytes = (double)(moved * rows * columns + (!!weight + !!bias) * columns) * size_of(c) + (double)((!!mean + !!rstd) * rows) * wide_of(c);
  c->flops = (double)(operations * rows * columns);
  rows_of(c, rows, columns);
}

void mbi_cost_layernorm_backward(mbi_cost *c, void *dx, int accumulate_x, void *dweight, int accumulate_weight, void *dbias,
                                 int accumulate_bias, const void *dy, const void *x, const void *mean, const void *rstd, const void *weight,
                                 int64_t rows, int64_t columns) {
  int64_t wide = 2 + (dx ? 1 + !!accumulate_x : 0);
  int64_t thin = (dweight ? 1 + !!accumulate_weight : 0) + (dbias ? 1 + !!accumulate_bias : 0);
  c->bytes = (double)(wide * rows * columns + !!weight * columns) * size_of(c) + (double)(2 * rows + thin * columns) * wide_of(c);
  c->flops = (double)((2 + (dx ? 8 : 0) + (dweight ? 2 : 0) + (dbias ? 1 : 0)) * rows * columns);
  rows_of(c, rows, columns);
}

void mbi_cost_rmsnorm(mbi_cost *c, void *y, void *rstd, void *sum, const void *x, const void *added, const void *weight, int64_t rows,
                      int64_t columns, double epsilon) {
  int64_t moved = added ? 4 : 2, operations = (added ? 4 : 3) + !!weight;
  c->bytes = (double)(moved * rows * columns + !!weight * columns) * size_of(c) + (rstd ? (double)rows * wide_of(c) : 0);
  c->flops = (double)(operations * rows * columns);
  rows_of(c, rows, columns);
}

void mbi_cost_rmsnorm_backward(mbi_cost *c, void *dx, int accumulate_x, void *dweight, int accumulate_weight, const void *dy, const void *x,
                               const void *rstd, const void *weight, int64_t rows, int64_t columns) {
  int64_t wide = 2 + (dx ? 1 + !!accumulate_x : 0), thin = dweight ? 1 + !!accumulate_weight : 0;
  c->bytes = (double)(wide * rows * columns + !!weight * columns) * size_of(c) + (double)(rows + thin * columns) * wide_of(c);
  c->flops = (double)((1 + (dx ? 6 : 0) + (dweight ? 2 : 0)) * rows * columns);
  rows_of(c, rows, columns);
}

void mbi_cost_rotary(mbi_cost *c, void *y, const mbi_view *x, double base, int64_t first_position, int direction) {
  c->bytes = (double)(all_of(x) + mbi_view_elements(x)) * size_of(c);
  c->flops = 3 * (double)all_of(x); // four products and two sums a pair
  mbi_cost_view(c, x);
}

static void along(mbi_cost *c, int64_t outer, int64_t size, int64_t inner, double moved, double operations) {
  flat(c, outer * size * inner, moved, operations);
  mbi_cost_shape(c, "(%lld, %lld, %lld)", (Long)outer, (Long)size, (Long)inner);
}
void mbi_cost_softmax(mbi_cost *c, void *y, const void *x, int64_t outer, int64_t size, int64_t inner, int is_log) {
  along(c, outer, size, inner, 2, 5);
}
void mbi_cost_softmax_backward(mbi_cost *c, void *dx, int accumulate, const void *dy, const void *y, int64_t outer, int64_t size,
                               int64_t inner, int is_log) {
  along(c, outer, size, inner, 3 + !!accumulate, 4);
}

void mbi_cost_cross_entropy(mbi_cost *c, void *out, void *stats, double *losses, void *logits, int64_t stride, int overwrites,
                            const int32_t *targets, int64_t rows, int64_t first, int64_t count, int64_t columns, double smoothing,
                            int64_t ignored, int is_mean, double scale) {
  c->bytes = (overwrites ? 2 : 1) * (double)(count * columns) * size_of(c) + (double)(2 * count + 2) * wide_of(c) + 4.0 * (double)count;
  c->flops = (overwrites ? 8 : 4) * (double)(count * columns);
  rows_of(c, count, columns);
}

void mbi_cost_cross_entropy_backward(mbi_cost *c, void *dlogits, int accumulate, const void *dout, const void *logits, int64_t stride,
                                     const void *stats, const int32_t *targets, int64_t rows, int64_t columns, double smoothing,
                                     int64_t ignored) {
  rows_of(c, rows, columns);
  if (!stats) return; // as a rule dout is 1, and nothing is moved
  c->bytes = (2 + !!accumulate) * (double)(rows * columns) * size_of(c) + (double)(2 * rows + 2) * wide_of(c) + 4.0 * (double)rows;
  c->flops = 4 * (double)(rows * columns);
}

// ----- shapes ---------------------------------------------------------------------------------------------------

static void picked(mbi_cost *c, const mbi_view *x, const int64_t *sizes, double moved) {
  mbi_view index = {.ndim = x->ndim};
  for (int d = 0; d < x->ndim; d++) index.size[d] = sizes[d];
  c->bytes = (moved * size_of(c) + 4) * (double)all_of(&index);
  mbi_cost_view(c, &index);
}
void mbi_cost_gather(mbi_cost *c, void *out, const mbi_view *x, const int32_t *index, const int64_t *sizes, int dim) {
  picked(c, x, sizes, 2);
}
void mbi_cost_gather_backward(mbi_cost *c, const mbi_view *dx, const void *dy, const int32_t *index, const int64_t *sizes, int dim) {
  picked(c, dx, sizes, 3);
}

// ----- fused programs -------------------------------------------------------------------------------------------

// Inputs and operations of a step.
static int inputs_of(int code) {
  switch (code) {
    case MB_FUSE_ADD: case MB_FUSE_SUB: case MB_FUSE_MUL: case MB_FUSE_DIV: case MB_FUSE_MIN: case MB_FUSE_MAX: case MB_FUSE_POW:
    case MB_FUSE_LT: case MB_FUSE_LE: case MB_FUSE_EQ: return 2;
    case MB_FUSE_WHERE: case MBI_FUSE_MADD: case MBI_FUSE_MSUB: case MBI_FUSE_NMADD: return 3;
    case MBI_FUSE_AXPBY: case MBI_FUSE_AXMBY: return 4;
    case MBI_FUSE_UNIFORM: case MBI_FUSE_NORMAL: return 0;
    default: return 1;
  }
}
static int work_of(int code) {
  switch (code) {
    case MBI_FUSE_MOVE: case MBI_FUSE_FILL: return 0;
    case MBI_FUSE_MADD: case MBI_FUSE_MSUB: case MBI_FUSE_NMADD: return 2;
    case MBI_FUSE_AXPBY: case MBI_FUSE_AXMBY: return 3;
    case MBI_FUSE_UNIFORM: return 2;
    case MBI_FUSE_NORMAL: return 6;
    default: return 1;
  }
}

enum { READ = 1, WRITTEN = 2, MOST_ARRAYS = 256 };

void mbi_cost_fuse(mbi_cost *c, const mbi_fuse_run *run) {
  double number_of[MBI_SPREAD_ELEMENTS + 1] = {[MBI_SPREAD_ONE] = 1, [MBI_SPREAD_PARTS] = (double)run->n_parts};
  uint8_t use[MOST_ARRAYS] = {0};
  double work = run->n_reductions, moved = 0;
  for (int64_t i = 0; i < run->n_parts; i++) {
    const mbi_fuse_part *p = &run->parts[i];
    number_of[MBI_SPREAD_ROWS] += (double)p->rows;
    number_of[MBI_SPREAD_COLUMNS] += (double)p->columns;
    number_of[MBI_SPREAD_ELEMENTS] += (double)(p->rows * p->columns);
  }
  for (int s = 0; s < run->n_steps; s++) {
    const mbi_fuse_step *step = &run->steps[s];
    for (int i = 0; i < inputs_of(step->code); i++) // what the program itself has written before need not be read
      if (step->in[i] < run->n_arrays && step->in[i] < MOST_ARRAYS && !(use[step->in[i]] & WRITTEN)) use[step->in[i]] |= READ;
    if (step->out < run->n_arrays && step->out < MOST_ARRAYS) use[step->out] |= WRITTEN;
    work += work_of(step->code);
  }
  for (int i = 0; i < run->n_reductions; i++) {
    const mbi_fuse_reduction *r = &run->reductions[i];
    if (r->operand < run->n_arrays && r->operand < MOST_ARRAYS && !(use[r->operand] & WRITTEN)) use[r->operand] |= READ;
    moved += number_of[r->spread];
  }
  for (int i = 0; i < run->n_arrays && i < MOST_ARRAYS; i++)
    moved += number_of[run->spreads[i]] * ((use[i] & READ ? 1 : 0) + (use[i] & WRITTEN ? 1 : 0));
  c->bytes = moved * size_of(c);
  c->flops = work * number_of[MBI_SPREAD_ELEMENTS];
  mbi_cost_shape(c, run->n_sets > 1 ? "%.0f elements, parts %lld, arrays %d, steps %d, sets %lld" : "%.0f elements, parts %lld, arrays %d, steps %d",
                 number_of[MBI_SPREAD_ELEMENTS], (Long)run->n_parts, run->n_arrays, run->n_steps, (Long)run->n_sets);
}

// ----- iterations, many arrays ----------------------------------------------------------------------------------

void mbi_cost_normalize(mbi_cost *c, void *y, mb_dtype y_dtype, double *norms, int64_t norm_stride, const void *x, int64_t count,
                        int64_t size, double factor, double epsilon) {
  flat(c, count * size, 0, 3);
  double written = (int)y_dtype == MBI_F16 ? 2 : (double)mbi_dtype_size(y_dtype);
  c->bytes = (double)(count * size) * (2 * size_of(c) + written) + (norms ? 8.0 * (double)count : 0); // x is read for its norm first
  rows_of(c, count, size);
}

void mbi_cost_add_to_diagonal(mbi_cost *cost, void *c, mb_dtype dtype, int64_t count, int64_t s, double value) {
  flat(cost, count * s, 2, 1);
  mbi_cost_shape(cost, "(%lld, %lld, %lld)", (Long)count, (Long)s, (Long)s);
}

// Calls about flags that few matrices have, if any, count as what they cost without: nothing but the launch.
static int is_rare(int64_t wanted) { return (wanted & ~(int64_t)(MBI_FINITE | MBI_AGREED)) != 0; }

static void arrays_of(mbi_cost *c, const mbi_arrays *a, int64_t groups, double moved, double operations) {
  int64_t count = 0, all = 0;
  for (int64_t at = 0; at < groups; at++) count += a[at].count, all += a[at].all;
  flat(c, all, moved, operations);
  mbi_cost_shape(c, "arrays %lld, elements %lld", (Long)count, (Long)all);
}
void mbi_cost_norms(mbi_cost *c, const mbi_arrays *a, int64_t groups, int64_t wanted) {
  arrays_of(c, a, groups, is_rare(wanted) ? 0 : 1, is_rare(wanted) ? 0 : 2);
}
void mbi_cost_rescale(mbi_cost *c, const mbi_arrays *a, int64_t groups) { arrays_of(c, a, groups, 2, 1); }
void mbi_cost_sums_of_squares(mbi_cost *c, const mbi_arrays *a, int64_t groups) { arrays_of(c, a, groups, 1, 2); }
void mbi_cost_multiply_all(mbi_cost *c, const mbi_arrays *a, int64_t groups) { arrays_of(c, a, groups, 2, 1); } // if all are changed

// ----- spectra --------------------------------------------------------------------------------------------------

// Adds a group's share.
static void sketch(mbi_cost *c, const mbi_sketch *s, double elements, double numbers, double operations) {
  if (is_rare(s->mask.wanted)) return;
  c->bytes += (double)s->count * (elements * size_of(c) + 8 * numbers);
  c->flops += (double)s->count * operations;
}

static void sketches(mbi_cost *c, const mbi_sketch *s, int64_t groups) {
  int64_t count = 0;
  for (int64_t at = 0; at < groups; at++) count += s[at].count;
  if (groups == 1) mbi_cost_shape(c, "count %lld, m %lld, n %lld, q %lld", (Long)s->count, (Long)s->m, (Long)s->n, (Long)s->q);
  else mbi_cost_shape(c, "count %lld, shapes %lld, q %lld", (Long)count, (Long)groups, (Long)s->q);
}

void mbi_cost_sketch_draw(mbi_cost *c, const mbi_sketch *s, int64_t groups, uint64_t seed, uint64_t step, uint64_t stream) {
  for (int64_t at = 0; at < groups; at++) {
    double numbers = (double)(s[at].q * s[at].n), known = s[at].basis ? (double)(s[at].kept * s[at].n) : 0;
    sketch(c, s + at, numbers + known, 1, 6 * numbers);
  }
  sketches(c, s, groups);
}

void mbi_cost_sketch_pass(mbi_cost *c, const mbi_sketch *s, int64_t groups, int forms) {
  int y = !!(forms & MBI_FORMS_Y), t = !!(forms & MBI_FORMS_T);
  for (int64_t at = 0; at < groups; at++) {
    double m = (double)s[at].m, n = (double)s[at].n, q = (double)s[at].q;
    sketch(c, s + at, m * n + q * m + (y ? q * n : 0) + (t ? q * n : 0), 1, (y + t) * 2 * q * m * n);
  }
  c->is_product = 1;
  sketches(c, s, groups);
}

void mbi_cost_sketch_basis(mbi_cost *c, const mbi_sketch *s, int64_t groups, int of_y, const mbi_sketch_limits *limits) {
  for (int64_t at = 0; at < groups; at++) {
    double q = (double)s[at].q, length = (double)(of_y ? s[at].m : s[at].n);
    sketch(c, s + at, 2 * q * length, 2, 3 * q * q * length); // Gram matrix (half of it) and product
  }
  c->is_product = 1;
  sketches(c, s, groups);
}

void mbi_cost_sketch_ritz(mbi_cost *c, const mbi_sketch *s, int64_t groups) {
  for (int64_t at = 0; at < groups; at++) {
    double m = (double)s[at].m, n = (double)s[at].n, q = (double)s[at].q;
    sketch(c, s + at, q * (m + n), q * q + q, q * q * (m + n)); // two Gram matrices, half of each
  }
  sketches(c, s, groups);
}

void mbi_cost_sketch_keep(mbi_cost *c, const mbi_sketch *s, int64_t groups) {
  for (int64_t at = 0; at < groups; at++) {
    double n = (double)s[at].n, q = (double)s[at].q;
    sketch(c, s + at, 2 * q * n, q * q + q + 1, 2 * q * q * n);
  }
  c->is_product = 1;
  sketches(c, s, groups);
}

void mbi_cost_sketch_update(mbi_cost *c, const mbi_sketch *s, int64_t groups) {
  for (int64_t at = 0; at < groups; at++) {
    double m = (double)s[at].m, n = (double)s[at].n, q = (double)s[at].q;
    sketch(c, s + at, 2 * m * n + q * (m + n), q * q + q + 1, 2 * q * m * n + 2 * q * q * (m + n));
  }
  c->is_product = 1;
  sketches(c, s, groups);
}

static void gram(mbi_cost *c, const mbi_gram *s, double elements, double numbers, double operations) {
  c->bytes = (double)s->count * (elements * size_of(c) + 8 * numbers);
  c->flops = (double)s->count * operations;
  c->is_product = 1;
  mbi_cost_shape(c, "count %lld, m %lld, n %lld", (Long)s->count, (Long)s->m, (Long)s->n);
}

void mbi_cost_gram_factor(mbi_cost *c, const mbi_gram *s) {
  double m = (double)s->m, n = (double)s->n, k = (double)s->k;
  gram(c, s, m * n, k * (k + 4) + k + 1, m * n * k + 4.0 / 3 * k * k * k); // half of S, its tridiagonal form
}

void mbi_cost_gram_update(mbi_cost *c, const mbi_gram *s, const double *gain) {
  double m = (double)s->m, n = (double)s->n, k = (double)s->k;
  gram(c, s, 2 * m * n, k * (k + 4) + 2 * k + 1, 4 * m * n * k);
}

void mbi_cost_policy(mbi_cost *c, const mbi_policy *p) {
  c->bytes = 56 * (double)p->count; // members, places, limits, values, scales, flags, tau
  mbi_cost_shape(c, "matrices %lld, thresholds %lld", (Long)p->count, (Long)p->thresholds);
}

void mbi_cost_policy_gains(mbi_cost *c, const mbi_policy_gains *s, int64_t groups) {
  int64_t count = 0;
  for (int64_t at = 0; at < groups; at++) {
    c->bytes += 8 * (double)(s[at].count * (2 * s[at].k + 5));
    c->flops += 2 * (double)(s[at].count * s[at].k);
    count += s[at].count;
  }
  mbi_cost_shape(c, "matrices %lld, shapes %lld", (Long)count, (Long)groups);
}

void mbi_cost_norm_policy(mbi_cost *c, const mbi_norm_policy *p) {
  c->bytes = 88 * (double)p->count; // members, lengths twice, scales, flags, tau, clipped, saturated, factors
  mbi_cost_shape(c, "arrays %lld, thresholds %lld", (Long)p->count, (Long)p->thresholds);
}

// ----- decompositions (Golub and Van Loan, Matrix Computations, 4th edition, figures 8.3.1 and 8.6.1) -------------

static void matrices(mbi_cost *c, int64_t m, int64_t n, int64_t count, double elements, double operations) {
  c->bytes = (double)count * elements * size_of(c);
  c->flops = (double)count * operations;
  mbi_cost_shape(c, "count %lld, m %lld, n %lld", (Long)count, (Long)m, (Long)n);
}

void mbi_cost_svd(mbi_cost *c, void *u, void *s, void *v, void *a, int64_t m, int64_t n, int64_t count) {
  double large = (double)(m > n ? m : n), k = (double)(m > n ? n : m);
  double values = 2 * large * k * k + 2 * k * k * k, vectors = 6 * large * k * k + 20 * k * k * k;
  matrices(c, m, n, count, large * k + k + (u ? (double)(m + n) * k : 0), u ? vectors : values);
}

void mbi_cost_qr(mbi_cost *c, void *q, void *r, void *a, int64_t m, int64_t n, int64_t count) {
  double large = (double)(m > n ? m : n), k = (double)(m > n ? n : m);
  matrices(c, m, n, count, (double)(m * n) + (double)m * k + k * (double)n, 4 * k * k * (large - k / 3));
}

void mbi_cost_eigh(mbi_cost *c, void *values, void *vectors, void *a, int64_t n, int64_t count) {
  double k = (double)n;
  matrices(c, n, n, count, k * k + k + (vectors ? k * k : 0), vectors ? 9 * k * k * k : 4.0 / 3 * k * k * k);
}

void mbi_cost_cholesky(mbi_cost *c, int64_t *member, int64_t *minor, void *a, int64_t n, int64_t count) {
  double k = (double)n;
  matrices(c, n, n, count, 2 * k * k, k * k * k / 3);
}
