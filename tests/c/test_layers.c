// SPDX-License-Identifier: MIT
//
// test_layers.c: embedding, rotary and dropout against plain formulas, their gradients against central
// differences, and what they say to wrong arguments; a small network of embedding and layernorm at different
// numbers of threads, and with every allocation failing once.
#include "gradcheck.h"

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

// ----- rotary -----------------------------------------------------------------------------------------

typedef struct rotary_constants {
  double base;
  int64_t first;
} rotary_constants;

static mb_status rotary_op(mb_tensor **out, mb_tensor **inputs, const void *constants) {
  const rotary_constants *c = constants;
  return mb_rotary(out, inputs[0], c->base, c->first);
}

// Heads and positions swapped: a strided x.
static mb_status rotary_view_op(mb_tensor **out, mb_tensor **inputs, const void *constants) {
  mb_tensor *x;
  mb_status status = mb_transpose(&x, inputs[0], 1, 2);
  if (status == MB_OK) status = rotary_op(out, &x, constants);
  mb_tensor_release(x);
  return status;
}

// Reversed roles of head and width: the last dimension itself is strided.
static mb_status rotary_strided_op(mb_tensor **out, mb_tensor **inputs, const void *constants) {
  mb_tensor *x;
  mb_status status = mb_transpose(&x, inputs[0], 2, 3);
  if (status == MB_OK) status = rotary_op(out, &x, constants);
  mb_tensor_release(x);
  return status;
}

static void rotary_turns_pairs(mb_dtype dtype, const int64_t *shape, rotary_constants c, double tolerance) {
  int64_t T = shape[1], H = shape[2], D = shape[3];
  mb_tensor *x = random_tensor(dtype, 4, shape), *out;
  CHECK_OK(mb_rotary(&out, x, c.base, c.first));
  double *v = values_of(x), *y = values_of(out);
  for (int64_t row = 0; row < shape[0] * T * H; row++)
    for (int64_t i = 0; i < D / 2; i++) {
      double angle = (double)(c.first + row / H % T) * pow(c.base, -2.0 * (double)i / (double)D);
      double a = v[row * D + i], b = v[row * D + D / 2 + i];
      CHECK_NEAR(y[row * D + i], a * cos(angle) - b * sin(angle), tolerance);
      CHECK_NEAR(y[row * D + D / 2 + i], a * sin(angle) + b * cos(angle), tolerance);
    }
  free(v), free(y);
  mb_tensor_release(x), mb_tensor_release(out);
}

static void rotary_works(void) {
  const rotary_constants from_start = {10000, 0}, later = {500, 11};
  rotary_turns_pairs(MB_F64, (const int64_t[4]){2, 5, 3, 6}, from_start, 1e-14);
  rotary_turns_pairs(MB_F64, (const int64_t[4]){1, 1, 1, 2}, later, 1e-14);
  rotary_turns_pairs(MB_F32, (const int64_t[4]){2, 33, 4, 32}, from_start, 2e-6);
  const int64_t shape[4] = {2, 3, 4, 6};
  mb_tensor *x = random_tensor(MB_F64, 4, shape), *out, *narrow = random_tensor(MB_F32, 4, (const int64_t[4]){1, 1, 1, 3});
  gradcheck(rotary_op, &x, 1, &later, 1e-7);
  gradcheck(rotary_view_op, &x, 1, &later, 1e-7);
  gradcheck(rotary_strided_op, &x, 1, &later, 1e-7);
  CHECK_FAILS(MB_ERR_SHAPE, "mb_rotary: x has shape (1, 1, 1, 3)", mb_rotary(&out, narrow, 10000, 0));
  CHECK(out == NULL);
  CHECK_FAILS(MB_ERR_ARG, "base is -2", mb_rotary(&out, x, -2, 0));
  CHECK_FAILS(MB_ERR_ARG, "base is inf", mb_rotary(&out, x, INFINITY, 0));
  mb_tensor_release(x), mb_tensor_release(narrow);
}

// ----- dropout ----------------------------------------------------------------------------------------

// Every call sees the same mask.
static mb_status dropout_op(mb_tensor **out, mb_tensor **inputs, const void *p) {
  mb_rng_set(99, 3, 7);
  return mb_dropout(out, inputs[0], *(const double *)p);
}

static mb_status dropout_view_op(mb_tensor **out, mb_tensor **inputs, const void *p) {
  mb_tensor *x;
  mb_status status = mb_transpose(&x, inputs[0], 0, 1);
  if (status == MB_OK) status = dropout_op(out, &x, p);
  mb_tensor_release(x);
  return status;
}

static void dropout_masks(double p, int64_t n) {
  mb_tensor *x, *out;
  CHECK_OK(mb_full(&x, MB_F64, 1, &n, MB_CPU, 3.0));
  uint64_t seed, step, stream, after;
  mb_rng_get(&seed, &step, &stream);
  CHECK_OK(mb_dropout(&out, x, p));
  mb_rng_get(&seed, &step, &after);
  CHECK_EQ(after, stream + 1);
  uint32_t *words = malloc((size_t)n * sizeof *words);
  mb_rng_words(words, n, seed, step, stream);
  double *y = values_of(out);
  int64_t kept = 0;
  for (int64_t i = 0; i < n; i++) {
    CHECK_NEAR(y[i], (double)words[i] / 4294967296.0 >= p ? 3.0 / (1 - p) : 0, 1e-15);
    kept += y[i] != 0;
  }
  if (n > 1000) CHECK_NEAR((double)kept / (double)n, 1 - p, 5 * sqrt(p * (1 - p) / (double)n));
  free(words), free(y);
  mb_tensor_release(x), mb_tensor_release(out);
}

static void dropout_works(void) {
  const double ps[3] = {0.1, 0.5, 0.9};
  for (int i = 0; i < 3; i++) {
    dropout_masks(ps[i], 1), dropout_masks(ps[i], 77), dropout_masks(ps[i], 40001);
    mb_tensor *x = random_tensor(MB_F64, 2, (const int64_t[2]){9, 15});
    gradcheck(dropout_op, &x, 1, &ps[i], 1e-7);
    gradcheck(dropout_view_op, &x, 1, &ps[i], 1e-7);
    mb_tensor_release(x);
  }
  mb_tensor *x = random_tensor(MB_F32, 1, (const int64_t[1]){4}), *out;
  uint64_t seed, step, stream, after;
  mb_rng_get(&seed, &step, &stream);
  CHECK_OK(mb_dropout(&out, x, 0));
  mb_rng_get(&seed, &step, &after);
  CHECK(out == x && after == stream);
  mb_tensor_release(out);
  CHECK_FAILS(MB_ERR_ARG, "mb_dropout: p is 1, a number >= 0 and < 1 was expected", mb_dropout(&out, x, 1));
  CHECK(out == NULL);
  CHECK_FAILS(MB_ERR_ARG, "p is -0.5", mb_dropout(&out, x, -0.5));
  CHECK_FAILS(MB_ERR_ARG, "p is nan", mb_dropout(&out, x, NAN));
  mb_tensor_release(x);
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
    int64_t before = live_tensors();
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
    CHECK(live_tensors() - before <= grads);
  }
  mb_tensor_release(table), mb_tensor_release(w), mb_tensor_release(ids);
}

int main(void) {
  seed_test();
  int64_t before = live_tensors();
  embedding_picks_rows();
  embedding_takes_views();
  embedding_refuses();
  rotary_works();
  dropout_works();
  bits_do_not_depend_on_threads();
  failures_leak_nothing();
  CHECK_EQ(live_tensors(), before);
  return check_end();
}
