// SPDX-License-Identifier: MIT
//
// polar.c: hard clipping of all singular values without a decomposition. With O = msign(G) = U V^T
//   S = G O^T - tau I = U diag(sigma - tau) U^T;  P = (I + sign(S)) / 2, the projector on the directions above tau
//   clip(G) = G - P (G - tau O)
// on the smaller side: where m > n, S = G^T O - tau I and P acts from the right. An error of P where sigma is near tau costs no more
// than |sigma - tau|, and G's small values are not touched.
//
// Both signs are Polar Express iterations (iterate.h) on G / nu, nu = 1.01 sigma_1. O has to have converged from tau / nu
// on, no farther: below, it is at most 1, and sigma O - tau stays negative. sign(S) of values within 1e-5 is worth at most
// an eighth of that.
//
// Measured in float32 (NumPy and here; Cauchy, geometric, flat, rank deficient, repeated, one spike, Gaussian; 96 to 768 rows; tau /
// sigma_1 from 0.9 to 1e-3) against a float64 decomposition: at most 2.6e-6 sigma_1, with 2 to 7 steps for O and
// 10 for the sign. S without squares is what allows float32: sign(G G^T - tau^2 I) leaves 1e-5 to 1e-4 at tau = 1e-3 sigma_1 even
// with that product in float64. Polynomials as steep as Polar Express' own (cushion 0.024) leave 7e-6 where G is rank deficient.
//
// It is made for devices that are fast at products: a square matrix takes about 25 to 40 products of its size, and on two (busy)
// CPU cores the clamp of 768 x 768 takes five times as long as EXACT's with all its vectors.
#include <math.h>

#include "spectral/iterate.h"
#include "spectral/spectral.h"

static const double CUSHION = 0.1;

static double margin(mb_dtype dtype) { return dtype == MB_F32 ? 1e-5 : 1e-12; } // of values near tau, relative to nu
static double tolerance(mb_dtype dtype) { return dtype == MB_F32 ? 1e-7 : 1e-14; }

static double nu_of(const mbi_spectral_group *g, int64_t i) { return 1.01 * g->sigma[i]; }

static double least_of(const mbi_spectral_group *g, int64_t i) {
  double least = mbi_spectral_tau(g, i) / nu_of(g, i), floor = margin(g->dtype);
  return least > floor ? least : floor;
}

// Member j of a batch of (rows, columns).
static void *at(void *batch, int64_t j, int64_t numbers, mb_dtype dtype) {
  return (char *)batch + (size_t)(j * numbers) * mbi_dtype_size(dtype);
}

// batch = G / nu.
static mb_status load(void *batch, const mbi_spectral_chunk *chunk) {
  const mbi_spectral_group *g = chunk->g;
  for (int64_t j = 0; j < chunk->count; j++) {
    mbi_view x = {.data = at(batch, j, g->m * g->n, g->dtype), .ndim = 2, .size = {g->m, g->n}, .stride = {g->n, 1}};
    MB_TRY(mbi_spectral_load(&x, g, chunk->member[j], 1 / nu_of(g, chunk->member[j])));
  }
  return MB_OK;
}

// x = O and y = G / nu.
static mb_status polar_factors(mbi_iteration *it, const mbi_spectral_chunk *chunk) {
  mbi_quintic steps[MBI_MOST_STEPS];
  int n_steps = mbi_polar_express(steps, MBI_MOST_STEPS, chunk->least, tolerance(chunk->g->dtype), CUSHION, MBI_SLACK);
  MB_TRY(load(it->x, chunk));
  MB_TRY(mbi_msign(it, steps, n_steps));
  return load(it->y, chunk);
}

// p->x = P.
static mb_status projectors(mbi_iteration *p, const mbi_iteration *it, const mbi_spectral_chunk *chunk) {
  const mbi_spectral_group *g = chunk->g;
  const mbi_kernels *k = mbi_spectral_kernels(g);
  int tall = g->m > g->n;
  int64_t m = g->m, n = g->n, s = p->n;
  mbi_gemm product = {.transpose_a = tall, .transpose_b = !tall, .m = s, .n = s, .k = tall ? m : n, .alpha = 1, .a = it->y, .b = it->x,
                      .c = p->x, .lda = n, .ldb = n, .ldc = s, .batch = chunk->count, .stride_a = m * n, .stride_b = m * n, .stride_c = s * s};
  MB_TRY(k->gemm_symmetric(&product));
  for (int64_t j = 0; j < chunk->count; j++)
    MB_TRY(mbi_add_to_diagonal(p, at(p->x, j, s * s, g->dtype), 1, s,
                               -mbi_spectral_tau(g, chunk->member[j]) / nu_of(g, chunk->member[j])));
  mbi_quintic steps[MBI_MOST_STEPS];
  int n_steps = mbi_polar_express(steps, MBI_MOST_STEPS, margin(g->dtype), tolerance(g->dtype), CUSHION, MBI_SLACK);
  MB_TRY(mbi_msign(p, steps, n_steps));
  mbi_view all = {.data = p->x, .ndim = 1, .size = {chunk->count * s * s}, .stride = {1}};
  MB_TRY(k->unary(MBI_AFFINE, &all, &all, 0.5, 0));
  return mbi_add_to_diagonal(p, p->x, chunk->count, s, 0.5);
}

// G -= nu P (G / nu - tau / nu O), matrix by matrix, since they lie where they lie.
static mb_status subtract(const mbi_iteration *p, const mbi_iteration *it, const mbi_spectral_chunk *chunk) {
  const mbi_spectral_group *g = chunk->g;
  const mbi_kernels *k = mbi_spectral_kernels(g);
  int tall = g->m > g->n;
  int64_t m = g->m, n = g->n, s = p->n;
  for (int64_t j = 0; j < chunk->count; j++) {
    int64_t i = chunk->member[j];
    mbi_view d = {.data = at(it->y, j, m * n, g->dtype), .ndim = 1, .size = {m * n}, .stride = {1}}, o = d;
    o.data = at(it->x, j, m * n, g->dtype);
    MB_TRY(k->axpby(&d, &o, -mbi_spectral_tau(g, i) / nu_of(g, i), 1));
    void *projector = at(p->x, j, s * s, g->dtype);
    mbi_gemm update = {.m = m, .n = n, .k = s, .alpha = -nu_of(g, i) / g->scale[i], .beta = 1, .a = tall ? d.data : projector,
                       .b = tall ? projector : d.data, .c = g->data[i], .lda = s, .ldb = n, .ldc = n, .batch = 1};
    MB_TRY(k->gemm(&update));
  }
  return MB_OK;
}

static mb_status clip_chunk(const mbi_spectral_chunk *chunk) {
  const mbi_spectral_group *g = chunk->g;
  int64_t s = g->m < g->n ? g->m : g->n;
  mbi_iteration it, p = {0};
  MB_TRY(mbi_iteration_new(&it, g->device, g->dtype, chunk->count, g->m, g->n));
  mb_status status = mbi_iteration_new(&p, g->device, g->dtype, chunk->count, s, s);
  p.symmetric = 1;
  if (status == MB_OK) status = polar_factors(&it, chunk);
  if (status == MB_OK) status = projectors(&p, &it, chunk);
  if (status == MB_OK) status = subtract(&p, &it, chunk);
  mbi_iteration_release(&it);
  mbi_iteration_release(&p);
  return status;
}

mb_status mbi_spectral_polar(const mbi_spectral_group *g) {
  int64_t s = g->m < g->n ? g->m : g->n;
  return mbi_spectral_by_chunks(g, (2 * g->m * g->n + 6 * s * s) * (int64_t)mbi_dtype_size(g->dtype), least_of, clip_chunk);
}
