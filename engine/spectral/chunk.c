// SPDX-License-Identifier: MIT
//
// chunk.c: how the methods that work on whole matrices, POLAR and SOFT, go through a group: only matrices that change, sorted
// by the number of steps they need, and at most CHUNK bytes of them at a time.
//
// `least`, the smallest of a matrix's values that an iteration must take to 1, relative to the largest, decides on the steps. It is
// rounded down to a power of four, and matrices of one power go together, so that a matrix is treated alike whatever stands
// beside it.
#include "spectral/spectral.h"

#include <math.h>

enum { CHUNK = 1 << 26, POWERS = 40 };

// The power of four of member i, 0 to POWERS - 1.
static int power_of(const mbi_spectral_group *g, int64_t i, double (*least)(const mbi_spectral_group *g, int64_t i)) {
  int power = (int)ceil(-log2(least(g, i)) / 2);
  return power < 0 ? 0 : power < POWERS ? power : POWERS - 1;
}

mb_status mbi_spectral_by_chunks(const mbi_spectral_group *g, int64_t bytes, double (*least)(const mbi_spectral_group *g, int64_t i),
                                 mb_status (*work)(const mbi_spectral_chunk *chunk)) {
  void *list;
  MB_TRY(mbi_calloc(&list, "mb_spectral_clamp", (size_t)g->count, sizeof(int64_t)));
  mb_status status = MB_OK;
  int64_t room = CHUNK / bytes < 1 ? 1 : CHUNK / bytes;
  for (int power = 0; power < POWERS; power++) {
    mbi_spectral_chunk chunk = {.g = g, .member = list, .least = ldexp(1, -2 * power)};
    for (int64_t i = 0; i < g->count && status == MB_OK; i++) {
      if (g->gain[i] != 0 && g->gain[g->count + i] > 0 && power_of(g, i, least) == power) chunk.member[chunk.count++] = i;
      if (chunk.count > 0 && (chunk.count == room || i == g->count - 1)) {
        status = work(&chunk);
        chunk.count = 0;
      }
    }
  }
  mbi_free(list);
  return status;
}

double mbi_spectral_tau(const mbi_spectral_group *g, int64_t i) { return g->gain[g->count + i] * g->scale[i]; }

mb_status mbi_spectral_load(const mbi_view *x, const mbi_spectral_group *g, int64_t i, double factor) {
  const mbi_kernels *k = mbi_spectral_kernels(g);
  mbi_view matrix = {.data = g->data[i], .ndim = 2, .size = {g->m, g->n}, .stride = {g->n, 1}};
  if (g->scale[i] == 1) return k->unary(MBI_AFFINE, x, &matrix, factor, 0);
  // The power of two by itself: times `factor` it may be beyond the dtype.
  MB_TRY(k->unary(MBI_AFFINE, x, &matrix, g->scale[i], 0));
  return k->unary(MBI_AFFINE, x, x, factor, 0);
}
