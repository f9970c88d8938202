// SPDX-License-Identifier: MIT
//
// test_iterate.c: largest singular values by Lanczos' method, and inverse square roots, of matrices of known spectra.
#include "spectra.h"

static void sigma_of_one(int64_t m, int64_t n, enum spectrum kind, double scale, mb_dtype dtype) {
  known a = known_new(m, n);
  known_fill(&a, kind);
  double *g = compose(&a, a.s, scale), value, top = scale * a.s[0];
  mb_tensor *t = tensor_of(g, dtype, m, n), *sigma;
  CHECK_OK(mb_sigma_max(&sigma, t));
  CHECK_EQ(mb_tensor_ndim(sigma), 0);
  CHECK_OK(mb_tensor_item(&value, sigma));
  if (!(fabs(value - top) <= 2e-6 * top))
    fprintf(stderr, "(%lld, %lld) %s, scale %g, %s\n", (long long)m, (long long)n, spectrum_names[kind], scale, dtype == MB_F32 ? "f32" : "f64");
  CHECK_NEAR(value, top, 2e-6 * top);
  free(g);
  mb_tensor_release(t), mb_tensor_release(sigma);
  known_free(&a);
}

static void largest_singular_values(void) {
  static const int64_t shapes[][2] = {{64, 48}, {48, 64}, {33, 33}, {7, 100}, {50, 1}, {1, 50}, {1, 1}, {2, 3}, {300, 20}, {130, 150}};
  static const double scales[] = {1e30, 1e-30, 1e-12};
  for (int kind = 0; kind < SPECTRUM_COUNT; kind++) {
    for (int s = 0; s < 10; s++)
      for (int dtype = 0; dtype < 2; dtype++) sigma_of_one(shapes[s][0], shapes[s][1], (enum spectrum)kind, 1, (mb_dtype)dtype);
    for (int i = 0; i < 3; i++) sigma_of_one(40, 25, (enum spectrum)kind, scales[i], MB_F32);
    sigma_of_one(25, 40, (enum spectrum)kind, 1e250, MB_F64);
    sigma_of_one(25, 40, (enum spectrum)kind, 1e-250, MB_F64);
  }
}

// A view of a batch; the same bits every time and no random numbers taken.
static void batches(void) {
  mb_tensor *batch, *turned, *sigma, *all;
  uint64_t seed, step, before, after;
  CHECK_OK(mb_randn(&batch, MB_F64, 3, (int64_t[]){4, 30, 90}, MB_CPU));
  CHECK_OK(mb_transpose(&turned, batch, 0, 2)); // (90, 30, 4)
  mb_rng_get(&seed, &step, &before);
  CHECK_OK(mb_sigma_max(&sigma, turned));
  mb_rng_get(&seed, &step, &after);
  CHECK_EQ(before, after);
  CHECK_OK(mb_svdvals(&all, turned));
  CHECK_EQ(mb_tensor_ndim(sigma), 1);
  CHECK_EQ(mb_tensor_shape(sigma)[0], 90);
  double *got = doubles_of(sigma), *wanted = doubles_of(all);
  for (int i = 0; i < 90; i++) CHECK_NEAR(got[i], wanted[4 * i], 1e-9 * wanted[4 * i]);
  mb_tensor_release(sigma);
  CHECK_OK(mb_sigma_max(&sigma, turned));
  double *again = doubles_of(sigma);
  CHECK(memcmp(got, again, 90 * sizeof *got) == 0);
  free(got), free(wanted), free(again);
  mb_tensor_release(batch), mb_tensor_release(turned), mb_tensor_release(sigma), mb_tensor_release(all);
}

// a = U diag(lambda) U^T with lambda from 1 down to 1 / condition; the result is U diag(lambda^(-1/2)) U^T.
static void root_of_one(int64_t k, double condition, double scale, mb_dtype dtype, int64_t steps, double tolerance) {
  known a = known_new(k, k);
  double *roots = malloc((size_t)k * sizeof *roots);
  memcpy(a.v, a.u, (size_t)(k * k) * sizeof *a.v);
  for (int64_t i = 0; i < k; i++) {
    a.s[i] = pow(condition, -(double)i / (double)(k > 1 ? k - 1 : 1));
    roots[i] = 1 / sqrt(a.s[i]);
  }
  double *g = compose(&a, a.s, scale), *wanted = compose(&a, roots, 1 / sqrt(scale)), most = roots[k - 1] / sqrt(scale);
  mb_tensor *t = tensor_of(g, dtype, k, k), *out;
  CHECK_OK(mb_inverse_sqrt(&out, t, steps));
  double distance = distance_of(out, wanted);
  if (!(distance <= tolerance * most))
    fprintf(stderr, "%lld rows, condition %g, scale %g, %s: %g of %g\n", (long long)k, condition, scale, dtype == MB_F32 ? "f32" : "f64",
            distance, most);
  CHECK(distance <= tolerance * most);
  free(g), free(wanted), free(roots);
  mb_tensor_release(t), mb_tensor_release(out);
  known_free(&a);
}

static void inverse_square_roots(void) {
  static const int64_t sizes[] = {1, 2, 5, 33, 64, 130};
  for (int s = 0; s < 6; s++) {
    root_of_one(sizes[s], 100, 1, MB_F32, 0, 1e-3);
    root_of_one(sizes[s], 1e6, 1, MB_F64, 0, 1e-8);
    root_of_one(sizes[s], 10, 1, MB_F64, 8, 1e-12);
  }
  root_of_one(20, 50, 1e30, MB_F32, 0, 1e-3);
  root_of_one(20, 50, 1e-30, MB_F32, 0, 1e-3);
  root_of_one(20, 50, 1e200, MB_F64, 0, 1e-10);
  root_of_one(30, 1e10, 1, MB_F64, 14, 1e-4);
  // Too few steps: the smallest eigenvalues' roots come out too small, none too large.
  known a = known_new(3, 3);
  memcpy(a.v, a.u, 9 * sizeof *a.v);
  a.s[0] = 1, a.s[1] = 0.5, a.s[2] = 1e-8;
  double *g = compose(&a, a.s, 1);
  mb_tensor *t = tensor_of(g, MB_F64, 3, 3), *out, *sigma;
  double value;
  CHECK_OK(mb_inverse_sqrt(&out, t, 6));
  CHECK_OK(mb_sigma_max(&sigma, out));
  CHECK_OK(mb_tensor_item(&value, sigma));
  CHECK(value > 10 && value < 0.9e4);
  free(g);
  mb_tensor_release(t), mb_tensor_release(out), mb_tensor_release(sigma);
  known_free(&a);
}

// What is not positive definite is refused however small its negative eigenvalue, and so is what is not symmetric.
static void refused(int count, mb_dtype dtype, const double *numbers, mb_status code, const char *text) {
  mb_tensor *wide, *t, *out;
  CHECK_OK(mb_from_host(&wide, MB_F64, 3, (int64_t[]){count, 2, 2}, MB_CPU, numbers));
  CHECK_OK(mb_cast(&t, wide, dtype));
  for (int64_t steps = 0; steps <= 60; steps += 15) {
    CHECK_FAILS(code, text, mb_inverse_sqrt(&out, t, steps));
    CHECK(out == NULL);
  }
  mb_tensor_release(wide), mb_tensor_release(t);
}

static void roots_that_do_not_exist(void) {
  static const char *minor = "mb_inverse_sqrt: matrix 0 is not positive definite: its leading minor of order 2 is not positive";
  refused(1, MB_F64, (double[]){1, 0, 0, -1e-9}, MB_ERR_NUMERIC, minor);
  refused(1, MB_F32, (double[]){1, 0, 0, 0}, MB_ERR_NUMERIC, minor);
  refused(1, MB_F32, (double[]){1, 0, 0, -1e-30}, MB_ERR_NUMERIC, minor);
  refused(1, MB_F32, (double[]){1, 2, 2, 1}, MB_ERR_NUMERIC, minor);
  refused(2, MB_F64, (double[]){1, 0, 0, 1, 0, 0, 0, 0}, MB_ERR_NUMERIC, "matrix 1 is not positive definite: its leading minor of order 1");
  for (int dtype = 0; dtype < 2; dtype++) {
    refused(2, (mb_dtype)dtype, (double[]){2, 1, 1, 2, 2, 1, 0, 2}, MB_ERR_ARG, "mb_inverse_sqrt: matrix 1 is not symmetric: |a - a^T| is 1.414");
    refused(1, (mb_dtype)dtype, (double[]){1e30, 1e27, 0, 1e30}, MB_ERR_ARG, "mb_inverse_sqrt: matrix 0 is not symmetric");
  }
  // A product's rounding is no asymmetry, and tiny eigenvalues are positive.
  double numbers[4] = {2, 1, 1 + 1e-6, 2}, value;
  mb_tensor *wide, *t, *out;
  CHECK_OK(mb_from_host(&wide, MB_F64, 2, (int64_t[]){2, 2}, MB_CPU, numbers));
  CHECK_OK(mb_cast(&t, wide, MB_F32));
  CHECK_OK(mb_inverse_sqrt(&out, t, 0));
  mb_tensor_release(wide), mb_tensor_release(t), mb_tensor_release(out);
  CHECK_OK(mb_from_host(&t, MB_F64, 2, (int64_t[]){2, 2}, MB_CPU, (double[]){1, 0, 0, 1e-12}));
  CHECK_OK(mb_inverse_sqrt(&out, t, 20));
  CHECK_OK(mb_sum(&wide, out, 0, NULL, 0));
  CHECK_OK(mb_tensor_item(&value, wide));
  CHECK_NEAR(value, 1e6 + 1, 1);
  mb_tensor_release(wide), mb_tensor_release(t), mb_tensor_release(out);
}

static void wrong_use(void) {
  mb_tensor *out, *wide, *flat, *bad, *negative;
  double numbers[18] = {2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 0, 2, 1, 0, 0, 0, 1};
  CHECK_OK(mb_from_host(&negative, MB_F64, 3, (int64_t[]){2, 3, 3}, MB_CPU, numbers));
  CHECK_OK(mb_from_host(&wide, MB_F64, 2, (int64_t[]){3, 6}, MB_CPU, numbers));
  CHECK_OK(mb_reshape(&flat, wide, 1, (int64_t[]){18}));
  numbers[4] = NAN;
  CHECK_OK(mb_from_host(&bad, MB_F64, 2, (int64_t[]){3, 3}, MB_CPU, numbers));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_inverse_sqrt: a square matrix (n, n) or (L, n, n) was expected, a has shape (3, 6)", mb_inverse_sqrt(&out, wide, 0));
  CHECK(out == NULL);
  CHECK_FAILS(MB_ERR_ARG, "mb_inverse_sqrt: steps is 101, 1 to 100, or 0 for 12, were expected", mb_inverse_sqrt(&out, wide, 101));
  CHECK_FAILS(MB_ERR_NONFINITE, "mb_inverse_sqrt: a holds NaN or Inf, first at element 4", mb_inverse_sqrt(&out, bad, 0));
  CHECK_FAILS(MB_ERR_NUMERIC, "mb_inverse_sqrt: matrix 1 is not positive definite", mb_inverse_sqrt(&out, negative, 40));
  CHECK(out == NULL);
  CHECK_FAILS(MB_ERR_NONFINITE, "mb_sigma_max: a holds NaN or Inf, first at element 4", mb_sigma_max(&out, bad));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_sigma_max: a (m, n) or (L, m, n) was expected, the tensor has shape (18)", mb_sigma_max(&out, flat));
  mb_memory_stats before, after;
  mb_memory(&before);
  for (int which = 0; which < 2; which++)
    for (int64_t n = 1;; n++) {
      mb_tensor *good = NULL;
      mb_debug_fail_allocation(n);
      mb_status status = mb_slice(&good, negative, 0, 0, 1, 1);
      if (status == MB_OK) status = which ? mb_sigma_max(&out, good) : mb_inverse_sqrt(&out, good, 0);
      mb_debug_fail_allocation(0);
      mb_tensor_release(good);
      if (status == MB_OK) mb_tensor_release(out);
      mb_memory(&after);
      CHECK_EQ(after.live_tensors, before.live_tensors);
      if (status == MB_OK) break;
      CHECK_EQ(status, MB_ERR_NOMEM);
      CHECK(n < 100);
    }
  mb_tensor_release(wide), mb_tensor_release(flat), mb_tensor_release(bad), mb_tensor_release(negative);
}

int main(void) {
  seed_start();
  mb_rng_seed(seed_state);
  largest_singular_values();
  batches();
  inverse_square_roots();
  roots_that_do_not_exist();
  wrong_use();
  return check_end();
}
