// SPDX-License-Identifier: MIT
//
// test_autograd.c: the tape: gradients add up, graphs die when nobody holds them, misuse is refused.
#include "check.h"

static mb_tensor *vector(double value, int64_t n) {
  mb_tensor *t;
  CHECK_OK(mb_full(&t, MB_F64, 1, &n, MB_CPU, value));
  return t;
}

static int64_t live(void) {
  mb_memory_stats stats;
  mb_memory(&stats);
  return stats.live_tensors;
}

static double first(mb_tensor *t) {
  double values[16];
  CHECK_OK(mb_tensor_to_host(values, t));
  return values[0];
}

static void gradients_add_up(void) {
  mb_tensor *x = vector(3, 1), *y, *z, *g;
  CHECK_OK(mb_set_requires_grad(x, 1));
  for (int pass = 1; pass <= 2; pass++) {
    CHECK_OK(mb_mul(&y, x, x)); // y = x^2
    CHECK_OK(mb_add(&z, y, y)); // z = 2 x^2, dz/dx = 4 x
    CHECK_OK(mb_backward(z, NULL));
    CHECK_OK(mb_grad(&g, x));
    CHECK_NEAR(first(g), 12.0 * pass, 0);
    mb_tensor_release(g), mb_tensor_release(z), mb_tensor_release(y);
  }
  CHECK_OK(mb_zero_grad(x));
  CHECK_OK(mb_grad(&g, x));
  CHECK_NEAR(first(g), 0, 0);
  mb_tensor_release(g), mb_tensor_release(x);
}

static void long_chains_die_without_recursion(void) {
  mb_tensor *x = vector(1, 1), *y, *next;
  CHECK_OK(mb_set_requires_grad(x, 1));
  CHECK_OK(mb_exp(&y, x));
  for (int i = 0; i < 300000; i++) {
    CHECK_OK(mb_affine(&next, y, 1.0, 0.0));
    mb_tensor_release(y);
    y = next;
  }
  mb_tensor_release(y);
  mb_tensor_release(x);
}

static void misuse_is_refused(void) {
  mb_tensor *x = vector(2, 1), *y, *z, *pair = vector(1, 2);
  CHECK_FAILS(MB_ERR_STATE, "no history", mb_backward(x, NULL));
  CHECK_OK(mb_set_requires_grad(x, 1));
  CHECK_OK(mb_set_requires_grad(pair, 1));
  CHECK_OK(mb_mul(&y, x, x));
  CHECK_FAILS(MB_ERR_STATE, "still needed", mb_randn_(x, 0, 1));
  CHECK_OK(mb_backward(y, NULL));
  CHECK_FAILS(MB_ERR_STATE, "freed by an earlier backward", mb_backward(y, NULL));
  CHECK_OK(mb_exp(&z, pair));
  CHECK_FAILS(MB_ERR_SHAPE, "(2)", mb_backward(z, NULL));
  mb_tensor_discard(z, "the test says so");
  mb_tensor *w;
  CHECK_FAILS(MB_ERR_STATE, "the test says so", mb_exp(&w, z));
  mb_tensor_release(x), mb_tensor_release(y), mb_tensor_release(z), mb_tensor_release(pair);
}

int main(void) {
  int64_t before = live();
  gradients_add_up();
  long_chains_die_without_recursion();
  misuse_is_refused();
  CHECK_EQ(live(), before);
  return check_end();
}
