// SPDX-License-Identifier: MIT
//
// test_reduce.c: sums and extremes of views of every layout over every set of dimensions, against loops
// that index element by element; big ones with one thread and with many, bit by bit.
#include <stdint.h>

#include "check.h"

enum { MOST_OUTPUTS = 1 << 17 };

static mb_tensor *random_tensor(mb_dtype dtype, int ndim, const int64_t *shape) {
  mb_tensor *t;
  CHECK_OK(mb_randn(&t, dtype, ndim, shape, MB_CPU));
  return t;
}

static double element(const mb_tensor *t, const void *data, int64_t offset) {
  return mb_tensor_dtype(t) == MB_F32 ? (double)((const float *)data)[offset] : ((const double *)data)[offset];
}

typedef struct extremes {
  double sum, sum_of_sizes, max, min; // sum_of_sizes = sum |x|, which bounds the rounding error
  int64_t count;
} extremes;

// Walks all elements by their indices; one result for each index of the kept dimensions, row-major.
static int64_t by_hand(extremes *out, mb_tensor *t, unsigned set) {
  int ndim = mb_tensor_ndim(t);
  const int64_t *size = mb_tensor_shape(t), *stride = mb_tensor_stride(t);
  void *data;
  CHECK_OK(mb_tensor_data(&data, t));
  int64_t outputs = 1, numel = mb_tensor_numel(t);
  for (int d = 0; d < ndim; d++)
    if (!(set >> d & 1)) outputs *= size[d];
  CHECK(outputs <= MOST_OUTPUTS);
  for (int64_t i = 0; i < outputs; i++) out[i] = (extremes){0, 0, -INFINITY, INFINITY, 0};
  for (int64_t i = 0; i < numel; i++) {
    int64_t rest = i, offset = 0, place = 0, step = 1;
    for (int d = ndim - 1; d >= 0; d--) {
      int64_t at = rest % size[d];
      rest /= size[d];
      offset += at * stride[d];
      if (!(set >> d & 1)) place += at * step, step *= size[d];
    }
    double x = element(t, data, offset);
    extremes *e = &out[place];
    e->sum += x, e->sum_of_sizes += fabs(x), e->count++;
    if (x > e->max) e->max = x;
    if (x < e->min) e->min = x;
  }
  return outputs;
}

static void check_one(mb_tensor *t, unsigned set) {
  static extremes want[MOST_OUTPUTS];
  static double got[MOST_OUTPUTS];
  int dims[MB_MAX_DIMS], n = 0;
  for (int d = 0; d < mb_tensor_ndim(t); d++)
    if (set >> d & 1) dims[n++] = d;
  int64_t outputs = by_hand(want, t, set);
  double unit = mb_tensor_dtype(t) == MB_F32 ? 6e-8 : 3e-16;
  mb_status (*const functions[4])(mb_tensor **, mb_tensor *, int, const int *, int) = {mb_sum, mb_mean, mb_max, mb_min};
  for (int f = 0; f < 4; f++) {
    mb_tensor *out, *wide;
    CHECK_OK(functions[f](&out, t, n, dims, f % 2));
    CHECK_EQ(mb_tensor_numel(out), outputs);
    CHECK_EQ(mb_tensor_ndim(out), f % 2 ? mb_tensor_ndim(t) : mb_tensor_ndim(t) - n);
    CHECK_OK(mb_cast(&wide, out, MB_F64));
    CHECK_OK(mb_tensor_to_host(got, wide));
    for (int64_t i = 0; i < outputs; i++) {
      const extremes *w = &want[i];
      double expected = f == 0 ? w->sum : f == 1 ? w->sum / (double)w->count : f == 2 ? w->max : w->min;
      double scale = f == 1 ? w->sum_of_sizes / (double)w->count : w->sum_of_sizes;
      // Sums are kept in float64: what is left is float64's rounding, and one rounding to the dtype.
      double tolerance = f >= 2 ? 0 : unit * fabs(expected) + 1.2e-16 * (double)w->count * scale;
      CHECK_NEAR(got[i], expected, tolerance);
    }
    mb_tensor_release(out), mb_tensor_release(wide);
  }
}

static void every_set_of_every_layout(mb_dtype dtype) {
  static const int64_t shapes[][4] = {{3, 5, 7, 2}, {1, 4, 1, 9}, {70, 3, 2, 65}, {2, 1, 130, 3}, {1, 1, 1, 1}, {5, 67, 4, 8}};
  static const int orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {0, 2, 1, 3}, {1, 0, 3, 2}, {2, 3, 0, 1}};
  for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
    for (size_t o = 0; o < sizeof orders / sizeof orders[0]; o++) {
      mb_tensor *base = random_tensor(dtype, 4, shapes[s]), *view, *gaps;
      CHECK_OK(mb_permute(&view, base, 4, orders[o]));
      CHECK_OK(mb_slice(&gaps, view, 3, 0, mb_tensor_shape(view)[3], 2));
      for (unsigned set = 1; set < 16; set++) {
        check_one(view, set);
        check_one(gaps, set);
      }
      mb_tensor_release(base), mb_tensor_release(view), mb_tensor_release(gaps);
    }
}

static void expanded_and_scalar(void) {
  mb_tensor *base = random_tensor(MB_F64, 2, (int64_t[]){3, 1}), *wide, *scalar, *out;
  CHECK_OK(mb_expand(&wide, base, 3, (int64_t[]){4, 3, 100}));
  for (unsigned set = 1; set < 8; set++) check_one(wide, set);
  CHECK_OK(mb_full(&scalar, MB_F64, 0, NULL, MB_CPU, 2.5));
  double x;
  CHECK_OK(mb_sum(&out, scalar, 0, NULL, 0));
  CHECK_OK(mb_tensor_item(&x, out));
  CHECK_NEAR(x, 2.5, 0);
  mb_tensor_release(base), mb_tensor_release(wide), mb_tensor_release(scalar), mb_tensor_release(out);
}

// Shapes at which work is shared among threads in each of the ways the kernels know.
static void threads_change_no_bit(mb_dtype dtype) {
  static const struct {
    int64_t rows, columns;
    int dim;
  } cases[] = {{1, 1000003, 1}, {1000, 777, 1}, {1000, 777, 0}, {100003, 3, 0}, {3, 100003, 1}, {7, 65537, 0}, {300000, 1, 0}};
  int threads = mb_threads();
  for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
    mb_tensor *t = random_tensor(dtype, 2, (int64_t[]){cases[c].rows, cases[c].columns});
    check_one(t, 1u << cases[c].dim);
    for (int f = 0; f < 3; f++) {
      static unsigned char one[8 * MOST_OUTPUTS], many[8 * MOST_OUTPUTS];
      mb_tensor *out;
      for (int pass = 0; pass < 2; pass++) {
        CHECK_OK(mb_threads_set(pass == 0 ? 1 : 4));
        if (f == 0) CHECK_OK(mb_sum(&out, t, 1, &cases[c].dim, 0));
        else if (f == 1) CHECK_OK(mb_max(&out, t, 1, &cases[c].dim, 0));
        else CHECK_OK(mb_argmax(&out, t, cases[c].dim, 0));
        CHECK_OK(mb_tensor_to_host(pass == 0 ? one : many, out));
        size_t bytes = (size_t)mb_tensor_numel(out) * (mb_tensor_dtype(out) == MB_F64 ? 8 : 4);
        if (pass == 1) CHECK(memcmp(one, many, bytes) == 0);
        mb_tensor_release(out);
      }
    }
    CHECK_OK(mb_threads_set(threads));
    mb_tensor_release(t);
  }
}

// Of several equal extremes the first counts; a NaN is more extreme than any number.
static void ties_and_nan(mb_dtype dtype) {
  for (int64_t n = 1; n <= 300; n += 13)
    for (int64_t at = 0; at < n; at += 5)
      for (int with_nan = 0; with_nan < 2; with_nan++) {
        mb_tensor *wide, *t, *index, *best;
        double values[320];
        for (int64_t i = 0; i < n; i++) values[i] = i >= at && i % 3 == at % 3 ? 5 : (double)(i % 4);
        if (with_nan) values[at] = NAN;
        CHECK_OK(mb_from_host(&wide, MB_F64, 1, &n, MB_CPU, values));
        CHECK_OK(mb_cast(&t, wide, dtype));
        CHECK_OK(mb_argmax(&index, t, 0, 0));
        double place, value;
        CHECK_OK(mb_tensor_item(&place, index));
        CHECK_NEAR(place, (double)at, 0);
        CHECK_OK(mb_max(&best, t, 0, NULL, 0));
        CHECK_OK(mb_tensor_item(&value, best));
        if (with_nan) CHECK(isnan(value));
        else CHECK_NEAR(value, 5, 0);
        mb_tensor_release(wide), mb_tensor_release(t), mb_tensor_release(index), mb_tensor_release(best);
      }
}

static void ties_and_nan_down_columns(mb_dtype dtype) {
  enum { ROWS = 9, COLUMNS = 70 };
  double values[ROWS * COLUMNS];
  for (int r = 0; r < ROWS; r++)
    for (int c = 0; c < COLUMNS; c++) values[r * COLUMNS + c] = r >= c % ROWS ? 2 : r % 2;
  values[5 * COLUMNS + 4] = NAN;
  values[7 * COLUMNS + 4] = NAN;
  mb_tensor *wide, *t, *index;
  CHECK_OK(mb_from_host(&wide, MB_F64, 2, (int64_t[]){ROWS, COLUMNS}, MB_CPU, values));
  CHECK_OK(mb_cast(&t, wide, dtype));
  CHECK_OK(mb_argmax(&index, t, 0, 1));
  CHECK_EQ(mb_tensor_ndim(index), 2);
  int32_t got[COLUMNS];
  CHECK_OK(mb_tensor_to_host(got, index));
  for (int c = 0; c < COLUMNS; c++) CHECK_EQ(got[c], c == 4 ? 5 : c % ROWS);
  mb_tensor_release(wide), mb_tensor_release(t), mb_tensor_release(index);
}

static void infinities(void) {
  mb_tensor *t, *out;
  double value;
  CHECK_OK(mb_full(&t, MB_F32, 1, (int64_t[]){100}, MB_CPU, -(double)INFINITY));
  CHECK_OK(mb_max(&out, t, 0, NULL, 0));
  CHECK_OK(mb_tensor_item(&value, out));
  CHECK(value == -(double)INFINITY);
  mb_tensor_release(out);
  CHECK_OK(mb_argmax(&out, t, 0, 0));
  CHECK_OK(mb_tensor_item(&value, out));
  CHECK_NEAR(value, 0, 0);
  mb_tensor_release(t), mb_tensor_release(out);
}

static void gradients(void) {
  mb_tensor *x = random_tensor(MB_F64, 2, (int64_t[]){2, 3}), *y, *z, *g;
  CHECK_OK(mb_tensor_from_host(x, (double[]){1, 5, 5, 9, 2, 9}));
  CHECK_OK(mb_set_requires_grad(x, 1));
  double got[6];
  static const double want[2][6] = {{0, 1, 0, 1, 0, 0}, {0.5, 1.5, 0.5, 1.5, 0.5, 0.5}};
  CHECK_OK(mb_max(&y, x, 1, (int[]){-1}, 1)); // to the first of equals
  CHECK_OK(mb_sum(&z, y, 0, NULL, 0));
  CHECK_OK(mb_backward(z, NULL));
  CHECK_OK(mb_grad(&g, x));
  CHECK_OK(mb_tensor_to_host(got, g));
  for (int i = 0; i < 6; i++) CHECK_NEAR(got[i], want[0][i], 0);
  mb_tensor_release(y), mb_tensor_release(z), mb_tensor_release(g);
  CHECK_OK(mb_mean(&y, x, 1, (int[]){0}, 0));
  CHECK_OK(mb_sum(&z, y, 0, NULL, 1));
  CHECK_OK(mb_backward(z, NULL)); // adds to what is there
  CHECK_OK(mb_grad(&g, x));
  CHECK_OK(mb_tensor_to_host(got, g));
  for (int i = 0; i < 6; i++) CHECK_NEAR(got[i], want[1][i], 0);
  mb_tensor_release(x), mb_tensor_release(y), mb_tensor_release(z), mb_tensor_release(g);
}

static void refusals(void) {
  mb_tensor *t = random_tensor(MB_F32, 2, (int64_t[]){2, 3}), *ints, *out;
  CHECK_FAILS(MB_ERR_ARG, "mb_sum: dimension 2 does not exist, the tensor has 2", mb_sum(&out, t, 1, (int[]){2}, 0));
  CHECK_FAILS(MB_ERR_ARG, "mb_mean: dimension -1 is given twice", mb_mean(&out, t, 2, (int[]){1, -1}, 0));
  CHECK_FAILS(MB_ERR_ARG, "mb_max: 7 dimensions", mb_max(&out, t, 7, (int[]){0, 0, 0, 0, 0, 0, 0}, 0));
  CHECK_FAILS(MB_ERR_ARG, "mb_argmax: dimension 5", mb_argmax(&out, t, 5, 0));
  CHECK_OK(mb_cast(&ints, t, MB_I32));
  CHECK_FAILS(MB_ERR_DTYPE, "mb_min: a is i32, a floating dtype was expected", mb_min(&out, ints, 0, NULL, 0));
  CHECK(out == NULL);
  mb_tensor_release(t), mb_tensor_release(ints);
}

int main(void) {
  mb_rng_seed(2);
  for (int dtype = MB_F32; dtype <= MB_F64; dtype++) {
    every_set_of_every_layout((mb_dtype)dtype);
    threads_change_no_bit((mb_dtype)dtype);
    ties_and_nan((mb_dtype)dtype);
    ties_and_nan_down_columns((mb_dtype)dtype);
  }
  expanded_and_scalar();
  infinities();
  gradients();
  refusals();
  mb_memory_stats stats;
  mb_memory(&stats);
  CHECK_EQ(stats.live_tensors, 0);
  CHECK_EQ(stats.bytes_live, 0);
  return check_end();
}
