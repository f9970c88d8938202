// SPDX-License-Identifier: MIT
//
// warm.c: what a plan remembers from probe to probe with warm_start. Gradients change little from step to step, so that the
// directions which the last sketch found are a better start than random ones, and one round of iteration does the work of more.
//
//   after a probe   basis = an orthonormal basis of its T = Y G, the `kept` rows that are largest
//   before the next X = basis + NOISE Omega, and of Omega alone in the `oversample` rows behind
// Omega, drawn as without warm_start, is what finds directions that were not there before; NOISE keeps rows alive where the
// last matrices had too small a rank. A basis is all there is to remember, so that a checkpoint with it goes on to the bit.
#include <math.h>

#include "spectral/spectral.h"

static const double NOISE = 1e-3; // length beside a basis vector's

// Rows [first, first + rows) of each of x (count, q, n).
static mbi_view rows_of(const mbi_spectral_group *g, mb_tensor *t, int64_t q, int64_t first, int64_t rows) {
  char *data = (char *)mbi_data(t) + (size_t)(first * g->n) * mbi_dtype_size(g->dtype);
  return (mbi_view){.data = data, .ndim = 3, .size = {g->count, rows, g->n}, .stride = {q * g->n, g->n, 1}};
}

mb_status mbi_spectral_recall(const mbi_spectral_group *g) {
  if (!g->warm) return MB_OK;
  const mbi_kernels *k = mbi_spectral_kernels(g);
  double unit = 1 / sqrt((double)g->n); // makes Omega's rows about as long
  mbi_view x = rows_of(g, g->omega, g->k, 0, g->kept), basis = rows_of(g, g->basis, g->kept, 0, g->kept);
  MB_TRY(k->axpby(&x, &basis, 1, NOISE * unit));
  if (g->k == g->kept) return MB_OK;
  mbi_view rest = rows_of(g, g->omega, g->k, g->kept, g->k - g->kept);
  return k->unary(MBI_AFFINE, &rest, &rest, unit, 0);
}

static mb_status make_basis(mbi_spectral_group *g) {
  if (g->basis) return MB_OK;
  mbi_shape shape = {.ndim = 3, .size = {g->count, g->kept, g->n}};
  MB_TRY(mbi_tensor_new(&g->basis, g->device, g->dtype, &shape));
  return mbi_device_of(g->device)->zero(mbi_data(g->basis), (size_t)mbi_numel(g->basis) * mbi_dtype_size(g->dtype));
}

mb_status mbi_spectral_remember(mbi_spectral_group *g) {
  mbi_sketch s = mbi_spectral_sketch_of(g);
  MB_TRY(make_basis(g));
  MB_TRY(mbi_spectral_kernels(g)->sketch_basis(&s, 1, 0, NULL));
  mbi_view from = rows_of(g, g->x, g->k, 0, g->kept), to = rows_of(g, g->basis, g->kept, 0, g->kept);
  MB_TRY(mbi_device_of(g->device)->copy_view(&to, &from, mbi_dtype_size(g->dtype)));
  g->warm = 1;
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
      if (p->groups[at].index[i] == matrix && p->groups[at].kind == MBI_SPECTRAL_SKETCH && p->options.warm_start)
        *g = &p->groups[at], *place = i;
  return MB_OK;
}

// The slice of a basis that is a matrix's own.
static void *slice_of(const mbi_spectral_group *g, int64_t place) {
  return (char *)mbi_data(g->basis) + (size_t)(place * g->kept * g->n) * mbi_dtype_size(g->dtype);
}

mb_status mb_spectral_basis(mb_tensor **out, mb_spectral *p, int64_t matrix) {
  mbi_spectral_group *g;
  int64_t place;
  *out = NULL;
  MB_TRY(find(&g, &place, p, matrix, "mb_spectral_basis"));
  if (!g || !g->warm) return MB_OK;
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
  if (status == MB_OK) g->warm = 1;
  mb_tensor_release(dense);
  return status;
}
