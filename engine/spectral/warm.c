// SPDX-License-Identifier: MIT
//
// warm.c: what a plan remembers from probe to probe with warm_start. Gradients change little from step to step, so that the
// directions which the last sketch found are a better start than random ones, and one round of iteration does the work of more.
//
//   after a probe   basis = its right singular vectors, the `kept` largest          (sketch_keep)
//   before the next X = basis + NOISE Omega, and of Omega alone in the `oversample` rows behind (sketch_draw)
// Omega, drawn as without warm_start, is what finds directions that were not there before; NOISE, 1e-3, keeps rows alive where the
// last matrices had too small a rank. A basis is all there is to remember, so that a checkpoint with it goes on to the bit.
//
// A basis of NaN is none, and the probe that finds it is one without warm_start. So the device alone knows whether there is one: a
// call that it refuses (step.c) leaves bases as they are, and no host need hear of it before the next call, or before a graph is
// launched once more.
#include <math.h>

#include "spectral/spectral.h"

static int is_warm(const mb_spectral *p, const mbi_spectral_group *g) { return p->options.warm_start && g->kind == MBI_SPECTRAL_SKETCH; }

static mb_status make_basis(mbi_spectral_group *g) {
  if (g->basis) return MB_OK;
  mbi_shape shape = {.ndim = 3, .size = {g->count, g->k, g->n}};
  MB_TRY(mbi_tensor_new(&g->basis, g->device, g->dtype, &shape));
  mb_status status = mbi_device_of(g->device)->fill(mbi_data(g->basis), g->dtype, (double)NAN, mbi_numel(g->basis));
  if (status == MB_OK) return MB_OK;
  mb_tensor_release(g->basis);
  g->basis = NULL;
  return status;
}

mb_status mbi_spectral_make_bases(mb_spectral *p) {
  for (int64_t at = 0; at < p->group_count; at++)
    if (is_warm(p, &p->groups[at])) MB_TRY(make_basis(&p->groups[at]));
  return MB_OK;
}

mb_status mbi_spectral_remember(mb_spectral *p, int64_t wanted) {
  static const mb_dtype WIDE[] = {MB_F32, MB_F64};
  if (!p->options.warm_start) return MB_OK;
  MB_TRY(mbi_spectral_make_bases(p));
  for (int i = 0; i < 2; i++) {
    int64_t count;
    const mbi_sketch *s = mbi_spectral_sketches(p, WIDE[i], wanted, &count);
    if (count > 0) MB_TRY(mbi_device_of(p->device)->kernels[WIDE[i]]->sketch_keep(s, count));
  }
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    if (is_warm(p, g) && g->warmth != MBI_BASES_ALL) g->warmth = wanted & MBI_AGREED ? MBI_BASES_SOME : MBI_BASES_ALL;
  }
  return MB_OK;
}

// ----- public -----------------------------------------------------------------------------------------------

// The group and place of a matrix of the plan; *g = NULL if its group remembers nothing.
static mb_status find(mbi_spectral_group **g, int64_t *place, mb_spectral *p, int64_t matrix, const char *who) {
  if (!p) MB_FAIL(MB_ERR_ARG, "%s: the plan is NULL", who);
  if (matrix < 0 || matrix >= p->count)
    MB_FAIL(MB_ERR_ARG, "%s: matrix %lld of %lld", who, (long long)matrix, (long long)p->count);
  *g = NULL;
  for (int64_t at = 0; at < p->group_count; at++)
    for (int64_t i = 0; i < p->groups[at].count; i++)
      if (p->groups[at].index[i] == matrix && is_warm(p, &p->groups[at])) *g = &p->groups[at], *place = i;
  return MB_OK;
}

// The slice of a basis that is a matrix's own, `kept` rows of it.
static void *slice_of(const mbi_spectral_group *g, int64_t place) {
  return (char *)mbi_data(g->basis) + (size_t)(place * g->k * g->n) * mbi_dtype_size(g->dtype);
}

// Whether there is something in a matrix's basis.
static mb_status has_basis(int *has, const mbi_spectral_group *g, int64_t place) {
  union {
    float single;
    double wide;
  } first;
  *has = g->warmth == MBI_BASES_ALL;
  if (g->warmth != MBI_BASES_SOME) return MB_OK;
  MB_TRY(mbi_memory_of(g->basis)->copy_out(&first, slice_of(g, place), mbi_dtype_size(g->dtype)));
  *has = g->dtype == MB_F32 ? !isnan(first.single) : !isnan(first.wide);
  return MB_OK;
}

mb_status mb_spectral_basis(mb_tensor **out, mb_spectral *p, int64_t matrix) {
  mbi_spectral_group *g;
  int64_t place;
  int has = 0;
  *out = NULL;
  MB_TRY(find(&g, &place, p, matrix, "mb_spectral_basis"));
  if (g) MB_TRY(has_basis(&has, g, place));
  if (!has) return MB_OK;
  mbi_shape shape = {.ndim = 2, .size = {g->kept, g->n}};
  mb_tensor *basis;
  MB_TRY(mbi_tensor_new(&basis, g->device, g->dtype, &shape));
  mb_status status = mbi_memory_of(basis)->convert(mbi_data(basis), g->dtype, slice_of(g, place), g->dtype, g->kept * g->n);
  if (status != MB_OK) mb_tensor_release(basis);
  else *out = basis;
  return status;
}

mb_status mb_spectral_basis_set(mb_spectral *p, int64_t matrix, mb_tensor *basis) {
  const char *who = "mb_spectral_basis_set";
  char text[MBI_SHAPE_TEXT];
  mbi_spectral_group *g;
  int64_t place;
  MB_TRY(find(&g, &place, p, matrix, who));
  MB_TRY(mbi_check_float(basis, who, "basis"));
  if (!g) MB_FAIL(MB_ERR_ARG, "%s: the plan remembers nothing of matrix %lld: no sketch, or no warm_start", who, (long long)matrix);
  if (basis->shape.ndim != 2 || basis->shape.size[0] != g->kept || basis->shape.size[1] != g->n || basis->dtype != g->dtype)
    MB_FAIL(MB_ERR_SHAPE, "%s: a basis (%lld, %lld) of %s was expected for matrix %lld, not %s of %s", who, (long long)g->kept,
            (long long)g->n, mbi_dtype_name(g->dtype), (long long)matrix, mbi_shape_text(text, basis->shape.ndim, basis->shape.size),
            mbi_dtype_name(basis->dtype));
  mb_tensor *here, *dense;
  MB_TRY(mb_to_device(&here, basis, g->device));
  mb_status status = mbi_dense(&dense, here);
  mb_tensor_release(here);
  MB_TRY(status);
  int64_t bad;
  status = mbi_kernels_of(dense)->find_nonfinite(&bad, mbi_data(dense), mbi_numel(dense));
  if (status == MB_OK && bad >= 0)
    status = mbi_fail(MB_ERR_NONFINITE, "%s: the basis of matrix %lld holds NaN or Inf, first at element %lld (they count from 0)", who, (long long)matrix,
                      (long long)bad);
  if (status == MB_OK) status = make_basis(g);
  if (status == MB_OK)
    status = mbi_memory_of(dense)->convert(slice_of(g, place), g->dtype, mbi_data(dense), g->dtype, g->kept * g->n);
  if (status == MB_OK && g->warmth == MBI_BASES_NONE) g->warmth = MBI_BASES_SOME;
  mb_tensor_release(dense);
  return status;
}
