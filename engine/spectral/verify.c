// SPDX-License-Identifier: MIT
//
// verify.c: what a change left behind: the largest singular value of every matrix that it altered, measured afresh on
// the matrices as they are (sigma.c), whatever method made the change and in whatever dtype it worked, at scales of their own: a
// change may leave less of a matrix than any fixed part of what it was.
#include <math.h>

#include "spectral/iterate.h"
#include "spectral/spectral.h"

static mb_status verify_vectors(mb_spectral *p, const mbi_spectral_group *g, double *after) {
  for (int64_t i = 0; i < g->count; i++) {
    int finite;
    if (mbi_spectral_changes(g, i)) MB_TRY(mbi_spectral_norm(&after[g->index[i]], &finite, p->matrices[g->index[i]]));
  }
  return MB_OK;
}

// list: room for (count) pointers, scales, values and places.
static mb_status verify_group(mb_spectral *p, const mbi_spectral_group *g, double *after, void *list) {
  void **data = list;
  double *scale = (double *)(void *)(data + g->count), *sigma = scale + g->count;
  int64_t *place = (int64_t *)(void *)(sigma + g->count), count = 0;
  for (int64_t i = 0; i < g->count; i++) {
    if (!mbi_spectral_changes(g, i)) continue;
    mb_tensor *matrix = p->matrices[g->index[i]];
    double norm;
    int finite;
    MB_TRY(mbi_check(matrix, "mb_spectral_verify", "a matrix of the plan"));
    MB_TRY(mbi_spectral_norm(&norm, &finite, matrix));
    data[count] = mbi_data(matrix);
    scale[count] = mbi_scale_of(norm, g->source == MB_F32);
    place[count++] = g->index[i];
  }
  if (count == 0) return MB_OK;
  MB_TRY(mbi_sigma_max(sigma, g->device, g->source, count, g->m, g->n, data, scale));
  for (int64_t i = 0; i < count; i++) after[place[i]] = sigma[i] / scale[i];
  return MB_OK;
}

mb_status mb_spectral_verify(mb_spectral *p, double *after) {
  if (!p || !after) MB_FAIL(MB_ERR_ARG, "mb_spectral_verify: %s is NULL", p ? "after" : "the plan");
  if (!p->changed) MB_FAIL(MB_ERR_STATE, "mb_spectral_verify: call mb_spectral_clamp or mb_spectral_apply first");
  for (int64_t i = 0; i < p->count; i++) after[i] = (double)NAN;
  for (int64_t at = 0; at < p->group_count; at++) {
    const mbi_spectral_group *g = &p->groups[at];
    void *list;
    if (g->kind == MBI_SPECTRAL_VECTOR) {
      MB_TRY(verify_vectors(p, g, after));
      continue;
    }
    MB_TRY(mbi_calloc(&list, "mb_spectral_verify", (size_t)g->count, sizeof(void *) + 2 * sizeof(double) + sizeof(int64_t)));
    mb_status status = verify_group(p, g, after, list);
    mbi_free(list);
    MB_TRY(status);
  }
  return MB_OK;
}
