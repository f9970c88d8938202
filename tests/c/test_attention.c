// SPDX-License-Identifier: MIT
//
// test_attention.c: both forms of causal attention, values and gradients, against the definition computed in
// double with whole (T, T) matrices; finite differences check that definition's own gradient.
// ctest repeats it with every instruction set.
#include "check.h"
#include "seed.h"

enum { MOST = 200000 };

typedef struct sizes {
  int64_t b, t, h, d;
} sizes;

static double q[MOST], k[MOST], v[MOST], o[MOST], go[MOST], gq[MOST], gk[MOST], gv[MOST];

// Offset of (b, t, h, 0) in a (B, T, H, D) array.
static int64_t at(sizes s, int64_t b, int64_t t, int64_t h) { return ((b * s.t + t) * s.h + h) * s.d; }

// out = softmax(scale q k^T) v, and with `backward` the gradients of sum(go out).
static void reference(sizes s, double scale, double *out, int backward) {
  static double p[2048], dp[2048];
  if (backward) memset(gq, 0, sizeof gq), memset(gk, 0, sizeof gk), memset(gv, 0, sizeof gv);
  for (int64_t b = 0; b < s.b; b++)
    for (int64_t h = 0; h < s.h; h++)
      for (int64_t i = 0; i < s.t; i++) {
        double *qi = q + at(s, b, i, h), most = -INFINITY, sum = 0, inner = 0;
        for (int64_t j = 0; j <= i; j++) {
          double score = 0;
          for (int64_t d = 0; d < s.d; d++) score += qi[d] * k[at(s, b, j, h) + d];
          p[j] = scale * score;
          most = p[j] > most ? p[j] : most;
        }
        for (int64_t j = 0; j <= i; j++) sum += p[j] = exp(p[j] - most);
        for (int64_t d = 0; d < s.d; d++) out[at(s, b, i, h) + d] = 0;
        for (int64_t j = 0; j <= i; j++) {
          p[j] /= sum;
          for (int64_t d = 0; d < s.d; d++) out[at(s, b, i, h) + d] += p[j] * v[at(s, b, j, h) + d];
        }
        if (!backward) continue;
        const double *g = go + at(s, b, i, h);
        for (int64_t j = 0; j <= i; j++) {
          dp[j] = 0;
          for (int64_t d = 0; d < s.d; d++) dp[j] += g[d] * v[at(s, b, j, h) + d], gv[at(s, b, j, h) + d] += p[j] * g[d];
          inner += p[j] * dp[j];
        }
        for (int64_t j = 0; j <= i; j++)
          for (int64_t d = 0; d < s.d; d++) {
            double ds = scale * p[j] * (dp[j] - inner);
            gq[at(s, b, i, h) + d] += ds * k[at(s, b, j, h) + d];
            gk[at(s, b, j, h) + d] += ds * qi[d];
          }
      }
}

static void fill(sizes s, double spread) {
  double *all[] = {q, k, v, go};
  for (int i = 0; i < 4; i++)
    for (int64_t n = 0; n < s.b * s.t * s.h * s.d; n++) all[i][n] = (float)seed_between(-spread, spread);
}

// The reference's gradient against central differences of the reference's value.
static void the_reference_agrees_with_differences(void) {
  sizes s = {2, 5, 2, 3};
  int64_t n = s.b * s.t * s.h * s.d;
  static double high[MOST], low[MOST];
  fill(s, 1);
  reference(s, 0.7, o, 1);
  double *inputs[] = {q, k, v}, *gradients[] = {gq, gk, gv};
  for (int which = 0; which < 3; which++)
    for (int64_t i = 0; i < n; i++) {
      double kept = inputs[which][i], step = 1e-6, sum = 0;
      inputs[which][i] = kept + step;
      reference(s, 0.7, high, 0);
      inputs[which][i] = kept - step;
      reference(s, 0.7, low, 0);
      inputs[which][i] = kept;
      for (int64_t j = 0; j < n; j++) sum += go[j] * (high[j] - low[j]);
      CHECK_NEAR(gradients[which][i], sum / (2 * step), 1e-8);
    }
}

// How the four axes of an input lie in memory.
enum order { BTHD, BHTD, PADDED, STRIDED, ORDERS };

// A leaf (B, T, H, D) with the given values.
static mb_tensor *leaf(mb_dtype dtype, sizes s, const double *values, enum order order) {
  static double wide[4 * MOST];
  static float singles[4 * MOST];
  int64_t shape[4] = {s.b, s.t, s.h, s.d}, stride = order == STRIDED ? 2 : 1, width = order == PADDED ? s.d + 5 : s.d * stride, n = 0;
  if (order == BHTD) shape[1] = s.h, shape[2] = s.t;
  shape[3] = width;
  for (int64_t b = 0; b < shape[0]; b++)
    for (int64_t x = 0; x < shape[1]; x++)
      for (int64_t y = 0; y < shape[2]; y++)
        for (int64_t d = 0; d < width; d++, n++) {
          int is_value = order == PADDED ? d < s.d : d % stride == 0;
          wide[n] = is_value ? values[at(s, b, order == BHTD ? y : x, order == BHTD ? x : y) + d / stride] : (double)NAN;
          singles[n] = (float)wide[n];
        }
  mb_tensor *base, *t;
  CHECK_OK(mb_from_host(&base, dtype, 4, shape, MB_CPU, dtype == MB_F32 ? (void *)singles : (void *)wide));
  if (order == BHTD) CHECK_OK(mb_transpose(&t, base, 1, 2));
  else CHECK_OK(mb_slice(&t, base, 3, 0, order == PADDED ? s.d : width, stride));
  mb_tensor_release(base);
  CHECK_OK(mb_set_requires_grad(t, 1));
  return t;
}

static void expect(mb_tensor *t, const double *values, int64_t count, double tolerance, const char *what) {
  static double found[MOST];
  static float singles[MOST];
  CHECK_EQ(mb_tensor_numel(t), count);
  int single = mb_tensor_dtype(t) == MB_F32;
  CHECK_OK(mb_tensor_to_host(single ? (void *)singles : (void *)found, t));
  for (int64_t i = 0; i < count; i++) {
    double x = single ? (double)singles[i] : found[i];
    if (!(fabs(x - values[i]) <= tolerance * (1 + fabs(values[i])))) {
      fprintf(stderr, "%s: element %lld is %.17g, not %.17g\n", what, (long long)i, x, values[i]);
      exit(1);
    }
  }
  check_count++;
}

static void expect_gradient(mb_tensor *t, const double *values, int64_t count, double tolerance, const char *what) {
  mb_tensor *g;
  CHECK_OK(mb_grad(&g, t));
  CHECK(g != NULL);
  expect(g, values, count, tolerance, what);
  mb_tensor_release(g);
}

static void backward(mb_tensor *out) {
  static float singles[MOST];
  int64_t n = mb_tensor_numel(out);
  for (int64_t i = 0; i < n; i++) singles[i] = (float)go[i];
  mb_tensor *seed;
  CHECK_OK(mb_from_host(&seed, mb_tensor_dtype(out), mb_tensor_ndim(out), mb_tensor_shape(out), MB_CPU,
                        mb_tensor_dtype(out) == MB_F32 ? (void *)singles : (void *)go));
  CHECK_OK(mb_backward(out, seed));
  mb_tensor_release(seed);
}

static void apart(mb_dtype dtype, sizes s, double scale, enum order order, double tolerance) {
  int64_t n = s.b * s.t * s.h * s.d;
  mb_tensor *tq = leaf(dtype, s, q, order), *tk = leaf(dtype, s, k, (order + 1) % ORDERS), *tv = leaf(dtype, s, v, (order + 2) % ORDERS);
  mb_tensor *out;
  CHECK_OK(mb_attention(&out, tq, tk, tv, scale));
  expect(out, o, n, tolerance, "o");
  backward(out);
  expect_gradient(tq, gq, n, tolerance, "dq");
  expect_gradient(tk, gk, n, tolerance, "dk");
  expect_gradient(tv, gv, n, tolerance, "dv");
  mb_tensor_release(tq), mb_tensor_release(tk), mb_tensor_release(tv), mb_tensor_release(out);
}

static void packed(mb_dtype dtype, sizes s, double scale, int is_view) {
  static double all[3 * MOST], dall[3 * MOST];
  static float singles[3 * MOST];
  const double *parts[] = {q, k, v}, *gradients[] = {gq, gk, gv};
  double tolerance = dtype == MB_F32 ? 1e-5 : 1e-12;
  int64_t c = s.h * s.d, rows = s.b * s.t;
  for (int64_t r = 0; r < rows; r++)
    for (int part = 0; part < 3; part++) {
      memcpy(all + (r * 3 + part) * c, parts[part] + r * c, (size_t)c * sizeof(double));
      memcpy(dall + (r * 3 + part) * c, gradients[part] + r * c, (size_t)c * sizeof(double));
    }
  for (int64_t i = 0; i < rows * 3 * c; i++) singles[i] = (float)all[i];
  mb_tensor *x, *out, *copy = NULL;
  CHECK_OK(mb_from_host(&x, dtype, 3, (int64_t[]){s.b, s.t, 3 * c}, MB_CPU, dtype == MB_F32 ? (void *)singles : (void *)all));
  if (is_view) { // the same values, time before batch in memory
    mb_tensor *swapped, *dense;
    CHECK_OK(mb_transpose(&swapped, x, 0, 1));
    CHECK_OK(mb_contiguous(&dense, swapped));
    CHECK_OK(mb_transpose(&copy, dense, 0, 1));
    mb_tensor_release(swapped), mb_tensor_release(dense), mb_tensor_release(x);
    x = copy;
  }
  CHECK_OK(mb_set_requires_grad(x, 1));
  CHECK_OK(mb_attention_packed(&out, x, s.h, scale));
  CHECK_EQ(mb_tensor_ndim(out), 3);
  CHECK_EQ(mb_tensor_shape(out)[2], c);
  expect(out, o, rows * c, tolerance, "packed o");
  backward(out);
  mb_tensor *g;
  CHECK_OK(mb_grad(&g, x));
  CHECK_EQ(mb_tensor_numel(g), rows * 3 * c);
  static double found[3 * MOST];
  if (dtype == MB_F64) {
    CHECK_OK(mb_tensor_to_host(found, g));
  } else {
    CHECK_OK(mb_tensor_to_host(singles, g));
    for (int64_t i = 0; i < rows * 3 * c; i++) found[i] = (double)singles[i];
  }
  for (int64_t i = 0; i < rows * 3 * c; i++) CHECK_NEAR(found[i], dall[i], tolerance * (1 + fabs(dall[i])));
  mb_tensor_release(g), mb_tensor_release(x), mb_tensor_release(out);
}

static void values_and_gradients(void) {
  static const sizes cases[] = {{1, 1, 1, 1},   {2, 3, 2, 4},    {1, 31, 1, 5},  {2, 33, 3, 8},   {1, 64, 2, 16},
                                {1, 65, 1, 17}, {1, 7, 2, 64},   {1, 129, 1, 32}, {2, 100, 2, 33}, {1, 40, 1, 80},
                                {1, 20, 1, 256}, {3, 16, 1, 48}, {1, 300, 1, 64}, {1, 70, 1, 3}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    sizes s = cases[i];
    double wish = i % 3 == 2 ? -0.4 : 0, scale = wish != 0 ? wish : 1 / sqrt((double)s.d); // 0 asks for 1 / sqrt(D)
    fill(s, 1);
    reference(s, scale, o, 1);
    for (int dtype = MB_F32; dtype <= MB_F64; dtype++) {
      for (int order = 0; order < ORDERS; order++) apart((mb_dtype)dtype, s, wish, (enum order)order, dtype == MB_F32 ? 1e-5 : 1e-12);
      for (int is_view = 0; is_view < 2; is_view++) packed((mb_dtype)dtype, s, wish, is_view);
    }
  }
}

// Scores in the hundreds: exp would overflow without the maximum taken off. Their own rounding errors are
// some 1e-13, and come out times the gradients' size.
static void large_scores(void) {
  sizes s = {1, 50, 2, 16};
  fill(s, 10);
  reference(s, 1, o, 1);
  apart(MB_F64, s, 1, BTHD, 1e-10);
}

// What comes later changes nothing before it, bit for bit.
static void the_future_is_not_seen(void) {
  sizes s = {1, 77, 1, 32};
  int64_t n = s.t * s.d;
  static double first[MOST], second[MOST];
  fill(s, 1);
  for (int pass = 0; pass < 2; pass++) {
    mb_tensor *tq = leaf(MB_F64, s, q, BTHD), *tk = leaf(MB_F64, s, k, BTHD), *tv = leaf(MB_F64, s, v, BTHD), *out;
    CHECK_OK(mb_attention(&out, tq, tk, tv, 0));
    CHECK_OK(mb_tensor_to_host(pass ? second : first, out));
    mb_tensor_release(tq), mb_tensor_release(tk), mb_tensor_release(tv), mb_tensor_release(out);
    for (int64_t i = 41 * s.d; i < n; i++) q[i] += 1, k[i] -= 5, v[i] *= 3;
  }
  CHECK(memcmp(first, second, (size_t)(41 * s.d) * sizeof(double)) == 0);
  CHECK(memcmp(first, second, (size_t)n * sizeof(double)) != 0);
}

static void threads_change_nothing(void) {
  sizes s = {2, 70, 3, 24};
  int64_t n = s.b * s.t * s.h * s.d;
  static float values[2][2][MOST];
  fill(s, 1);
  for (int threads = 1; threads <= 3; threads += 2) {
    CHECK_OK(mb_threads_set(threads));
    mb_tensor *tq = leaf(MB_F32, s, q, BTHD), *tk = leaf(MB_F32, s, k, BTHD), *tv = leaf(MB_F32, s, v, BTHD), *out, *g;
    CHECK_OK(mb_attention(&out, tq, tk, tv, 0));
    CHECK_OK(mb_tensor_to_host(values[threads / 2][0], out));
    backward(out);
    CHECK_OK(mb_grad(&g, tk));
    CHECK_OK(mb_tensor_to_host(values[threads / 2][1], g));
    mb_tensor_release(tq), mb_tensor_release(tk), mb_tensor_release(tv), mb_tensor_release(out), mb_tensor_release(g);
  }
  CHECK(memcmp(values[0][0], values[1][0], (size_t)n * sizeof(float)) == 0);
  CHECK(memcmp(values[0][1], values[1][1], (size_t)n * sizeof(float)) == 0);
}

// Only what is asked for is computed; the rest has no gradient.
static void one_input_wants_a_gradient(void) {
  sizes s = {1, 9, 2, 6};
  int64_t n = s.t * s.h * s.d;
  fill(s, 1);
  reference(s, 0.3, o, 1);
  const double *gradients[] = {gq, gk, gv};
  for (int which = 0; which < 3; which++) {
    mb_tensor *x[3] = {leaf(MB_F64, s, q, BTHD), leaf(MB_F64, s, k, BTHD), leaf(MB_F64, s, v, BTHD)}, *out, *none;
    for (int i = 0; i < 3; i++) CHECK_OK(mb_set_requires_grad(x[i], i == which));
    CHECK_OK(mb_attention(&out, x[0], x[1], x[2], 0.3));
    backward(out);
    expect_gradient(x[which], gradients[which], n, 1e-12, "one gradient");
    CHECK_OK(mb_grad(&none, x[(which + 1) % 3]));
    CHECK(none == NULL);
    for (int i = 0; i < 3; i++) mb_tensor_release(x[i]);
    mb_tensor_release(out);
  }
}

static void wrong_calls_are_refused(void) {
  mb_tensor *a, *b, *c, *p, *out;
  CHECK_OK(mb_full(&a, MB_F32, 4, (int64_t[]){1, 4, 2, 8}, MB_CPU, 0));
  CHECK_OK(mb_full(&b, MB_F32, 4, (int64_t[]){1, 5, 2, 8}, MB_CPU, 0));
  CHECK_OK(mb_full(&c, MB_F64, 4, (int64_t[]){1, 4, 2, 8}, MB_CPU, 0));
  CHECK_OK(mb_full(&p, MB_F32, 3, (int64_t[]){1, 4, 48}, MB_CPU, 0));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_attention: q is (1, 4, 2, 8), k is (1, 5, 2, 8)", mb_attention(&out, a, b, a, 0));
  CHECK(out == NULL);
  CHECK_FAILS(MB_ERR_SHAPE, "one shape (B, T, H, D) was expected", mb_attention(&out, p, p, p, 0));
  CHECK_FAILS(MB_ERR_DTYPE, "mb_attention", mb_attention(&out, a, a, c, 0));
  CHECK_FAILS(MB_ERR_ARG, "scale is nan", mb_attention(&out, a, a, a, NAN));
  CHECK_FAILS(MB_ERR_SHAPE, "so C is 16, which 3 heads do not divide", mb_attention_packed(&out, p, 3, 0));
  CHECK_FAILS(MB_ERR_ARG, "n_head is 0", mb_attention_packed(&out, p, 0, 0));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_attention_packed: qkv is (1, 4, 2, 8), (B, T, 3 C) was expected", mb_attention_packed(&out, a, 1, 0));
  CHECK(out == NULL);
  mb_tensor_release(a), mb_tensor_release(b), mb_tensor_release(c), mb_tensor_release(p);
}

static int64_t live(void) {
  mb_memory_stats stats;
  mb_memory(&stats);
  return stats.live_tensors;
}

// Every allocation of forward and backward fails once: a status, no result, nothing left behind.
static void memory_may_run_out(void) {
  sizes s = {1, 6, 2, 3};
  fill(s, 1);
  mb_tensor *x[3] = {leaf(MB_F64, s, q, STRIDED), leaf(MB_F64, s, k, STRIDED), leaf(MB_F64, s, v, BHTD)};
  mb_tensor *all, *seed, *seed3, *out, *packed_out;
  CHECK_OK(mb_full(&all, MB_F64, 3, (int64_t[]){1, 6, 18}, MB_CPU, 0.5));
  CHECK_OK(mb_full(&seed, MB_F64, 4, (int64_t[]){1, 6, 2, 3}, MB_CPU, 1));
  CHECK_OK(mb_full(&seed3, MB_F64, 3, (int64_t[]){1, 6, 6}, MB_CPU, 1));
  CHECK_OK(mb_set_requires_grad(all, 1));
  int64_t before = live(), failures = 0;
  for (int64_t n = 1;; n++, failures++) {
    mb_debug_fail_allocation(n);
    packed_out = NULL;
    mb_status status = mb_attention(&out, x[0], x[1], x[2], 0);
    CHECK((status == MB_OK) == (out != NULL));
    if (status == MB_OK) {
      status = mb_attention_packed(&packed_out, all, 2, 0);
      CHECK((status == MB_OK) == (packed_out != NULL));
    }
    if (status == MB_OK) status = mb_backward(out, seed);
    if (status == MB_OK) status = mb_backward(packed_out, seed3);
    mb_debug_fail_allocation(0);
    mb_tensor_release(out), mb_tensor_release(packed_out);
    if (status == MB_OK) break;
    CHECK_EQ(status, MB_ERR_NOMEM);
    CHECK(live() <= before + 4); // the leaves may have their gradients by now
  }
  CHECK(failures > 10);
  for (int i = 0; i < 3; i++) mb_tensor_release(x[i]);
  mb_tensor_release(all), mb_tensor_release(seed), mb_tensor_release(seed3);
}

int main(void) {
  seed_start();
  mb_memory_stats before, after;
  mb_memory(&before);
  the_reference_agrees_with_differences();
  values_and_gradients();
  large_scores();
  the_future_is_not_seen();
  one_input_wants_a_gradient();
  wrong_calls_are_refused();
  memory_may_run_out();
  threads_change_nothing();
  mb_memory(&after);
  CHECK_EQ(after.live_tensors, before.live_tensors);
  return check_end();
}
