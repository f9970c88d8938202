// SPDX-License-Identifier: MIT
//
// msign.c: the polar factor of matrices, msign(G) = U V^T where G = U diag(sigma) V^T; the step of Muon.
//
// A quintic iteration applies p(x) = x (a + b x^2 + c x^4) to every singular value:
//   A = X X^T (or X^T X, whichever is smaller);  B = a I + b A + c A A;  X <- B X (or X B)
// A and B are symmetric, so that their products cost little more than half (gemm_symmetric), and a step of a (m, n)
// with s = min(m, n), l = max(m, n) takes about 3/2 s^2 l + s^3 / 2 multiplications. Where l is 2 s or more, several steps are
// made on the Gram matrix R = X X^T alone, which they take to B R B: with Q the product of their B, X <- Q X at the end. All of
// these are polynomials in R, and so symmetric. Five steps, as three and two, then take 3 s^2 l + 7 s^3 instead of 15/2 s^2 l +
// 5/2 s^3: for l = 4 s, 19 instead of 32.5.
//
// With factors of bf16 a step is X <- B X + a X with B = b A + c A A, both sums made in float32: a on B's diagonal would round what
// is most of a small value. Nothing is made symmetric: that A is so but for its rounding is enough. The Gram matrix alone would
// know a value only down to a sixteenth of the largest (the root of 2^-8), and is not used.
//   NS5            the same p every step, which is steep at 0 and does not settle: values end between 0.7 and 1.2
//                  (Jordan et al. 2024, "Muon")
//   POLAR_EXPRESS  the best p of every step, by Remez' algorithm, in which the largest error alternates (Amsel et
//                  al., arXiv 2505.16932, algorithm 1): from 1e-3 on, 8 steps give 1 to 1e-15
//   EXACT          U V^T of a decomposition
// With factors of binary16 it is half.c that iterates.
#include "core/status.h"
#include "spectral/half.h"
#include "spectral/iterate.h"
#include "spectral/matrix.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

// ----- coefficients -------------------------------------------------------------------------------------

// a x + b x^3 + c x^5
static double value_at(mbi_quintic p, double x) { return x * (p.a + x * x * (p.b + x * x * p.c)); }

// p(x_i) = 1 - sign_i e at four points, e unknown: elimination with pivoting. Returns e.
static double alternating(mbi_quintic *p, const double x[4]) {
  double row[4][5];
  for (int i = 0; i < 4; i++) {
    double square = x[i] * x[i];
    row[i][0] = x[i], row[i][1] = x[i] * square, row[i][2] = x[i] * square * square;
    row[i][3] = i % 2 ? -1 : 1, row[i][4] = 1;
  }
  for (int column = 0; column < 4; column++) {
    int best = column;
    for (int i = column + 1; i < 4; i++)
      if (fabs(row[i][column]) > fabs(row[best][column])) best = i;
    for (int j = 0; j < 5; j++) {
      double other = row[best][j];
      row[best][j] = row[column][j];
      row[column][j] = other;
    }
    for (int i = 0; i < 4; i++) {
      if (i == column) continue;
      double ratio = row[i][column] / row[column][column];
      for (int j = column; j < 5; j++) row[i][j] -= ratio * row[column][j];
    }
  }
  *p = (mbi_quintic){row[0][4] / row[0][0], row[1][4] / row[1][1], row[2][4] / row[2][2]};
  return row[3][4] / row[3][3];
}

// The odd quintic nearest to 1 on [low, high].
static mbi_quintic nearest(double low, double high) {
  // Its limit, the Newton-Schulz polynomial of order five: on a short interval it is as good, to the cube of the length, where
  // the equations below, and the roots of a polynomial whose extremes meet, lose their digits at that rate.
  if (low > (1 - 1e-3) * high) {
    double middle = (low + high) / 2;
    return (mbi_quintic){15 / (8 * middle), -10 / (8 * pow(middle, 3)), 3 / (8 * pow(middle, 5))};
  }
  mbi_quintic p = {0};
  double x[4] = {low, (3 * low + high) / 4, (low + 3 * high) / 4, high}, error = INFINITY;
  for (int round = 0; round < 50; round++) {
    double last = error;
    error = alternating(&p, x);
    if (fabs(error - last) <= 1e-15) break;
    // The inner points go to the extremes of p: 5 c x^4 + 3 b x^2 + a = 0.
    double root = sqrt(9 * p.b * p.b - 20 * p.a * p.c);
    x[1] = sqrt((-3 * p.b - root) / (10 * p.c));
    x[2] = sqrt((-3 * p.b + root) / (10 * p.c));
  }
  return p;
}

int mbi_polar_express(mbi_quintic *steps, int most, double least, double tolerance, double cushion, double slack) {
  double low = least, high = 1;
  int n = 0;
  for (; n < most && 1 - low > tolerance; n++) {
    double from = low > cushion * high ? low : cushion * high;
    mbi_quintic p = nearest(from, high);
    double centre = 2 / (value_at(p, low) + value_at(p, high)); // the image of [low, high] is centred on 1
    steps[n] = (mbi_quintic){centre * p.a, centre * p.b, centre * p.c};
    low = value_at(steps[n], low);
    high = 2 - low;
    if (high > 1.2) high *= 1 + slack;
  }
  return n;
}

// ----- iteration ------------------------------------------------------------------------------------------

mb_status mbi_iteration_new(mbi_iteration *it, mb_device device, mb_dtype dtype, int64_t count, int64_t m, int64_t n) {
  int64_t s = m < n ? m : n, large = count * m * n, small = count * s * s;
  *it = (mbi_iteration){.device = device, .dtype = dtype, .count = count, .m = m, .n = n};
  mbi_shape shape = {.ndim = 1, .size = {2 * (large + small)}};
  MB_TRY(mbi_tensor_new(&it->memory, device, dtype, &shape));
  size_t element = mbi_dtype_size(dtype);
  it->x = mbi_data(it->memory);
  it->y = (char *)it->x + (size_t)large * element;
  it->a = (char *)it->y + (size_t)large * element;
  it->b = (char *)it->a + (size_t)small * element;
  return MB_OK;
}

void mbi_iteration_release(mbi_iteration *it) {
  mb_tensor_release(it->memory);
  *it = (mbi_iteration){0};
}

mb_status mbi_add_to_diagonal(const mbi_iteration *it, void *c, int64_t count, int64_t s, double value) {
  return mbi_device_of(it->device)->kernels[it->dtype]->add_to_diagonal(c, it->dtype, count, s, value);
}

// y = scale (B x + a x) with B = b A + c A A; x and y change places.
static mb_status rounded_step(mbi_iteration *it, mbi_quintic p, double scale, mbi_gemm *gram, mbi_gemm *square, mbi_gemm *apply) {
  const mbi_kernels *k = mbi_device_of(it->device)->kernels[it->dtype];
  square->from = it->a;
  apply->from = it->x, apply->alpha = scale, apply->beta = scale * p.a;
  MB_TRY(k->gemm(gram));
  MB_TRY(k->gemm(square));
  MB_TRY(k->gemm(apply));
  void *x = it->x;
  it->x = it->y;
  it->y = x;
  return MB_OK;
}

static mb_status step(mbi_iteration *it, mbi_quintic p, double scale) {
  const mbi_device *memory = mbi_device_of(it->device);
  const mbi_kernels *k = memory->kernels[it->dtype];
  int tall = it->m > it->n;
  int64_t m = it->m, n = it->n, s = tall ? n : m, l = tall ? m : n;
  mbi_gemm gram = {.transpose_a = tall, .transpose_b = !tall, .m = s, .n = s, .k = l, .alpha = 1, .a = it->x, .b = it->x, .c = it->a,
                   .lda = n, .ldb = n, .ldc = s, .batch = it->count, .stride_a = m * n, .stride_b = m * n, .stride_c = s * s,
                   .may_round = it->may_round};
  mbi_gemm square = {.m = s, .n = s, .k = s, .alpha = p.c, .beta = p.b, .a = it->a, .b = it->a, .c = it->b, .lda = s, .ldb = s,
                     .ldc = s, .batch = it->count, .stride_a = s * s, .stride_b = s * s, .stride_c = s * s, .may_round = it->may_round};
  mbi_gemm apply = {.m = m, .n = n, .k = s, .alpha = 1, .a = tall ? it->x : it->b, .b = tall ? it->b : it->x, .c = it->y,
                    .lda = s, .ldb = n, .ldc = n, .batch = it->count, .stride_a = tall ? m * n : s * s,
                    .stride_b = tall ? s * s : m * n, .stride_c = m * n, .may_round = it->may_round};
  if (it->dtype == MB_BF16) return rounded_step(it, p, scale, &gram, &square, &apply);
  MB_TRY(k->gemm_symmetric(&gram));
  MB_TRY(memory->convert(it->b, it->dtype, it->a, it->dtype, it->count * s * s));
  MB_TRY(k->gemm_symmetric(&square));
  MB_TRY(mbi_add_to_diagonal(it, it->b, it->count, s, p.a));
  MB_TRY(it->symmetric ? k->gemm_symmetric(&apply) : k->gemm(&apply));
  void *x = it->x;
  it->x = it->y;
  it->y = x;
  return MB_OK;
}

// C = alpha A B + beta C for symmetric (s, s) that commute.
static mb_status commuting(const mbi_iteration *it, void *c, const void *a, const void *b, double alpha, double beta) {
  int64_t s = it->m < it->n ? it->m : it->n;
  mbi_gemm product = {.m = s, .n = s, .k = s, .alpha = alpha, .beta = beta, .a = a, .b = b, .c = c, .lda = s, .ldb = s, .ldc = s,
                      .batch = it->count, .stride_a = s * s, .stride_b = s * s, .stride_c = s * s};
  return mbi_device_of(it->device)->kernels[it->dtype]->gemm_symmetric(&product);
}

// The steps on the Gram matrices; l >= 2 s. R is in it->a and B in it->b, Q and room for a product in it->y until X needs it.
static mb_status steps_on_gram(mbi_iteration *it, const mbi_quintic *steps, int n_steps) {
  const mbi_device *memory = mbi_device_of(it->device);
  const mbi_kernels *k = memory->kernels[it->dtype];
  int tall = it->m > it->n;
  int64_t m = it->m, n = it->n, s = tall ? n : m, l = tall ? m : n, small = it->count * s * s;
  void *q = it->y, *room = (char *)it->y + (size_t)small * mbi_dtype_size(it->dtype);
  mbi_gemm gram = {.transpose_a = tall, .transpose_b = !tall, .m = s, .n = s, .k = l, .alpha = 1, .a = it->x, .b = it->x, .c = it->a,
                   .lda = n, .ldb = n, .ldc = s, .batch = it->count, .stride_a = m * n, .stride_b = m * n, .stride_c = s * s};
  MB_TRY(k->gemm_symmetric(&gram));
  for (int i = 0; i < n_steps; i++) {
    MB_TRY(memory->convert(it->b, it->dtype, it->a, it->dtype, small));
    MB_TRY(commuting(it, it->b, it->a, it->a, steps[i].c, steps[i].b));
    MB_TRY(mbi_add_to_diagonal(it, it->b, it->count, s, steps[i].a));
    if (i == 0) {
      MB_TRY(memory->convert(q, it->dtype, it->b, it->dtype, small));
    } else {
      MB_TRY(commuting(it, room, it->b, q, 1, 0));
      void *last = q;
      q = room, room = last;
    }
    if (i == n_steps - 1) break;
    MB_TRY(commuting(it, room, it->b, it->a, 1, 0));
    MB_TRY(commuting(it, it->a, room, it->b, 1, 0));
  }
  MB_TRY(memory->convert(it->a, it->dtype, q, it->dtype, small));
  mbi_gemm apply = {.m = m, .n = n, .k = s, .alpha = 1, .a = tall ? it->x : it->a, .b = tall ? it->a : it->x, .c = it->y,
                    .lda = s, .ldb = n, .ldc = n, .batch = it->count, .stride_a = tall ? m * n : s * s,
                    .stride_b = tall ? s * s : m * n, .stride_c = m * n};
  MB_TRY(k->gemm(&apply));
  void *x = it->x;
  it->x = it->y;
  it->y = x;
  return MB_OK;
}

// How many of the steps may share a Gram matrix. A value sigma far below the largest is known there as sigma^2 to epsilon, which
// every step makes a^2 times as large: up to most_gain epsilon when the last of them reads it, 6e-5 in float32 where the value
// itself may have come near 1. Five steps of NS5 at once, of which the last reads 20,000 epsilon, are off by 2e-4 of a spectrum
// that falls fast; as three and two they are as good as on the matrices themselves.
static int steps_together(const mbi_iteration *it, const mbi_quintic *steps, int n_steps) {
  double most_gain = it->dtype == MB_F32 ? 1e3 : 1e6, gain = 1;
  int n = 0;
  while (n < n_steps && gain <= most_gain) gain *= steps[n].a * steps[n].a, n++;
  return n;
}

// The same as mbi_msign, in fewer multiplications where matrices are long, good to most_gain epsilon. The last `exact_steps` of
// the steps are made on the matrices themselves, which lose nothing.
static mb_status msign_quickly(mbi_iteration *it, const mbi_quintic *steps, int n_steps, int exact_steps) {
  if (it->dtype == MB_BF16 || it->may_round == MBI_ROUNDS) return mbi_msign(it, steps, n_steps);
  int64_t s = it->m < it->n ? it->m : it->n, l = it->m < it->n ? it->n : it->m;
  int i = 0;
  while (l >= 2 * s && i < n_steps - exact_steps) {
    int n = steps_together(it, steps + i, n_steps - exact_steps - i);
    MB_TRY(steps_on_gram(it, steps + i, n));
    i += n;
  }
  return mbi_msign(it, steps + i, n_steps - i);
}

mb_status mbi_msign(mbi_iteration *it, const mbi_quintic *steps, int n_steps) {
  for (int i = 0; i < n_steps; i++) MB_TRY(step(it, steps[i], i == n_steps - 1 ? it->last_scale : 1));
  return MB_OK;
}

// ----- exact ----------------------------------------------------------------------------------------------

// Columns of u (count, m, s) whose singular value is rounding noise beside the largest become zero: their directions
// are LAPACK's choice, not the matrix's.
static mb_status drop_noise(mbi_iteration *it, void *u, void *values) {
  const mbi_kernels *k = mbi_device_of(it->device)->kernels[it->dtype];
  int64_t m = it->m, n = it->n, s = m < n ? m : n;
  double noise = (double)(m < n ? n : m) * (it->dtype == MB_F32 ? (double)FLT_EPSILON : DBL_EPSILON);
  mbi_view sigma = {.data = values, .ndim = 2, .size = {it->count, s}, .stride = {s, 1}}, largest = sigma, limit = sigma, mask = sigma;
  largest.stride[1] = 0;
  limit.data = it->a, mask.data = it->b;
  MB_TRY(k->unary(MBI_AFFINE, &limit, &largest, noise, 0));
  MB_TRY(k->binary(MBI_LESS, &mask, &limit, &sigma));
  mbi_view columns = {.data = u, .ndim = 3, .size = {it->count, m, s}, .stride = {m * s, s, 1}}, kept = columns;
  kept.data = it->b, kept.stride[0] = s, kept.stride[1] = 0;
  return k->binary(MBI_MUL, &columns, &columns, &kept);
}

// it->x = U V^T of the matrices, which are overwritten.
static mb_status exact(mbi_iteration *it, void *matrices) {
  const mbi_kernels *k = mbi_device_of(it->device)->kernels[it->dtype];
  int64_t m = it->m, n = it->n, s = m < n ? m : n;
  mb_tensor *factors;
  mbi_shape shape = {.ndim = 1, .size = {it->count * s * (m + n + 1)}};
  MB_TRY(mbi_tensor_new(&factors, it->device, it->dtype, &shape));
  char *u = mbi_data(factors);
  char *v = u + (size_t)(it->count * m * s) * mbi_dtype_size(it->dtype), *values = v + (size_t)(it->count * n * s) * mbi_dtype_size(it->dtype);
  mbi_gemm product = {.transpose_b = 1, .m = m, .n = n, .k = s, .alpha = 1, .a = u, .b = v, .c = it->x, .lda = s, .ldb = s, .ldc = n,
                      .batch = it->count, .stride_a = m * s, .stride_b = n * s, .stride_c = m * n};
  mb_status status = k->svd(u, values, v, matrices, m, n, it->count);
  if (status == MB_OK) status = drop_noise(it, u, values);
  if (status == MB_OK) status = k->gemm(&product);
  mb_tensor_release(factors);
  return status;
}

// ----- public -----------------------------------------------------------------------------------------------

// The polynomials of a method, and to what length a matrix comes before the first: factor |a| / (|a| + epsilon).
static mbi_polynomials polynomials_of(mb_msign_method method, int n_steps) {
  mbi_polynomials p = {.n = n_steps, .exact = n_steps > 3 ? n_steps - 3 : 0};
  if (method == MB_MSIGN_NS5) {
    for (int i = 0; i < n_steps; i++) p.steps[i] = (mbi_quintic){3.4445, -4.7750, 2.0315};
    p.factor = 1, p.epsilon = 1e-7, p.exact = 0;
    return p;
  }
  static const double CUSHION = 0.02407327424182761; // the authors'
  // Rounding must not carry a value beyond what a step's polynomial was made for: 1 % of room, as the authors leave. The
  // last polynomial needs none.
  static const double ROOM = 1.01;
  int made = mbi_polar_express(p.steps, n_steps, 1e-3, 1e-15, CUSHION, 0);
  for (int i = made; i < n_steps; i++) p.steps[i] = (mbi_quintic){15.0 / 8, -10.0 / 8, 3.0 / 8};
  for (int i = 0; i < n_steps && i < 7; i++)
    p.steps[i] = (mbi_quintic){p.steps[i].a / ROOM, p.steps[i].b / pow(ROOM, 3), p.steps[i].c / pow(ROOM, 5)};
  p.factor = 1 / ROOM;
  return p;
}

// it->x from the finite matrices `a`, contiguous; EXACT overwrites them.
static mb_status compute(mbi_iteration *it, const mb_tensor *a, mb_msign_method method, int n_steps) {
  if (method == MB_MSIGN_EXACT) return exact(it, mbi_data(a));
  mbi_polynomials p = polynomials_of(method, n_steps);
  MB_TRY(mbi_kernels_of(a)->normalize(it->x, it->dtype, NULL, 0, mbi_data(a), it->count, it->m * it->n, p.factor, p.epsilon));
  return msign_quickly(it, p.steps, n_steps, p.exact);
}

static mb_status check_options(const mb_msign_options *o, const mb_tensor *a, double scale) {
  if (o->method != MB_MSIGN_NS5 && o->method != MB_MSIGN_POLAR_EXPRESS && o->method != MB_MSIGN_EXACT)
    MB_FAIL(MB_ERR_ARG, "mb_msign: unknown method %d", (int)o->method);
  if (o->steps < 0 || o->steps > MBI_MOST_STEPS)
    MB_FAIL(MB_ERR_ARG, "mb_msign: steps is %lld, 1 to %d, or 0 for 5, were expected", (long long)o->steps, MBI_MOST_STEPS);
  if ((int)o->precision < MB_MSIGN_FULL || o->precision > MB_MSIGN_F16)
    MB_FAIL(MB_ERR_ARG, "mb_msign: unknown precision %d", (int)o->precision);
  if (!isfinite(scale)) MB_FAIL(MB_ERR_ARG, "mb_msign: scale is %g, a finite number was expected", scale);
  if (o->precision < MB_MSIGN_BF16 || o->method == MB_MSIGN_EXACT || mbi_memory_of(a)->kernels[MB_BF16]) return MB_OK;
  MB_FAIL(MB_ERR_DTYPE, "mb_msign: %s has no products of %s, a is %s", mbi_memory_of(a)->name,
          o->precision == MB_MSIGN_F16 ? "f16" : "bf16", mbi_dtype_name(a->dtype));
}

// The matrices as `compute` takes them: a itself where it is not overwritten and lies as it should.
static mb_status take(mb_tensor **dense, mbi_matrices *s, mb_tensor *a, const mb_msign_options *o) {
  if (o->method == MB_MSIGN_EXACT) return mbi_matrices_copy(dense, s, a, "mb_msign");
  MB_TRY(mbi_dense(dense, a));
  mb_status status = o->unchecked ? MB_OK : mbi_matrices_finite(*dense, "mb_msign");
  if (status != MB_OK) mb_tensor_release(*dense);
  return status;
}

// *out = scale it->x.
static mb_status put(mb_tensor **out, const mb_tensor *a, const mbi_matrices *s, const mbi_iteration *it, double scale) {
  mb_tensor *result;
  MB_TRY(mbi_matrices_new(&result, a, a->dtype, s->m, s->n));
  mbi_view to = {.data = mbi_data(result), .ndim = 1, .size = {mbi_numel(a)}, .stride = {1}}, from = to;
  from.data = it->x;
  mb_status status = scale != 1 && it->dtype == a->dtype
                         ? mbi_kernels_of(a)->unary(MBI_AFFINE, &to, &from, scale, 0)
                         : mbi_memory_of(a)->convert(to.data, a->dtype, from.data, it->dtype, mbi_numel(a));
  if (status != MB_OK) mb_tensor_release(result);
  else *out = result;
  return status;
}

// In any precision but f16.
static mb_status one(mb_tensor **out, mb_tensor *a, const mbi_matrices *s, const mb_msign_options *options, double scale) {
  int is_narrow = options->precision == MB_MSIGN_BF16 && options->method != MB_MSIGN_EXACT;
  mbi_iteration it = {0};
  mb_tensor *dense;
  mbi_matrices sizes = *s;
  MB_TRY(take(&dense, &sizes, a, options));
  mb_status status = mbi_iteration_new(&it, a->storage->device, is_narrow ? MB_BF16 : a->dtype, s->count, s->m, s->n);
  it.may_round = options->precision == MB_MSIGN_TF32 ? MBI_ROUNDS : 0;
  it.last_scale = is_narrow ? scale : 1;
  if (status == MB_OK) status = compute(&it, dense, options->method, options->steps == 0 ? 5 : (int)options->steps);
  mb_tensor_release(dense);
  if (status == MB_OK) status = put(out, a, s, &it, scale);
  mbi_iteration_release(&it);
  return status;
}

// All together in f16: out[i] = scale[i] msign(a[i]).
static mb_status in_half(mb_tensor **out, mb_tensor *const *a, const mbi_matrices *sizes, const double *scale, int64_t count,
                         const mb_msign_options *options) {
  mbi_polynomials p = polynomials_of(options->method, options->steps == 0 ? 5 : (int)options->steps);
  mbi_half_group *groups = calloc((size_t)count, sizeof *groups);
  if (!groups) MB_FAIL(MB_ERR_NOMEM, "mb_msign: %lld groups of matrices", (long long)count);
  mb_status status = MB_OK;
  for (int64_t i = 0; i < count && status == MB_OK; i++) {
    mbi_matrices s = sizes[i];
    mb_tensor *wide = NULL, *dense;
    if ((status = take(&dense, &s, a[i], options)) != MB_OK) break;
    status = mbi_matrices_new(&wide, a[i], MB_F32, s.m, s.n);
    groups[i] = (mbi_half_group){.count = s.count, .m = s.m, .n = s.n, .from = dense, .to = wide, .scale = scale[i]};
  }
  if (status == MB_OK) status = mbi_msign_half(groups, count, &p);
  for (int64_t i = 0; i < count; i++) {
    if (status == MB_OK) status = mb_cast(&out[i], groups[i].to, a[i]->dtype);
    mb_tensor_release(groups[i].from), mb_tensor_release(groups[i].to);
  }
  free(groups);
  return status;
}

mb_status mb_msign_many(mb_tensor **out, mb_tensor *const *a, const double *scale, int64_t count, const mb_msign_options *options) {
  for (int64_t i = 0; i < count; i++) out[i] = NULL;
  if (!options) MB_FAIL(MB_ERR_ARG, "mb_msign_many: options is NULL");
  if (count < 1) MB_FAIL(MB_ERR_ARG, "mb_msign_many: count is %lld, 1 or more was expected", (long long)count);
  mbi_matrices *sizes = calloc((size_t)count, sizeof *sizes);
  if (!sizes) MB_FAIL(MB_ERR_NOMEM, "mb_msign: %lld groups of matrices", (long long)count);
  mb_status status = MB_OK;
  for (int64_t i = 0; i < count && status == MB_OK; i++) {
    status = mbi_matrices_of(&sizes[i], a[i], "mb_msign");
    if (status == MB_OK) status = check_options(options, a[i], scale[i]);
    if (status == MB_OK && a[i]->storage->device != a[0]->storage->device)
      status = mbi_fail(MB_ERR_DEVICE, "mb_msign_many: a[%lld] is on another device than a[0]", (long long)i);
  }
  int is_half = options->precision == MB_MSIGN_F16 && options->method != MB_MSIGN_EXACT;
  if (status == MB_OK && is_half) status = in_half(out, a, sizes, scale, count, options);
  for (int64_t i = 0; i < count && status == MB_OK && !is_half; i++) status = one(&out[i], a[i], &sizes[i], options, scale[i]);
  free(sizes);
  for (int64_t i = 0; i < count && status != MB_OK; i++) mb_tensor_release(out[i]), out[i] = NULL;
  return status;
}

mb_status mb_msign_with(mb_tensor **out, mb_tensor *a, const mb_msign_options *options) {
  *out = NULL;
  if (!options) MB_FAIL(MB_ERR_ARG, "mb_msign_with: options is NULL");
  return mb_msign_many(out, &a, &options->scale, 1, options);
}

mb_status mb_msign(mb_tensor **out, mb_tensor *a, mb_msign_method method, int64_t steps) {
  mb_msign_options options = {.method = method, .steps = steps, .scale = 1};
  return mb_msign_with(out, a, &options);
}
