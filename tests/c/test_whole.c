// SPDX-License-Identifier: MIT
//
// test_whole.c: the methods that change all singular values without knowing them, POLAR and SOFT, over matrices of known
// spectra: what comes out, what is left alone, what is refused.
#include "spectra.h"

static const int64_t shapes[][2] = {{64, 48}, {48, 64}, {33, 33}, {7, 100}, {100, 7}, {50, 1}, {1, 50}, {1, 1}, {2, 3}, {300, 20}, {17, 301}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static double wanted_of(mb_spectral_method method, double sigma, double tau) {
  if (method == MB_SPECTRAL_SOFT) return sigma > 0 ? sigma / sqrt(1 + sigma * sigma / (tau * tau)) : 0;
  return sigma < tau ? sigma : tau;
}

// Relative to the largest singular value: what the methods promise.
static double tolerance(mb_dtype dtype) { return dtype == MB_F32 ? 1e-5 : 1e-11; }

static void check_one(int64_t m, int64_t n, enum spectrum kind, double scale, mb_dtype dtype, mb_spectral_method method, double where) {
  known a = known_new(m, n);
  known_fill(&a, kind);
  double top = a.s[0] > 0 ? a.s[0] * scale : scale, tau = where * top, sigma, again;
  double *g = compose(&a, a.s, scale), *values = malloc((size_t)a.k * sizeof *values);
  for (int64_t i = 0; i < a.k; i++) values[i] = wanted_of(method, a.s[i], tau / scale);
  double *wanted = compose(&a, values, scale);
  mb_tensor *t = tensor_of(g, dtype, m, n), *before;
  CHECK_OK(mb_clone(&before, t));
  mb_spectral *plan = plan_of(&t, 1, method, 0, 0, 0);
  CHECK_EQ(mb_spectral_width(plan), 1);
  CHECK_OK(mb_spectral_probe(plan, &sigma));
  CHECK_NEAR(sigma, scale * a.s[0], 2e-6 * top);
  int32_t clipped;
  unsigned char saturated;
  CHECK_OK(mb_spectral_clamp(plan, &tau, &clipped, &saturated));
  CHECK_EQ(clipped, a.s[0] > 0 && (method == MB_SPECTRAL_SOFT || sigma > tau));
  CHECK_EQ(saturated, 0);
  double distance = distance_of(t, wanted);
  if (!(distance <= 2 * tolerance(dtype) * top)) // of all singular values together
    fprintf(stderr, "(%lld, %lld) %s, scale %g, %s, method %d, tau %g: distance %g of %g\n", (long long)m, (long long)n,
            spectrum_names[kind], scale, dtype == MB_F32 ? "f32" : "f64", (int)method, where, distance, top);
  CHECK(distance <= 2 * tolerance(dtype) * top);
  CHECK_OK(mb_spectral_probe(plan, &again));
  if (!(again <= wanted_of(method, top, tau) + tolerance(dtype) * top))
    fprintf(stderr, "(%lld, %lld) %s, scale %g, %s, method %d, tau %g: sigma_1 is %.12g, %.12g was wanted\n", (long long)m, (long long)n,
            spectrum_names[kind], scale, dtype == MB_F32 ? "f32" : "f64", (int)method, where, again, wanted_of(method, top, tau));
  CHECK(again <= wanted_of(method, top, tau) + tolerance(dtype) * top);
  if (!clipped) {
    double *x = doubles_of(t), *y = doubles_of(before);
    CHECK(memcmp(x, y, (size_t)(m * n) * sizeof *x) == 0);
    free(x), free(y);
  }
  free(g), free(wanted), free(values);
  mb_tensor_release(t), mb_tensor_release(before);
  mb_spectral_release(plan);
  known_free(&a);
}

static void known_spectra(void) {
  static const double where[] = {0.9, 0.3, 0.01, 1e-3, 1.5, 60};
  for (int s = 0; s < SHAPES; s++)
    for (int kind = 0; kind < SPECTRUM_COUNT; kind++)
      for (int i = 0; i < 6; i++)
        for (int method = MB_SPECTRAL_POLAR; method <= MB_SPECTRAL_SOFT; method++) {
          check_one(shapes[s][0], shapes[s][1], (enum spectrum)kind, 1, MB_F32, (mb_spectral_method)method, where[i]);
          check_one(shapes[s][0], shapes[s][1], (enum spectrum)kind, 1, MB_F64, (mb_spectral_method)method, where[i]);
        }
}

static void extreme_scales(void) {
  static const double scales[] = {1e30, 1e-30, 1e15, 1e-12};
  for (int kind = 0; kind < SPECTRUM_COUNT; kind++)
    for (int method = MB_SPECTRAL_POLAR; method <= MB_SPECTRAL_SOFT; method++) {
      for (int i = 0; i < 4; i++) {
        check_one(40, 30, (enum spectrum)kind, scales[i], MB_F32, (mb_spectral_method)method, 0.2);
        check_one(30, 1, (enum spectrum)kind, scales[i], MB_F32, (mb_spectral_method)method, 0.2);
      }
      check_one(20, 30, (enum spectrum)kind, 1e-150, MB_F64, (mb_spectral_method)method, 0.5);
      check_one(20, 30, (enum spectrum)kind, 1e150, MB_F64, (mb_spectral_method)method, 0.5);
    }
}

static mb_tensor *random_matrix(mb_dtype dtype, int64_t m, int64_t n) {
  mb_tensor *t;
  CHECK_OK(mb_randn(&t, dtype, 2, (int64_t[]){m, n}, MB_CPU));
  return t;
}

static int same_bits(mb_tensor *a, mb_tensor *b) {
  double *x = doubles_of(a), *y = doubles_of(b);
  int same = memcmp(x, y, (size_t)mb_tensor_numel(a) * sizeof *x) == 0;
  free(x), free(y);
  return same;
}

// Many matrices of a group, of thresholds that ask for different numbers of steps, more than fit into one chunk: each comes out
// as it does alone, one of tau NaN keeps its bits, one of tau 0 becomes zero.
static void groups_and_chunks(void) {
  enum { COUNT = 12, SIDE = 700 };
  for (int method = MB_SPECTRAL_POLAR; method <= MB_SPECTRAL_SOFT; method++) {
    mb_tensor *t[COUNT], *alone[COUNT];
    double sigma[COUNT], tau[COUNT], one;
    int32_t clipped[COUNT];
    for (int i = 0; i < COUNT; i++) {
      t[i] = random_matrix(MB_F32, i == 5 ? 30 : SIDE, i == 5 ? 20 : 40);
      CHECK_OK(mb_clone(&alone[i], t[i]));
    }
    mb_spectral *plan = plan_of(t, COUNT, (mb_spectral_method)method, 0, 0, 0);
    CHECK_OK(mb_spectral_probe(plan, sigma));
    for (int i = 0; i < COUNT; i++) tau[i] = i == 3 ? (double)NAN : i == 4 ? 0 : sigma[i] * pow(0.5, i);
    CHECK_OK(mb_spectral_clamp(plan, tau, clipped, NULL));
    mb_spectral_release(plan);
    for (int i = 0; i < COUNT; i++) {
      if (i == 3) {
        CHECK_EQ(clipped[i], 0);
        CHECK(same_bits(t[i], alone[i]));
      } else {
        plan = plan_of(&alone[i], 1, (mb_spectral_method)method, 0, 0, 0);
        CHECK_OK(mb_spectral_probe(plan, &one));
        CHECK_NEAR(one, sigma[i], 1e-6 * one);
        CHECK_OK(mb_spectral_clamp(plan, &tau[i], NULL, NULL));
        mb_spectral_release(plan);
        double *x = doubles_of(t[i]), *y = doubles_of(alone[i]);
        for (int64_t j = 0; j < mb_tensor_numel(t[i]); j++) CHECK_NEAR(x[j], i == 4 ? 0 : y[j], 1e-5 * sigma[i]);
        free(x), free(y);
      }
      mb_tensor_release(t[i]), mb_tensor_release(alone[i]);
    }
  }
}

// Extra memory is bounded whatever the number of matrices.
static void memory_is_bounded(void) {
  enum { COUNT = 24 };
  mb_tensor *t[COUNT];
  double sigma[COUNT], tau[COUNT];
  mb_memory_stats before, after;
  for (int i = 0; i < COUNT; i++) t[i] = random_matrix(MB_F32, 600, 500);
  for (int method = MB_SPECTRAL_POLAR; method <= MB_SPECTRAL_SOFT; method++) {
    mb_spectral *plan = plan_of(t, COUNT, (mb_spectral_method)method, 0, 0, 0);
    CHECK_OK(mb_spectral_probe(plan, sigma));
    for (int i = 0; i < COUNT; i++) tau[i] = 0.5 * sigma[i];
    mb_memory_reset_peak();
    mb_memory(&before);
    CHECK_OK(mb_spectral_clamp(plan, tau, NULL, NULL));
    mb_memory(&after);
    CHECK_EQ(after.bytes_live, before.bytes_live);
    CHECK(after.bytes_peak - before.bytes_live <= 80 << 20);
    mb_spectral_release(plan);
  }
  for (int i = 0; i < COUNT; i++) mb_tensor_release(t[i]);
}

static void wrong_use(void) {
  mb_tensor *t[2] = {random_matrix(MB_F32, 9, 5), random_matrix(MB_F32, 9, 5)}, *before;
  double sigma[2], target[2] = {0, 0};
  for (int method = MB_SPECTRAL_POLAR; method <= MB_SPECTRAL_SOFT; method++) {
    mb_spectral *plan = plan_of(t, 2, (mb_spectral_method)method, 0, 0, 0);
    CHECK_FAILS(MB_ERR_STATE, "mb_spectral_clamp: call mb_spectral_probe first", mb_spectral_clamp(plan, sigma, NULL, NULL));
    CHECK_OK(mb_spectral_probe(plan, sigma));
    CHECK_FAILS(MB_ERR_ARG, method == MB_SPECTRAL_POLAR ? "mb_spectral_apply: method POLAR changes" : "mb_spectral_apply: method SOFT changes",
                mb_spectral_apply(plan, target));
    void *data;
    CHECK_OK(mb_clone(&before, t[0]));
    CHECK_OK(mb_tensor_data(&data, t[1]));
    float kept = ((float *)data)[7];
    for (int wrong = 0; wrong < 2; wrong++) {
      ((float *)data)[7] = wrong ? INFINITY : NAN;
      CHECK_FAILS(MB_ERR_NONFINITE, "matrix 1 of shape (9, 5) holds NaN or Inf, first at element 7", mb_spectral_probe(plan, sigma));
      CHECK_EQ(mb_spectral_nonfinite(plan), 1);
      CHECK(same_bits(t[0], before));
    }
    ((float *)data)[7] = kept;
    mb_tensor_release(before);
    mb_spectral_release(plan);
  }
  mb_tensor_release(t[0]), mb_tensor_release(t[1]);
}

static void failing_allocations_leave_nothing(void) {
  mb_tensor *t[3] = {random_matrix(MB_F32, 40, 30), random_matrix(MB_F32, 8, 1), random_matrix(MB_F64, 12, 40)};
  mb_memory_stats before, after;
  mb_memory(&before);
  for (int method = MB_SPECTRAL_POLAR; method <= MB_SPECTRAL_SOFT; method++)
    for (int64_t n = 1;; n++) {
      mb_spectral *plan = NULL;
      mb_spectral_options o = {.method = (mb_spectral_method)method};
      double sigma[3], tau[3] = {0.1, 0.1, 0.1};
      mb_debug_fail_allocation(n);
      mb_status status = mb_spectral_new(&plan, t, 3, &o);
      if (status == MB_OK) status = mb_spectral_probe(plan, sigma);
      if (status == MB_OK) status = mb_spectral_clamp(plan, tau, NULL, NULL);
      mb_debug_fail_allocation(0);
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
  known_spectra();
  extreme_scales();
  groups_and_chunks();
  memory_is_bounded();
  wrong_use();
  failing_allocations_leave_nothing();
  return check_end();
}
