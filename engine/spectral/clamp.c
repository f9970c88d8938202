// SPDX-License-Identifier: MIT
//
// clamp.c: changes singular values in place, through the factors that the probe left:
//   G += U diag(gain) diag(sigma) V^T,  gain = target / sigma - 1
// over the directions that change; the rest of G keeps its bits, a matrix without any is not written.
//   SKETCH  U^T = w y and diag(sigma) V^T = w t are at hand: one pass over G (sketch_update)
//   EXACT   only eigenvectors of the smaller side exist: V (m >= n), then diag(sigma) U^T = V G^T is a product;
//           or U, and then diag(sigma) V^T = U^T G
//   WHOLE   no directions at all: polar.c, soft.c
//   VECTOR  the vector times target / sigma
// Where numbers are near the ends of their dtype, the change is made in scaled copies: stage.c.
#include "spectral/spectral.h"

#include <float.h>
#include <math.h>

// Below this part of the largest singular value a direction is rounding noise, and raising it would make the
// noise as large as the target.
static double noise_level(mb_dtype dtype) { return dtype == MB_F32 ? 1e-6 : 1e-10; }

// ----- groups -----------------------------------------------------------------------------------------------

static mb_status change_whole(const mb_spectral *p, const mbi_spectral_group *g) {
  for (int64_t i = 0; i < g->count; i++) {
    if (g->gain[i] == 0 || g->gain[g->count + i] > 0) continue; // tau = 0 leaves nothing
    MB_TRY(mbi_device_of(g->device)->zero(g->data[i], (size_t)(g->m * g->n) * mbi_dtype_size(g->dtype)));
  }
  return p->options.method == MB_SPECTRAL_SOFT ? mbi_spectral_soft(g) : mbi_spectral_polar(g);
}

mb_status mbi_spectral_change_group(const mb_spectral *p, const mbi_spectral_group *g) {
  const mbi_kernels *k = mbi_spectral_kernels(g);
  if (g->kind == MBI_SPECTRAL_WHOLE) return change_whole(p, g);
  if (g->kind == MBI_SPECTRAL_VECTOR) {
    mbi_arrays vectors = mbi_spectral_arrays_of(g);
    return k->rescale(&vectors, 1);
  }
  if (g->kind == MBI_SPECTRAL_SKETCH) {
    mbi_sketch s = mbi_spectral_sketch_of(g);
    return k->sketch_update(&s, 1);
  }
  mbi_gram gram = mbi_spectral_gram_of(g);
  return k->gram_update(&gram, g->on.gain);
}

mb_status mbi_spectral_change_all(const mb_spectral *p) {
  static const mb_dtype WIDE[] = {MB_F32, MB_F64};
  for (int i = 0; i < 2; i++) {
    const mbi_kernels *k = mbi_device_of(p->device)->kernels[WIDE[i]];
    int64_t vectors, sketches;
    const mbi_arrays *v = mbi_spectral_arrays_list(p, MBI_SPECTRAL_VECTOR, WIDE[i], &vectors);
    const mbi_sketch *s = mbi_spectral_sketches(p, WIDE[i], 0, &sketches);
    if (vectors > 0) MB_TRY(k->rescale(v, vectors));
    if (sketches > 0) MB_TRY(k->sketch_update(s, sketches));
  }
  for (int64_t at = 0; at < p->group_count; at++)
    if (p->groups[at].kind == MBI_SPECTRAL_EXACT) MB_TRY(mbi_spectral_change_group(p, &p->groups[at]));
  return MB_OK;
}

// The same, if the host knows of gains.
static mb_status change_group(const mb_spectral *p, const mbi_spectral_group *g) {
  int64_t first = 0;
  while (first < g->count && !mbi_spectral_changes(g, first)) first++;
  return first < g->count ? mbi_spectral_change_group(p, g) : MB_OK;
}

// ----- public ---------------------------------------------------------------------------------------------

static mb_status check(const mb_spectral *p, const void *argument, const char *who, const char *name) {
  if (!p || !argument) MB_FAIL(MB_ERR_ARG, "%s: %s is NULL", who, p ? name : "the plan");
  if (!p->probed)
    MB_FAIL(MB_ERR_STATE, "%s: call mb_spectral_probe first; a change uses up what it found", who);
  return MB_OK;
}

int mbi_spectral_changes(const mbi_spectral_group *g, int64_t i) {
  for (int64_t j = 0; j < g->k; j++)
    if (g->gain[i * g->k + j] != 0) return 1;
  return 0;
}

// What was changed in copies goes to the matrices.
static mb_status write_back(const mb_spectral *p, const mbi_spectral_group *g) {
  for (int64_t i = 0; i < g->count && g->copies; i++) {
    mb_tensor *matrix = p->matrices[g->index[i]];
    if (mbi_spectral_changes(g, i))
      MB_TRY(mbi_memory_of(matrix)->convert(mbi_data(matrix), g->source, g->data[i], g->dtype, g->m * g->n));
  }
  return MB_OK;
}

// Copies first, which may turn out to be more than the matrices can hold.
static mb_status change_groups(mb_spectral *p, const char *who) {
  for (int64_t at = 0; at < p->group_count; at++) MB_TRY(mbi_spectral_stage(p, &p->groups[at]));
  MB_TRY(mbi_spectral_send(p));
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    if (!g->copies) continue;
    MB_TRY(change_group(p, g));
    MB_TRY(mbi_spectral_settle(g, who));
  }
  for (int64_t at = 0; at < p->group_count; at++)
    if (!p->groups[at].copies) MB_TRY(change_group(p, &p->groups[at]));
  for (int64_t at = 0; at < p->group_count; at++) MB_TRY(write_back(p, &p->groups[at]));
  return MB_OK;
}

// Makes the changes that the groups' gains ask for.
static mb_status change(mb_spectral *p, const char *who) {
  for (int64_t at = 0; at < p->group_count; at++) {
    const mbi_spectral_group *g = &p->groups[at];
    for (int64_t i = 0; i < g->count; i++)
      if (mbi_spectral_changes(g, i)) MB_TRY(mbi_check_writable(p->matrices[g->index[i]], who));
  }
  p->probed = 0;
  mb_status status = change_groups(p, who);
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    if (p->policy && g->source != g->dtype) continue;
    mb_tensor_release(g->copies);
    g->copies = NULL;
  }
  p->changed = status == MB_OK;
  return status;
}

// What the method makes of a value; the value itself where tau is NaN.
static double target_of(const mb_spectral *p, const mbi_spectral_group *g, double sigma, double tau) {
  if (p->options.method != MB_SPECTRAL_SOFT) return sigma > tau ? tau : sigma;
  if (!(tau < (double)INFINITY) || sigma == 0) return sigma;
  double low = tau < sigma ? tau : sigma, high = tau < sigma ? sigma : tau;
  double target = low / hypot(1, low / high); // tau sigma / hypot(tau, sigma), in any range
  double least = 0.25 * (g->dtype == MB_F32 ? (double)FLT_EPSILON : DBL_EPSILON);
  return 1 - target / sigma > least ? target : sigma; // less is lost in rounding
}

// Notes that value j of member i becomes `target`. Vectors need it as it is: beside a large sigma the gain holds nothing of it.
static void set_gain(const mbi_spectral_group *g, int64_t i, int64_t j, double sigma, double target) {
  g->gain[i * g->k + j] = target == sigma ? 0 : target / sigma - 1;
  if (g->kind == MBI_SPECTRAL_VECTOR) g->gain[g->count + i] = target;
}

mb_status mb_spectral_clamp(mb_spectral *p, const double *tau, int32_t *clipped, unsigned char *saturated) {
  MB_TRY(check(p, tau, "mb_spectral_clamp", "tau"));
  for (int64_t i = 0; i < p->count; i++)
    if (tau[i] < 0) MB_FAIL(MB_ERR_ARG, "mb_spectral_clamp: tau of matrix %lld is %g, at least 0 was expected", (long long)i, tau[i]);
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    int64_t all = g->kind == MBI_SPECTRAL_VECTOR || g->kind == MBI_SPECTRAL_WHOLE ? 1 : g->m < g->n ? g->m : g->n;
    for (int64_t i = 0; i < g->count; i++) {
      int64_t index = g->index[i];
      const double *sigma = p->sigma + index * p->width;
      int32_t lowered = 0;
      for (int64_t j = 0; j < g->k; j++) {
        set_gain(g, i, j, j < g->kept ? sigma[j] : 0, j < g->kept ? target_of(p, g, sigma[j], tau[index]) : 0);
        lowered += g->gain[i * g->k + j] != 0;
      }
      if (g->kind == MBI_SPECTRAL_WHOLE) g->gain[g->count + i] = tau[index];
      if (clipped) clipped[index] = lowered;
      if (saturated) saturated[index] = lowered == g->kept && g->kept < all;
    }
  }
  return change(p, "mb_spectral_clamp");
}

// Values may be raised to what the matrix's dtype holds, and by no greater a factor than the dtype computed in holds.
static mb_status check_raised(const mb_spectral *p, const double *target) {
  for (int64_t at = 0; at < p->group_count; at++) {
    const mbi_spectral_group *g = &p->groups[at];
    double limit = mbi_spectral_limit(g), most = g->dtype == MB_F32 ? (double)FLT_MAX : DBL_MAX;
    for (int64_t i = 0; i < g->count; i++)
      for (int64_t j = 0; j < g->kept; j++) {
        double sigma = p->sigma[g->index[i] * p->width + j], wanted = target[g->index[i] * p->width + j];
        if (!(wanted > sigma) || sigma == 0) continue;
        if (wanted > limit || (g->kind != MBI_SPECTRAL_VECTOR && wanted / sigma > most))
          MB_FAIL(MB_ERR_NUMERIC, "mb_spectral_apply: target %lld of matrix %lld raises %g to %g, and %g is the limit of %s", (long long)j,
                  (long long)g->index[i], sigma, wanted, limit, mbi_dtype_name(g->source));
      }
  }
  return MB_OK;
}

mb_status mb_spectral_apply(mb_spectral *p, const double *target) {
  MB_TRY(check(p, target, "mb_spectral_apply", "target"));
  if (p->options.method == MB_SPECTRAL_POLAR || p->options.method == MB_SPECTRAL_SOFT)
    MB_FAIL(MB_ERR_ARG, "mb_spectral_apply: method %s changes all singular values by its own rule and computes only the largest",
            p->options.method == MB_SPECTRAL_POLAR ? "POLAR" : "SOFT");
  for (int64_t i = 0; i < p->count; i++)
    for (int64_t j = 0; j < p->kept[i]; j++) {
      double wanted = target[i * p->width + j];
      if (wanted < 0 || isinf(wanted))
        MB_FAIL(MB_ERR_ARG, "mb_spectral_apply: target %lld of matrix %lld is %g, a finite number from 0 was expected", (long long)j,
                (long long)i, wanted);
    }
  MB_TRY(check_raised(p, target));
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    for (int64_t i = 0; i < g->count; i++) {
      int64_t index = g->index[i];
      const double *sigma = p->sigma + index * p->width, *wanted = target + index * p->width;
      for (int64_t j = 0; j < g->k; j++) {
        int changes = j < g->kept && wanted[j] == wanted[j] && sigma[j] > 0 && wanted[j] != sigma[j];
        if (changes && wanted[j] > sigma[j] && sigma[j] < noise_level(g->dtype) * sigma[0]) changes = 0;
        set_gain(g, i, j, changes ? sigma[j] : 0, changes ? wanted[j] : 0);
      }
    }
  }
  return change(p, "mb_spectral_apply");
}
