// SPDX-License-Identifier: MIT
//
// test_linear_cross_entropy.c: the loss of a head in chunks of rows against the head and the loss as two operations, for every number of
// chunks; its gradients against central differences; what is ignored, refused, and kept in memory.
#include "gradcheck.h"

static const mb_cross_entropy_options DEFAULTS = {0, -1, MB_MEAN, 1, 0};

typedef struct head {
  mb_tensor *targets;
  mb_cross_entropy_options options;
  int64_t chunks; // 0: two operations
} head;

static mb_tensor *targets_of(int ndim, const int64_t *shape, int64_t classes, int64_t ignored, int64_t ignored_before) {
  int64_t n = 1;
  for (int d = 0; d < ndim; d++) n *= shape[d];
  int32_t *ids = malloc((size_t)n * sizeof *ids);
  for (int64_t i = 0; i < n; i++) {
    int is_ignored = i < ignored_before || (ignored != -1 && i % 5 == 1);
    ids[i] = (int32_t)(is_ignored ? ignored : (i * 31 + 2) % classes);
  }
  mb_tensor *t;
  CHECK_OK(mb_from_host(&t, MB_I32, ndim, shape, MB_CPU, ids));
  free(ids);
  return t;
}

static mb_status loss_of(mb_tensor **out, mb_tensor *x, mb_tensor *w, const head *h) {
  if (h->chunks > 0) return mb_linear_cross_entropy(out, x, w, h->targets, h->chunks, &h->options);
  mb_tensor *logits;
  *out = NULL;
  mb_status status = mb_linear_aligned(&logits, x, w, NULL);
  mb_cross_entropy_options with = h->options;
  with.overwrites = 1;
  if (status == MB_OK) status = mb_cross_entropy(out, logits, h->targets, &with);
  mb_tensor_release(logits);
  return status;
}

// The loss, and the gradients of x and W for dL/d loss = seed.
static void run(double *numbers, mb_dtype dtype, int ndim, const int64_t *shape, int64_t classes, double seed, const head *h) {
  const int64_t w_shape[2] = {classes, shape[ndim - 1]};
  mb_rng_set(17, 0, 0);
  mb_tensor *in[2] = {random_tensor(dtype, ndim, shape), random_tensor(dtype, 2, w_shape)}, *loss, *g, *dout;
  for (int i = 0; i < 2; i++) CHECK_OK(mb_set_requires_grad(in[i], 1));
  CHECK_OK(loss_of(&loss, in[0], in[1], h));
  CHECK_EQ(mb_tensor_ndim(loss), 0);
  CHECK_OK(mb_tensor_item(numbers++, loss));
  CHECK_OK(mb_full(&dout, dtype, 0, NULL, MB_CPU, seed));
  CHECK_OK(mb_backward(loss, dout));
  if (h->chunks > 0) CHECK_FAILS(MB_ERR_STATE, "the graph behind 'linear_cross_entropy' was freed", mb_backward(loss, dout));
  for (int i = 0; i < 2; i++) {
    CHECK_OK(mb_grad(&g, in[i]));
    double *values = values_of(g);
    memcpy(numbers, values, (size_t)mb_tensor_numel(g) * sizeof *values);
    numbers += mb_tensor_numel(g);
    free(values);
    mb_tensor_release(g), mb_tensor_release(in[i]);
  }
  mb_tensor_release(loss), mb_tensor_release(dout);
}

// One chunk is the same products over the same rows: the same bits. More are products of other sizes, which may add up in another
// order, and a dW that is summed in parts; and another dL/d loss is multiplied with after the products, not before.
// The mean knows all targets, whichever chunks they are in.
static void chunks_agree(void) {
  enum { ROWS = 22, WIDTH = 9, MOST = 1 + (ROWS + 130) * WIDTH };
  static double expected[MOST], found[MOST];
  const int64_t flat[2] = {ROWS, WIDTH}, deep[3] = {2, ROWS / 2, WIDTH}, classes[3] = {5, 67, 130};
  const int64_t chunks[9] = {1, 2, 3, 4, 5, 7, 21, 22, 1000};
  const mb_cross_entropy_options options[4] = {DEFAULTS, {0.1, -1, MB_SUM, 0.25, 0}, {0.2, 3, MB_MEAN, -2, 0}, {0, -100, MB_MEAN, 0, 0}};
  for (int c = 0; c < 3; c++)
    for (int o = 0; o < 4; o++)
      for (int dtype = MB_F32; dtype <= MB_F64; dtype++)
        for (int k = 0; k < 9; k++) {
          const int is_deep = k % 2, ndim = is_deep ? 3 : 2;
          const int64_t *shape = is_deep ? deep : flat;
          double seed = o == 1 ? 1.5 : 1, most = 0;
          // Where targets are ignored, all of some chunks are.
          head h = {targets_of(ndim - 1, shape, classes[c], options[o].ignore_index, options[o].ignore_index == -1 ? 0 : 8), options[o], 0};
          run(expected, (mb_dtype)dtype, ndim, shape, classes[c], seed, &h);
          h.chunks = chunks[k];
          run(found, (mb_dtype)dtype, ndim, shape, classes[c], seed, &h);
          int64_t count = 1 + (ROWS + classes[c]) * WIDTH;
          for (int64_t i = 0; i < count; i++) most = fmax(most, fabs(found[i] - expected[i]));
          CHECK_NEAR(most, 0, k == 0 && seed == 1 ? 0 : dtype == MB_F32 ? 2e-5 : 1e-13);
          mb_tensor_release(h.targets);
        }
}

static mb_status op(mb_tensor **out, mb_tensor **inputs, const void *constants) { return loss_of(out, inputs[0], inputs[1], constants); }

// x is a transposed view of what another op made, W too is not a leaf, and the loss counts -3/8.
static mb_status inner_op(mb_tensor **out, mb_tensor **inputs, const void *constants) {
  mb_tensor *x = NULL, *t = NULL, *w = NULL, *loss = NULL;
  *out = NULL;
  mb_status status = mb_square(&t, inputs[0]);
  if (status == MB_OK) status = mb_transpose(&x, t, 0, 1);
  if (status == MB_OK) status = mb_affine(&w, inputs[1], 0.5, 0.25);
  if (status == MB_OK) status = loss_of(&loss, x, w, constants);
  if (status == MB_OK) status = mb_affine(out, loss, -0.375, 0);
  mb_tensor_release(x), mb_tensor_release(t), mb_tensor_release(w), mb_tensor_release(loss);
  return status;
}

// The head's weight is used elsewhere too, as a tied embedding is: its two gradients add up.
static mb_status tied_op(mb_tensor **out, mb_tensor **inputs, const void *constants) {
  const head *h = constants;
  mb_tensor *x = NULL, *y = NULL, *a = NULL;
  *out = NULL;
  mb_status status = mb_embedding(&x, inputs[1], h->targets);
  if (status == MB_OK) status = mb_add(&y, x, inputs[0]);
  if (status == MB_OK) status = loss_of(&a, y, inputs[1], h);
  if (status == MB_OK) status = mb_affine(out, a, 1, 0);
  mb_tensor_release(x), mb_tensor_release(y), mb_tensor_release(a);
  return status;
}

static void gradients_agree(void) {
  const int64_t shape[3] = {2, 3, 4}, tall[2] = {4, 6}, weight[2] = {5, 4};
  for (int64_t chunks = 1; chunks <= 6; chunks++) {
    mb_cross_entropy_options o = chunks % 2 ? DEFAULTS : (mb_cross_entropy_options){0.1, 4, MB_MEAN, 0.7, 0};
    mb_tensor *in[2] = {random_tensor(MB_F64, 3, shape), random_tensor(MB_F64, 2, weight)};
    mb_tensor *turned[2] = {random_tensor(MB_F64, 2, tall), in[1]};
    head h = {targets_of(2, shape, 5, o.ignore_index, 0), o, chunks}, flat = {targets_of(1, tall + 1, 5, o.ignore_index, 0), o, chunks};
    gradcheck(op, in, 2, &h, 2e-7);
    gradcheck(inner_op, turned, 2, &flat, 2e-7);
    gradcheck(tied_op, in, 2, &h, 2e-7);
    for (int i = 0; i < 2; i++) mb_tensor_release(in[i]);
    mb_tensor_release(turned[0]), mb_tensor_release(h.targets), mb_tensor_release(flat.targets);
  }
}

// What needs no gradient gets none; without recording there is the loss alone, with the same bits.
static void only_what_is_wanted(void) {
  const int64_t shape[2] = {7, 4}, weight[2] = {5, 4};
  mb_tensor *in[2] = {random_tensor(MB_F32, 2, shape), random_tensor(MB_F32, 2, weight)}, *loss, *g;
  head h = {targets_of(1, shape, 5, -1, 0), DEFAULTS, 3};
  double plain, value;
  CHECK_OK(loss_of(&loss, in[0], in[1], &h));
  CHECK_OK(mb_tensor_item(&plain, loss));
  CHECK(!mb_requires_grad(loss));
  mb_tensor_release(loss);
  for (int i = 0; i < 2; i++) {
    CHECK_OK(mb_set_requires_grad(in[i], 1));
    CHECK_OK(loss_of(&loss, in[0], in[1], &h));
    CHECK_OK(mb_tensor_item(&value, loss));
    CHECK(value == plain);
    CHECK_OK(mb_backward(loss, NULL));
    CHECK_OK(mb_grad(&g, in[1 - i]));
    CHECK(g == NULL);
    CHECK_OK(mb_grad(&g, in[i]));
    CHECK(g != NULL);
    CHECK_OK(mb_zero_grad(in[i]));
    CHECK_OK(mb_set_requires_grad(in[i], 0));
    mb_tensor_release(g), mb_tensor_release(loss);
    mb_tensor_release(in[i]);
    in[i] = random_tensor(MB_F32, 2, i ? weight : shape);
    if (i == 0) {
      CHECK_OK(loss_of(&loss, in[0], in[1], &h));
      CHECK_OK(mb_tensor_item(&plain, loss));
      mb_tensor_release(loss);
    }
  }
  for (int i = 0; i < 2; i++) mb_tensor_release(in[i]);
  mb_tensor_release(h.targets);
}

static void all_ignored(void) {
  const int64_t shape[2] = {6, 4}, weight[2] = {5, 4};
  for (int sum = 0; sum < 2; sum++) {
    mb_tensor *in[2] = {random_tensor(MB_F64, 2, shape), random_tensor(MB_F64, 2, weight)}, *loss, *g;
    head h = {targets_of(1, shape, 5, 3, 6), {0, 3, sum ? MB_SUM : MB_MEAN, 1, 0}, 4};
    double value;
    for (int i = 0; i < 2; i++) CHECK_OK(mb_set_requires_grad(in[i], 1));
    CHECK_OK(loss_of(&loss, in[0], in[1], &h));
    CHECK_OK(mb_tensor_item(&value, loss));
    CHECK(sum ? value == 0 : isnan(value));
    CHECK_OK(mb_backward(loss, NULL));
    for (int i = 0; i < 2; i++) {
      CHECK_OK(mb_grad(&g, in[i]));
      double *v = values_of(g);
      for (int64_t k = 0; k < mb_tensor_numel(g); k++) CHECK(v[k] == 0);
      free(v);
      mb_tensor_release(g), mb_tensor_release(in[i]);
    }
    mb_tensor_release(loss), mb_tensor_release(h.targets);
  }
}

// The logits are in memory a chunk at a time.
static void memory_is_a_chunks(void) {
  enum { ROWS = 512, CLASSES = 1024, WIDTH = 16 };
  const int64_t shape[2] = {ROWS, WIDTH}, weight[2] = {CLASSES, WIDTH};
  mb_tensor *in[2] = {random_tensor(MB_F32, 2, shape), random_tensor(MB_F32, 2, weight)}, *loss;
  head h = {targets_of(1, shape, CLASSES, -1, 0), DEFAULTS, 8};
  for (int i = 0; i < 2; i++) CHECK_OK(mb_set_requires_grad(in[i], 1));
  mb_memory_stats before, after;
  mb_memory_reset_peak();
  mb_memory(&before);
  CHECK_OK(loss_of(&loss, in[0], in[1], &h));
  mb_memory(&after);
  int64_t chunk = ROWS / 8 * CLASSES * 4, gradients = (ROWS + CLASSES) * WIDTH * 4;
  CHECK(after.bytes_peak - before.bytes_live < chunk + gradients + 64 * 1024);
  CHECK(after.bytes_live - before.bytes_live < gradients + 16 * 1024);
  for (int i = 0; i < 2; i++) mb_tensor_release(in[i]);
  mb_tensor_release(loss), mb_tensor_release(h.targets);
}

static void misuse_is_refused(void) {
  const int64_t shape[3] = {2, 3, 4}, weight[2] = {5, 4};
  mb_tensor *x = random_tensor(MB_F32, 3, shape), *w = random_tensor(MB_F32, 2, weight), *loss = x, *other;
  mb_tensor *targets = targets_of(2, shape, 5, -1, 0), *bad = targets_of(2, shape, 5, 9, 1);
  CHECK_FAILS(MB_ERR_ARG, "mb_linear_cross_entropy: chunks is 0", mb_linear_cross_entropy(&loss, x, w, targets, 0, NULL));
  CHECK(loss == NULL);
  CHECK_FAILS(MB_ERR_SHAPE, "mb_linear_cross_entropy: x is (2, 3, 4), weight is (2, 3, 4)",
              mb_linear_cross_entropy(&loss, x, x, targets, 1, NULL));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_linear_cross_entropy: x has shape (5, 4), targets (2, 3); all but the last dimension of x",
              mb_linear_cross_entropy(&loss, w, w, targets, 1, NULL));
  CHECK_FAILS(MB_ERR_ARG, "mb_linear_cross_entropy: targets at (0, 0) is 9, but there are 5 classes",
              mb_linear_cross_entropy(&loss, x, w, bad, 2, NULL));
  CHECK_FAILS(MB_ERR_ARG, "mb_linear_cross_entropy: label_smoothing is 1",
              mb_linear_cross_entropy(&loss, x, w, targets, 2, &(mb_cross_entropy_options){1, -1, MB_MEAN, 1, 0}));
  CHECK_FAILS(MB_ERR_DTYPE, "x is i32", mb_linear_cross_entropy(&loss, targets, w, targets, 2, NULL));
  other = random_tensor(MB_F64, 2, weight);
  CHECK_FAILS(MB_ERR_DTYPE, "mb_linear_cross_entropy: ", mb_linear_cross_entropy(&loss, x, other, targets, 2, NULL));
  mb_tensor_release(other), mb_tensor_release(x), mb_tensor_release(w), mb_tensor_release(targets), mb_tensor_release(bad);
}

int main(void) {
  seed_test();
  int64_t before = live_tensors();
  chunks_agree();
  gradients_agree();
  only_what_is_wanted();
  all_ignored();
  memory_is_a_chunks();
  misuse_is_refused();
  CHECK_EQ(live_tensors(), before);
  return check_end();
}
