// SPDX-License-Identifier: MIT
//
// soft.c: SPECTRA's soft clipping (arXiv 2603.14315) of all singular values, by products alone:
//   sigma -> sigma / sqrt(1 + sigma^2 / c^2), which is c (c^2 I + G G^T)^(-1/2) G on the smaller side
// The polar factor of X = [G  c I] is (X X^T)^(-1/2) X = (c^2 I + G G^T)^(-1/2) [G  c I], so that msign of X, whose singular values
// sqrt(sigma^2 + c^2) are at least c, has the result in its first n columns. (Where m > n, c I stands below G.)
//
// This is the Newton-Schulz inverse square root without squares: the iteration holds G, not G G^T, and float32 loses 1e-7 sigma_1,
// where (I + G G^T / c^2)^(-1/2) loses 1e-7 sigma_1^2 / c in float32 and needs float64. The number of steps follows from
// c / sigma_1; for 1, 0.1, 0.01, 0.001 it is 3, 5, 6, 8.
//
// Measured in float32 against a float64 decomposition (spectra and sizes as in polar.c, sigma_1 / c from 1 to 1000): at
// most 1e-6 sigma_1.
#include <math.h>

#include "spectral/iterate.h"
#include "spectral/spectral.h"

// What lies farther below the largest is not worth the steps: it belongs to a c so small that the result is c.
static double farthest(mb_dtype dtype) { return dtype == MB_F32 ? 1e-6 : 1e-13; }

// Above all singular values of X.
static double mu_of(const mbi_spectral_group *g, int64_t i) { return 1.01 * hypot(mbi_spectral_tau(g, i), g->sigma[i]); }

static double least_of(const mbi_spectral_group *g, int64_t i) {
  double least = mbi_spectral_tau(g, i) / mu_of(g, i), floor = farthest(g->dtype);
  return least > floor ? least : floor;
}

// Member j's G in the batch of X.
static mbi_view block_of(const mbi_iteration *it, const mbi_spectral_group *g, int64_t j) {
  char *x = (char *)it->x + (size_t)(j * it->m * it->n) * mbi_dtype_size(g->dtype);
  return (mbi_view){.data = x, .ndim = 2, .size = {g->m, g->n}, .stride = {it->n, 1}};
}

// x = [G  c I] / mu.
static mb_status put_together(mbi_iteration *it, const mbi_spectral_chunk *chunk) {
  const mbi_spectral_group *g = chunk->g;
  const mbi_kernels *k = mbi_spectral_kernels(g);
  size_t element = mbi_dtype_size(g->dtype);
  MB_TRY(mbi_device_of(g->device)->zero(it->x, (size_t)(it->count * it->m * it->n) * element));
  for (int64_t j = 0; j < chunk->count; j++) {
    int64_t i = chunk->member[j], first = g->m > g->n ? g->m * it->n : g->n; // of c I
    mbi_view x = block_of(it, g, j), diagonal = {.ndim = 1, .size = {g->m < g->n ? g->m : g->n}, .stride = {it->n + 1}};
    diagonal.data = (char *)x.data + (size_t)first * element;
    MB_TRY(mbi_spectral_load(&x, g, i, 1 / mu_of(g, i)));
    MB_TRY(k->unary(MBI_AFFINE, &diagonal, &diagonal, 1, mbi_spectral_tau(g, i) / mu_of(g, i)));
  }
  return MB_OK;
}

static mb_status clip_chunk(const mbi_spectral_chunk *chunk) {
  const mbi_spectral_group *g = chunk->g;
  int tall = g->m > g->n;
  mbi_quintic steps[MBI_MOST_STEPS];
  int n_steps = mbi_polar_express(steps, MBI_MOST_STEPS, chunk->least, g->dtype == MB_F32 ? 1e-7 : 1e-14, 0.1, MBI_SLACK);
  mbi_iteration it;
  MB_TRY(mbi_iteration_new(&it, g->device, g->dtype, chunk->count, tall ? g->m + g->n : g->m, tall ? g->n : g->n + g->m));
  mb_status status = put_together(&it, chunk);
  if (status == MB_OK) status = mbi_msign(&it, steps, n_steps);
  for (int64_t j = 0; j < chunk->count && status == MB_OK; j++) {
    mbi_view from = block_of(&it, g, j), to = from;
    to.data = g->data[chunk->member[j]], to.stride[0] = g->n;
    status = mbi_spectral_kernels(g)->unary(MBI_AFFINE, &to, &from, g->gain[g->count + chunk->member[j]], 0);
  }
  mbi_iteration_release(&it);
  return status;
}

mb_status mbi_spectral_soft(const mbi_spectral_group *g) {
  int64_t s = g->m < g->n ? g->m : g->n;
  return mbi_spectral_by_chunks(g, 2 * (g->m * g->n + 2 * s * s) * (int64_t)mbi_dtype_size(g->dtype), least_of, clip_chunk);
}
