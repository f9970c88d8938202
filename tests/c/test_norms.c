// SPDX-License-Identifier: MIT
//
// test_norms.c: layernorm and rmsnorm against plain formulas, their gradients against central differences,
// with parameters missing or the same tensor twice, over views, in residuals and of sums, and wrong arguments.
#include "gradcheck.h"

// ----- layernorm --------------------------------------------------------------------------------------

static mb_status layernorm_op(mb_tensor **out, mb_tensor **inputs, const void *epsilon) {
  return mb_layernorm(out, inputs[0], inputs[1], inputs[2], *(const double *)epsilon);
}

static mb_status layernorm_one_parameter_op(mb_tensor **out, mb_tensor **inputs, const void *epsilon) {
  return mb_layernorm(out, inputs[0], inputs[1], inputs[1], *(const double *)epsilon);
}

static mb_status layernorm_same_values_op(mb_tensor **out, mb_tensor **inputs, const void *epsilon) {
  mb_tensor *w;
  mb_status status = mb_exp(&w, inputs[1]);
  if (status == MB_OK) status = mb_layernorm(out, inputs[0], w, w, *(const double *)epsilon);
  mb_tensor_release(w);
  return status;
}

static void layernorm_plain(double *y, const double *x, const double *w, const double *b, int64_t rows, int64_t columns, double epsilon) {
  for (int64_t r = 0; r < rows; r++) {
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < columns; c++) mean += x[r * columns + c] / (double)columns;
    for (int64_t c = 0; c < columns; c++) variance += pow(x[r * columns + c] - mean, 2) / (double)columns;
    for (int64_t c = 0; c < columns; c++)
      y[r * columns + c] = (x[r * columns + c] - mean) / sqrt(variance + epsilon) * (w ? w[c] : 1) + (b ? b[c] : 0);
  }
}

static void layernorm_agrees(mb_dtype dtype, int64_t rows, int64_t columns, int with_weight, int with_bias, double tolerance) {
  const int64_t shape[2] = {rows, columns};
  mb_tensor *x = random_tensor(dtype, 2, shape), *out;
  mb_tensor *w = with_weight ? random_tensor(dtype, 1, shape + 1) : NULL, *b = with_bias ? random_tensor(dtype, 1, shape + 1) : NULL;
  CHECK_OK(mb_affine_(x, 2.0, 5.0));
  CHECK_OK(mb_layernorm(&out, x, w, b, 1e-5));
  double *vx = values_of(x), *vw = w ? values_of(w) : NULL, *vb = b ? values_of(b) : NULL, *y = values_of(out);
  double *expected = malloc((size_t)(rows * columns) * sizeof *expected);
  layernorm_plain(expected, vx, vw, vb, rows, columns, 1e-5);
  for (int64_t i = 0; i < rows * columns; i++) CHECK_NEAR(y[i], expected[i], tolerance * (1 + fabs(expected[i])));
  free(vx), free(vw), free(vb), free(y), free(expected);
  mb_tensor_release(x), mb_tensor_release(w), mb_tensor_release(b), mb_tensor_release(out);
}

static void layernorm_values(void) {
  for (int with = 0; with < 4; with++) {
    layernorm_agrees(MB_F64, 3, 7, with & 1, with >> 1, 1e-12);
    layernorm_agrees(MB_F32, 5, 33, with & 1, with >> 1, 2e-6);
  }
  layernorm_agrees(MB_F32, 1, 1, 1, 1, 1e-6); // a row of one has no variance: y = bias
  layernorm_agrees(MB_F32, 40, 768, 1, 1, 3e-6);
  layernorm_agrees(MB_F32, 2, 5001, 1, 1, 1e-5);
}

static void layernorm_gradients(void) {
  const double epsilon = 1e-3;
  const int64_t shapes[4][3] = {{2, 3, 6}, {1, 1, 5}, {1, 37, 3}, {1, 2, 1}};
  for (int s = 0; s < 4; s++) {
    mb_tensor *in[3] = {random_tensor(MB_F64, 3, shapes[s]), random_tensor(MB_F64, 1, shapes[s] + 2), random_tensor(MB_F64, 1, shapes[s] + 2)};
    gradcheck(layernorm_op, in, 3, &epsilon, 2e-7);
    gradcheck(layernorm_op, (mb_tensor *[]){in[0], NULL, NULL}, 3, &epsilon, 2e-7);
    gradcheck(layernorm_op, (mb_tensor *[]){in[0], in[1], NULL}, 3, &epsilon, 2e-7);
    gradcheck(layernorm_op, (mb_tensor *[]){in[0], NULL, in[2]}, 3, &epsilon, 2e-7);
    gradcheck(layernorm_one_parameter_op, in, 2, &epsilon, 2e-7);
    gradcheck(layernorm_same_values_op, in, 2, &epsilon, 2e-7);
    // Parameters alone, while x wants nothing.
    CHECK_OK(mb_set_requires_grad(in[0], 0));
    mb_tensor *out, *g, *seed;
    CHECK_OK(mb_layernorm(&out, in[0], in[1], in[2], epsilon));
    CHECK_OK(mb_full(&seed, MB_F64, 3, shapes[s], MB_CPU, 1.0));
    CHECK_OK(mb_backward(out, seed));
    CHECK_OK(mb_grad(&g, in[2]));
    double *db = values_of(g);
    for (int64_t c = 0; c < shapes[s][2]; c++) CHECK_NEAR(db[c], (double)(shapes[s][0] * shapes[s][1]), 1e-12);
    free(db);
    mb_tensor_release(g), mb_tensor_release(seed), mb_tensor_release(out);
    for (int i = 0; i < 3; i++) mb_tensor_release(in[i]);
  }
}

// x + layernorm(x), x not a leaf: dx is added to what the skip path has left.
static mb_status residual_op(mb_tensor **out, mb_tensor **inputs, const void *epsilon) {
  mb_tensor *x = NULL, *t = NULL, *y = NULL;
  mb_status status = mb_transpose(&t, inputs[0], 0, 1);
  if (status == MB_OK) status = mb_square(&x, t);
  if (status == MB_OK) status = mb_layernorm(&y, x, inputs[1], inputs[2], *(const double *)epsilon);
  if (status == MB_OK) status = mb_add(out, x, y);
  mb_tensor_release(t), mb_tensor_release(x), mb_tensor_release(y);
  return status;
}

static mb_status transposed_op(mb_tensor **out, mb_tensor **inputs, const void *epsilon) {
  mb_tensor *t;
  mb_status status = mb_transpose(&t, inputs[0], 0, 1);
  if (status == MB_OK) status = mb_layernorm(out, t, inputs[1], inputs[2], *(const double *)epsilon);
  mb_tensor_release(t);
  return status;
}

static void layernorm_of_views_and_residuals(void) {
  const double epsilon = 1e-5;
  const int64_t shape[2] = {6, 4};
  mb_tensor *in[3] = {random_tensor(MB_F64, 2, shape), random_tensor(MB_F64, 1, shape), random_tensor(MB_F64, 1, shape)};
  gradcheck(residual_op, in, 3, &epsilon, 1e-6);
  gradcheck(transposed_op, in, 3, &epsilon, 1e-6);
  for (int i = 0; i < 3; i++) mb_tensor_release(in[i]);
}

static void layernorm_refuses(void) {
  const int64_t shape[2] = {4, 3};
  mb_tensor *x = random_tensor(MB_F32, 2, shape), *four = random_tensor(MB_F32, 1, shape), *wide = random_tensor(MB_F64, 1, shape + 1);
  mb_tensor *scalar = random_tensor(MB_F32, 0, shape), *out = x;
  CHECK_FAILS(MB_ERR_SHAPE, "mb_layernorm: weight has shape (4), (3) was expected for x of shape (4, 3)", mb_layernorm(&out, x, four, NULL, 0));
  CHECK(out == NULL);
  CHECK_FAILS(MB_ERR_SHAPE, "bias has shape (4, 3)", mb_layernorm(&out, x, NULL, x, 0));
  CHECK_FAILS(MB_ERR_DTYPE, "f64", mb_layernorm(&out, x, wide, NULL, 0));
  CHECK_FAILS(MB_ERR_ARG, "epsilon is -1", mb_layernorm(&out, x, NULL, NULL, -1));
  CHECK_FAILS(MB_ERR_SHAPE, "no dimension", mb_layernorm(&out, scalar, NULL, NULL, 0));
  mb_tensor_release(x), mb_tensor_release(four), mb_tensor_release(wide), mb_tensor_release(scalar);
}

// ----- rmsnorm ----------------------------------------------------------------------------------------

static mb_status rmsnorm_op(mb_tensor **out, mb_tensor **inputs, const void *epsilon) {
  return mb_rmsnorm(out, inputs[0], inputs[1], *(const double *)epsilon);
}

// x normalised with itself as the weight, x not a leaf.
static mb_status rmsnorm_itself_op(mb_tensor **out, mb_tensor **inputs, const void *epsilon) {
  mb_tensor *x;
  mb_status status = mb_exp(&x, inputs[0]);
  if (status == MB_OK) status = mb_rmsnorm(out, x, x, *(const double *)epsilon);
  mb_tensor_release(x);
  return status;
}

static mb_status rmsnorm_transposed_op(mb_tensor **out, mb_tensor **inputs, const void *epsilon) {
  mb_tensor *x;
  mb_status status = mb_transpose(&x, inputs[0], 0, 1);
  if (status == MB_OK) status = mb_rmsnorm(out, x, inputs[1], *(const double *)epsilon);
  mb_tensor_release(x);
  return status;
}

static void rmsnorm_agrees(mb_dtype dtype, int64_t rows, int64_t columns, int with_weight, double tolerance) {
  const int64_t shape[2] = {rows, columns};
  mb_tensor *x = random_tensor(dtype, 2, shape), *w = with_weight ? random_tensor(dtype, 1, shape + 1) : NULL, *out;
  CHECK_OK(mb_rmsnorm(&out, x, w, 1e-6));
  double *vx = values_of(x), *vw = w ? values_of(w) : NULL, *y = values_of(out);
  for (int64_t r = 0; r < rows; r++) {
    double square = 0;
    for (int64_t c = 0; c < columns; c++) square += vx[r * columns + c] * vx[r * columns + c] / (double)columns;
    for (int64_t c = 0; c < columns; c++) {
      double expected = vx[r * columns + c] / sqrt(square + 1e-6) * (vw ? vw[c] : 1);
      CHECK_NEAR(y[r * columns + c], expected, tolerance * (1 + fabs(expected)));
    }
  }
  free(vx), free(vw), free(y);
  mb_tensor_release(x), mb_tensor_release(w), mb_tensor_release(out);
}

static void rmsnorm_works(void) {
  const double epsilon = 1e-3;
  for (int with = 0; with < 2; with++) {
    rmsnorm_agrees(MB_F64, 3, 7, with, 1e-13);
    rmsnorm_agrees(MB_F32, 5, 33, with, 1e-6);
    rmsnorm_agrees(MB_F32, 1, 1, with, 1e-6);
    rmsnorm_agrees(MB_F32, 3, 4999, with, 2e-6);
  }
  const int64_t shapes[3][2] = {{6, 6}, {1, 5}, {37, 3}};
  for (int s = 0; s < 3; s++) {
    mb_tensor *in[2] = {random_tensor(MB_F64, 2, shapes[s]), random_tensor(MB_F64, 1, shapes[s] + 1)};
    gradcheck(rmsnorm_op, in, 2, &epsilon, 2e-7);
    gradcheck(rmsnorm_op, (mb_tensor *[]){in[0], NULL}, 2, &epsilon, 2e-7);
    gradcheck(rmsnorm_itself_op, in + 1, 1, &epsilon, 2e-7);
    if (s == 0) gradcheck(rmsnorm_transposed_op, in, 2, &epsilon, 2e-7);
    mb_tensor_release(in[0]), mb_tensor_release(in[1]);
  }
  mb_tensor *x = random_tensor(MB_F32, 2, shapes[2]), *w = random_tensor(MB_F32, 1, shapes[2]), *scalar = random_tensor(MB_F32, 0, shapes[0]);
  mb_tensor *out = x;
  CHECK_FAILS(MB_ERR_SHAPE, "mb_rmsnorm: weight has shape (37), (3) was expected for x of shape (37, 3)", mb_rmsnorm(&out, x, w, 0));
  CHECK(out == NULL);
  CHECK_FAILS(MB_ERR_ARG, "epsilon is nan", mb_rmsnorm(&out, x, NULL, NAN));
  CHECK_FAILS(MB_ERR_SHAPE, "no dimension", mb_rmsnorm(&out, scalar, NULL, 0));
  mb_tensor_release(x), mb_tensor_release(w), mb_tensor_release(scalar);
}

// ----- norms of sums ------------------------------------------------------------------------------------

// norm(a + b) (a + b) and more of the sum, where neither a nor b is a leaf: both results have gradients.
static mb_status both_results(mb_tensor **out, mb_tensor *y, mb_tensor *sum) {
  mb_tensor *product = NULL;
  mb_status status = mb_mul(&product, y, sum);
  if (status == MB_OK) status = mb_add(out, product, sum);
  mb_tensor_release(product), mb_tensor_release(y), mb_tensor_release(sum);
  return status;
}

static mb_status add_layernorm_op(mb_tensor **out, mb_tensor **inputs, const void *epsilon) {
  mb_tensor *a = NULL, *y = NULL, *sum = NULL;
  *out = NULL;
  mb_status status = mb_square(&a, inputs[0]);
  if (status == MB_OK) status = mb_add_layernorm(&y, &sum, a, inputs[1], inputs[2], inputs[3], *(const double *)epsilon);
  mb_tensor_release(a);
  return status == MB_OK ? both_results(out, y, sum) : status;
}

static mb_status add_rmsnorm_op(mb_tensor **out, mb_tensor **inputs, const void *epsilon) {
  mb_tensor *a = NULL, *y = NULL, *sum = NULL;
  *out = NULL;
  mb_status status = mb_square(&a, inputs[0]);
  if (status == MB_OK) status = mb_add_rmsnorm(&y, &sum, a, inputs[1], inputs[2], *(const double *)epsilon);
  mb_tensor_release(a);
  return status == MB_OK ? both_results(out, y, sum) : status;
}

// The same tensor twice, and the norm alone used.
static mb_status add_itself_op(mb_tensor **out, mb_tensor **inputs, const void *epsilon) {
  mb_tensor *sum = NULL;
  mb_status status = mb_add_layernorm(out, &sum, inputs[0], inputs[0], inputs[1], NULL, *(const double *)epsilon);
  mb_tensor_release(sum);
  return status;
}

static void same_bits(mb_tensor *a, mb_tensor *b) {
  double *x = values_of(a), *y = values_of(b);
  for (int64_t i = 0; i < 30; i++) CHECK(x[i] == y[i]);
  free(x), free(y);
}

static void norms_of_sums(void) {
  const double epsilon = 1e-3;
  const int64_t shapes[3][2] = {{5, 6}, {1, 5}, {37, 3}};
  for (int s = 0; s < 3; s++) {
    mb_tensor *in[4] = {random_tensor(MB_F64, 2, shapes[s]), random_tensor(MB_F64, 2, shapes[s]), random_tensor(MB_F64, 1, shapes[s] + 1),
                        random_tensor(MB_F64, 1, shapes[s] + 1)};
    gradcheck(add_layernorm_op, in, 4, &epsilon, 1e-6);
    gradcheck(add_layernorm_op, (mb_tensor *[]){in[0], in[1], NULL, NULL}, 4, &epsilon, 1e-6);
    gradcheck(add_rmsnorm_op, in, 3, &epsilon, 1e-6);
    gradcheck(add_itself_op, (mb_tensor *[]){in[0], in[2]}, 2, &epsilon, 1e-6);
    for (int i = 0; i < 4; i++) mb_tensor_release(in[i]);
  }
  // The bits of two ops, also of views.
  mb_tensor *wide = random_tensor(MB_F32, 2, (int64_t[]){6, 5}), *x, *b = random_tensor(MB_F32, 2, shapes[0]), *y[2], *sum[2];
  mb_tensor *w = random_tensor(MB_F32, 1, shapes[0] + 1);
  CHECK_OK(mb_transpose(&x, wide, 0, 1));
  CHECK_OK(mb_add(&sum[0], x, b));
  CHECK_OK(mb_layernorm(&y[0], sum[0], w, w, epsilon));
  CHECK_OK(mb_add_layernorm(&y[1], &sum[1], x, b, w, w, epsilon));
  same_bits(sum[0], sum[1]), same_bits(y[0], y[1]);
  for (int i = 0; i < 2; i++) mb_tensor_release(y[i]);
  mb_tensor_release(sum[1]);
  CHECK_OK(mb_rmsnorm(&y[0], sum[0], w, epsilon));
  CHECK_OK(mb_add_rmsnorm(&y[1], &sum[1], x, b, w, epsilon));
  same_bits(sum[0], sum[1]), same_bits(y[0], y[1]);
  for (int i = 0; i < 2; i++) mb_tensor_release(y[i]), mb_tensor_release(sum[i]);
  CHECK_FAILS(MB_ERR_SHAPE, "mb_add_layernorm: x has shape (5, 6), added (6, 5); the same was expected",
              mb_add_layernorm(&y[0], &sum[0], x, wide, NULL, NULL, 0));
  CHECK(y[0] == NULL && sum[0] == NULL);
  CHECK_FAILS(MB_ERR_ARG, "mb_add_rmsnorm: added is NULL", mb_add_rmsnorm(&y[0], &sum[0], x, NULL, NULL, 0));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_add_rmsnorm: weight has shape (6), (5)", mb_add_rmsnorm(&y[0], &sum[0], wide, wide, w, 0));
  mb_tensor_release(wide), mb_tensor_release(x), mb_tensor_release(b), mb_tensor_release(w);
}

int main(void) {
  seed_test();
  int64_t before = live_tensors();
  layernorm_values();
  layernorm_gradients();
  layernorm_of_views_and_residuals();
  layernorm_refuses();
  rmsnorm_works();
  norms_of_sums();
  CHECK_EQ(live_tensors(), before);
  return check_end();
}
