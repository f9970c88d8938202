// SPDX-License-Identifier: MIT
//
// stage.c: changes made in copies. A group has copies where it is computed in another dtype, and where a matrix that
// changes has singular values near the ends of its dtype: sigma_1 U V^T, formed for an update, may leave a range that no number
// of G leaves. The copy of such a matrix is G times its power of two, which is taken off again behind the change; powers of
// two change no digit, and matrices of ordinary size beside it are copied as they are.
//
// A change of copies is checked before any matrix is written: what the dtype cannot hold is refused.
#include "spectral/spectral.h"

#include <float.h>
#include <math.h>

double mbi_spectral_limit(const mbi_spectral_group *g) { return g->source == MB_F32 ? (double)FLT_MAX : DBL_MAX; }

// The largest of member i's singular values that the change leaves, of `scale` G.
static double after(const mbi_spectral_group *g, int64_t i) {
  double most = 0;
  for (int64_t j = 0; j < g->k; j++) {
    double value = g->sigma[i * g->k + j] * (1 + g->gain[i * g->k + j]);
    most = value > most ? value : most;
  }
  return most;
}

// Whether member i has, or gets, values from which the dtype's ends are near.
static int is_extreme(const mbi_spectral_group *g, int64_t i) {
  int far = g->source == MB_F32 ? 100 : 900;
  double before = g->sigma[i * g->k], most = after(g, i);
  most = most > before ? most : before;
  return before / g->scale[i] < ldexp(1, -far) || most / g->scale[i] > ldexp(1, far);
}

static mbi_view numbers_of(const mbi_spectral_group *g, int64_t i) {
  return (mbi_view){.data = g->data[i], .ndim = 1, .size = {g->m * g->n}, .stride = {1}};
}

// Points the group's data at copies of the members that change.
static mb_status copy_group(mb_spectral *p, mbi_spectral_group *g) {
  mbi_shape shape = {.ndim = 3, .size = {g->count, g->m, g->n}};
  MB_TRY(mbi_tensor_new(&g->copies, g->device, g->dtype, &shape));
  for (int64_t i = 0; i < g->count; i++) {
    if (!mbi_spectral_changes(g, i)) continue;
    char *copy = (char *)mbi_data(g->copies) + (size_t)(i * g->m * g->n) * mbi_dtype_size(g->dtype);
    MB_TRY(mbi_memory_of(g->copies)->convert(copy, g->dtype, g->data[i], g->dtype, g->m * g->n));
    mbi_spectral_point(p, g, i, copy);
  }
  return MB_OK;
}

mb_status mbi_spectral_stage(mb_spectral *p, mbi_spectral_group *g) {
  int extreme = 0;
  for (int64_t i = 0; i < g->count && g->kind != MBI_SPECTRAL_VECTOR; i++) {
    g->lift[i] = mbi_spectral_changes(g, i) && is_extreme(g, i) ? g->scale[i] : 0;
    extreme |= g->lift[i] != 0;
  }
  if (!extreme) return MB_OK;
  if (!g->copies) MB_TRY(copy_group(p, g));
  for (int64_t i = 0; i < g->count; i++) {
    if (g->lift[i] == 0 || g->lift[i] == 1) continue;
    mbi_view numbers = numbers_of(g, i);
    MB_TRY(mbi_spectral_kernels(g)->unary(MBI_AFFINE, &numbers, &numbers, g->lift[i], 0));
    if (g->kind == MBI_SPECTRAL_WHOLE) g->gain[g->count + i] *= g->lift[i];
    g->scale[i] = 1;
  }
  return MB_OK;
}

// *bad: the first of member i's numbers that its matrix cannot hold, or -1.
static mb_status find_overflow(int64_t *bad, const mbi_spectral_group *g, int64_t i) {
  mb_tensor *narrow;
  mbi_shape shape = {.ndim = 1, .size = {g->m * g->n}};
  if (g->source == g->dtype) return mbi_spectral_kernels(g)->find_nonfinite(bad, g->data[i], g->m * g->n);
  MB_TRY(mbi_tensor_new(&narrow, g->device, g->source, &shape));
  mb_status status = mbi_memory_of(narrow)->convert(mbi_data(narrow), g->source, g->data[i], g->dtype, g->m * g->n);
  if (status == MB_OK) status = mbi_kernels_of(narrow)->find_nonfinite(bad, mbi_data(narrow), g->m * g->n);
  mb_tensor_release(narrow);
  return status;
}

mb_status mbi_spectral_settle(mbi_spectral_group *g, const char *who) {
  for (int64_t i = 0; i < g->count; i++) {
    if (g->lift[i] == 0) continue;
    mbi_view numbers = numbers_of(g, i);
    int64_t bad;
    if (g->lift[i] != 1) MB_TRY(mbi_spectral_kernels(g)->unary(MBI_AFFINE, &numbers, &numbers, 1 / g->lift[i], 0));
    MB_TRY(find_overflow(&bad, g, i));
    if (bad >= 0)
      MB_FAIL(MB_ERR_NUMERIC, "%s: matrix %lld would get a singular value of %g, and numbers beyond %g, the limit of %s", who,
              (long long)g->index[i], after(g, i) / g->lift[i], mbi_spectral_limit(g), mbi_dtype_name(g->source));
  }
  return MB_OK;
}
