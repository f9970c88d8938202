// SPDX-License-Identifier: MIT
//
// test_spectral.c: clipping of matrices with known singular values: the properties of ALGORITHMS section 2 over
// shapes, spectra, scales, dtypes and methods.
#include "spectra.h"

static const int64_t shapes[][2] = {{64, 48}, {48, 64}, {33, 33}, {7, 100}, {100, 7}, {50, 1},
                                    {1, 50},  {1, 1},   {2, 3},   {300, 20}, {17, 301}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

// Relative to the largest singular value. Values come from eigenvalues of float64 Gram matrices, which hold
// squares: a value is good to sqrt(1e-16) of the largest at worst. In float32 the matrix's own rounding is larger.
static double tolerance(mb_dtype dtype) { return dtype == MB_F32 ? 1e-6 : 3e-8; }

// The values a method must find: those it keeps, of a matrix it can see whole.
static void check_one(int64_t m, int64_t n, enum spectrum kind, double scale, mb_dtype dtype, mb_spectral_method method,
                      double where) {
  known a = known_new(m, n);
  known_fill(&a, kind);
  double top = a.s[0] > 0 ? a.s[0] * scale : 1, tau = where * top;
  double *g = compose(&a, a.s, scale);
  mb_tensor *t = tensor_of(g, dtype, m, n);
  int64_t rank = kind == DEFICIENT ? (a.k + 2) / 3 : a.k; // the sketch is then complete
  mb_spectral *plan = plan_of(&t, 1, method, rank, 3, 1);
  int64_t width = mb_spectral_width(plan);
  CHECK_EQ(width, method == MB_SPECTRAL_EXACT ? a.k : rank < a.k ? rank : a.k);
  double *sigma = malloc((size_t)width * sizeof *sigma), *values = malloc((size_t)a.k * sizeof *values);
  CHECK_OK(mb_spectral_probe(plan, sigma));
  for (int64_t i = 0; i < width; i++) {
    if (!(fabs(sigma[i] - scale * a.s[i]) <= tolerance(dtype) * top))
      fprintf(stderr, "(%lld, %lld) %s, scale %g, %s, method %d: value %lld\n", (long long)m, (long long)n, spectrum_names[kind],
              scale, dtype == MB_F32 ? "f32" : "f64", (int)method, (long long)i);
    CHECK_NEAR(sigma[i], scale * a.s[i], tolerance(dtype) * top);
  }
  int32_t clipped, expected = 0;
  unsigned char saturated;
  CHECK_OK(mb_spectral_clamp(plan, &tau, &clipped, &saturated));
  for (int64_t i = 0; i < width; i++) expected += sigma[i] > tau;
  for (int64_t i = 0; i < a.k; i++) values[i] = scale * a.s[i] < tau ? a.s[i] : tau / scale;
  CHECK_EQ(clipped, expected);
  double *wanted = compose(&a, values, scale), distance = distance_of(t, wanted);
  if (!(distance <= 3 * tolerance(dtype) * top))
    fprintf(stderr, "(%lld, %lld) %s, scale %g, %s, method %d: distance %g of %g\n", (long long)m, (long long)n,
            spectrum_names[kind], scale, dtype == MB_F32 ? "f32" : "f64", (int)method, distance, top);
  CHECK(distance <= 3 * tolerance(dtype) * top);
  // What was clipped stays within tau, and clipping it again changes nothing.
  CHECK_OK(mb_spectral_probe(plan, sigma));
  CHECK(sigma[0] <= tau * (1 + 3 * tolerance(dtype) / where));
  CHECK_OK(mb_spectral_clamp(plan, &tau, NULL, NULL));
  CHECK(distance_of(t, wanted) <= 4 * tolerance(dtype) * top);
  free(g), free(wanted), free(sigma), free(values);
  mb_tensor_release(t);
  mb_spectral_release(plan);
  known_free(&a);
}

static void known_spectra_are_clipped(void) {
  for (int s = 0; s < SHAPES; s++)
    for (int kind = 0; kind < SPECTRUM_COUNT; kind++)
      for (int method = 0; method < 2; method++) {
        check_one(shapes[s][0], shapes[s][1], (enum spectrum)kind, 1, MB_F32, (mb_spectral_method)method, 0.3);
        check_one(shapes[s][0], shapes[s][1], (enum spectrum)kind, 1, MB_F64, (mb_spectral_method)method, 0.9);
      }
}

static void extreme_scales_are_safe(void) {
  static const double scales[] = {1e30, 1e-30, 1e15, 1e-12};
  for (int kind = 0; kind < SPECTRUM_COUNT; kind++)
    for (int method = 0; method < 2; method++)
      for (int i = 0; i < 4; i++) {
        check_one(40, 30, (enum spectrum)kind, scales[i], MB_F32, (mb_spectral_method)method, 0.5);
        check_one(30, 40, (enum spectrum)kind, scales[i], MB_F64, (mb_spectral_method)method, 0.5);
        check_one(30, 1, (enum spectrum)kind, scales[i], MB_F32, (mb_spectral_method)method, 0.5);
      }
  check_one(20, 30, GEOMETRIC, 1e-150, MB_F64, MB_SPECTRAL_RANDOMIZED, 0.5);
  check_one(20, 30, GEOMETRIC, 1e150, MB_F64, MB_SPECTRAL_EXACT, 0.5);
  check_one(9, 1, GEOMETRIC, 1e150, MB_F64, MB_SPECTRAL_EXACT, 0.5);
}

// A few directions of a large matrix: with a gap behind them a sketch finds them all; the rest keeps its bits' size.
static void a_sketch_finds_what_stands_out(void) {
  static const int64_t large[][2] = {{400, 250}, {250, 400}, {513, 129}};
  for (int s = 0; s < 3; s++)
    for (int iters = 0; iters <= 3; iters++) {
      known a = known_new(large[s][0], large[s][1]);
      for (int64_t i = 0; i < a.k; i++) a.s[i] = i < 6 ? 10 - (double)i : 1e-3 * pow(0.98, (double)i);
      double *g = compose(&a, a.s, 1), sigma[8], tau = 2;
      mb_tensor *t = tensor_of(g, MB_F32, a.m, a.n);
      mb_spectral *plan = plan_of(&t, 1, MB_SPECTRAL_RANDOMIZED, 8, 5, iters);
      CHECK_OK(mb_spectral_probe(plan, sigma));
      // Error of a value: (sigma_14 / sigma_i)^(4 iters + 2) times a modest factor, down to rounding.
      double error = iters == 0 ? 1e-3 : 1e-6;
      for (int i = 0; i < 6; i++) CHECK_NEAR(sigma[i], a.s[i], 10 * error);
      unsigned char saturated;
      int32_t clipped;
      CHECK_OK(mb_spectral_clamp(plan, &tau, &clipped, &saturated));
      CHECK_EQ(clipped, 6);
      CHECK_EQ(saturated, 0);
      double *values = malloc((size_t)a.k * sizeof *values);
      for (int64_t i = 0; i < a.k; i++) values[i] = a.s[i] < tau ? a.s[i] : tau;
      double *wanted = compose(&a, values, 1);
      CHECK(distance_of(t, wanted) <= (iters == 0 ? 0.1 : 3e-5));
      free(g), free(values), free(wanted);
      mb_tensor_release(t);
      mb_spectral_release(plan);
      known_free(&a);
    }
}

// Spectra so steep that float32 squares lose their ends: the small values are still found, down to rounding.
static void steep_spectra_lose_nothing(void) {
  static const double ratios[] = {0.5, 0.2, 0.1, 0.03};
  for (int r = 0; r < 4; r++)
    for (int iters = 0; iters <= 3; iters++) {
      known a = known_new(150, 200);
      for (int64_t i = 0; i < a.k; i++) a.s[i] = pow(ratios[r], (double)i);
      double *g = compose(&a, a.s, 1), sigma[8], tau = 1.5 * a.s[3], *values = malloc((size_t)a.k * sizeof *values);
      for (int64_t i = 0; i < a.k; i++) values[i] = a.s[i] < tau ? a.s[i] : tau;
      double *wanted = compose(&a, values, 1), tail = iters == 0 ? 10 * a.s[8] : 0; // what a sketch without rounds cannot tell
      mb_tensor *t = tensor_of(g, MB_F32, a.m, a.n);
      mb_spectral *plan = plan_of(&t, 1, MB_SPECTRAL_RANDOMIZED, 8, 5, iters);
      CHECK_OK(mb_spectral_probe(plan, sigma));
      for (int i = 0; i < 8; i++) CHECK_NEAR(sigma[i], a.s[i], 2e-6 + tail * a.s[8]);
      CHECK_OK(mb_spectral_clamp(plan, &tau, NULL, NULL));
      CHECK(distance_of(t, wanted) <= 2e-6 + tail);
      free(g), free(values), free(wanted);
      mb_tensor_release(t);
      mb_spectral_release(plan);
      known_free(&a);
    }
}

// clip(c G, c tau) = c clip(G, tau), to the bit for powers of two; the transpose is clipped alike; turning G turns
// the result.
static void clipping_commutes(void) {
  known a = known_new(60, 45), b = {.m = 60, .n = 45, .k = 45};
  known_fill(&a, CAUCHY);
  double *g = compose(&a, a.s, 1), tau = a.s[3];
  for (int method = 0; method < 2; method++) {
    mb_tensor *t = tensor_of(g, MB_F32, 60, 45), *eight, *turned, *back;
    CHECK_OK(mb_affine(&eight, t, 0x1p-40, 0));
    CHECK_OK(mb_transpose(&turned, t, 0, 1));
    CHECK_OK(mb_clone(&back, turned));
    mb_tensor *all[] = {t, eight, back};
    double taus[] = {tau, tau * 0x1p-40, tau}, sigma[3 * 45];
    for (int i = 0; i < 3; i++) {
      mb_rng_seed(5);
      mb_spectral *plan = plan_of(&all[i], 1, (mb_spectral_method)method, 10, 6, 2);
      CHECK_OK(mb_spectral_probe(plan, sigma));
      CHECK_OK(mb_spectral_clamp(plan, &taus[i], NULL, NULL));
      mb_spectral_release(plan);
    }
    double *first = doubles_of(t), *second = doubles_of(eight), *third = doubles_of(back);
    for (int64_t r = 0; r < 60; r++)
      for (int64_t c = 0; c < 45; c++) {
        CHECK(second[r * 45 + c] == 0x1p-40 * first[r * 45 + c]);
        CHECK_NEAR(third[c * 60 + r], first[r * 45 + c], 1e-4 * a.s[0]);
      }
    free(first), free(second), free(third);
    mb_tensor_release(t), mb_tensor_release(eight), mb_tensor_release(turned), mb_tensor_release(back);
  }
  // Q G P with orthogonal Q, P is U, V turned: the same singular values with other vectors.
  known other = known_new(60, 45);
  b.u = other.u, b.v = other.v, b.s = a.s;
  double *turned = compose(&b, b.s, 1), values[45], sigma[45];
  for (int i = 0; i < 45; i++) values[i] = a.s[i] < tau ? a.s[i] : tau;
  double *wanted = compose(&b, values, 1);
  mb_tensor *t = tensor_of(turned, MB_F32, 60, 45);
  mb_spectral *plan = plan_of(&t, 1, MB_SPECTRAL_EXACT, 0, 0, 0);
  CHECK_OK(mb_spectral_probe(plan, sigma));
  CHECK_OK(mb_spectral_clamp(plan, &tau, NULL, NULL));
  CHECK(distance_of(t, wanted) <= 3e-6 * a.s[0]);
  free(g), free(turned), free(wanted);
  mb_tensor_release(t);
  mb_spectral_release(plan);
  known_free(&a), known_free(&other);
}

static void targets_are_applied(void) {
  known a = known_new(40, 70);
  known_fill(&a, GEOMETRIC);
  double *g = compose(&a, a.s, 1);
  for (int method = 0; method < 2; method++) {
    mb_tensor *t = tensor_of(g, MB_F64, 40, 70);
    mb_spectral *plan = plan_of(&t, 1, (mb_spectral_method)method, 40, 0, 2);
    double sigma[40], target[40], values[40];
    CHECK_OK(mb_spectral_probe(plan, sigma));
    for (int i = 0; i < 40; i++) {
      target[i] = i % 3 == 0 ? (double)NAN : i % 3 == 1 ? 2 * sigma[i] : sigma[i] / (1 + sigma[i]);
      values[i] = i % 3 == 0 ? a.s[i] : i % 3 == 1 ? 2 * a.s[i] : a.s[i] / (1 + a.s[i]);
    }
    CHECK_OK(mb_spectral_apply(plan, target));
    double *wanted = compose(&a, values, 1);
    CHECK(distance_of(t, wanted) <= 1e-8);
    free(wanted);
    mb_tensor_release(t);
    mb_spectral_release(plan);
  }
  free(g);
  known_free(&a);
}

int main(void) {
  seed_start();
  mb_rng_seed(seed_state);
  known_spectra_are_clipped();
  extreme_scales_are_safe();
  a_sketch_finds_what_stands_out();
  steep_spectra_lose_nothing();
  clipping_commutes();
  targets_are_applied();
  return check_end();
}
