// SPDX-License-Identifier: MIT
//
// test_spectral_options.c: what a plan does on request: start a sketch from the last one's directions, compute in
// float64, measure what it left behind.
#include "spectra.h"

static mb_spectral *plan_with(mb_tensor *const *t, int64_t count, mb_spectral_options o) {
  mb_spectral *plan;
  CHECK_OK(mb_spectral_new(&plan, t, count, &o));
  return plan;
}

static int same_bits(mb_tensor *a, mb_tensor *b) {
  double *x = doubles_of(a), *y = doubles_of(b);
  int same = memcmp(x, y, (size_t)mb_tensor_numel(a) * sizeof *x) == 0;
  free(x), free(y);
  return same;
}

// The same matrix probed again and again: a flat tail, on which one sketch of one round is poor. With warm_start each probe
// does what more rounds would.
static void a_warm_start_gets_better(void) {
  known a = known_new(150, 120);
  for (int64_t i = 0; i < a.k; i++) a.s[i] = i < 4 ? 1.3 - 0.05 * (double)i : 1;
  double *g = compose(&a, a.s, 1), sigma[4];
  mb_tensor *t = tensor_of(g, MB_F32, a.m, a.n);
  for (int iters = 0; iters <= 1; iters++) {
    double error[2];
    for (int warm = 0; warm < 2; warm++) {
      mb_rng_seed(7);
      mb_spectral *plan = plan_with(&t, 1, (mb_spectral_options){MB_SPECTRAL_RANDOMIZED, 4, 2, iters, warm, 0});
      for (int step = 0; step < 12; step++) CHECK_OK(mb_spectral_probe(plan, sigma));
      error[warm] = a.s[3] - sigma[3];
      mb_spectral_release(plan);
    }
    CHECK(error[0] > 0.01);
    CHECK(error[1] < 0.2 * error[0]);
  }
  mb_tensor_release(t);
  free(g);
  known_free(&a);
}

// Directions that were not there before are found, also after matrices of rank 0 and 1.
static void a_warm_start_sees_what_is_new(void) {
  known a = known_new(90, 80);
  for (int64_t i = 0; i < a.k; i++) a.s[i] = i < 5 ? 5 - (double)i : 1e-3;
  double *g = compose(&a, a.s, 1), *rest, sigma[5];
  a.s[1] = a.s[2] = a.s[3] = a.s[4] = 0;
  for (int64_t i = 5; i < a.k; i++) a.s[i] = 0;
  rest = compose(&a, a.s, 1);
  for (int first = 0; first < 2; first++)
    for (int oversample = 0; oversample <= 4; oversample += 4) {
      mb_tensor *t = tensor_of(rest, MB_F32, 90, 80), *now = tensor_of(g, MB_F32, 90, 80), *zero;
      CHECK_OK(mb_full(&zero, MB_F32, 2, (int64_t[]){90, 80}, MB_CPU, 0));
      mb_spectral *plan = plan_with(&t, 1, (mb_spectral_options){MB_SPECTRAL_RANDOMIZED, 5, oversample, 1, 1, 0});
      if (first == 0) CHECK_OK(mb_copy_(t, zero));
      for (int i = 0; i < 3; i++) CHECK_OK(mb_spectral_probe(plan, sigma));
      CHECK_OK(mb_copy_(t, now));
      for (int i = 0; i < 3; i++) CHECK_OK(mb_spectral_probe(plan, sigma));
      for (int i = 0; i < 5; i++) CHECK_NEAR(sigma[i], 5 - (double)i, 1e-4);
      mb_spectral_release(plan);
      mb_tensor_release(t), mb_tensor_release(now), mb_tensor_release(zero);
    }
  free(g), free(rest);
  known_free(&a);
}

// A plan that gets another's bases goes on as that one does, to the bit; the first probe is that of a plan without.
static void bases_are_all_there_is(void) {
  mb_tensor *t[4], *basis;
  uint64_t seed, step, stream;
  double a[4 * 3], b[4 * 3], cold[4 * 3];
  for (int i = 0; i < 4; i++) CHECK_OK(mb_randn(&t[i], i == 2 ? MB_F64 : MB_F32, 2, i == 3 ? (int64_t[]){5, 1} : (int64_t[]){40 + 10 * (i / 2), 30}, MB_CPU));
  mb_spectral_options o = {MB_SPECTRAL_RANDOMIZED, 3, 2, 1, 1, 0}, plain = {MB_SPECTRAL_RANDOMIZED, 3, 2, 1, 0, 0};
  mb_spectral *first = plan_with(t, 4, o), *second = plan_with(t, 4, o), *third = plan_with(t, 4, plain);
  for (int64_t i = 0; i < 4; i++) {
    CHECK_OK(mb_spectral_basis(&basis, first, i));
    CHECK(basis == NULL);
  }
  mb_rng_get(&seed, &step, &stream);
  CHECK_OK(mb_spectral_probe(third, cold));
  mb_rng_set(seed, step, stream);
  CHECK_OK(mb_spectral_probe(first, a));
  for (int i = 0; i < 9; i++) CHECK(cold[i] == a[i]);
  for (int i = 0; i < 3; i++) CHECK_OK(mb_spectral_probe(first, a));
  for (int64_t i = 0; i < 4; i++) {
    CHECK_OK(mb_spectral_basis(&basis, first, i));
    CHECK_EQ(basis != NULL, i < 3);
    if (!basis) continue;
    CHECK_EQ(mb_tensor_shape(basis)[0], 3);
    CHECK_EQ(mb_tensor_shape(basis)[1], 30);
    CHECK_OK(mb_spectral_basis_set(second, i, basis));
    mb_tensor_release(basis);
  }
  for (int again = 0; again < 2; again++) {
    mb_rng_get(&seed, &step, &stream);
    CHECK_OK(mb_spectral_probe(first, a));
    mb_rng_set(seed, step, stream);
    CHECK_OK(mb_spectral_probe(second, b));
    for (int i = 0; i < 9; i++) CHECK(a[i] == b[i]);
  }
  // A probe that refuses leaves the bases as they are.
  void *data;
  CHECK_OK(mb_tensor_data(&data, t[0]));
  float kept = *(float *)data;
  *(float *)data = NAN;
  CHECK_FAILS(MB_ERR_NONFINITE, "matrix 0 of shape (40, 30)", mb_spectral_probe(second, b));
  *(float *)data = kept;
  mb_rng_get(&seed, &step, &stream);
  CHECK_OK(mb_spectral_probe(first, a));
  mb_rng_set(seed, step, stream);
  CHECK_OK(mb_spectral_probe(second, b));
  for (int i = 0; i < 9; i++) CHECK(a[i] == b[i]);

  CHECK_OK(mb_spectral_basis(&basis, first, 0));
  CHECK_FAILS(MB_ERR_ARG, "mb_spectral_basis_set: the plan remembers nothing of matrix 3", mb_spectral_basis_set(second, 3, basis));
  CHECK_FAILS(MB_ERR_ARG, "mb_spectral_basis_set: the plan remembers nothing of matrix 0", mb_spectral_basis_set(third, 0, basis));
  CHECK_OK(mb_tensor_data(&data, basis));
  kept = ((float *)data)[34];
  ((float *)data)[34] = NAN;
  CHECK_FAILS(MB_ERR_NONFINITE, "mb_spectral_basis_set: the basis of matrix 0 holds NaN or Inf, first at element 34", mb_spectral_basis_set(second, 0, basis));
  ((float *)data)[34] = kept;
  CHECK_FAILS(MB_ERR_SHAPE, "a basis (3, 30) of f64 was expected for matrix 2, not (3, 30) of f32", mb_spectral_basis_set(second, 2, basis));
  CHECK_FAILS(MB_ERR_SHAPE, "a basis (3, 30) of f32 was expected for matrix 1, not (40, 30) of f32", mb_spectral_basis_set(second, 1, t[0]));
  mb_tensor_release(basis);
  CHECK_FAILS(MB_ERR_ARG, "mb_spectral_basis: matrix 4 of 4", mb_spectral_basis(&basis, second, 4));
  CHECK(basis == NULL);
  for (int i = 0; i < 4; i++) mb_tensor_release(t[i]);
  mb_spectral_release(first), mb_spectral_release(second), mb_spectral_release(third);
}

// float32 matrices computed on in float64 come out as the float64 result, rounded once; what fits keeps its bits, and the
// copies go.
static void computing_in_float64(void) {
  known a = known_new(60, 45);
  known_fill(&a, GEOMETRIC);
  double *g = compose(&a, a.s, 1), sigma[2 * 45], tau[3] = {a.s[4], (double)NAN, 0.5};
  for (int method = 0; method < 4; method++) {
    mb_tensor *narrow = tensor_of(g, MB_F32, 60, 45), *other, *before, *wide, *rounded, *vector;
    CHECK_OK(mb_clone(&other, narrow));
    CHECK_OK(mb_clone(&before, narrow));
    CHECK_OK(mb_cast(&wide, narrow, MB_F64));
    CHECK_OK(mb_full(&vector, MB_F32, 1, (int64_t[]){4}, MB_CPU, 0.5));
    mb_tensor *all[3] = {narrow, other, vector};
    mb_memory_stats start, end;
    double *room = malloc(3 * 45 * sizeof *room);
    mb_rng_seed(3);
    mb_spectral *plan = plan_with(all, 3, (mb_spectral_options){(mb_spectral_method)method, 12, 4, 1, 0, 1});
    mb_memory(&start);
    CHECK_OK(mb_spectral_probe(plan, room));
    CHECK_OK(mb_spectral_clamp(plan, tau, NULL, NULL));
    mb_memory(&end);
    // The others keep their factors; these a few numbers a matrix.
    if (method >= MB_SPECTRAL_POLAR) CHECK(end.bytes_live - start.bytes_live < 60 * 45);
    mb_spectral_release(plan);
    mb_rng_seed(3);
    plan = plan_with(&wide, 1, (mb_spectral_options){(mb_spectral_method)method, 12, 4, 1, 0, 0});
    CHECK_OK(mb_spectral_probe(plan, sigma));
    CHECK_NEAR(sigma[0], room[0], 1e-12);
    CHECK_OK(mb_spectral_clamp(plan, tau, NULL, NULL));
    mb_spectral_release(plan);
    CHECK_OK(mb_cast(&rounded, wide, MB_F32));
    double *x = doubles_of(narrow), *y = doubles_of(rounded);
    for (int i = 0; i < 60 * 45; i++) CHECK_NEAR(x[i], y[i], 2e-7 * fabs(y[i]) + 1e-9);
    CHECK(same_bits(other, before));
    free(x), free(y), free(room);
    mb_tensor_release(narrow), mb_tensor_release(other), mb_tensor_release(before), mb_tensor_release(wide), mb_tensor_release(rounded);
    mb_tensor_release(vector);
  }
  free(g);
  known_free(&a);
}

// What is left is measured on the matrices themselves: a sketch that was too small is found out.
static void changes_are_verified(void) {
  known a = known_new(60, 50);
  for (int64_t i = 0; i < a.k; i++) a.s[i] = 2 - 0.01 * (double)i;
  double *g = compose(&a, a.s, 1), sigma[3 * 50], after[3], tau[3] = {1.7, (double)NAN, 0.25};
  for (int method = 0; method < 4; method++)
    for (int compute_f64 = 0; compute_f64 < 2; compute_f64++) {
      mb_tensor *t[3] = {tensor_of(g, MB_F32, 60, 50), tensor_of(g, MB_F32, 60, 50), NULL};
      CHECK_OK(mb_full(&t[2], MB_F32, 1, (int64_t[]){4}, MB_CPU, 0.5));
      mb_spectral *plan = plan_with(t, 3, (mb_spectral_options){(mb_spectral_method)method, 3, 2, 1, 0, compute_f64});
      CHECK_FAILS(MB_ERR_STATE, "mb_spectral_verify: call mb_spectral_clamp or mb_spectral_apply first", mb_spectral_verify(plan, after));
      CHECK_OK(mb_spectral_probe(plan, sigma));
      CHECK_OK(mb_spectral_clamp(plan, tau, NULL, NULL));
      CHECK_OK(mb_spectral_verify(plan, after));
      CHECK(isnan(after[1]));
      double *left, *values;
      mb_tensor *s, *wide;
      CHECK_OK(mb_cast(&wide, t[0], MB_F64));
      CHECK_OK(mb_svdvals(&s, wide));
      values = doubles_of(s);
      CHECK_NEAR(after[0], values[0], 1e-5);
      if (method == MB_SPECTRAL_RANDOMIZED) CHECK(after[0] > 1.72);
      else CHECK_NEAR(after[0], method == MB_SPECTRAL_SOFT ? 2 / sqrt(1 + 4 / (1.7 * 1.7)) : 1.7, 1e-5);
      left = doubles_of(t[2]);
      CHECK_NEAR(after[2], 2 * left[0], 1e-6);
      CHECK_OK(mb_spectral_probe(plan, sigma));
      CHECK_FAILS(MB_ERR_STATE, "mb_spectral_verify", mb_spectral_verify(plan, after));
      free(left), free(values);
      mb_spectral_release(plan);
      for (int i = 0; i < 3; i++) mb_tensor_release(t[i]);
      mb_tensor_release(s), mb_tensor_release(wide);
    }
  free(g);
  known_free(&a);
}

static void failing_allocations_leave_nothing(void) {
  mb_tensor *t[3], *basis = NULL;
  for (int i = 0; i < 3; i++) CHECK_OK(mb_randn(&t[i], MB_F32, 2, i == 1 ? (int64_t[]){30, 24} : (int64_t[]){24, 30}, MB_CPU));
  mb_memory_stats before, after;
  mb_memory(&before);
  for (int method = 0; method < 4; method++)
    for (int64_t n = 1;; n++) {
      mb_spectral *plan = NULL;
      mb_spectral_options o = {(mb_spectral_method)method, 3, 2, 1, 1, 1};
      double sigma[3 * 30], left[3], tau[3] = {0.1, 0.1, 0.1};
      mb_debug_fail_allocation(n);
      mb_status status = mb_spectral_new(&plan, t, 3, &o);
      if (status == MB_OK) status = mb_spectral_probe(plan, sigma);
      if (status == MB_OK) status = mb_spectral_probe(plan, sigma);
      if (status == MB_OK) status = mb_spectral_clamp(plan, tau, NULL, NULL);
      if (status == MB_OK) status = mb_spectral_verify(plan, left);
      if (status == MB_OK) status = mb_spectral_basis(&basis, plan, 1);
      if (status == MB_OK && basis) status = mb_spectral_basis_set(plan, 1, basis);
      mb_debug_fail_allocation(0);
      mb_tensor_release(basis);
      basis = NULL;
      mb_spectral_release(plan);
      mb_memory(&after);
      CHECK_EQ(after.live_tensors, before.live_tensors);
      if (status == MB_OK) break;
      CHECK_EQ(status, MB_ERR_NOMEM);
      CHECK(n < 500);
    }
  for (int i = 0; i < 3; i++) mb_tensor_release(t[i]);
}

int main(void) {
  seed_start();
  mb_rng_seed(seed_state);
  a_warm_start_gets_better();
  a_warm_start_sees_what_is_new();
  bases_are_all_there_is();
  computing_in_float64();
  changes_are_verified();
  failing_allocations_leave_nothing();
  return check_end();
}
