// SPDX-License-Identifier: MIT
//
// probe.c: singular values of many matrices, and the factors that a later clamp needs.
//
// The sketch is the randomized subspace iteration of Halko, Martinsson and Tropp 2011 (algorithm 4.4), in a form
// that reads G once a round where the textbook, which orthonormalises between G X and G^T Y, reads it twice:
//   X = Omega;  power_iters times: Y = X G^T and T = Y G in one pass, X = orthonormal basis of T   (sketch_basis)
//   at the end: Y = X G^T and T = Y G once more; W with orthonormal U = W Y and W T = U G = diag(sigma) V^T
// The span is the textbook's, that of (G G^T)^power_iters G Omega. Two things keep small values from drowning in
// the rounding of large ones: small matrices are formed and solved in float64, and the basis comes sorted by
// size, so that the last Y has nearly orthogonal rows of falling length, from which W follows row by row
// (sketch_ritz). Without rounds nothing is sorted: Y is orthonormalised before T, which reads G twice. And where the
// spectrum is so steep that float32 lost small directions of the first T, which holds squares, that matrix gets one
// round more than was asked for.
//
// Ranges. A sketch is first tried on G as it is. The size of the result shows whether numbers were lost
// (float32 ends at 1e38, and T holds squares); then, and only then, norms are taken and the pass is made
// again on G times a power of two. A NaN or Inf in G shows in the same place. Which path is taken depends on
// G's values alone, and powers of two change no digit.
#include "spectral/spectral.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "spectral/iterate.h"

// Sizes of X G^T between which float32 holds all that matters: squares, and 1e-14 of them.
static const double SAFE_LOW = 1e-8, SAFE_HIGH = 1e8;

double mbi_spectral_scale(double norm, mb_dtype dtype) {
  int least = dtype == MB_F32 ? -126 : -1000, most = dtype == MB_F32 ? 120 : 1000; // times a random number it is still one
  if (!(norm > 0) || !isfinite(norm)) return 1;
  int exponent = -ilogb(norm);
  return ldexp(1, exponent < least ? least : exponent > most ? most : exponent);
}

// The largest absolute value of a contiguous tensor without NaN.
static mb_status max_abs(double *out, mb_tensor *t) {
  mb_tensor *extreme;
  mbi_shape scalar = {0};
  MB_TRY(mbi_tensor_new(&extreme, t->storage->device, t->dtype, &scalar));
  mbi_view view = mbi_view_of(t);
  unsigned all = (1u << t->shape.ndim) - 1;
  double high = 0, low = 0;
  mb_status status = mbi_kernels_of(t)->reduce(MBI_REDUCE_MAX, mbi_data(extreme), NULL, &view, all, 1);
  if (status == MB_OK) status = mb_tensor_item(&high, extreme);
  if (status == MB_OK) status = mbi_kernels_of(t)->reduce(MBI_REDUCE_MIN, mbi_data(extreme), NULL, &view, all, 1);
  if (status == MB_OK) status = mb_tensor_item(&low, extreme);
  mb_tensor_release(extreme);
  *out = high > -low ? high : -low;
  return status;
}

mb_status mbi_spectral_norm(double *norm, int *finite, mb_tensor *t) {
  const mbi_kernels *k = mbi_kernels_of(t);
  double sum = 0, largest;
  int64_t bad;
  *finite = 1;
  MB_TRY(k->sum_squares(&sum, mbi_data(t), mbi_numel(t)));
  *norm = sqrt(sum);
  if (isfinite(sum) && sum > 1e-200) return MB_OK;
  // Zero, out of float64's range when squared, or not finite.
  MB_TRY(k->find_nonfinite(&bad, mbi_data(t), mbi_numel(t)));
  *finite = bad < 0;
  if (bad >= 0) return MB_OK;
  MB_TRY(max_abs(&largest, t));
  if (largest == 0) return MB_OK;
  double scale = mbi_spectral_scale(largest, t->dtype);
  mb_tensor *scaled;
  MB_TRY(mbi_tensor_like(&scaled, t));
  mbi_view to = mbi_view_of(scaled), from = mbi_view_of(t);
  mb_status status = k->unary(MBI_AFFINE, &to, &from, scale, 0);
  sum = 0;
  if (status == MB_OK) status = k->sum_squares(&sum, mbi_data(scaled), mbi_numel(t));
  mb_tensor_release(scaled);
  *norm = sqrt(sum) / scale;
  return status;
}

static mb_status make(mb_tensor **t, const mbi_spectral_group *g, mb_dtype dtype, int64_t rows, int64_t columns) {
  if (*t) return MB_OK;
  mbi_shape shape = {.ndim = 3, .size = {g->count, rows, columns}};
  return mbi_tensor_new(t, g->device, dtype, &shape);
}

// ----- vectors --------------------------------------------------------------------------------------------

static mb_status probe_vectors(mb_spectral *p, mbi_spectral_group *g, int *finite) {
  for (int64_t i = 0; i < g->count && *finite; i++) MB_TRY(mbi_spectral_norm(&g->sigma[i], finite, p->matrices[g->index[i]]));
  return MB_OK;
}

// ----- exact ----------------------------------------------------------------------------------------------

// sigma (count, k) of the device, which is the beginning of `values`.
static mb_status fetch_sigma(mbi_spectral_group *g) {
  return mbi_memory_of(g->values)->copy_out(g->sigma, mbi_data(g->values), (size_t)(g->count * g->k) * sizeof(double));
}

static mb_status scale_all(mb_spectral *p, mbi_spectral_group *g, int *finite) {
  for (int64_t i = 0; i < g->count && *finite; i++) {
    double norm;
    MB_TRY(mbi_spectral_norm(&norm, finite, p->matrices[g->index[i]]));
    g->scale[i] = mbi_spectral_scale(norm, g->dtype);
  }
  return MB_OK;
}

static mb_status probe_exact(mb_spectral *p, mbi_spectral_group *g, int *finite) {
  MB_TRY(make(&g->values, g, MB_F64, 1, g->k));
  MB_TRY(make(&g->factor, g, MB_F64, g->k + 4, g->k));
  MB_TRY(scale_all(p, g, finite));
  if (!*finite) return MB_OK;
  mbi_gram gram = mbi_spectral_gram_of(g);
  MB_TRY(mbi_spectral_kernels(g)->gram_factor(&gram));
  return fetch_sigma(g);
}

// ----- largest value alone -----------------------------------------------------------------------------------

static mb_status largest(const mbi_spectral_group *g) {
  return mbi_sigma_max(g->sigma, g->device, g->dtype, g->count, g->m, g->n, g->data, g->scale);
}

static mb_status probe_whole(mb_spectral *p, mbi_spectral_group *g, int *finite) {
  int again = 0;
  MB_TRY(largest(g));
  for (int64_t i = 0; i < g->count; i++) {
    double norm;
    if (g->sigma[i] >= SAFE_LOW && g->sigma[i] <= SAFE_HIGH) continue;
    MB_TRY(mbi_spectral_norm(&norm, finite, p->matrices[g->index[i]]));
    if (!*finite) return MB_OK;
    g->scale[i] = mbi_spectral_scale(norm, g->dtype);
    again |= g->scale[i] != 1;
  }
  return again ? largest(g) : MB_OK;
}

// ----- sketch ---------------------------------------------------------------------------------------------

// Omega (q, n) of matrix i begins at element 2^34 i of the stream (the high bits of a stream's number count
// in steps of 2^32 blocks of four), so that it depends on the matrix's place in the plan and nothing else.
static mb_status draw(const mbi_spectral_group *g, mbi_rng_key key) {
  const mbi_kernels *k = mbi_spectral_kernels(g);
  size_t bytes = (size_t)(g->k * g->n) * mbi_dtype_size(g->dtype);
  for (int64_t i = 0; i < g->count; i++)
    MB_TRY(k->random_normal((char *)mbi_data(g->x) + (size_t)i * bytes, g->k * g->n, 0, 1, key.seed, key.step,
                            key.stream ^ (uint64_t)g->index[i] << 32));
  return mbi_spectral_recall(g);
}

// Sizes of the first T, smallest to largest, below which its small directions are mostly rounding.
static const double STEEP = 3e-6;

// The first round, from fresh random numbers. sizes (count, 2): those of sketch_basis.
static mb_status first_round(const mbi_spectral_group *g, mbi_rng_key key, int64_t rounds, double *sizes) {
  const mbi_kernels *k = mbi_spectral_kernels(g);
  mbi_sketch s = mbi_spectral_sketch_of(g);
  double *found = mbi_data(g->values);
  MB_TRY(draw(g, key));
  MB_TRY(k->sketch_pass(&s, 1, rounds > 0));
  if (rounds > 0) MB_TRY(k->sketch_basis(s.x, s.t, found, s.q, s.n, s.count));
  else MB_TRY(k->sketch_basis(s.y, s.y, found, s.q, s.m, s.count));
  return mbi_memory_of(g->values)->copy_out(sizes, found, (size_t)(2 * g->count) * sizeof(double));
}

static mb_status round_again(const mbi_spectral_group *g, const mbi_sketch *s) {
  MB_TRY(mbi_spectral_kernels(g)->sketch_pass(s, 1, 1));
  return mbi_spectral_kernels(g)->sketch_basis(s->x, s->t, mbi_data(g->values), s->q, s->n, s->count);
}

// Matrix i of a sketch, by itself.
static mbi_sketch single(const mbi_spectral_group *g, int64_t i) {
  mbi_sketch s = mbi_spectral_sketch_of(g);
  size_t element = mbi_dtype_size(g->dtype);
  s.count = 1, s.g += i, s.scale += i;
  s.x = (char *)s.x + (size_t)(i * s.q * s.n) * element;
  s.y = (char *)s.y + (size_t)(i * s.q * s.m) * element;
  s.t = (char *)s.t + (size_t)(i * s.q * s.n) * element;
  return s;
}

mb_status mbi_spectral_subspace(mb_spectral *p, mbi_spectral_group *g, mbi_rng_key key, int *finite) {
  int64_t rounds = p->options.power_iters;
  double *sizes = g->gain; // room for (count, 2), free until a clamp
  MB_TRY(make(&g->x, g, g->dtype, g->k, g->n));
  MB_TRY(make(&g->y, g, g->dtype, g->k, g->m));
  MB_TRY(make(&g->t, g, g->dtype, g->k, g->n));
  MB_TRY(make(&g->w, g, MB_F64, g->k, g->k));
  MB_TRY(make(&g->values, g, MB_F64, 1, g->k > 2 ? g->k : 2));
  MB_TRY(first_round(g, key, rounds, sizes));
  int again = 0;
  for (int64_t i = 0; i < g->count; i++) {
    double norm, size = rounds > 0 ? sqrt(sizes[2 * i]) : sizes[2 * i]; // t has sigma squared
    if (size >= SAFE_LOW && size <= SAFE_HIGH) continue;
    MB_TRY(mbi_spectral_norm(&norm, finite, p->matrices[g->index[i]]));
    if (!*finite) return MB_OK;
    g->scale[i] = mbi_spectral_scale(norm, g->dtype);
    again = 1;
  }
  if (again) MB_TRY(first_round(g, key, rounds, sizes));
  mbi_sketch all = mbi_spectral_sketch_of(g);
  for (int64_t round = 1; round < rounds; round++) MB_TRY(round_again(g, &all));
  for (int64_t i = 0; i < g->count && rounds > 0; i++) {
    mbi_sketch one = single(g, i);
    if (sizes[2 * i + 1] < STEEP * sizes[2 * i]) MB_TRY(round_again(g, &one));
  }
  return MB_OK;
}

static mb_status probe_sketch(mb_spectral *p, mbi_spectral_group *g, mbi_rng_key key, int *finite) {
  MB_TRY(mbi_spectral_subspace(p, g, key, finite));
  if (!*finite) return MB_OK;
  mbi_sketch s = mbi_spectral_sketch_of(g);
  MB_TRY(mbi_spectral_kernels(g)->sketch_pass(&s, p->options.power_iters > 0, 1));
  MB_TRY(mbi_spectral_kernels(g)->sketch_ritz(&s));
  return fetch_sigma(g);
}

// ----- public ---------------------------------------------------------------------------------------------

static mb_status refuse_nonfinite(mb_spectral *p) {
  char text[MBI_SHAPE_TEXT];
  for (int64_t i = 0; i < p->count; i++) {
    mb_tensor *t = p->matrices[i];
    int64_t bad;
    MB_TRY(mbi_kernels_of(t)->find_nonfinite(&bad, mbi_data(t), mbi_numel(t)));
    if (bad < 0) continue;
    p->nonfinite = i;
    MB_FAIL(MB_ERR_NONFINITE, "mb_spectral_probe: matrix %lld of shape %s holds NaN or Inf, first at element %lld", (long long)i,
            mbi_shape_text(text, t->shape.ndim, t->shape.size), (long long)bad);
  }
  MB_FAIL(MB_ERR_NUMERIC, "mb_spectral_probe: a finite matrix gave singular values that are not finite");
}

// Points the group's data at copies of the matrices in the dtype that is computed in.
static mb_status convert_group(mbi_spectral_group *g) {
  int64_t size = g->m * g->n;
  MB_TRY(make(&g->copies, g, g->dtype, g->m, g->n));
  for (int64_t i = 0; i < g->count; i++) {
    char *copy = (char *)mbi_data(g->copies) + (size_t)(i * size) * mbi_dtype_size(g->dtype);
    MB_TRY(mbi_memory_of(g->copies)->convert(copy, g->dtype, g->data[i], g->source, size));
    g->data[i] = copy;
  }
  return MB_OK;
}

mb_status mbi_spectral_refresh(mb_spectral *p) {
  for (int64_t i = 0; i < p->count; i++) MB_TRY(mbi_check(p->matrices[i], "mb_spectral_probe", "a matrix of the plan"));
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    for (int64_t i = 0; i < g->count; i++) {
      g->scale[i] = 1;
      g->data[i] = mbi_data(p->matrices[g->index[i]]);
    }
    if (g->source != g->dtype) MB_TRY(convert_group(g));
  }
  return MB_OK;
}

static mb_status probe(mb_spectral *p, double *sigma, mbi_rng_key key) {
  MB_TRY(mbi_spectral_refresh(p));
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    int finite = 1;
    switch (g->kind) {
      case MBI_SPECTRAL_VECTOR: MB_TRY(probe_vectors(p, g, &finite)); break;
      case MBI_SPECTRAL_EXACT: MB_TRY(probe_exact(p, g, &finite)); break;
      case MBI_SPECTRAL_SKETCH: MB_TRY(probe_sketch(p, g, key, &finite)); break;
      case MBI_SPECTRAL_WHOLE: MB_TRY(probe_whole(p, g, &finite)); break;
    }
    for (int64_t i = 0; i < g->count * g->k && finite; i++) finite = isfinite(g->sigma[i]);
    if (!finite) return refuse_nonfinite(p);
  }
  for (int64_t at = 0; at < p->group_count && p->options.warm_start; at++)
    if (p->groups[at].kind == MBI_SPECTRAL_SKETCH) MB_TRY(mbi_spectral_remember(&p->groups[at]));
  for (int64_t i = 0; i < p->count * p->width; i++) p->sigma[i] = (double)NAN;
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    for (int64_t i = 0; i < g->count; i++)
      for (int64_t j = 0; j < g->kept; j++) p->sigma[g->index[i] * p->width + j] = g->sigma[i * g->k + j] / g->scale[i];
  }
  for (int64_t i = 0; i < p->count * p->width; i++)
    if (isinf(p->sigma[i]))
      MB_FAIL(MB_ERR_NUMERIC, "mb_spectral_probe: singular value %lld of matrix %lld is beyond %g, the limit of float64",
              (long long)(i % p->width), (long long)(i / p->width), DBL_MAX);
  memcpy(sigma, p->sigma, (size_t)(p->count * p->width) * sizeof(double));
  p->probed = 1;
  return MB_OK;
}

mb_status mb_spectral_probe(mb_spectral *p, double *sigma) {
  if (!p || !sigma) MB_FAIL(MB_ERR_ARG, "mb_spectral_probe: %s is NULL", p ? "sigma" : "the plan");
  p->probed = p->changed = 0;
  p->nonfinite = -1;
  if (p->options.method != MB_SPECTRAL_RANDOMIZED) return probe(p, sigma, (mbi_rng_key){0});
  mbi_rng_key key = mbi_rng_next();
  mb_status status = probe(p, sigma, key);
  if (status != MB_OK) mbi_rng_give_back(key);
  return status;
}
