// SPDX-License-Identifier: MIT
//
// test_tape.c: who owns what while a backward runs and after it failed: a seed is never written to, a failed
// backward lets go of the graph and leaves no half-made gradient behind, discarded leaves want nothing.
#include "gradcheck.h"

static double *gradient_of(mb_tensor *t) {
  mb_tensor *g;
  CHECK_OK(mb_grad(&g, t));
  double *values = g ? values_of(g) : NULL;
  mb_tensor_release(g);
  return values;
}

// A little of everything that writes into places: (x w) through layernorm, a residual, softmax, a loss.
static mb_status network(mb_tensor **loss, mb_tensor *x, mb_tensor *w, mb_tensor *scale, mb_tensor *targets) {
  mb_tensor *h = NULL, *n = NULL, *r = NULL, *s = NULL, *logits = NULL;
  *loss = NULL;
  mb_status status = mb_matmul(&h, x, w, 0, 0);
  if (status == MB_OK) status = mb_layernorm(&n, h, scale, scale, 1e-5);
  if (status == MB_OK) status = mb_add(&r, n, h);
  if (status == MB_OK) status = mb_softmax(&s, r, 1);
  if (status == MB_OK) status = mb_mul(&logits, s, r);
  mb_tensor_release(h), mb_tensor_release(n), mb_tensor_release(r), mb_tensor_release(s);
  if (status == MB_OK) status = mb_cross_entropy(loss, logits, targets, NULL);
  mb_tensor_release(logits);
  return status;
}

// Every allocation of the backward fails once. Each time: an error, the loss still held, yet the leaves can be
// changed in place, their gradients can be read, and the next step gives the gradients of a clean run.
static void failed_backward_lets_go(void) {
  enum { ROWS = 5, COLUMNS = 7 };
  mb_tensor *x = random_tensor(MB_F64, 2, (const int64_t[2]){ROWS, 4}), *w = random_tensor(MB_F64, 2, (const int64_t[2]){4, COLUMNS});
  mb_tensor *scale = random_tensor(MB_F64, 1, (const int64_t[1]){COLUMNS}), *targets, *loss, *leaves[3] = {x, w, scale};
  CHECK_OK(mb_from_host(&targets, MB_I32, 1, (const int64_t[1]){ROWS}, MB_CPU, (const int32_t[ROWS]){3, 0, 6, 3, 1}));
  double *clean[3];
  for (int i = 0; i < 3; i++) CHECK_OK(mb_set_requires_grad(leaves[i], 1));
  CHECK_OK(network(&loss, x, w, scale, targets));
  CHECK_OK(mb_backward(loss, NULL));
  for (int i = 0; i < 3; i++) clean[i] = gradient_of(leaves[i]);
  mb_tensor_release(loss);
  int failures = 0;
  const int64_t before_start = 3; // allocations that collect nodes and make the first gradient
  for (int64_t n = 1;; n++) {
    for (int i = 0; i < 3; i++) // leaves without a gradient buffer, so that it is made anew
      if (n % 2) CHECK_OK(mb_zero_grad(leaves[i]));
      else {
        mb_tensor *fresh;
        CHECK_OK(mb_clone(&fresh, leaves[i]));
        mb_tensor_release(leaves[i]);
        CHECK_OK(mb_detach(&leaves[i], fresh));
        mb_tensor_release(fresh);
        CHECK_OK(mb_set_requires_grad(leaves[i], 1));
      }
    CHECK_OK(network(&loss, leaves[0], leaves[1], leaves[2], targets));
    int64_t before = live_tensors();
    mb_debug_fail_allocation(n);
    mb_status status = mb_backward(loss, NULL);
    mb_debug_fail_allocation(0);
    if (status == MB_OK) {
      mb_tensor_release(loss);
      break;
    }
    failures++;
    CHECK(status == MB_ERR_NOMEM);
    CHECK(live_tensors() <= before + 3);
    if (n <= before_start) { // nothing has run yet: the same call may be made again
      CHECK_OK(mb_backward(loss, NULL));
      mb_tensor_release(loss);
      continue;
    }
    for (int i = 0; i < 3; i++) {
      CHECK_OK(mb_affine_(leaves[i], 1.0, 0.0));
      double *g = gradient_of(leaves[i]); // incomplete: whole contributions or zero, never noise
      for (int64_t j = 0; g && j < mb_tensor_numel(leaves[i]); j++) CHECK(fabs(g[j]) < 100);
      free(g);
      CHECK_OK(mb_zero_grad(leaves[i]));
    }
    CHECK_FAILS(MB_ERR_STATE, "freed by an earlier backward", mb_backward(loss, NULL));
    mb_tensor_release(loss);
    CHECK_OK(network(&loss, leaves[0], leaves[1], leaves[2], targets));
    CHECK_OK(mb_backward(loss, NULL));
    for (int i = 0; i < 3; i++) {
      double *g = gradient_of(leaves[i]);
      CHECK(memcmp(g, clean[i], (size_t)mb_tensor_numel(leaves[i]) * sizeof *g) == 0);
      free(g);
    }
    mb_tensor_release(loss);
  }
  CHECK(failures > 10);
  for (int i = 0; i < 3; i++) free(clean[i]), mb_tensor_release(leaves[i]);
  mb_tensor_release(targets);
}

// A sink that its op did not finish must not be read as a gradient.
static void half_written_sinks_count_as_zero(void) {
  enum { N = 1000 };
  mb_tensor *x = random_tensor(MB_F32, 1, (const int64_t[1]){N}), *y, *noise, *seed;
  CHECK_OK(mb_full(&seed, MB_F32, 1, (const int64_t[1]){N}, MB_CPU, 1.0));
  CHECK_OK(mb_set_requires_grad(x, 1));
  CHECK_OK(mb_layernorm(&y, x, NULL, NULL, 0));
  mb_status status = MB_OK;
  for (int64_t n = 1; n <= 6; n++) { // fails in the sink's making, then in the kernel's scratch
    mb_memory_trim();
    CHECK_OK(mb_full(&noise, MB_F32, 1, (const int64_t[1]){N}, MB_CPU, 12345.0));
    mb_tensor_release(noise); // its memory comes back as the gradient's
    mb_debug_fail_allocation(n);
    status = mb_backward(y, seed);
    mb_debug_fail_allocation(0);
    if (status == MB_OK) break;
    double *g = gradient_of(x);
    for (int64_t j = 0; g && j < N; j++) CHECK_NEAR(g[j], 0, 0);
    free(g);
    mb_tensor_release(y);
    CHECK_OK(mb_layernorm(&y, x, NULL, NULL, 0));
  }
  CHECK_OK(status);
  mb_tensor_release(y), mb_tensor_release(seed), mb_tensor_release(x);
}

// Gradients add up on the way, through nodes and at leaves; the seed is what it was, and shares no memory
// with any gradient.
static void seeds_are_never_written(void) {
  const int64_t n = 6;
  mb_tensor *a = random_tensor(MB_F64, 1, &n), *b = random_tensor(MB_F64, 1, &n), *h, *s, *out, *seed;
  CHECK_OK(mb_set_requires_grad(a, 1));
  CHECK_OK(mb_set_requires_grad(b, 1));
  CHECK_OK(mb_full(&seed, MB_F64, 1, &n, MB_CPU, 3.0));
  for (int pass = 1; pass <= 2; pass++) {
    CHECK_OK(mb_affine(&h, a, 2.0, 0.0));
    CHECK_OK(mb_add(&s, h, b));
    CHECK_OK(mb_add(&out, s, h)); // 2 (2 a) + b
    CHECK_OK(mb_backward(out, seed));
    mb_tensor_release(h), mb_tensor_release(s), mb_tensor_release(out);
    double *v = values_of(seed), *ga = gradient_of(a), *gb = gradient_of(b);
    for (int i = 0; i < n; i++) {
      CHECK_NEAR(v[i], 3.0, 0);
      CHECK_NEAR(ga[i], 12.0 * pass, 0);
      CHECK_NEAR(gb[i], 3.0 * pass, 0);
    }
    free(v), free(ga), free(gb);
  }
  CHECK_OK(mb_fill_(seed, -1.0));
  double *gb = gradient_of(b);
  CHECK_NEAR(gb[0], 6.0, 0);
  free(gb);
  // A seed of strides.
  mb_tensor *wide, *every_other, *c = random_tensor(MB_F64, 1, (const int64_t[1]){3});
  CHECK_OK(mb_arange(&wide, MB_F64, MB_CPU, 0, 1, 6));
  CHECK_OK(mb_slice(&every_other, wide, 0, 1, 6, 2));
  CHECK_OK(mb_set_requires_grad(c, 1));
  CHECK_OK(mb_affine(&out, c, 1.0, 0.0));
  CHECK_OK(mb_backward(out, every_other));
  double *gc = gradient_of(c);
  CHECK(gc[0] == 1 && gc[1] == 3 && gc[2] == 5);
  free(gc);
  mb_tensor_release(out), mb_tensor_release(c), mb_tensor_release(every_other), mb_tensor_release(wide);
  mb_tensor_release(seed), mb_tensor_release(a), mb_tensor_release(b);
}

static void discarded_leaves_want_nothing(void) {
  const int64_t n = 1000;
  mb_tensor *x = random_tensor(MB_F64, 1, &n), *y = random_tensor(MB_F64, 1, &n), *p, *sum, *g;
  CHECK_OK(mb_set_requires_grad(x, 1));
  CHECK_OK(mb_set_requires_grad(y, 1));
  for (int pass = 0; pass < 2; pass++) {
    mb_memory_stats before, after;
    CHECK_OK(mb_mul(&p, x, y));
    CHECK_OK(mb_sum(&sum, p, 0, NULL, 0));
    mb_tensor_release(p);
    if (pass == 1) {
      // Its memory and its gradient's come back; the graph keeps the values it saved.
      mb_memory(&before);
      mb_tensor_discard(x, "the test says so");
      mb_memory(&after);
      CHECK_EQ(before.bytes_live - after.bytes_live, 8192);
      mb_tensor_discard(x, "twice");
    }
    CHECK_OK(mb_backward(sum, NULL));
    mb_tensor_release(sum);
  }
  CHECK_FAILS(MB_ERR_STATE, "the test says so", mb_grad(&g, x));
  CHECK_FAILS(MB_ERR_STATE, "the test says so", mb_set_requires_grad(x, 0));
  CHECK_OK(mb_grad(&g, y));
  CHECK(g != NULL);
  mb_tensor_release(g), mb_tensor_release(x), mb_tensor_release(y);
}

// Absurd sizes end in an error, not outside the cache's table; trimming leaves the last error alone.
static void absurd_sizes(void) {
  mb_tensor *t;
  for (int bits = 48; bits <= 59; bits++) {
    const int64_t shape[2] = {(int64_t)1 << (bits - 20), 1 << 20};
    CHECK_FAILS(MB_ERR_NOMEM, "out of memory", mb_empty(&t, MB_F64, 2, shape, MB_CPU));
  }
  CHECK_FAILS(MB_ERR_SHAPE, "too many elements", mb_empty(&t, MB_F64, 2, (const int64_t[2]){(int64_t)1 << 40, 1 << 20}, MB_CPU));
  mb_memory_trim();
  CHECK(strstr(mb_last_error(), "too many elements") != NULL);
}

int main(void) {
  seed_test();
  int64_t before = live_tensors();
  failed_backward_lets_go();
  half_written_sinks_count_as_zero();
  seeds_are_never_written();
  discarded_leaves_want_nothing();
  absurd_sizes();
  CHECK_EQ(live_tensors(), before);
  return check_end();
}
