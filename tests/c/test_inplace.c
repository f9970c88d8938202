// SPDX-License-Identifier: MIT
//
// test_inplace.c: changes in place: values, broadcasting, sources that overlap the destination, and when
// they are refused because the tape would go wrong.
#include "check.h"

enum { MOST = 64 };

static mb_tensor *from(int ndim, const int64_t *shape, const double *values) {
  mb_tensor *t;
  CHECK_OK(mb_from_host(&t, MB_F64, ndim, shape, MB_CPU, values));
  return t;
}
#define VECTOR(...) from(1, (int64_t[]){sizeof(double[]){__VA_ARGS__} / sizeof(double)}, (double[]){__VA_ARGS__})

static void expect(mb_tensor *t, int n, const double *want) {
  double got[MOST];
  CHECK_EQ(mb_tensor_numel(t), n);
  CHECK_OK(mb_tensor_to_host(got, t));
  for (int i = 0; i < n; i++) CHECK_NEAR(got[i], want[i], 1e-14);
}
#define EXPECT(t, ...) expect(t, (int)(sizeof(double[]){__VA_ARGS__} / sizeof(double)), (double[]){__VA_ARGS__})

static void values(void) {
  mb_tensor *t = VECTOR(1, 2, 3), *a = VECTOR(10, 20, 30);
  CHECK_OK(mb_add_(t, a, 0.5));
  EXPECT(t, 6, 12, 18);
  CHECK_OK(mb_mul_(t, a));
  EXPECT(t, 60, 240, 540);
  CHECK_OK(mb_affine_(t, 0.5, 1));
  EXPECT(t, 31, 121, 271);
  CHECK_OK(mb_lerp_(t, a, 0.25));
  EXPECT(t, 25.75, 95.75, 210.75);
  CHECK_OK(mb_lerp_(t, a, 1));
  EXPECT(t, 10, 20, 30);
  CHECK_OK(mb_copy_(t, t));
  CHECK_OK(mb_add_(t, t, 1));
  CHECK_OK(mb_mul_(t, t));
  EXPECT(t, 400, 1600, 3600);
  CHECK_OK(mb_fill_(t, -0.5));
  EXPECT(t, -0.5, -0.5, -0.5);
  mb_tensor_release(t), mb_tensor_release(a);
}

static void parts_of_a_tensor(void) {
  mb_tensor *t = from(2, (int64_t[]){2, 3}, (double[]){1, 2, 3, 4, 5, 6}), *column, *turned, *a = VECTOR(10, 20);
  CHECK_OK(mb_slice(&column, t, 1, 0, 3, 2));
  CHECK_OK(mb_fill_(column, 7));
  EXPECT(t, 7, 2, 7, 7, 5, 7);
  CHECK_OK(mb_mul_(column, a)); // (2) broadcasts over (2, 2)
  EXPECT(t, 70, 2, 140, 70, 5, 140);
  CHECK_OK(mb_transpose(&turned, t, 0, 1));
  CHECK_OK(mb_copy_(turned, a));
  EXPECT(t, 10, 10, 10, 20, 20, 20);
  mb_tensor_release(t), mb_tensor_release(column), mb_tensor_release(turned), mb_tensor_release(a);
}

static void dtypes(void) {
  mb_tensor *t = VECTOR(1, 2, 3), *ints, *narrow;
  CHECK_OK(mb_cast(&ints, t, MB_I32));
  CHECK_OK(mb_fill_(ints, 5));
  CHECK_OK(mb_copy_(t, ints));
  EXPECT(t, 5, 5, 5);
  CHECK_OK(mb_affine_(t, 1, 0.75));
  CHECK_OK(mb_copy_(ints, t)); // cut towards zero
  CHECK_OK(mb_copy_(t, ints));
  EXPECT(t, 5, 5, 5);
  CHECK_FAILS(MB_ERR_DTYPE, "mb_add_: a is i32", mb_add_(t, ints, 1));
  CHECK_FAILS(MB_ERR_DTYPE, "mb_affine_: t is i32", mb_affine_(ints, 1, 1));
  CHECK_OK(mb_cast(&narrow, t, MB_F32));
  CHECK_FAILS(MB_ERR_DTYPE, "t is f64, a is f32", mb_mul_(t, narrow));
  mb_tensor_release(t), mb_tensor_release(ints), mb_tensor_release(narrow);
}

// Every destination element comes from the values before the call, in whichever direction memory is walked.
static void overlapping_sources(void) {
  mb_tensor *t = VECTOR(1, 2, 3, 4, 5, 6), *low, *high, *square, *turned;
  CHECK_OK(mb_slice(&low, t, 0, 0, 5, 1));
  CHECK_OK(mb_slice(&high, t, 0, 1, 6, 1));
  CHECK_OK(mb_copy_(high, low));
  EXPECT(t, 1, 1, 2, 3, 4, 5);
  CHECK_OK(mb_copy_(low, high));
  EXPECT(t, 1, 2, 3, 4, 5, 5);
  CHECK_OK(mb_add_(high, low, 10));
  EXPECT(t, 1, 12, 23, 34, 45, 55);
  CHECK_OK(mb_lerp_(low, high, 0.5));
  EXPECT(t, 6.5, 17.5, 28.5, 39.5, 50, 55);
  mb_tensor_release(low), mb_tensor_release(high);
  CHECK_OK(mb_slice(&low, t, 0, 0, 1, 1));
  CHECK_OK(mb_mul_(t, low)); // the first element scales all, itself included
  EXPECT(t, 42.25, 113.75, 185.25, 256.75, 325, 357.5);
  CHECK_OK(mb_slice(&high, t, 0, 5, 6, 1));
  CHECK_OK(mb_copy_(low, high)); // apart in memory: nothing to protect
  EXPECT(low, 357.5);
  mb_tensor_release(t), mb_tensor_release(low), mb_tensor_release(high);

  square = from(2, (int64_t[]){2, 2}, (double[]){1, 2, 3, 4});
  CHECK_OK(mb_transpose(&turned, square, 0, 1));
  CHECK_OK(mb_add_(square, turned, 1));
  EXPECT(square, 2, 5, 5, 8);
  CHECK_OK(mb_fill_(square, 0));
  CHECK_OK(mb_tensor_from_host(square, (double[]){1, 2, 3, 4}));
  CHECK_OK(mb_copy_(square, turned));
  EXPECT(square, 1, 3, 2, 4);
  mb_tensor_release(square), mb_tensor_release(turned);
}

static void refusals(void) {
  mb_tensor *t = VECTOR(1, 2), *a = VECTOR(1, 2, 3), *wide, *y, *view, *g;
  CHECK_FAILS(MB_ERR_SHAPE, "mb_add_: a is (3), which does not broadcast to t, (2)", mb_add_(t, a, 1));
  CHECK_OK(mb_expand(&wide, t, 2, (int64_t[]){2, 2}));
  CHECK_FAILS(MB_ERR_SHAPE, "source is (2, 2)", mb_copy_(t, wide)); // the destination is never stretched
  CHECK_FAILS(MB_ERR_STATE, "expanded view", mb_fill_(wide, 1));
  CHECK_FAILS(MB_ERR_STATE, "expanded view", mb_uniform_(wide, 0, 1));
  CHECK_FAILS(MB_ERR_ARG, "mb_lerp_: a is NULL", mb_lerp_(t, NULL, 1));
  CHECK_FAILS(MB_ERR_ARG, "mb_fill_: t is NULL", mb_fill_(NULL, 1));
  CHECK_OK(mb_set_requires_grad(t, 1));
  CHECK_OK(mb_square(&y, t));
  CHECK_FAILS(MB_ERR_STATE, "mb_fill_: the values are still needed by the backward of 'unary'", mb_fill_(t, 1));
  CHECK_FAILS(MB_ERR_STATE, "mb_mul_: the values are still needed", mb_mul_(t, t));
  mb_tensor_release(y);
  CHECK_OK(mb_fill_(t, 3)); // nobody can ask for that backward any more
  CHECK_OK(mb_slice(&view, t, 0, 0, 1, 1));
  CHECK_FAILS(MB_ERR_STATE, "is the result of 'slice'", mb_fill_(view, 1));
  CHECK_OK(mb_square(&y, view)); // pins the storage, for its other views too
  CHECK_FAILS(MB_ERR_STATE, "still needed", mb_add_(t, t, 1));
  CHECK_OK(mb_backward(y, NULL));
  CHECK_OK(mb_add_(t, t, 1));
  CHECK_OK(mb_grad(&g, t));
  EXPECT(g, 6, 0);
  EXPECT(t, 6, 6);
  int mode = mb_grad_mode(0);
  mb_tensor *free_view;
  CHECK_OK(mb_slice(&free_view, t, 0, 1, 2, 1)); // with gradients off a view is only memory
  CHECK_OK(mb_fill_(free_view, 9));
  mb_grad_mode(mode);
  EXPECT(t, 6, 9);
  mb_tensor_release(t), mb_tensor_release(a), mb_tensor_release(wide), mb_tensor_release(y);
  mb_tensor_release(view), mb_tensor_release(g), mb_tensor_release(free_view);
}

int main(void) {
  values();
  parts_of_a_tensor();
  dtypes();
  overlapping_sources();
  refusals();
  mb_memory_stats stats;
  mb_memory(&stats);
  CHECK_EQ(stats.live_tensors, 0);
  CHECK_EQ(stats.bytes_live, 0);
  return check_end();
}
