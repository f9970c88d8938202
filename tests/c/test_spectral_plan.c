// SPDX-License-Identifier: MIT
//
// test_spectral_plan.c: plans over many matrices: grouping, what is left alone, saturation, refusals, failing
// allocations; and mb_svd, mb_svdvals, mb_sum_squares.
#include <inttypes.h>

#include "spectra.h"

static int64_t live(void) {
  mb_memory_stats stats;
  mb_memory(&stats);
  return stats.live_tensors;
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

static void what_fits_is_not_touched(void) {
  for (int method = 0; method < 2; method++) {
    mb_tensor *t[3] = {random_matrix(MB_F32, 30, 40), random_matrix(MB_F32, 30, 40), random_matrix(MB_F32, 25, 1)}, *before[3];
    for (int i = 0; i < 3; i++) CHECK_OK(mb_clone(&before[i], t[i]));
    mb_spectral *plan = plan_of(t, 3, (mb_spectral_method)method, 4, 2, 1);
    int64_t width = mb_spectral_width(plan);
    double *sigma = malloc((size_t)(3 * width) * sizeof *sigma);
    int32_t clipped[3];
    unsigned char saturated[3];
    CHECK_OK(mb_spectral_probe(plan, sigma));
    // tau at the largest value, NaN, infinity: nothing to do
    double tau[3] = {sigma[0], (double)NAN, (double)INFINITY};
    CHECK_OK(mb_spectral_clamp(plan, tau, clipped, saturated));
    for (int i = 0; i < 3; i++) {
      CHECK_EQ(clipped[i], 0);
      CHECK_EQ(saturated[i], 0);
      CHECK(same_bits(t[i], before[i]));
    }
    // One of a group: its neighbour keeps its bits.
    CHECK_OK(mb_spectral_probe(plan, sigma));
    double one[3] = {sigma[0] / 2, (double)NAN, (double)NAN};
    CHECK_OK(mb_spectral_clamp(plan, one, clipped, saturated));
    CHECK(clipped[0] >= 1);
    CHECK(!same_bits(t[0], before[0]));
    CHECK(same_bits(t[1], before[1]));
    CHECK(same_bits(t[2], before[2]));
    for (int64_t j = 1; j < width; j++) CHECK(isnan(sigma[2 * width + j])); // a vector has one
    for (int i = 0; i < 3; i++) mb_tensor_release(t[i]), mb_tensor_release(before[i]);
    mb_spectral_release(plan);
    free(sigma);
  }
}

static void saturation_is_reported(void) {
  known a = known_new(60, 50);
  for (int64_t i = 0; i < a.k; i++) a.s[i] = 2 - 0.01 * (double)i;
  double *g = compose(&a, a.s, 1), sigma[50], tau = 1;
  static const struct {
    mb_spectral_method method;
    int64_t rank;
    double tau;
    int saturated;
  } cases[] = {{MB_SPECTRAL_RANDOMIZED, 4, 1, 1}, {MB_SPECTRAL_RANDOMIZED, 4, 3, 0}, {MB_SPECTRAL_RANDOMIZED, 50, 1, 0},
               {MB_SPECTRAL_EXACT, 0, 1, 0}};
  for (int i = 0; i < 4; i++) {
    mb_tensor *t = tensor_of(g, MB_F32, 60, 50);
    mb_spectral *plan = plan_of(&t, 1, cases[i].method, cases[i].rank, 5, 1);
    int32_t clipped;
    unsigned char saturated;
    CHECK_OK(mb_spectral_probe(plan, sigma));
    tau = cases[i].tau;
    CHECK_OK(mb_spectral_clamp(plan, &tau, &clipped, &saturated));
    CHECK_EQ(saturated, cases[i].saturated);
    CHECK_EQ(clipped, tau == 3 ? 0 : i == 0 ? 4 : 50);
    mb_spectral_release(plan);
    mb_tensor_release(t);
  }
  free(g);
  known_free(&a);
}

// The same matrix at the same place of the plan: the same bits, whatever stands beside it and on however many threads.
static void neighbours_do_not_matter(void) {
  mb_tensor *source = random_matrix(MB_F32, 1500, 500), *a, *b;
  mb_tensor *others[2] = {random_matrix(MB_F32, 9, 8), random_matrix(MB_F32, 1500, 500)};
  CHECK_OK(mb_clone(&a, source));
  CHECK_OK(mb_clone(&b, source));
  double sigma_a[4], sigma_b[3 * 4], tau[3] = {(double)NAN, 10, (double)NAN};
  int threads = mb_threads();
  mb_tensor *first[2] = {others[0], a}, *second[3] = {others[1], b, others[0]};
  mb_rng_set(3, 4, 5);
  mb_spectral *plan = plan_of(first, 2, MB_SPECTRAL_RANDOMIZED, 4, 4, 1);
  double pair[2 * 4];
  CHECK_OK(mb_spectral_probe(plan, pair));
  memcpy(sigma_a, pair + 4, sizeof sigma_a);
  CHECK_OK(mb_spectral_clamp(plan, tau, NULL, NULL));
  mb_spectral_release(plan);
  CHECK_OK(mb_threads_set(threads == 1 ? 3 : 1));
  mb_rng_set(3, 4, 5);
  plan = plan_of(second, 3, MB_SPECTRAL_RANDOMIZED, 4, 4, 1);
  CHECK_OK(mb_spectral_probe(plan, sigma_b));
  CHECK_OK(mb_spectral_clamp(plan, tau, NULL, NULL));
  mb_spectral_release(plan);
  CHECK_OK(mb_threads_set(threads));
  for (int i = 0; i < 4; i++) CHECK(sigma_a[i] == sigma_b[4 + i]);
  CHECK(same_bits(a, b));
  uint64_t seed, step, stream;
  mb_rng_get(&seed, &step, &stream);
  CHECK_EQ(stream, 6); // one stream a probe
  mb_tensor_release(source), mb_tensor_release(a), mb_tensor_release(b), mb_tensor_release(others[0]), mb_tensor_release(others[1]);
}

static void set(mb_tensor *t, int64_t i, double value) {
  void *data;
  CHECK_OK(mb_tensor_data(&data, t));
  if (mb_tensor_dtype(t) == MB_F32) ((float *)data)[i] = (float)value;
  else ((double *)data)[i] = value;
}

static void bad_numbers_are_refused(void) {
  static const double bad[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
  for (int method = 0; method < 2; method++)
    for (int kind = 0; kind < 3; kind++)
      for (int which = 0; which < 4; which++) {
        mb_dtype dtype = which % 2 ? MB_F64 : MB_F32;
        mb_tensor *t[4] = {random_matrix(dtype, 20, 20), random_matrix(dtype, 1, 6), random_matrix(dtype, 20, 20),
                           random_matrix(dtype, 30, 31)};
        mb_tensor *before;
        CHECK_OK(mb_clone(&before, t[0]));
        set(t[which], 5, bad[kind]);
        set(t[3], 7, bad[kind]);
        mb_spectral *plan = plan_of(t, 4, (mb_spectral_method)method, 3, 2, 1);
        double sigma[4 * 64] = {42}, tau[4] = {1, 1, 1, 1};
        char text[64];
        snprintf(text, sizeof text, "matrix %d of shape (%d, ", which, (int[]){20, 1, 20, 30}[which]);
        CHECK_FAILS(MB_ERR_NONFINITE, text, mb_spectral_probe(plan, sigma));
        CHECK_FAILS(MB_ERR_NONFINITE, "first at element 5", mb_spectral_probe(plan, sigma));
        CHECK_EQ(mb_spectral_nonfinite(plan), which);
        CHECK(sigma[0] == 42);
        CHECK_FAILS(MB_ERR_STATE, "mb_spectral_probe first", mb_spectral_clamp(plan, tau, NULL, NULL));
        if (which != 0) CHECK(same_bits(t[0], before));
        set(t[which], 5, 0.5);
        set(t[3], 7, 0.5);
        CHECK_OK(mb_spectral_probe(plan, sigma));
        CHECK_EQ(mb_spectral_nonfinite(plan), -1);
        mb_spectral_release(plan);
        mb_tensor_release(before);
        for (int i = 0; i < 4; i++) mb_tensor_release(t[i]);
      }
}

static void misuse_is_refused(void) {
  mb_tensor *t = random_matrix(MB_F32, 6, 5), *turned, *ids;
  mb_spectral *plan;
  mb_spectral_options o = {MB_SPECTRAL_RANDOMIZED, 2, 1, 1, 0, 0};
  double sigma[10], tau = 1, target[2] = {1, (double)INFINITY};
  CHECK_OK(mb_transpose(&turned, t, 0, 1));
  CHECK_OK(mb_full(&ids, MB_I32, 2, (int64_t[]){2, 2}, MB_CPU, 1));
  CHECK_FAILS(MB_ERR_ARG, "options is NULL", mb_spectral_new(&plan, &t, 1, NULL));
  CHECK_FAILS(MB_ERR_ARG, "0 matrices", mb_spectral_new(&plan, &t, 0, &o));
  CHECK_FAILS(MB_ERR_ARG, "matrix 0 of shape (5, 6) is not contiguous", mb_spectral_new(&plan, &turned, 1, &o));
  CHECK_FAILS(MB_ERR_DTYPE, "matrix 0", mb_spectral_new(&plan, &ids, 1, &o));
  CHECK(plan == NULL);
  o.rank = 0;
  CHECK_FAILS(MB_ERR_ARG, "rank is 0", mb_spectral_new(&plan, &t, 1, &o));
  o = (mb_spectral_options){MB_SPECTRAL_RANDOMIZED, 2, -1, 1, 0, 0};
  CHECK_FAILS(MB_ERR_ARG, "oversample is -1", mb_spectral_new(&plan, &t, 1, &o));
  o = (mb_spectral_options){MB_SPECTRAL_RANDOMIZED, 2, 1, -3, 0, 0};
  CHECK_FAILS(MB_ERR_ARG, "power_iters is -3", mb_spectral_new(&plan, &t, 1, &o));
  o.method = (mb_spectral_method)9;
  CHECK_FAILS(MB_ERR_ARG, "method 9", mb_spectral_new(&plan, &t, 1, &o));
  plan = plan_of(&t, 1, MB_SPECTRAL_RANDOMIZED, 2, 1, 1);
  CHECK_FAILS(MB_ERR_STATE, "mb_spectral_probe first", mb_spectral_apply(plan, target));
  CHECK_FAILS(MB_ERR_ARG, "sigma is NULL", mb_spectral_probe(plan, NULL));
  CHECK_OK(mb_spectral_probe(plan, sigma));
  CHECK_FAILS(MB_ERR_ARG, "target 1 of matrix 0 is inf", mb_spectral_apply(plan, target));
  tau = -1;
  CHECK_FAILS(MB_ERR_ARG, "tau of matrix 0 is -1", mb_spectral_clamp(plan, &tau, NULL, NULL));
  tau = 0;
  CHECK_OK(mb_spectral_clamp(plan, &tau, NULL, NULL));
  CHECK_FAILS(MB_ERR_STATE, "mb_spectral_probe first", mb_spectral_clamp(plan, &tau, NULL, NULL));
  // A matrix that the tape still needs is not changed behind its back.
  mb_tensor *square;
  CHECK_OK(mb_set_requires_grad(t, 1));
  CHECK_OK(mb_mul(&square, t, t));
  CHECK_OK(mb_spectral_probe(plan, sigma));
  CHECK_FAILS(MB_ERR_STATE, "still needed", mb_spectral_clamp(plan, &tau, NULL, NULL));
  mb_tensor_discard(t, "the test says so");
  CHECK_FAILS(MB_ERR_STATE, "the test says so", mb_spectral_probe(plan, sigma));
  mb_spectral_release(plan);
  mb_spectral_release(NULL);
  mb_tensor_release(t), mb_tensor_release(turned), mb_tensor_release(ids), mb_tensor_release(square);
}

static void failing_allocations_leave_nothing(void) {
  mb_tensor *t[4] = {random_matrix(MB_F32, 40, 30), random_matrix(MB_F32, 8, 1), random_matrix(MB_F64, 12, 40),
                     random_matrix(MB_F32, 40, 30)};
  int64_t before = live();
  for (int method = 0; method < 2; method++)
    for (int64_t n = 1;; n++) {
      mb_spectral *plan = NULL;
      mb_spectral_options o = {(mb_spectral_method)method, 3, 2, 1, 0, 0};
      double sigma[4 * 40], tau[4] = {0.1, 0.1, 0.1, 0.1};
      mb_debug_fail_allocation(n);
      mb_status status = mb_spectral_new(&plan, t, 4, &o);
      CHECK(status == MB_OK || plan == NULL);
      if (status == MB_OK) status = mb_spectral_probe(plan, sigma);
      if (status == MB_OK) status = mb_spectral_clamp(plan, tau, NULL, NULL);
      mb_debug_fail_allocation(0);
      mb_spectral_release(plan);
      CHECK_EQ(live(), before);
      if (status == MB_OK) break;
      CHECK_EQ(status, MB_ERR_NOMEM);
      CHECK(n < 500);
    }
  for (int i = 0; i < 4; i++) mb_tensor_release(t[i]);
}

static void svd_puts_a_matrix_together_again(void) {
  static const int64_t cases[][3] = {{0, 7, 5}, {0, 5, 7}, {3, 40, 12}, {2, 12, 40}, {0, 1, 4}, {0, 4, 1}, {0, 1, 1}, {4, 30, 30}};
  for (int c = 0; c < 8; c++)
    for (int dtype = 0; dtype < 2; dtype++) {
      int64_t count = cases[c][0], m = cases[c][1], n = cases[c][2], k = m < n ? m : n, batch = count ? count : 1;
      mb_tensor *a, *u, *s, *v, *values, *left, *row, *us, *back, *gram;
      int64_t shape[3] = {count, m, n};
      CHECK_OK(mb_randn(&a, (mb_dtype)dtype, count ? 3 : 2, count ? shape : shape + 1, MB_CPU));
      CHECK_OK(mb_svd(&u, &s, &v, a));
      CHECK_OK(mb_svdvals(&values, a));
      CHECK_EQ(mb_tensor_ndim(u), count ? 3 : 2);
      CHECK_EQ(mb_tensor_ndim(s), count ? 2 : 1);
      double tolerance = dtype == MB_F32 ? 2e-5 : 1e-12, *x = doubles_of(s), *y = doubles_of(values);
      for (int64_t i = 0; i < batch * k; i++) {
        CHECK_NEAR(x[i], y[i], tolerance);
        CHECK(i % k == 0 || x[i] <= x[i - 1]);
      }
      CHECK_OK(mb_reshape(&row, s, 3, (int64_t[]){batch, 1, k}));
      CHECK_OK(mb_reshape(&left, u, 3, (int64_t[]){batch, m, k}));
      CHECK_OK(mb_mul(&us, left, row));
      CHECK_OK(mb_matmul(&back, us, v, 0, 1));
      double *wanted = doubles_of(a);
      CHECK(distance_of(back, wanted) <= tolerance * (double)(m + n));
      CHECK_OK(mb_matmul(&gram, v, v, 1, 0));
      double *g = doubles_of(gram);
      for (int64_t i = 0; i < batch * k * k; i++) CHECK_NEAR(g[i], i / k % k == i % k ? 1 : 0, tolerance);
      free(x), free(y), free(wanted), free(g);
      mb_tensor *all[] = {a, u, s, v, values, left, row, us, back, gram};
      for (int i = 0; i < 10; i++) mb_tensor_release(all[i]);
    }
  mb_tensor *flat, *u, *s, *v, *a = random_matrix(MB_F32, 4, 4);
  CHECK_OK(mb_full(&flat, MB_F32, 1, (int64_t[]){3}, MB_CPU, 1));
  CHECK_FAILS(MB_ERR_SHAPE, "(3)", mb_svd(&u, &s, &v, flat));
  CHECK(u == NULL && s == NULL && v == NULL);
  set(a, 9, (double)NAN);
  CHECK_FAILS(MB_ERR_NONFINITE, "element 9", mb_svdvals(&s, a));
  mb_tensor_release(flat), mb_tensor_release(a);
}

static void squares_are_summed(void) {
  mb_tensor *a = random_matrix(MB_F32, 37, 21), *b = random_matrix(MB_F64, 5, 3), *turned, *all[3];
  CHECK_OK(mb_transpose(&turned, a, 0, 1));
  all[0] = a, all[1] = b, all[2] = turned;
  double sums[3], wanted[2] = {0, 0};
  CHECK_OK(mb_sum_squares(sums, all, 3));
  for (int i = 0; i < 2; i++) {
    double *x = doubles_of(all[i]);
    for (int64_t j = 0; j < mb_tensor_numel(all[i]); j++) wanted[i] += x[j] * x[j];
    free(x);
    CHECK_NEAR(sums[i], wanted[i], 1e-12 * wanted[i]);
  }
  CHECK_NEAR(sums[2], wanted[0], 1e-12 * wanted[0]);
  mb_tensor *ids;
  CHECK_OK(mb_full(&ids, MB_I32, 1, (int64_t[]){3}, MB_CPU, 1));
  all[1] = ids;
  CHECK_FAILS(MB_ERR_DTYPE, "tensor 1", mb_sum_squares(sums, all, 2));
  CHECK_FAILS(MB_ERR_ARG, "0 tensors", mb_sum_squares(sums, all, 0));
  mb_tensor_release(a), mb_tensor_release(b), mb_tensor_release(turned), mb_tensor_release(ids);
}

int main(void) {
  seed_start();
  mb_rng_seed(seed_state);
  int64_t before = live();
  what_fits_is_not_touched();
  saturation_is_reported();
  neighbours_do_not_matter();
  bad_numbers_are_refused();
  misuse_is_refused();
  failing_allocations_leave_nothing();
  CHECK_EQ(live(), before);
  svd_puts_a_matrix_together_again();
  squares_are_summed();
  return check_end();
}
