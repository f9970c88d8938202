// SPDX-License-Identifier: MIT
//
// gradcheck.h: what the C tests of single ops share: random tensors, reading values, and the comparison of
// an op's backward with central differences in float64. The loss is sum(out * k) with fixed numbers k.
#ifndef MB_GRADCHECK_H
#define MB_GRADCHECK_H
#include "check.h"
#include "seed.h"

// An op with everything but its checked inputs bound.
typedef mb_status (*gradcheck_op)(mb_tensor **out, mb_tensor **inputs, const void *constants);

// Starts the engine's generator from MB_SEED, or from a fixed number.
static inline void seed_test(void) {
  seed_start();
  mb_rng_seed(seed_state);
}

static inline int64_t live_tensors(void) {
  mb_memory_stats stats;
  mb_memory(&stats);
  return stats.live_tensors;
}

static inline mb_tensor *random_tensor(mb_dtype dtype, int ndim, const int64_t *shape) {
  mb_tensor *t;
  CHECK_OK(mb_randn(&t, dtype, ndim, shape, MB_CPU));
  return t;
}

// Values of a floating tensor as doubles; to be freed.
static inline double *values_of(mb_tensor *t) {
  int64_t n = mb_tensor_numel(t);
  double *values = malloc((size_t)n * sizeof *values);
  CHECK_OK(mb_tensor_to_host(values, t));
  if (mb_tensor_dtype(t) == MB_F32)
    for (int64_t i = n - 1; i >= 0; i--) {
      float x;
      memcpy(&x, (const char *)values + i * (int64_t)sizeof x, sizeof x);
      values[i] = (double)x;
    }
  return values;
}

// dL/d(out), the same in every call.
static inline double gradcheck_k(int64_t i) { return 0.5 + 0.37 * (double)((i * 7919) % 13) - 0.21 * (double)((i * 104729) % 7); }

static inline double gradcheck_loss(gradcheck_op op, mb_tensor **inputs, const void *constants) {
  mb_tensor *out;
  int mode = mb_grad_mode(0);
  CHECK_OK(op(&out, inputs, constants));
  mb_grad_mode(mode);
  double loss = 0, *y = values_of(out);
  for (int64_t i = 0; i < mb_tensor_numel(out); i++) loss += y[i] * gradcheck_k(i);
  free(y);
  mb_tensor_release(out);
  return loss;
}

// One backward from sum(out * k).
static inline void gradcheck_backward(gradcheck_op op, mb_tensor **inputs, const void *constants) {
  mb_tensor *out, *seed;
  CHECK_OK(op(&out, inputs, constants));
  int64_t n = mb_tensor_numel(out);
  double *k = malloc((size_t)n * sizeof *k);
  for (int64_t i = 0; i < n; i++) k[i] = gradcheck_k(i);
  CHECK_OK(mb_from_host(&seed, MB_F64, mb_tensor_ndim(out), mb_tensor_shape(out), MB_CPU, k));
  CHECK_OK(mb_backward(out, seed));
  free(k);
  mb_tensor_release(seed);
  mb_tensor_release(out);
}

// Checks the gradients of all inputs (float64 contiguous leaves, NULL allowed), twice: the second backward
// must add the same again.
static inline void gradcheck(gradcheck_op op, mb_tensor **inputs, int n_inputs, const void *constants, double tolerance) {
  for (int pass = 1; pass <= 2; pass++) {
    for (int i = 0; i < n_inputs; i++)
      if (inputs[i]) CHECK_OK(mb_set_requires_grad(inputs[i], 1));
    gradcheck_backward(op, inputs, constants);
    for (int i = 0; i < n_inputs; i++) {
      if (!inputs[i]) continue;
      mb_tensor *g;
      CHECK_OK(mb_grad(&g, inputs[i]));
      CHECK(g != NULL);
      double *analytic = values_of(g);
      void *data;
      CHECK_OK(mb_tensor_data(&data, inputs[i]));
      double *x = data;
      for (int64_t j = 0; j < mb_tensor_numel(inputs[i]); j++) {
        const double step = 1e-5;
        double kept = x[j];
        x[j] = kept + step;
        double above = gradcheck_loss(op, inputs, constants);
        x[j] = kept - step;
        double below = gradcheck_loss(op, inputs, constants);
        x[j] = kept;
        double numeric = (above - below) / (2 * step);
        CHECK_NEAR(analytic[j] / pass, numeric, tolerance * (1 + fabs(numeric)));
      }
      free(analytic);
      mb_tensor_release(g);
    }
  }
  for (int i = 0; i < n_inputs; i++)
    if (inputs[i]) {
      CHECK_OK(mb_zero_grad(inputs[i]));
    }
}
#endif
