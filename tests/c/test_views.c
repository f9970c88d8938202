// SPDX-License-Identifier: MIT
//
// test_views.c: reshape, permute, slice, expand, concat, gather and copies against index arithmetic done by
// hand here; which of them share memory; their gradients; what they refuse.
#include "check.h"

enum { MOST = 4096 };

// 0, 1, 2, ... in the given shape.
static mb_tensor *counting(int ndim, const int64_t *shape) {
  mb_tensor *line, *t;
  int64_t n = 1;
  for (int i = 0; i < ndim; i++) n *= shape[i];
  CHECK_OK(mb_arange(&line, MB_F64, MB_CPU, 0, 1, n));
  CHECK_OK(mb_reshape(&t, line, ndim, shape));
  mb_tensor_release(line);
  return t;
}
#define COUNTING(...) counting((int)(sizeof(int64_t[]){__VA_ARGS__} / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

static void expect(mb_tensor *t, int n, const double *want) {
  double got[MOST];
  CHECK_EQ(mb_tensor_numel(t), n);
  CHECK_OK(mb_tensor_to_host(got, t));
  for (int i = 0; i < n; i++) CHECK_NEAR(got[i], want[i], 0);
}
#define EXPECT(t, ...) expect(t, (int)(sizeof(double[]){__VA_ARGS__} / sizeof(double)), (double[]){__VA_ARGS__})

static int shares_memory(mb_tensor *a, mb_tensor *b) {
  void *x, *y;
  CHECK_OK(mb_tensor_data(&x, a));
  CHECK_OK(mb_tensor_data(&y, b));
  return x == y;
}

// d sum(out * weights) / dx with weights 1, 2, 3, ... in out's shape; frees out.
static mb_tensor *gradient_of(mb_tensor *x, mb_tensor *out) {
  mb_tensor *weights = counting(mb_tensor_ndim(out), mb_tensor_shape(out)), *g;
  CHECK_OK(mb_affine_(weights, 1, 1));
  CHECK_OK(mb_backward(out, weights));
  CHECK_OK(mb_grad(&g, x));
  mb_tensor_release(weights), mb_tensor_release(out);
  return g;
}

static void reshape_is_a_view_where_it_can_be(void) {
  mb_tensor *a = COUNTING(2, 3, 4), *b, *c, *d;
  CHECK_OK(mb_reshape(&b, a, 2, (int64_t[]){6, -1}));
  CHECK(shares_memory(a, b));
  CHECK_EQ(mb_tensor_shape(b)[1], 4);
  CHECK_OK(mb_transpose(&c, a, 0, 1)); // (3, 2, 4): the last two sizes do not walk as one
  CHECK_OK(mb_reshape(&d, c, 2, (int64_t[]){3, 8}));
  CHECK(!shares_memory(c, d));
  EXPECT(d, 0, 1, 2, 3, 12, 13, 14, 15, 4, 5, 6, 7, 16, 17, 18, 19, 8, 9, 10, 11, 20, 21, 22, 23);
  mb_tensor_release(d);
  CHECK_OK(mb_reshape(&d, c, 5, (int64_t[]){3, 1, 2, 2, 2})); // splitting a size never copies
  CHECK(shares_memory(c, d));
  EXPECT(d, 0, 1, 2, 3, 12, 13, 14, 15, 4, 5, 6, 7, 16, 17, 18, 19, 8, 9, 10, 11, 20, 21, 22, 23);
  mb_tensor_release(a), mb_tensor_release(b), mb_tensor_release(c), mb_tensor_release(d);
  a = COUNTING(1);
  CHECK_OK(mb_reshape(&b, a, 0, NULL));
  CHECK_EQ(mb_tensor_ndim(b), 0);
  CHECK_OK(mb_reshape(&c, b, 3, (int64_t[]){1, -1, 1}));
  EXPECT(c, 0);
  mb_tensor_release(a), mb_tensor_release(b), mb_tensor_release(c);
}

static void reshape_refuses(void) {
  mb_tensor *a = COUNTING(2, 3), *b;
  CHECK_FAILS(MB_ERR_SHAPE, "(2, 3) has 6 elements, which do not make (4, 2)", mb_reshape(&b, a, 2, (int64_t[]){4, 2}));
  CHECK(b == NULL);
  CHECK_FAILS(MB_ERR_SHAPE, "do not make (4, -1)", mb_reshape(&b, a, 2, (int64_t[]){4, -1}));
  CHECK_FAILS(MB_ERR_SHAPE, "at most one -1", mb_reshape(&b, a, 2, (int64_t[]){-1, -1}));
  CHECK_FAILS(MB_ERR_SHAPE, "sizes above 0", mb_reshape(&b, a, 2, (int64_t[]){0, 6}));
  CHECK_FAILS(MB_ERR_SHAPE, "not 7", mb_reshape(&b, a, 7, (int64_t[]){6, 1, 1, 1, 1, 1, 1}));
  CHECK_FAILS(MB_ERR_SHAPE, "do not make", mb_reshape(&b, a, 3, (int64_t[]){INT64_MAX, INT64_MAX, -1}));
  mb_tensor_release(a);
}

static void permutations(void) {
  mb_tensor *a = COUNTING(2, 3), *b, *c;
  CHECK_OK(mb_transpose(&b, a, -1, 0));
  CHECK(shares_memory(a, b) && !mb_tensor_is_contiguous(b));
  EXPECT(b, 0, 3, 1, 4, 2, 5);
  CHECK_FAILS(MB_ERR_ARG, "dimension 2 does not exist", mb_transpose(&c, a, 0, 2));
  CHECK_FAILS(MB_ERR_ARG, "given twice", mb_permute(&c, a, 2, (int[]){0, -2}));
  CHECK_FAILS(MB_ERR_ARG, "1 dimensions were given", mb_permute(&c, a, 1, (int[]){0}));
  mb_tensor_release(a), mb_tensor_release(b);

  a = COUNTING(2, 3, 2);
  CHECK_OK(mb_set_requires_grad(a, 1));
  CHECK_OK(mb_permute(&b, a, 3, (int[]){2, 0, 1}));
  EXPECT(b, 0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11);
  c = gradient_of(a, b);
  EXPECT(c, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11, 6, 12);
  mb_tensor_release(a), mb_tensor_release(c);
}

static void slices(void) {
  mb_tensor *a = COUNTING(3, 5), *b, *c;
  CHECK_OK(mb_slice(&b, a, 1, 1, 5, 2));
  EXPECT(b, 1, 3, 6, 8, 11, 13);
  CHECK_OK(mb_slice(&c, b, 0, 2, 3, 1));
  EXPECT(c, 11, 13);
  mb_tensor_release(b), mb_tensor_release(c);
  CHECK_FAILS(MB_ERR_ARG, "[2, 2) is empty or outside dimension 1, which has size 5", mb_slice(&b, a, 1, 2, 2, 1));
  CHECK_FAILS(MB_ERR_ARG, "[0, 6)", mb_slice(&b, a, 1, 0, 6, 1));
  CHECK_FAILS(MB_ERR_ARG, "[-1, 2)", mb_slice(&b, a, 1, -1, 2, 1));
  CHECK_FAILS(MB_ERR_ARG, "step is 0", mb_slice(&b, a, 1, 0, 2, 0));
  CHECK_OK(mb_set_requires_grad(a, 1));
  CHECK_OK(mb_slice(&b, a, -1, 1, 3, 1));
  c = gradient_of(a, b);
  EXPECT(c, 0, 1, 2, 0, 0, 0, 3, 4, 0, 0, 0, 5, 6, 0, 0);
  mb_tensor_release(c);
  CHECK_OK(mb_slice(&b, a, -1, 0, 5, 3)); // a second one adds to the first
  c = gradient_of(a, b);
  EXPECT(c, 1, 1, 2, 2, 0, 3, 3, 4, 4, 0, 5, 5, 6, 6, 0);
  mb_tensor_release(a), mb_tensor_release(c);
}

static void slices_of_a_result_add_up(void) {
  mb_tensor *x = COUNTING(2, 3), *y, *part[3], *sum, *sum2, *g;
  CHECK_OK(mb_set_requires_grad(x, 1));
  CHECK_OK(mb_affine(&y, x, 2, 0));
  for (int i = 0; i < 3; i++) CHECK_OK(mb_slice(&part[i], y, 1, i, i + 1, 1));
  CHECK_OK(mb_mul(&sum, part[0], part[1]));
  CHECK_OK(mb_mul(&sum2, sum, part[2])); // 8 x0 x1 x2 a row
  g = gradient_of(x, sum2);
  EXPECT(g, 16, 0, 0, 2 * 8 * 20, 2 * 8 * 15, 2 * 8 * 12);
  for (int i = 0; i < 3; i++) mb_tensor_release(part[i]);
  mb_tensor_release(x), mb_tensor_release(y), mb_tensor_release(sum), mb_tensor_release(g);
}

static void expansions(void) {
  mb_tensor *a = COUNTING(2, 1), *b, *c;
  CHECK_OK(mb_set_requires_grad(a, 1));
  CHECK_OK(mb_expand(&b, a, 3, (int64_t[]){2, 2, 3}));
  EXPECT(b, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1);
  c = gradient_of(a, b);
  EXPECT(c, 1 + 2 + 3 + 7 + 8 + 9, 4 + 5 + 6 + 10 + 11 + 12);
  CHECK_FAILS(MB_ERR_SHAPE, "(2, 1) cannot be stretched to (3, 3)", mb_expand(&b, a, 2, (int64_t[]){3, 3}));
  CHECK_FAILS(MB_ERR_SHAPE, "cannot be stretched to (2)", mb_expand(&b, a, 1, (int64_t[]){2}));
  mb_tensor_release(a), mb_tensor_release(c);
}

static void concatenations(void) {
  mb_tensor *a = COUNTING(2, 2), *b = COUNTING(2, 1), *c, *d, *g;
  CHECK_OK(mb_set_requires_grad(a, 1));
  CHECK_OK(mb_set_requires_grad(b, 1));
  CHECK_OK(mb_concat(&c, (mb_tensor *[]){a, b, a}, 3, 1));
  EXPECT(c, 0, 1, 0, 0, 1, 2, 3, 1, 2, 3);
  g = gradient_of(a, c);
  EXPECT(g, 5, 7, 15, 17);
  mb_tensor_release(g);
  CHECK_OK(mb_grad(&g, b));
  EXPECT(g, 3, 8);
  mb_tensor_release(g);
  CHECK_OK(mb_transpose(&d, a, 0, 1));
  CHECK_OK(mb_concat(&c, (mb_tensor *[]){d, a}, 2, 0));
  EXPECT(c, 0, 2, 1, 3, 0, 1, 2, 3);
  mb_tensor_release(c);
  CHECK_FAILS(MB_ERR_SHAPE, "tensor 1 is (2, 1), tensor 0 is (2, 2)", mb_concat(&c, (mb_tensor *[]){a, b}, 2, 0));
  CHECK_FAILS(MB_ERR_ARG, "0 tensors", mb_concat(&c, (mb_tensor *[]){a}, 0, 0));
  CHECK_FAILS(MB_ERR_ARG, "tensor 1 is NULL", mb_concat(&c, (mb_tensor *[]){a, NULL}, 2, 0));
  mb_tensor *ints;
  CHECK_OK(mb_cast(&ints, a, MB_I32));
  CHECK_FAILS(MB_ERR_DTYPE, "tensor 1 is i32, tensor 0 is f64", mb_concat(&c, (mb_tensor *[]){a, ints}, 2, 0));
  mb_tensor_release(a), mb_tensor_release(b), mb_tensor_release(d), mb_tensor_release(ints);
}

static void gathers(void) {
  mb_tensor *a = COUNTING(3, 4), *index, *out, *g;
  CHECK_OK(mb_set_requires_grad(a, 1));
  int32_t ids[] = {2, 0, 1, 1, 1, 1};
  CHECK_OK(mb_from_host(&index, MB_I32, 2, (int64_t[]){2, 3}, MB_CPU, ids)); // fewer columns than a
  CHECK_OK(mb_gather(&out, a, 0, index));
  EXPECT(out, 8, 1, 6, 4, 5, 6);
  g = gradient_of(a, out);
  EXPECT(g, 0, 2, 0, 0, 4, 5, 3 + 6, 0, 1, 0, 0, 0);
  mb_tensor_release(g);
  CHECK_OK(mb_zero_grad(a));
  CHECK_OK(mb_gather(&out, a, -1, index));
  EXPECT(out, 2, 0, 1, 5, 5, 5);
  g = gradient_of(a, out);
  EXPECT(g, 2, 3, 1, 0, 0, 4 + 5 + 6, 0, 0, 0, 0, 0, 0);
  mb_tensor_release(g), mb_tensor_release(index);
  ids[4] = 4;
  CHECK_OK(mb_from_host(&index, MB_I32, 2, (int64_t[]){2, 3}, MB_CPU, ids));
  CHECK_FAILS(MB_ERR_ARG, "index 4 at element 4 is outside 0..3", mb_gather(&out, a, 1, index));
  CHECK_FAILS(MB_ERR_DTYPE, "index is f64", mb_gather(&out, a, 1, a));
  mb_tensor_release(index);
  CHECK_OK(mb_from_host(&index, MB_I32, 1, (int64_t[]){6}, MB_CPU, ids));
  CHECK_FAILS(MB_ERR_SHAPE, "index (6) does not fit", mb_gather(&out, a, 1, index));
  mb_tensor_release(a), mb_tensor_release(index);
}

static void copies(void) {
  mb_tensor *a = COUNTING(2, 2), *b, *c, *d;
  CHECK_OK(mb_contiguous(&b, a));
  CHECK(a == b);
  mb_tensor_release(b);
  CHECK_OK(mb_transpose(&b, a, 0, 1));
  CHECK_OK(mb_contiguous(&c, b));
  CHECK(!shares_memory(c, b) && mb_tensor_is_contiguous(c));
  EXPECT(c, 0, 2, 1, 3);
  mb_tensor_release(c);
  CHECK_OK(mb_cast(&c, b, MB_F32));
  CHECK_OK(mb_cast(&d, c, MB_F64));
  EXPECT(d, 0, 2, 1, 3);
  mb_tensor_release(b), mb_tensor_release(c), mb_tensor_release(d);
  double odd[] = {-1.9, 1.9, 300, -1e30, 1e30, NAN};
  CHECK_OK(mb_from_host(&b, MB_F64, 1, (int64_t[]){6}, MB_CPU, odd));
  CHECK_OK(mb_cast(&c, b, MB_I32));
  CHECK_OK(mb_cast(&d, c, MB_F64));
  EXPECT(d, -1, 1, 300, INT32_MIN, INT32_MAX, 0);
  mb_tensor_release(c), mb_tensor_release(d);
  CHECK_OK(mb_cast(&c, b, MB_U8));
  CHECK_OK(mb_cast(&d, c, MB_F64));
  EXPECT(d, 0, 1, 255, 0, 255, 0);
  mb_tensor_release(b), mb_tensor_release(c), mb_tensor_release(d);
  CHECK_FAILS(MB_ERR_DTYPE, "unknown dtype 99", mb_cast(&b, a, (mb_dtype)99));
  CHECK_FAILS(MB_ERR_ARG, "a is NULL", mb_clone(&b, NULL));
  CHECK_OK(mb_to_device(&b, a, MB_CPU));
  CHECK(a == b);
  mb_tensor_release(b);

  CHECK_OK(mb_set_requires_grad(a, 1));
  CHECK_OK(mb_detach(&b, a));
  CHECK(shares_memory(a, b) && !mb_requires_grad(b));
  mb_tensor_release(b);
  CHECK_OK(mb_cast(&b, a, MB_F32));
  CHECK_OK(mb_clone(&c, b));
  CHECK_OK(mb_cast(&d, c, MB_F64));
  mb_tensor_release(b), mb_tensor_release(c);
  b = gradient_of(a, d);
  EXPECT(b, 1, 2, 3, 4);
  mb_tensor_release(a), mb_tensor_release(b);
}

int main(void) {
  mb_memory_stats before, after;
  mb_memory(&before);
  reshape_is_a_view_where_it_can_be();
  reshape_refuses();
  permutations();
  slices();
  slices_of_a_result_add_up();
  expansions();
  concatenations();
  gathers();
  copies();
  mb_memory(&after);
  CHECK_EQ(after.live_tensors, before.live_tensors);
  CHECK_EQ(after.bytes_live, before.bytes_live);
  return check_end();
}
