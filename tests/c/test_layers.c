// SPDX-License-Identifier: MIT
//
// test_layers.c: embedding and layernorm against plain formulas, their gradients against central differences,
// sums that do not depend on the number of threads, and what they say to wrong arguments.
#include "gradcheck.h"

static int64_t live(void) {
  mb_memory_stats stats;
  mb_memory(&stats);
  return stats.live_tensors;
}

static mb_tensor *ids_of(mb_dtype dtype, int ndim, const int64_t *shape, const int32_t *ids) {
  mb_tensor *t, *cast;
  CHECK_OK(mb_from_host(&t, MB_I32, ndim, shape, MB_CPU, ids));
  CHECK_OK(mb_cast(&cast, t, dtype));
  mb_tensor_release(t);
  return cast;
}

// ----- embedding --------------------------------------------------------------------------------------

static mb_status embedding_op(mb_tensor **out, mb_tensor **inputs, const void *ids) {
  return mb_embedding(out, inputs[0], (mb_tensor *)(uintptr_t)ids);
}

static void embedding_picks_rows(void) {
  const int64_t table_shape[2] = {7, 5}, ids_shape[2] = {2, 4};
  const int32_t numbers[8] = {3, 0, 6, 3, 3, 1, 6, 6};
  const mb_dtype dtypes[3] = {MB_I32, MB_U16, MB_U8};
  mb_tensor *table = random_tensor(MB_F64, 2, table_shape), *out;
  double *t = values_of(table);
  for (int d = 0; d < 3; d++) {
    mb_tensor *ids = ids_of(dtypes[d], 2, ids_shape, numbers);
    CHECK_OK(mb_embedding(&out, table, ids));
    CHECK_EQ(mb_tensor_ndim(out), 3);
    CHECK_EQ(mb_tensor_shape(out)[1], 4);
    double *y = values_of(out);
    for (int i = 0; i < 8; i++)
      for (int c = 0; c < 5; c++) CHECK_NEAR(y[i * 5 + c], t[numbers[i] * 5 + c], 0);
    free(y);
    mb_tensor_release(out);
    gradcheck(embedding_op, &table, 1, ids, 1e-7);
    mb_tensor_release(ids);
  }
  free(t);
  mb_tensor_release(table);
}

// A transposed table and every other column of the ids.
static void embedding_takes_views(void) {
  const int64_t stored[2] = {5, 7}, ids_shape[2] = {2, 4}, row[1] = {1};
  const int32_t numbers[8] = {3, 0, 6, 5, 2, 1, 4, 0}, zero = 0;
  mb_tensor *base = random_tensor(MB_F32, 2, stored), *table, *all = ids_of(MB_I32, 2, ids_shape, numbers), *ids, *out;
  CHECK_OK(mb_transpose(&table, base, 0, 1));
  CHECK_OK(mb_slice(&ids, all, 1, 0, 4, 2));
  CHECK_OK(mb_embedding(&out, table, ids));
  double *t = values_of(base), *y = values_of(out);
  const int picked[4] = {3, 6, 2, 4};
  for (int i = 0; i < 4; i++)
    for (int c = 0; c < 5; c++) CHECK_NEAR(y[i * 5 + c], t[c * 7 + picked[i]], 0);
  free(t), free(y);
  mb_tensor_release(out), mb_tensor_release(ids), mb_tensor_release(all), mb_tensor_release(table), mb_tensor_release(base);
  // One id without dimensions, one row of one column.
  base = random_tensor(MB_F32, 2, (const int64_t[2]){1, 1});
  CHECK_OK(mb_from_host(&ids, MB_I32, 0, row, MB_CPU, &zero));
  CHECK_OK(mb_embedding(&out, base, ids));
  CHECK_EQ(mb_tensor_ndim(out), 1);
  mb_tensor_release(out), mb_tensor_release(ids), mb_tensor_release(base);
}

static void embedding_refuses(void) {
  const int64_t shape[2] = {4, 3}, ids_shape[2] = {2, 3};
  mb_tensor *table = random_tensor(MB_F32, 2, shape), *out = table;
  mb_tensor *high = ids_of(MB_I32, 2, ids_shape, (const int32_t[6]){0, 1, 2, 3, 0, 4});
  mb_tensor *low = ids_of(MB_I32, 2, ids_shape, (const int32_t[6]){0, -7, 2, 3, 0, 1});
  mb_tensor *flat = random_tensor(MB_F32, 1, shape);
  CHECK_FAILS(MB_ERR_ARG, "mb_embedding: ids at (1, 2) is 4, but there are 4 rows in the table: 0 to 3", mb_embedding(&out, table, high));
  CHECK(out == NULL);
  CHECK_FAILS(MB_ERR_ARG, "ids at (0, 1) is -7", mb_embedding(&out, table, low));
  CHECK_FAILS(MB_ERR_DTYPE, "ids is f32", mb_embedding(&out, table, table));
  CHECK_FAILS(MB_ERR_DTYPE, "table is i32", mb_embedding(&out, high, high));
  CHECK_FAILS(MB_ERR_SHAPE, "table has shape (4)", mb_embedding(&out, flat, high));
  CHECK_FAILS(MB_ERR_ARG, "ids is NULL", mb_embedding(&out, table, NULL));
  mb_tensor_release(flat), mb_tensor_release(low), mb_tensor_release(high), mb_tensor_release(table);
}

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

// ----- determinism and memory ---------------------------------------------------------------------------

// Gradients of a table and of layernorm's parameters at one thread count.
static void step(double *gradients, const mb_tensor *ids, mb_tensor *table, mb_tensor *w, mb_tensor *b) {
  mb_tensor *x, *y, *seed, *all[3] = {table, w, b};
  CHECK_OK(mb_embedding(&x, table, (mb_tensor *)(uintptr_t)ids));
  CHECK_OK(mb_layernorm(&y, x, w, b, 1e-5));
  mb_rng_set(5, 0, 0);
  CHECK_OK(mb_randn(&seed, MB_F32, mb_tensor_ndim(y), mb_tensor_shape(y), MB_CPU));
  CHECK_OK(mb_backward(y, seed));
  for (int i = 0; i < 3; i++) {
    mb_tensor *g;
    CHECK_OK(mb_grad(&g, all[i]));
    double *v = values_of(g);
    memcpy(gradients, v, (size_t)mb_tensor_numel(g) * sizeof *v);
    gradients += mb_tensor_numel(g);
    free(v);
    mb_tensor_release(g);
    CHECK_OK(mb_zero_grad(all[i]));
  }
  mb_tensor_release(x), mb_tensor_release(y), mb_tensor_release(seed);
}

static void bits_do_not_depend_on_threads(void) {
  enum { ROWS = 9, COLUMNS = 200, COUNT = 700, NUMBERS = (ROWS + 2) * COLUMNS };
  int32_t numbers[COUNT];
  for (int i = 0; i < COUNT; i++) numbers[i] = (i * i) % ROWS;
  mb_tensor *ids = ids_of(MB_U8, 1, (const int64_t[1]){COUNT}, numbers);
  mb_tensor *table = random_tensor(MB_F32, 2, (const int64_t[2]){ROWS, COLUMNS});
  mb_tensor *w = random_tensor(MB_F32, 1, (const int64_t[1]){COLUMNS}), *b = random_tensor(MB_F32, 1, (const int64_t[1]){COLUMNS});
  CHECK_OK(mb_set_requires_grad(table, 1));
  CHECK_OK(mb_set_requires_grad(w, 1));
  CHECK_OK(mb_set_requires_grad(b, 1));
  static double one[NUMBERS], other[NUMBERS];
  int before = mb_threads();
  for (int threads = 1; threads <= 5; threads++) {
    CHECK_OK(mb_threads_set(threads));
    step(threads == 1 ? one : other, ids, table, w, b);
    if (threads > 1) CHECK(memcmp(one, other, sizeof one) == 0);
  }
  CHECK_OK(mb_threads_set(before));
  mb_tensor_release(ids), mb_tensor_release(table), mb_tensor_release(w), mb_tensor_release(b);
}

// Every allocation of a forward and backward fails once: an error each time, and nothing is left behind.
static void failures_leak_nothing(void) {
  const int64_t shape[2] = {6, 4};
  mb_tensor *table = random_tensor(MB_F64, 2, shape), *w = random_tensor(MB_F64, 1, shape + 1);
  mb_tensor *ids = ids_of(MB_U16, 1, (const int64_t[1]){3}, (const int32_t[3]){5, 1, 1});
  CHECK_OK(mb_set_requires_grad(table, 1));
  CHECK_OK(mb_set_requires_grad(w, 1));
  mb_status status = MB_ERR_NOMEM;
  for (int64_t n = 1; status != MB_OK; n++) {
    CHECK(n < 200);
    int64_t before = live();
    mb_tensor *x = NULL, *y = NULL, *seed;
    CHECK_OK(mb_full(&seed, MB_F64, 2, (const int64_t[2]){3, 4}, MB_CPU, 1.0));
    mb_debug_fail_allocation(n);
    status = mb_embedding(&x, table, ids);
    if (status == MB_OK) status = mb_layernorm(&y, x, w, w, 1e-5);
    if (status == MB_OK) status = mb_backward(y, seed);
    mb_debug_fail_allocation(0);
    CHECK(status == MB_OK || status == MB_ERR_NOMEM);
    mb_tensor_release(x), mb_tensor_release(y), mb_tensor_release(seed);
    mb_tensor *g;
    int64_t grads = 0;
    CHECK_OK(mb_grad(&g, table));
    grads += g != NULL, mb_tensor_release(g);
    CHECK_OK(mb_grad(&g, w));
    grads += g != NULL, mb_tensor_release(g);
    CHECK(live() - before <= grads);
  }
  mb_tensor_release(table), mb_tensor_release(w), mb_tensor_release(ids);
}

int main(void) {
  printf("seed %llu\n", (unsigned long long)test_seed());
  mb_rng_seed(test_seed());
  int64_t before = live();
  embedding_picks_rows();
  embedding_takes_views();
  embedding_refuses();
  layernorm_values();
  layernorm_gradients();
  layernorm_of_views_and_residuals();
  layernorm_refuses();
  bits_do_not_depend_on_threads();
  failures_leak_nothing();
  CHECK_EQ(live(), before);
  return check_end();
}
