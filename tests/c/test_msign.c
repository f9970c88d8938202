// SPDX-License-Identifier: MIT
//
// test_msign.c: polar factors and products of known symmetry, against matrices whose singular vectors are known: what
// an iteration must do to a singular value is worked out on that number alone.
#include "spectra.h"

static const int64_t shapes[][2] = {{64, 48}, {48, 64}, {33, 33}, {7, 100}, {100, 7}, {50, 1}, {1, 50}, {1, 1}, {300, 290}, {257, 600}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

// arXiv 2505.16932, appendix: the coefficients that its authors publish.
static const double published[8][3] = {
  {8.28721201814563, -23.595886519098837, 17.300387312530933}, {4.107059111542203, -2.9478499167379106, 0.5448431082926601},
  {3.9486908534822946, -2.908902115962949, 0.5518191394370137}, {3.3184196573706015, -2.488488024314874, 0.51004894012372},
  {2.300652019954817, -1.6689039845747493, 0.4188073119525673}, {1.891301407787398, -1.2679958271945868, 0.37680408948524835},
  {1.8750014808534479, -1.2500016453999487, 0.3750001645474248}, {1.875, -1.25, 0.375},
};

static double after(mb_msign_method method, int steps, double sigma, double norm) {
  if (method == MB_MSIGN_EXACT) return sigma > 0;
  double x = method == MB_MSIGN_NS5 ? sigma / (norm + 1e-7) : sigma / (1.01 * norm);
  for (int i = 0; i < steps; i++) {
    const double *p = published[i < 7 ? i : 7];
    double y = method == MB_MSIGN_POLAR_EXPRESS && i < 7 ? x / 1.01 : x, square = y * y;
    if (method == MB_MSIGN_NS5) x = y * (3.4445 + square * (-4.7750 + square * 2.0315));
    else x = y * (p[0] + square * (p[1] + square * p[2]));
  }
  return x;
}

static double norm_of(const known *a) {
  double sum = 0;
  for (int64_t i = 0; i < a->k; i++) sum += a->s[i] * a->s[i];
  return sqrt(sum);
}

static void check_one(int64_t m, int64_t n, enum spectrum kind, mb_dtype dtype, mb_msign_method method, int steps, double scale) {
  known a = known_new(m, n);
  known_fill(&a, kind);
  double norm = norm_of(&a), *values = malloc((size_t)a.k * sizeof *values);
  for (int64_t i = 0; i < a.k; i++) values[i] = norm > 0 ? after(method, steps, scale * a.s[i], scale * norm) : 0;
  double *g = compose(&a, a.s, scale), *wanted = compose(&a, values, 1);
  mb_tensor *t = tensor_of(g, dtype, m, n), *out;
  CHECK_OK(mb_msign(&out, t, method, steps));
  // Rounding of G is a value of 1e-7 that the steps raise by up to 3.5 each, a thousandfold for all of them.
  double tolerance = (dtype == MB_F32 ? 1e-3 : 1e-10) * sqrt((double)a.k), distance = distance_of(out, wanted);
  if (!(distance <= tolerance))
    fprintf(stderr, "(%lld, %lld) %s, method %d, %d steps, scale %g, %s: distance %g\n", (long long)m, (long long)n, spectrum_names[kind],
            (int)method, steps, scale, dtype == MB_F32 ? "f32" : "f64", distance);
  CHECK(distance <= tolerance);
  mb_tensor_release(t), mb_tensor_release(out);
  free(g), free(wanted), free(values);
  known_free(&a);
}

static void known_spectra_are_set_to_one(void) {
  static const enum spectrum kinds[] = {FLAT, REPEATED, CAUCHY, DEFICIENT, ZERO};
  for (int s = 0; s < SHAPES; s++)
    for (int kind = 0; kind < 5; kind++)
      for (int method = 0; method < 3; method++) {
        // Values of CAUCHY's end are noise to a decomposition in float32.
        if (kinds[kind] != CAUCHY || method != MB_MSIGN_EXACT)
          check_one(shapes[s][0], shapes[s][1], kinds[kind], MB_F32, (mb_msign_method)method, 5, 1);
        if (shapes[s][0] < 200) check_one(shapes[s][0], shapes[s][1], kinds[kind], MB_F64, (mb_msign_method)method, 8, 1);
      }
  for (int method = 0; method < 3; method++) {
    check_one(30, 20, REPEATED, MB_F32, (mb_msign_method)method, 5, 1e30);
    check_one(20, 30, REPEATED, MB_F32, (mb_msign_method)method, 5, 1e-30);
    check_one(20, 30, REPEATED, MB_F64, (mb_msign_method)method, 5, 1e200);
    check_one(20, 30, REPEATED, MB_F64, (mb_msign_method)method, 12, 1e-200);
  }
}

// From 1e-3 of the norm on, as the paper says.
static void polar_express_converges(void) {
  known a = known_new(40, 30);
  for (int64_t i = 0; i < a.k; i++) a.s[i] = i == 0 ? 1 : 1.1e-3 + 0.01 * (double)(i % 3);
  double *g = compose(&a, a.s, 1), ones[30];
  for (int i = 0; i < 30; i++) ones[i] = 1;
  double *wanted = compose(&a, ones, 1);
  mb_tensor *t = tensor_of(g, MB_F64, 40, 30), *out;
  CHECK_OK(mb_msign(&out, t, MB_MSIGN_POLAR_EXPRESS, 5));
  CHECK(distance_of(out, wanted) <= 0.13 * sqrt(30));
  CHECK(distance_of(out, wanted) >= 0.01);
  mb_tensor_release(out);
  CHECK_OK(mb_msign(&out, t, MB_MSIGN_POLAR_EXPRESS, 9));
  CHECK(distance_of(out, wanted) <= 1e-12);
  mb_tensor_release(out), mb_tensor_release(t);
  free(g), free(wanted);
  known_free(&a);
}

// A batch gives what its matrices give alone; a view is read as it is; the argument stays.
static void batches_and_views(void) {
  mb_tensor *batch, *turned, *out, *each, *alone, *dense;
  CHECK_OK(mb_randn(&batch, MB_F32, 3, (int64_t[]){5, 70, 40}, MB_CPU));
  CHECK_OK(mb_transpose(&turned, batch, 1, 2));
  for (int method = 0; method < 3; method++) {
    double *before = doubles_of(batch);
    CHECK_OK(mb_msign(&out, turned, (mb_msign_method)method, 0));
    CHECK_EQ(mb_tensor_shape(out)[1], 40);
    double *all = doubles_of(out);
    for (int64_t i = 0; i < 5; i++) {
      CHECK_OK(mb_slice(&each, turned, 0, i, i + 1, 1));
      CHECK_OK(mb_reshape(&dense, each, 2, (int64_t[]){40, 70}));
      CHECK_OK(mb_msign(&alone, dense, (mb_msign_method)method, 5));
      double *one = doubles_of(alone);
      for (int64_t j = 0; j < 70 * 40; j++) CHECK_NEAR(one[j], all[i * 70 * 40 + j], 1e-5);
      free(one);
      mb_tensor_release(each), mb_tensor_release(dense), mb_tensor_release(alone);
    }
    double *now = doubles_of(batch);
    CHECK(memcmp(before, now, 5 * 70 * 40 * sizeof *now) == 0);
    free(before), free(now), free(all);
    mb_tensor_release(out);
  }
  mb_tensor_release(batch), mb_tensor_release(turned);
}

// Several tensors: each as it is alone, times its own number, or none of them.
static void many(void) {
  mb_tensor *a[3], *out[3], *alone;
  CHECK_OK(mb_randn(&a[0], MB_F32, 3, (int64_t[]){2, 9, 30}, MB_CPU));
  CHECK_OK(mb_randn(&a[1], MB_F64, 2, (int64_t[]){12, 5}, MB_CPU));
  CHECK_OK(mb_randn(&a[2], MB_F32, 2, (int64_t[]){6, 6}, MB_CPU));
  mb_msign_options options = {.method = MB_MSIGN_NS5, .scale = (double)NAN};
  const double scale[3] = {1, 0.5, -2}, wrong[3] = {1, 2, (double)INFINITY};
  CHECK_OK(mb_msign_many(out, a, scale, 3, &options));
  for (int i = 0; i < 3; i++) {
    mb_msign_options one = {.method = MB_MSIGN_NS5, .scale = scale[i]};
    CHECK_OK(mb_msign_with(&alone, a[i], &one));
    double *x = doubles_of(out[i]), *y = doubles_of(alone);
    for (int64_t j = 0; j < mb_tensor_numel(a[i]); j++) CHECK(x[j] == y[j]);
    free(x), free(y);
    mb_tensor_release(alone), mb_tensor_release(out[i]);
  }
  CHECK_FAILS(MB_ERR_ARG, "mb_msign: scale is inf, a finite number was expected", mb_msign_many(out, a, wrong, 3, &options));
  CHECK(out[0] == NULL && out[1] == NULL && out[2] == NULL);
  CHECK_FAILS(MB_ERR_ARG, "mb_msign_many: count is 0, 1 or more was expected", mb_msign_many(out, a, scale, 0, &options));
  CHECK_FAILS(MB_ERR_ARG, "mb_msign_many: options is NULL", mb_msign_many(out, a, scale, 3, NULL));
  options.precision = MB_MSIGN_F16;
  CHECK_FAILS(MB_ERR_DTYPE, "mb_msign: cpu has no products of f16, a is f32", mb_msign_many(out, a, scale, 3, &options));
  options.precision = MB_MSIGN_FULL;
  mb_memory_stats before, now;
  mb_memory(&before);
  for (int64_t nth = 1;; nth++) {
    mb_debug_fail_allocation(nth);
    mb_status status = mb_msign_many(out, a, scale, 3, &options);
    mb_debug_fail_allocation(0);
    for (int i = 0; i < 3; i++) {
      CHECK((status == MB_OK) == (out[i] != NULL));
      mb_tensor_release(out[i]);
    }
    mb_memory(&now);
    CHECK_EQ(now.live_tensors, before.live_tensors);
    if (status == MB_OK) break;
    CHECK_EQ(status, MB_ERR_NOMEM);
  }
  for (int i = 0; i < 3; i++) mb_tensor_release(a[i]);
}

static void wrong_use(void) {
  mb_tensor *out = (mb_tensor *)1, *a, *flat, *ints, *bad;
  CHECK_OK(mb_randn(&a, MB_F32, 2, (int64_t[]){3, 4}, MB_CPU));
  CHECK_OK(mb_reshape(&flat, a, 1, (int64_t[]){12}));
  CHECK_OK(mb_full(&ints, MB_I32, 2, (int64_t[]){3, 4}, MB_CPU, 0));
  float numbers[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  numbers[7] = INFINITY;
  CHECK_OK(mb_from_host(&bad, MB_F32, 2, (int64_t[]){3, 4}, MB_CPU, numbers));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_msign: a (m, n) or (L, m, n) was expected, the tensor has shape (12)", mb_msign(&out, flat, MB_MSIGN_NS5, 5));
  CHECK(out == NULL);
  CHECK_FAILS(MB_ERR_DTYPE, "mb_msign: a", mb_msign(&out, ints, MB_MSIGN_NS5, 5));
  CHECK_FAILS(MB_ERR_ARG, "mb_msign: unknown method 7", mb_msign(&out, a, (mb_msign_method)7, 5));
  CHECK_FAILS(MB_ERR_ARG, "mb_msign: steps is -1, 1 to 100, or 0 for 5, were expected", mb_msign(&out, a, MB_MSIGN_NS5, -1));
  CHECK_FAILS(MB_ERR_ARG, "steps is 101", mb_msign(&out, a, MB_MSIGN_NS5, 101));
  mb_msign_options options = {.method = MB_MSIGN_NS5, .scale = 1, .precision = MB_MSIGN_BF16};
  CHECK_FAILS(MB_ERR_DTYPE, "mb_msign: cpu has no products of bf16, a is f32", mb_msign_with(&out, a, &options));
  options.precision = (mb_msign_precision)9;
  CHECK_FAILS(MB_ERR_ARG, "mb_msign: unknown precision 9", mb_msign_with(&out, a, &options));
  options.precision = MB_MSIGN_FULL, options.scale = (double)NAN;
  CHECK_FAILS(MB_ERR_ARG, "mb_msign: scale is nan, a finite number was expected", mb_msign_with(&out, a, &options));
  CHECK_FAILS(MB_ERR_ARG, "mb_msign_with: options is NULL", mb_msign_with(&out, a, NULL));
  CHECK_FAILS(MB_ERR_NONFINITE, "mb_msign: a holds NaN or Inf, first at element 7", mb_msign(&out, bad, MB_MSIGN_NS5, 5));
  CHECK(out == NULL);
  mb_memory_stats before, now;
  mb_memory(&before);
  for (int method = 0; method < 3; method++)
    for (int64_t nth = 1;; nth++) {
      mb_debug_fail_allocation(nth);
      mb_status status = mb_msign(&out, a, (mb_msign_method)method, 5);
      mb_debug_fail_allocation(0);
      CHECK((status == MB_OK) == (out != NULL));
      mb_tensor_release(out);
      mb_memory(&now);
      CHECK_EQ(now.live_tensors, before.live_tensors);
      if (status == MB_OK) break;
      CHECK_EQ(status, MB_ERR_NOMEM);
    }
  mb_tensor_release(a), mb_tensor_release(flat), mb_tensor_release(ints), mb_tensor_release(bad);
}

int main(void) {
  seed_start();
  mb_rng_seed(seed_state);
  known_spectra_are_set_to_one();
  polar_express_converges();
  batches_and_views();
  many();
  wrong_use();
  return check_end();
}
