// SPDX-License-Identifier: MIT
//
// test_softmax.c: softmax and its logarithm over every dimension, against the plain formula and central
// differences; infinities, NaN and large numbers.
#include "gradcheck.h"

typedef struct bound {
  int dim, is_log;
} bound;

static mb_status softmax_op(mb_tensor **out, mb_tensor **inputs, const void *constants) {
  const bound *b = constants;
  return b->is_log ? mb_log_softmax(out, inputs[0], b->dim) : mb_softmax(out, inputs[0], b->dim);
}

static mb_status softmax_view_op(mb_tensor **out, mb_tensor **inputs, const void *constants) {
  mb_tensor *x, *every_other;
  mb_status status = mb_transpose(&x, inputs[0], 0, 2);
  CHECK_OK(status);
  status = mb_slice(&every_other, x, 1, 0, mb_tensor_shape(x)[1], 2);
  CHECK_OK(status);
  status = softmax_op(out, &every_other, constants);
  mb_tensor_release(x), mb_tensor_release(every_other);
  return status;
}

// Compares with exp(x - max) / sum along dimension `dim` of (a, b, c).
static void agrees(mb_dtype dtype, const int64_t *shape, int dim, double tolerance) {
  mb_tensor *x = random_tensor(dtype, 3, shape), *soft, *log_soft;
  CHECK_OK(mb_affine_(x, 5.0, 2.0));
  CHECK_OK(mb_softmax(&soft, x, dim));
  CHECK_OK(mb_log_softmax(&log_soft, x, dim - 3)); // the same, counted from the end
  double *v = values_of(x), *y = values_of(soft), *z = values_of(log_soft);
  int64_t step = 1, size = shape[dim], total = shape[0] * shape[1] * shape[2];
  for (int d = dim + 1; d < 3; d++) step *= shape[d];
  for (int64_t i = 0; i < total; i++) {
    int64_t first = i - i / step % size * step;
    double most = v[first], sum = 0;
    for (int64_t j = 0; j < size; j++) most = fmax(most, v[first + j * step]);
    for (int64_t j = 0; j < size; j++) sum += exp(v[first + j * step] - most);
    CHECK_NEAR(y[i], exp(v[i] - most) / sum, tolerance);
    CHECK_NEAR(z[i], v[i] - most - log(sum), tolerance * (1 + fabs(v[i] - most)));
  }
  free(v), free(y), free(z);
  mb_tensor_release(x), mb_tensor_release(soft), mb_tensor_release(log_soft);
}

static void values_agree(void) {
  const int64_t shapes[5][3] = {{2, 3, 5}, {1, 1, 1}, {4, 1, 67}, {3, 65, 70}, {1, 2, 5003}};
  for (int s = 0; s < 5; s++)
    for (int dim = 0; dim < 3; dim++) {
      agrees(MB_F64, shapes[s], dim, 1e-14);
      // A build without vector code adds up a chunk of 2048 one by one: a unit's rounding times sqrt(2048).
      agrees(MB_F32, shapes[s], dim, shapes[s][dim] > 1000 ? 6e-6 : 1.5e-6);
    }
}

static void gradients_agree(void) {
  const int64_t shapes[3][3] = {{3, 4, 5}, {1, 7, 1}, {2, 3, 68}};
  for (int s = 0; s < 3; s++)
    for (int dim = 0; dim < 3; dim++)
      for (int is_log = 0; is_log < 2; is_log++) {
        mb_tensor *x = random_tensor(MB_F64, 3, shapes[s]);
        bound b = {dim, is_log};
        gradcheck(softmax_op, &x, 1, &b, 1e-6);
        gradcheck(softmax_view_op, &x, 1, &b, 1e-6);
        mb_tensor_release(x);
      }
}

// Three rows, as rows and as columns: large numbers, a masked element, nothing but masked ones, a NaN.
static void extreme_numbers(void) {
  const double inf = INFINITY, nan = NAN;
  const double rows[4][3] = {{1e30, 1e30, -1e30}, {-inf, 5, 5}, {-inf, -inf, -inf}, {1, nan, 2}};
  const double expected[4][3] = {{0.5, 0.5, 0}, {0, 0.5, 0.5}, {nan, nan, nan}, {nan, nan, nan}};
  for (int dtype = MB_F32; dtype <= MB_F64; dtype++)
    for (int columns = 0; columns < 2; columns++)
      for (int is_log = 0; is_log < 2; is_log++) {
        mb_tensor *wide, *x, *view, *dense, *out, *back;
        CHECK_OK(mb_from_host(&wide, MB_F64, 2, (const int64_t[2]){4, 3}, MB_CPU, rows));
        CHECK_OK(mb_cast(&x, wide, (mb_dtype)dtype));
        CHECK_OK(mb_transpose(&view, x, 0, 1));
        CHECK_OK(mb_clone(&dense, view));
        bound b = {columns ? 0 : 1, is_log};
        CHECK_OK(softmax_op(&out, columns ? &dense : &x, &b));
        if (columns) CHECK_OK(mb_transpose(&back, out, 0, 1));
        else CHECK_OK(mb_clone(&back, out));
        double *y = values_of(back);
        for (int i = 0; i < 12; i++) {
          double e = is_log ? log(expected[i / 3][i % 3]) : expected[i / 3][i % 3];
          if (isnan(e)) CHECK(isnan(y[i]));
          else if (i < 3 && is_log && e == -inf) CHECK(y[i] < -1e29); // the distance itself, not yet infinite
          else if (isinf(e)) CHECK(y[i] == e);
          else CHECK_NEAR(y[i], e, 1e-6);
        }
        free(y);
        mb_tensor_release(wide), mb_tensor_release(x), mb_tensor_release(view), mb_tensor_release(dense);
        mb_tensor_release(out), mb_tensor_release(back);
      }
}

static void misuse_is_refused(void) {
  mb_tensor *x = random_tensor(MB_F32, 2, (const int64_t[2]){2, 3}), *ids, *out = x;
  CHECK_OK(mb_full(&ids, MB_I32, 0, NULL, MB_CPU, 1));
  CHECK_FAILS(MB_ERR_ARG, "mb_softmax: dimension 2 does not exist, the tensor has 2", mb_softmax(&out, x, 2));
  CHECK(out == NULL);
  CHECK_FAILS(MB_ERR_ARG, "mb_log_softmax: dimension -3", mb_log_softmax(&out, x, -3));
  CHECK_FAILS(MB_ERR_DTYPE, "a is i32", mb_softmax(&out, ids, 0));
  mb_tensor_release(x), mb_tensor_release(ids);
}

int main(void) {
  seed_test();
  int64_t before = live_tensors();
  values_agree();
  gradients_agree();
  extreme_numbers();
  misuse_is_refused();
  CHECK_EQ(live_tensors(), before);
  return check_end();
}
