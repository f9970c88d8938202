// SPDX-License-Identifier: MIT
//
// test_spectral_range.c: clipping at the ends of what a dtype holds: thresholds far below the values, values beyond
// the largest number, denormal matrices. A plan gives the right numbers there or refuses, and what it refuses it has not touched.
#include <float.h>

#include "spectra.h"

static const int64_t vectors[][2] = {{1, 5}, {5, 1}, {1, 1}};

static mb_spectral *plan_in(mb_tensor *const *t, int64_t count, int method, int compute_f64) {
  mb_spectral *plan;
  mb_spectral_options o = {(mb_spectral_method)method, 3, 2, 1, 0, compute_f64};
  CHECK_OK(mb_spectral_new(&plan, t, count, &o));
  return plan;
}

static double norm_of(mb_tensor *t) {
  double *x = doubles_of(t), largest = 0, sum = 0;
  for (int64_t i = 0; i < mb_tensor_numel(t); i++) largest = fabs(x[i]) > largest ? fabs(x[i]) : largest;
  for (int64_t i = 0; i < mb_tensor_numel(t) && largest > 0; i++) sum += x[i] / largest * (x[i] / largest);
  free(x);
  return largest * sqrt(sum);
}

static void check_vector(int shape, mb_dtype dtype, int method, int applies, double norm, double tau) {
  int64_t m = vectors[shape][0], n = vectors[shape][1];
  mb_tensor *t, *before;
  double sigma, wanted = method == MB_SPECTRAL_SOFT ? tau / hypot(1, tau / norm) : tau;
  CHECK_OK(mb_full(&t, dtype, 2, (int64_t[]){m, n}, MB_CPU, norm / sqrt((double)(m * n))));
  CHECK_OK(mb_clone(&before, t));
  mb_spectral *plan = plan_in(&t, 1, method, 0);
  CHECK_OK(mb_spectral_probe(plan, &sigma));
  if (applies) CHECK_OK(mb_spectral_apply(plan, &tau));
  else CHECK_OK(mb_spectral_clamp(plan, &tau, NULL, NULL));
  CHECK_NEAR(norm_of(t), wanted, 1e-6 * wanted + (dtype == MB_F32 ? 4e-45 : 2e-323));
  mb_spectral_release(plan);
  mb_tensor_release(t), mb_tensor_release(before);
}

static void vectors_get_the_norm_asked_for(void) {
  static const double f32[][2] = {{1e16, 1}, {1e17, 1}, {1, 1e-20}, {1e30, 1e-20}, {3e38, 1e-38}, {1, 1e-60}, {1e-40, 1e-42}, {5, 0}},
                      f64[][2] = {{1e16, 1}, {1e17, 1}, {1, 1e-20}, {1e300, 1e-20}, {1e300, 1e-300}, {1e-310, 1e-315}, {5, 0}};
  for (int shape = 0; shape < 3; shape++)
    for (int method = 0; method < 4; method++)
      for (int applies = 0; applies < (method < 2 ? 2 : 1); applies++) {
        for (int i = 0; i < 8; i++)
          if (method != MB_SPECTRAL_SOFT || f32[i][1] > 0) check_vector(shape, MB_F32, method, applies, f32[i][0], f32[i][1]);
        for (int i = 0; i < 7; i++)
          if (method != MB_SPECTRAL_SOFT || f64[i][1] > 0) check_vector(shape, MB_F64, method, applies, f64[i][0], f64[i][1]);
        if (applies) check_vector(shape, MB_F32, method, 1, 1e-20, 1e25); // raised by more than float32 holds
        if (applies) check_vector(shape, MB_F64, method, 1, 1e-200, 1e250);
      }
}

// value everywhere: one singular value, value sqrt(m n); clipped to tau every number is tau / sqrt(m n).
static void check_constant(int64_t m, int64_t n, mb_dtype dtype, int method, int compute_f64, double value, double tau) {
  mb_tensor *t[2];
  double sigma[2 * 200], after[2], taus[2] = {tau, (double)NAN}, wanted = tau;
  CHECK_OK(mb_full(&t[0], dtype, 2, (int64_t[]){m, n}, MB_CPU, value));
  CHECK_OK(mb_full(&t[1], dtype, 2, (int64_t[]){m, n}, MB_CPU, value));
  double top = norm_of(t[0]); // value is rounded, denormals by much
  if (method == MB_SPECTRAL_SOFT) wanted = tau / hypot(1, tau / top);
  mb_spectral *plan = plan_in(t, 2, method, compute_f64);
  CHECK_OK(mb_spectral_probe(plan, sigma));
  CHECK_NEAR(sigma[0], top, 3e-6 * top);
  CHECK_OK(mb_spectral_clamp(plan, taus, NULL, NULL));
  double *x = doubles_of(t[0]), *kept = doubles_of(t[1]), each = wanted / sqrt((double)(m * n)), denormal = dtype == MB_F32 ? 3e-45 : 1e-323;
  double distance = 0; // beside top
  for (int64_t i = 0; i < m * n; i++) distance = hypot(distance, fmax(0, fabs(x[i] - each) - denormal) / top);
  if (!(distance <= 5e-6))
    fprintf(stderr, "(%lld, %lld) of %g, %s, method %d, compute_f64 %d, tau %g\n", (long long)m, (long long)n, value,
            dtype == MB_F32 ? "f32" : "f64", method, compute_f64, tau);
  CHECK(distance <= 5e-6);
  for (int64_t i = 0; i < m * n; i++) CHECK(kept[i] == kept[0] && kept[0] != x[0]);
  CHECK_OK(mb_spectral_verify(plan, after));
  CHECK_NEAR(after[0], norm_of(t[0]), 3e-6 * after[0] + norm_of(t[1]) * 1e-5);
  free(x), free(kept);
  mb_spectral_release(plan);
  mb_tensor_release(t[0]), mb_tensor_release(t[1]);
}

static void values_beyond_the_dtype_are_clipped(void) {
  static const int64_t shapes[][2] = {{40, 30}, {30, 40}, {100, 100}};
  for (int s = 0; s < 3; s++)
    for (int method = 0; method < 4; method++)
      for (int compute_f64 = 0; compute_f64 < 2; compute_f64++) {
        int64_t m = shapes[s][0], n = shapes[s][1];
        check_constant(m, n, MB_F32, method, compute_f64, 2e38, 1e38);
        check_constant(m, n, MB_F32, method, compute_f64, 2e38, 1);
        check_constant(m, n, MB_F32, method, compute_f64, 2e38, 2e39);
        check_constant(m, n, MB_F32, method, compute_f64, 1e37, 1e36);
        check_constant(m, n, MB_F32, method, compute_f64, 3e38, 1e30);
        check_constant(m, n, MB_F32, method, compute_f64, 1e-41, 2e-40);
        check_constant(m, n, MB_F64, method, compute_f64, 1e306, 1e306);
        check_constant(m, n, MB_F64, method, compute_f64, 1e-310, 1e-309);
      }
}

// What random matrices of extreme size become is what their ordinary multiples become.
static void random_matrices_of_any_size(void) {
  static const int powers[] = {118, -138};
  for (int method = 0; method < 4; method++)
    for (int p = 0; p < 2; p++)
      for (int draw = 0; draw < 6; draw++) {
        mb_tensor *t, *ordinary, *copy;
        double sigma[40], first[40], scale = ldexp(1, powers[p]);
        CHECK_OK(mb_randn(&copy, MB_F32, 2, (int64_t[]){60, 40}, MB_CPU));
        CHECK_OK(mb_affine(&t, copy, scale, 0));
        CHECK_OK(mb_cast(&ordinary, t, MB_F64));
        CHECK_OK(mb_affine_(ordinary, 1 / scale, 0));
        mb_tensor *narrow;
        CHECK_OK(mb_cast(&narrow, ordinary, MB_F32));
        mb_rng_seed((uint64_t)draw);
        mb_spectral *big = plan_in(&t, 1, method, 0);
        CHECK_OK(mb_spectral_probe(big, sigma));
        mb_rng_seed((uint64_t)draw);
        mb_spectral *plain = plan_in(&narrow, 1, method, 0);
        CHECK_OK(mb_spectral_probe(plain, first));
        CHECK_NEAR(sigma[0] / scale, first[0], 1e-5 * first[0]);
        double tau = 0.5 * first[0], scaled = tau * scale;
        CHECK_OK(mb_spectral_clamp(big, &scaled, NULL, NULL));
        CHECK_OK(mb_spectral_clamp(plain, &tau, NULL, NULL));
        double *x = doubles_of(t), *y = doubles_of(narrow), rounding = p == 1 ? 1.5e-45 / scale : 0;
        for (int i = 0; i < 60 * 40; i++) CHECK_NEAR(x[i] / scale, y[i], 1e-5 * first[0] + rounding);
        free(x), free(y);
        mb_spectral_release(big), mb_spectral_release(plain);
        mb_tensor_release(t), mb_tensor_release(ordinary), mb_tensor_release(copy), mb_tensor_release(narrow);
      }
}

// Sketches draw numbers, and a scale times one of them may be beyond float32: some draws found denormals "not finite".
static void denormals_are_finite(void) {
  for (int draw = 0; draw < 40; draw++) {
    mb_tensor *t, *copy;
    double sigma[3];
    CHECK_OK(mb_randn(&copy, MB_F32, 2, (int64_t[]){30, 200}, MB_CPU));
    CHECK_OK(mb_affine(&t, copy, 1e-42, 0));
    mb_spectral *plan = plan_in(&t, 1, MB_SPECTRAL_RANDOMIZED, 0);
    CHECK_OK(mb_spectral_probe(plan, sigma));
    CHECK(sigma[0] > 1e-41 && sigma[0] < 4e-41);
    mb_spectral_release(plan);
    mb_tensor_release(t), mb_tensor_release(copy);
  }
}

static void what_is_left_is_measured_at_its_own_size(void) {
  static const double taus[] = {1e-25, 1e-20, 1e-3};
  for (int i = 0; i < 3; i++)
    for (int compute_f64 = 0; compute_f64 < 2; compute_f64++) {
      mb_tensor *t;
      double sigma, after;
      CHECK_OK(mb_randn(&t, MB_F32, 2, (int64_t[]){40, 25}, MB_CPU));
      mb_spectral *plan = plan_in(&t, 1, MB_SPECTRAL_SOFT, compute_f64);
      CHECK_OK(mb_spectral_probe(plan, &sigma));
      CHECK_OK(mb_spectral_clamp(plan, &taus[i], NULL, NULL));
      CHECK_OK(mb_spectral_verify(plan, &after));
      CHECK_NEAR(after, taus[i], 1e-4 * taus[i]);
      mb_spectral_release(plan);
      mb_tensor_release(t);
    }
}

static int bits_differ(mb_tensor *a, mb_tensor *b) {
  double *x = doubles_of(a), *y = doubles_of(b);
  int differ = memcmp(x, y, (size_t)mb_tensor_numel(a) * sizeof *x) != 0;
  free(x), free(y);
  return differ;
}

static void what_cannot_be_held_is_refused(void) {
  for (int method = 0; method < 2; method++)
    for (int compute_f64 = 0; compute_f64 < 2; compute_f64++) {
      mb_tensor *t[3], *before[3];
      double sigma[3 * 20], target[3 * 20];
      CHECK_OK(mb_randn(&t[0], MB_F32, 2, (int64_t[]){30, 20}, MB_CPU));
      CHECK_OK(mb_full(&t[1], MB_F32, 2, (int64_t[]){20, 30}, MB_CPU, 3e38));
      CHECK_OK(mb_full(&t[2], MB_F32, 1, (int64_t[]){4}, MB_CPU, 1));
      for (int i = 0; i < 3; i++) CHECK_OK(mb_clone(&before[i], t[i]));
      mb_spectral *plan = plan_in(t, 3, method, compute_f64);
      int64_t width = mb_spectral_width(plan);
      for (int wrong = 0; wrong < 3; wrong++) {
        CHECK_OK(mb_spectral_probe(plan, sigma));
        for (int64_t i = 0; i < 3 * width; i++) target[i] = i % width == 0 ? 0.5 * sigma[i] : (double)NAN;
        target[wrong * width] = 1e40;
        if (wrong == 1)
          CHECK_FAILS(MB_ERR_NUMERIC, "mb_spectral_apply: target 0 of matrix 1 raises 7.34847e+39 to 1e+40, and 3.40282e+38 is the limit of f32",
                      mb_spectral_apply(plan, target));
        else CHECK_FAILS(MB_ERR_NUMERIC, "to 1e+40, and 3.40282e+38 is the limit of f32", mb_spectral_apply(plan, target));
        for (int i = 0; i < 3; i++) CHECK(!bits_differ(t[i], before[i]));
      }
      mb_spectral_release(plan);
      for (int i = 0; i < 3; i++) mb_tensor_release(t[i]), mb_tensor_release(before[i]);
    }
}

// a p p^T - b q q^T, p = (c, s) and q = (s, -c), has the corner a c^2 - b s^2: it rises as b falls, here over the end of float32.
static void numbers_that_rise_are_found(void) {
  double a = 3.57e38, b = 3.5e38, cc = 0.97, ss = 0.03, side = sqrt(cc * ss) * (a + b), sigma[8], target[8];
  double corner[4] = {a * cc - b * ss, side, side, a * ss - b * cc};
  for (int compute_f64 = 0; compute_f64 < 2; compute_f64++) {
    mb_tensor *t[2], *before[2];
    CHECK_OK(mb_randn(&t[0], MB_F32, 2, (int64_t[]){9, 4}, MB_CPU));
    t[1] = tensor_of(corner, MB_F32, 2, 2);
    for (int i = 0; i < 2; i++) CHECK_OK(mb_clone(&before[i], t[i]));
    mb_spectral *plan = plan_in(t, 2, MB_SPECTRAL_EXACT, compute_f64);
    CHECK_OK(mb_spectral_probe(plan, sigma));
    for (int i = 0; i < 8; i++) target[i] = i < 4 ? 0.1 : i == 5 ? 0 : (double)NAN;
    CHECK_FAILS(MB_ERR_NUMERIC,
                "mb_spectral_apply: matrix 1 would get a singular value of 3.57e+38, and numbers beyond 3.40282e+38, the limit of f32",
                mb_spectral_apply(plan, target));
    for (int i = 0; i < 2; i++) CHECK(!bits_differ(t[i], before[i]));
    CHECK_FAILS(MB_ERR_STATE, "mb_spectral_verify", mb_spectral_verify(plan, sigma));
    // The plan goes on: what can be held is.
    CHECK_OK(mb_spectral_probe(plan, sigma));
    target[4] = 3e38;
    CHECK_OK(mb_spectral_apply(plan, target));
    CHECK_NEAR(norm_of(t[1]), 3e38, 1e33);
    mb_spectral_release(plan);
    for (int i = 0; i < 2; i++) mb_tensor_release(t[i]), mb_tensor_release(before[i]);
  }
}

static void failing_allocations_leave_nothing(void) {
  mb_memory_stats before, now;
  for (int method = 0; method < 4; method++)
    for (int64_t nth = 1;; nth++) {
      mb_tensor *t, *copy;
      double sigma[20], tau = 1e38, largest;
      CHECK_OK(mb_full(&t, MB_F32, 2, (int64_t[]){30, 20}, MB_CPU, 2e38));
      CHECK_OK(mb_clone(&copy, t));
      mb_memory(&before);
      mb_spectral *plan = plan_in(&t, 1, method, 0);
      CHECK_OK(mb_spectral_probe(plan, sigma));
      largest = sigma[0];
      mb_debug_fail_allocation(nth);
      mb_status status = mb_spectral_clamp(plan, &tau, NULL, NULL);
      mb_debug_fail_allocation(0);
      CHECK(bits_differ(t, copy) == (status == MB_OK));
      CHECK_OK(mb_spectral_probe(plan, sigma)); // a plan that failed goes on
      CHECK_OK(mb_spectral_clamp(plan, &tau, NULL, NULL));
      CHECK(norm_of(t) <= tau + 5e-6 * largest && norm_of(t) > 0.5 * tau); // polar's accuracy, of sigma_1
      mb_spectral_release(plan);
      mb_memory(&now);
      CHECK_EQ(now.live_tensors, before.live_tensors);
      mb_tensor_release(t), mb_tensor_release(copy);
      if (status == MB_OK) break;
      CHECK_EQ(status, MB_ERR_NOMEM);
      CHECK(nth < 100);
    }
}

int main(void) {
  seed_start();
  mb_rng_seed(seed_state);
  vectors_get_the_norm_asked_for();
  values_beyond_the_dtype_are_clipped();
  random_matrices_of_any_size();
  denormals_are_finite();
  what_is_left_is_measured_at_its_own_size();
  what_cannot_be_held_is_refused();
  numbers_that_rise_are_found();
  failing_allocations_leave_nothing();
  return check_end();
}
