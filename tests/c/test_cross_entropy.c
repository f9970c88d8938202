// SPDX-License-Identifier: MIT
//
// test_cross_entropy.c: the fused loss against the plain formula, its gradient against central differences
// and written in place, by the backward or by the loss, and the cases where numbers run out: infinities, NaN, everything ignored.
#include "gradcheck.h"

static mb_tensor *targets_of(mb_dtype dtype, int ndim, const int64_t *shape, int64_t classes, int64_t ignored) {
  int64_t n = 1;
  for (int d = 0; d < ndim; d++) n *= shape[d];
  int32_t *ids = malloc((size_t)n * sizeof *ids);
  for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)(ignored != -1 && i % 3 == 1 ? ignored : (i * 31 + 2) % classes);
  mb_tensor *t, *cast;
  CHECK_OK(mb_from_host(&t, MB_I32, ndim, shape, MB_CPU, ids));
  CHECK_OK(mb_cast(&cast, t, dtype));
  mb_tensor_release(t);
  free(ids);
  return cast;
}

// The definition, row by row: -sum_v q[v] log p[v], q = (1 - s) one-hot + s / V.
static double plain(mb_tensor *logits, mb_tensor *targets, const mb_cross_entropy_options *o) {
  int64_t columns = mb_tensor_shape(logits)[mb_tensor_ndim(logits) - 1], rows = mb_tensor_numel(logits) / columns, counted = 0;
  mb_tensor *ids;
  CHECK_OK(mb_cast(&ids, targets, MB_F64));
  double *x = values_of(logits), *t = values_of(ids), loss = 0;
  for (int64_t r = 0; r < rows; r++) {
    int64_t target = (int64_t)t[r];
    if (o->ignore_index != -1 && target == o->ignore_index) continue;
    counted++;
    double most = x[r * columns], sum = 0;
    for (int64_t c = 0; c < columns; c++) most = fmax(most, x[r * columns + c]);
    for (int64_t c = 0; c < columns; c++) sum += exp(x[r * columns + c] - most);
    for (int64_t c = 0; c < columns; c++) {
      double q = o->label_smoothing / (double)columns + (c == target ? 1 - o->label_smoothing : 0);
      loss -= q * (x[r * columns + c] - most - log(sum));
    }
  }
  free(x), free(t);
  mb_tensor_release(ids);
  return o->reduction == MB_MEAN ? loss / (double)counted : loss;
}

static double item(mb_tensor *t) {
  double value;
  CHECK_OK(mb_tensor_item(&value, t));
  return value;
}

static void agrees(mb_dtype dtype, mb_dtype id_dtype, int ndim, const int64_t *shape, mb_cross_entropy_options o, double tolerance) {
  mb_tensor *logits = random_tensor(dtype, ndim, shape), *targets, *loss;
  targets = targets_of(id_dtype, ndim - 1, shape, shape[ndim - 1], o.ignore_index);
  CHECK_OK(mb_affine_(logits, 4.0, -3.0));
  CHECK_OK(mb_cross_entropy(&loss, logits, targets, &o));
  CHECK_EQ(mb_tensor_ndim(loss), 0);
  double expected = plain(logits, targets, &o);
  CHECK_NEAR(item(loss), expected, tolerance * (1 + fabs(expected)));
  mb_tensor_release(loss), mb_tensor_release(logits), mb_tensor_release(targets);
}

static void values_agree(void) {
  const mb_cross_entropy_options options[5] = {
    {0, -1, MB_MEAN, 1, 0}, {0, -1, MB_SUM, 1, 0}, {0.1, -1, MB_MEAN, 1, 0}, {0.25, 2, MB_SUM, 1, 0}, {0, 5, MB_MEAN, 1, 0}};
  for (int i = 0; i < 5; i++) {
    agrees(MB_F64, MB_I32, 3, (const int64_t[3]){2, 5, 7}, options[i], 1e-13);
    agrees(MB_F64, MB_U8, 2, (const int64_t[2]){4, 255}, options[i], 1e-13);
    agrees(MB_F32, MB_U16, 2, (const int64_t[2]){33, 65}, options[i], 1e-6);
    agrees(MB_F32, MB_I32, 4, (const int64_t[4]){2, 1, 3, 5003}, options[i], 1e-6);
    agrees(MB_F32, MB_I32, 1, (const int64_t[1]){9}, (mb_cross_entropy_options){options[i].label_smoothing, -1, MB_MEAN, 1, 0}, 1e-6);
  }
  agrees(MB_F32, MB_I32, 2, (const int64_t[2]){3, 1}, (mb_cross_entropy_options){0, -1, MB_MEAN, 1, 0}, 0); // one class: certain
  agrees(MB_F32, MB_U16, 2, (const int64_t[2]){3, 50257}, (mb_cross_entropy_options){0.1, -1, MB_MEAN, 1, 0}, 1e-6);
  // No options: mean, no smoothing. -100, PyTorch's usual value, can be ignored too.
  mb_tensor *logits = random_tensor(MB_F64, 2, (const int64_t[2]){6, 4}), *targets = targets_of(MB_I32, 1, (const int64_t[1]){6}, 4, -1), *loss;
  CHECK_OK(mb_cross_entropy(&loss, logits, targets, NULL));
  CHECK_NEAR(item(loss), plain(logits, targets, &options[0]), 1e-14);
  mb_tensor_release(loss), mb_tensor_release(targets), mb_tensor_release(logits);
  agrees(MB_F64, MB_I32, 2, (const int64_t[2]){7, 3}, (mb_cross_entropy_options){0, -100, MB_MEAN, 1, 0}, 1e-13);
}

typedef struct bound {
  mb_tensor *targets;
  mb_cross_entropy_options options;
} bound;

// Logits that are a leaf, so that the gradient cannot be written over them.
static mb_status leaf_op(mb_tensor **out, mb_tensor **inputs, const void *constants) {
  const bound *b = constants;
  return mb_cross_entropy(out, inputs[0], b->targets, &b->options);
}

// Logits that only the tape holds (in place), a transposed view, and logits that another op needs too.
static mb_status made_op(mb_tensor **out, mb_tensor **inputs, const void *constants) {
  mb_tensor *x;
  mb_status status = mb_affine(&x, inputs[0], 2.0, 1.0);
  if (status == MB_OK) status = leaf_op(out, &x, constants);
  mb_tensor_release(x);
  return status;
}
static mb_status view_op(mb_tensor **out, mb_tensor **inputs, const void *constants) {
  mb_tensor *x;
  mb_status status = mb_transpose(&x, inputs[0], 0, 1);
  if (status == MB_OK) status = leaf_op(out, &x, constants);
  mb_tensor_release(x);
  return status;
}
static mb_status shared_op(mb_tensor **out, mb_tensor **inputs, const void *constants) {
  mb_tensor *x = NULL, *loss = NULL, *y = NULL, *sum = NULL;
  mb_status status = mb_exp(&x, inputs[0]);
  if (status == MB_OK) status = leaf_op(&loss, &x, constants);
  if (status == MB_OK) status = mb_square(&y, x);
  if (status == MB_OK) status = mb_sum(&sum, y, 0, NULL, 0);
  if (status == MB_OK) status = mb_add(out, loss, sum);
  mb_tensor_release(x), mb_tensor_release(loss), mb_tensor_release(y), mb_tensor_release(sum);
  return status;
}
// Two losses of the same logits: the second gradient adds to the first.
static mb_status twice_op(mb_tensor **out, mb_tensor **inputs, const void *constants) {
  mb_tensor *x = NULL, *a = NULL, *b = NULL;
  mb_status status = mb_affine(&x, inputs[0], 0.5, 0.0);
  if (status == MB_OK) status = leaf_op(&a, &x, constants);
  if (status == MB_OK) status = leaf_op(&b, &x, constants);
  mb_tensor_release(x);
  if (status == MB_OK) status = mb_add(out, a, b);
  mb_tensor_release(a), mb_tensor_release(b);
  return status;
}

static void gradients_agree(void) {
  const mb_cross_entropy_options options[4] = {{0, -1, MB_MEAN, 1, 0}, {0.2, -1, MB_SUM, 1, 0}, {0.1, 1, MB_MEAN, 1, 0}, {0, 0, MB_SUM, 1, 0}};
  const gradcheck_op ops[4] = {leaf_op, made_op, shared_op, twice_op};
  for (int i = 0; i < 4; i++) {
    const int64_t shape[3] = {2, 3, 5}, tall[2] = {5, 6};
    mb_tensor *logits = random_tensor(MB_F64, 3, shape), *flat = random_tensor(MB_F64, 2, tall);
    bound b = {targets_of(MB_U8, 2, shape, 5, options[i].ignore_index), options[i]};
    for (int k = 0; k < 4; k++) gradcheck(ops[k], &logits, 1, &b, 2e-7);
    bound c = {targets_of(MB_I32, 1, tall + 1, 5, options[i].ignore_index), options[i]};
    gradcheck(view_op, &flat, 1, &c, 2e-7);
    mb_tensor_release(logits), mb_tensor_release(flat), mb_tensor_release(b.targets), mb_tensor_release(c.targets);
  }
}

// Backward of logits that nobody else holds asks for no second (rows, V) buffer.
static void backward_is_in_place(void) {
  enum { ROWS = 64, CLASSES = 1024 };
  mb_tensor *x = random_tensor(MB_F32, 2, (const int64_t[2]){1, CLASSES}), *wide, *logits, *loss;
  mb_tensor *targets = targets_of(MB_I32, 1, (const int64_t[1]){ROWS}, CLASSES, -1);
  CHECK_OK(mb_set_requires_grad(x, 1));
  CHECK_OK(mb_expand(&wide, x, 2, (const int64_t[2]){ROWS, CLASSES}));
  CHECK_OK(mb_affine(&logits, wide, 1.0, 0.0));
  CHECK_OK(mb_cross_entropy(&loss, logits, targets, NULL));
  mb_tensor_release(wide), mb_tensor_release(logits);
  mb_memory_stats before, after;
  mb_memory_reset_peak();
  mb_memory(&before);
  CHECK_OK(mb_backward(loss, NULL));
  mb_memory(&after);
  // affine's own gradient is one buffer; two would mean that the logits were not overwritten.
  CHECK(after.bytes_peak - before.bytes_live < (int64_t)(1.5 * ROWS * CLASSES * sizeof(float)));
  mb_tensor_release(loss), mb_tensor_release(targets), mb_tensor_release(x);
}

// A head and its loss, whose rows may begin on boundaries and whose logits may be given up; the loss counts -3/8.
typedef struct head {
  mb_tensor *targets;
  mb_cross_entropy_options options;
  int is_aligned;
  uint64_t seed; // of the numbers
} head;

static mb_status head_op(mb_tensor **out, mb_tensor **inputs, const void *constants) {
  const head *h = constants;
  mb_tensor *logits, *loss = NULL;
  *out = NULL;
  mb_status status = (h->is_aligned ? mb_linear_aligned : mb_linear)(&logits, inputs[0], inputs[1], inputs[2]);
  if (status == MB_OK) status = mb_cross_entropy(&loss, logits, h->targets, &h->options);
  mb_tensor_release(logits);
  if (status == MB_OK) status = mb_affine(out, loss, -0.375, 0);
  mb_tensor_release(loss);
  return status;
}

// The loss and the gradients of x, W and b, for dL/d loss = 1.
static void head_bits(double *bits, mb_dtype dtype, int64_t classes, head h) {
  const int64_t x_shape[3] = {2, 3, 7}, w_shape[2] = {classes, 7};
  mb_rng_set(h.seed, 0, 0);
  mb_tensor *in[3] = {random_tensor(dtype, 3, x_shape), random_tensor(dtype, 2, w_shape), random_tensor(dtype, 1, w_shape)}, *logits, *loss, *g;
  for (int i = 0; i < 3; i++) CHECK_OK(mb_set_requires_grad(in[i], 1));
  CHECK_OK((h.is_aligned ? mb_linear_aligned : mb_linear)(&logits, in[0], in[1], in[2]));
  CHECK_OK(mb_cross_entropy(&loss, logits, h.targets, &h.options));
  mb_tensor_release(logits);
  *bits++ = item(loss);
  CHECK_OK(mb_backward(loss, NULL));
  for (int i = 0; i < 3; i++) {
    CHECK_OK(mb_grad(&g, in[i]));
    double *values = values_of(g);
    for (int64_t k = 0; k < mb_tensor_numel(g); k++) *bits++ = values[k];
    free(values);
    mb_tensor_release(g), mb_tensor_release(in[i]);
  }
  mb_tensor_release(loss);
}

static void logits_are_given_up(void) {
  enum { MOST = 1 + 42 + 8 * 2300 };
  static double bits[4][MOST];
  const int64_t classes[3] = {5, 67, 2300};
  for (int i = 0; i < 3; i++) {
    for (int smooth = 0; smooth < 2; smooth++) {
      head h = {targets_of(MB_I32, 2, (const int64_t[2]){2, 3}, classes[i], smooth ? 4 : -1), {smooth ? 0.1 : 0, smooth ? 4 : -1, MB_MEAN, 0.7, 0}, 0, (uint64_t)(i + 7)};
      int64_t count = 1 + 42 + 8 * classes[i];
      for (int k = 0; k < 4; k++) {
        h.is_aligned = k & 1, h.options.overwrites = k >> 1;
        head_bits(bits[k], MB_F32, classes[i], h);
        for (int64_t n = 0; n < count; n++) CHECK(bits[k][n] == bits[0][n] || fabs(bits[k][n] - bits[0][n]) < 1e-6 * (k & 1));
        if (i > 0) continue;
        mb_tensor *in[3] = {random_tensor(MB_F64, 3, (const int64_t[3]){2, 3, 7}), random_tensor(MB_F64, 2, (const int64_t[2]){5, 7}),
                            random_tensor(MB_F64, 1, (const int64_t[1]){5})};
        gradcheck(head_op, in, 3, &h, 2e-7);
        for (int n = 0; n < 3; n++) mb_tensor_release(in[n]);
      }
      mb_tensor_release(h.targets);
    }
  }
}

// Logits that somebody else can see, or that no gradient is wanted of, stay.
static void logits_in_use_stay(void) {
  const int64_t shape[2] = {3, 5};
  mb_cross_entropy_options o = {0, -1, MB_MEAN, 1, 1};
  mb_tensor *x = random_tensor(MB_F64, 2, shape), *targets = targets_of(MB_I32, 1, shape, 5, -1), *logits, *other, *loss;
  double *before = values_of(x), *after;
  CHECK_OK(mb_cross_entropy(&loss, x, targets, &o)); // not recorded
  mb_tensor_release(loss);
  CHECK_OK(mb_set_requires_grad(x, 1));
  CHECK_OK(mb_cross_entropy(&loss, x, targets, &o)); // a leaf
  mb_tensor_release(loss);
  for (int kind = 0; kind < 3; kind++) {
    CHECK_OK(mb_affine(&logits, x, 1, 0));
    if (kind == 0) CHECK_OK(mb_transpose(&other, logits, 0, 1));      // another view
    else if (kind == 1) mb_tensor_retain(other = logits);             // another handle
    else CHECK_OK(mb_square(&other, logits));                         // an op that reads them in its backward
    CHECK_OK(mb_cross_entropy(&loss, logits, targets, &o));
    after = values_of(logits);
    for (int i = 0; i < 15; i++) CHECK(after[i] == before[i]);
    free(after);
    mb_tensor_release(loss), mb_tensor_release(other), mb_tensor_release(logits);
  }
  free(before);
  CHECK_FAILS(MB_ERR_ARG, "mb_cross_entropy: scale is nan",
              mb_cross_entropy(&loss, x, targets, &(mb_cross_entropy_options){0, -1, MB_MEAN, (double)NAN, 0}));
  mb_tensor_release(x), mb_tensor_release(targets);
}

static void extreme_numbers(void) {
  const double inf = INFINITY;
  const double rows[5][4] = {
    {1000, 999, -1000, 0}, {-inf, 0, 1, -inf}, {-inf, -inf, -inf, -inf}, {0, (double)NAN, 1, 2}, {-1e30, -1e30, -1e30, -1e30}};
  const double expected[5] = {log1p(exp(-1)), (double)NAN, (double)NAN, (double)NAN, log(4)};
  const int32_t zero = 0, two = 2;
  mb_tensor *target, *other, *logits, *loss;
  CHECK_OK(mb_from_host(&target, MB_I32, 0, NULL, MB_CPU, &zero));
  CHECK_OK(mb_from_host(&other, MB_I32, 0, NULL, MB_CPU, &two));
  for (int i = 0; i < 5; i++)
    for (int dtype = MB_F32; dtype <= MB_F64; dtype++) {
      mb_tensor *wide;
      CHECK_OK(mb_from_host(&wide, MB_F64, 1, (const int64_t[1]){4}, MB_CPU, rows[i]));
      CHECK_OK(mb_cast(&logits, wide, (mb_dtype)dtype));
      CHECK_OK(mb_cross_entropy(&loss, logits, target, NULL));
      if (i == 1) CHECK(item(loss) == inf); // an impossible target
      else if (isnan(expected[i])) CHECK(isnan(item(loss)));
      else CHECK_NEAR(item(loss), expected[i], 1e-6);
      mb_tensor_release(loss);
      if (i == 1) { // impossible classes elsewhere cost nothing
        CHECK_OK(mb_cross_entropy(&loss, logits, other, NULL));
        CHECK_NEAR(item(loss), log1p(exp(-1)), 1e-6);
        mb_tensor_release(loss);
      }
      mb_tensor_release(logits), mb_tensor_release(wide);
    }
  mb_tensor_release(target), mb_tensor_release(other);
}

// A chunk of nothing but -infinity before the first number must not spoil the row.
static void masked_start(void) {
  enum { CLASSES = 7000 };
  static float row[CLASSES];
  for (int i = 0; i < CLASSES; i++) row[i] = i < 4500 ? -INFINITY : (float)(i % 5);
  const int32_t t = 4504;
  mb_tensor *logits, *target, *loss;
  CHECK_OK(mb_from_host(&logits, MB_F32, 1, (const int64_t[1]){CLASSES}, MB_CPU, row));
  CHECK_OK(mb_from_host(&target, MB_I32, 0, NULL, MB_CPU, &t));
  CHECK_OK(mb_cross_entropy(&loss, logits, target, NULL));
  CHECK_NEAR(item(loss), log(500 * (exp(0) + exp(1) + exp(2) + exp(3) + exp(4))) - 4, 1e-5);
  mb_tensor_release(logits), mb_tensor_release(target), mb_tensor_release(loss);
}

static void all_ignored(void) {
  mb_tensor *logits = random_tensor(MB_F32, 2, (const int64_t[2]){3, 4}), *targets, *loss, *g;
  CHECK_OK(mb_full(&targets, MB_I32, 1, (const int64_t[1]){3}, MB_CPU, 7));
  CHECK_OK(mb_set_requires_grad(logits, 1));
  mb_cross_entropy_options o = {0, 7, MB_MEAN, 1, 0};
  CHECK_OK(mb_cross_entropy(&loss, logits, targets, &o));
  CHECK(isnan(item(loss)));
  CHECK_OK(mb_backward(loss, NULL));
  CHECK_OK(mb_grad(&g, logits));
  double *v = values_of(g);
  for (int i = 0; i < 12; i++) CHECK_NEAR(v[i], 0, 0);
  free(v);
  mb_tensor_release(g), mb_tensor_release(loss);
  o.reduction = MB_SUM;
  CHECK_OK(mb_cross_entropy(&loss, logits, targets, &o));
  CHECK_NEAR(item(loss), 0, 0);
  mb_tensor_release(loss), mb_tensor_release(logits), mb_tensor_release(targets);
}

static void misuse_is_refused(void) {
  const int64_t shape[3] = {2, 3, 4};
  mb_tensor *logits = random_tensor(MB_F32, 3, shape), *targets = targets_of(MB_I32, 2, shape, 4, -1), *bad, *loss = logits;
  CHECK_FAILS(MB_ERR_SHAPE, "mb_cross_entropy: logits has shape (2, 3, 4), targets (2, 3, 4)", mb_cross_entropy(&loss, logits, logits, NULL));
  CHECK(loss == NULL);
  CHECK_OK(mb_from_host(&bad, MB_I32, 2, shape, MB_CPU, (const int32_t[6]){0, 1, 2, 3, 0, 4}));
  CHECK_FAILS(MB_ERR_ARG, "targets at (1, 2) is 4, but there are 4 classes: 0 to 3 was expected", mb_cross_entropy(&loss, logits, bad, NULL));
  mb_tensor_release(bad);
  CHECK_OK(mb_from_host(&bad, MB_I32, 2, shape, MB_CPU, (const int32_t[6]){0, 1, -1, 3, 0, 0}));
  CHECK_FAILS(MB_ERR_ARG, "targets at (0, 2) is -1", mb_cross_entropy(&loss, logits, bad, NULL));
  mb_tensor_release(bad);
  bad = random_tensor(MB_F32, 2, shape);
  CHECK_FAILS(MB_ERR_DTYPE, "targets is f32", mb_cross_entropy(&loss, logits, bad, NULL));
  mb_tensor_release(bad);
  CHECK_FAILS(MB_ERR_ARG, "label_smoothing is 1", mb_cross_entropy(&loss, logits, targets, &(mb_cross_entropy_options){1, -1, MB_MEAN, 1, 0}));
  CHECK_FAILS(MB_ERR_ARG, "label_smoothing is nan", mb_cross_entropy(&loss, logits, targets, &(mb_cross_entropy_options){(double)NAN, -1, MB_MEAN, 1, 0}));
  CHECK_FAILS(MB_ERR_ARG, "unknown reduction 5", mb_cross_entropy(&loss, logits, targets, &(mb_cross_entropy_options){0, -1, (mb_reduction)5, 1, 0}));
  CHECK_FAILS(MB_ERR_DTYPE, "logits is i32", mb_cross_entropy(&loss, targets, targets, NULL));
  mb_tensor_release(logits), mb_tensor_release(targets);
}

static void bits_do_not_depend_on_threads(void) {
  enum { ROWS = 37, CLASSES = 3001 };
  static float one[ROWS * CLASSES], other[ROWS * CLASSES];
  mb_tensor *logits = random_tensor(MB_F32, 2, (const int64_t[2]){ROWS, CLASSES}), *loss, *g;
  mb_tensor *targets = targets_of(MB_U16, 1, (const int64_t[1]){ROWS}, CLASSES, -1);
  CHECK_OK(mb_set_requires_grad(logits, 1));
  double first = 0;
  int before = mb_threads();
  for (int threads = 1; threads <= 4; threads++) {
    CHECK_OK(mb_threads_set(threads));
    CHECK_OK(mb_cross_entropy(&loss, logits, targets, NULL));
    if (threads == 1) first = item(loss);
    CHECK_NEAR(item(loss), first, 0);
    CHECK_OK(mb_backward(loss, NULL));
    CHECK_OK(mb_grad(&g, logits));
    CHECK_OK(mb_tensor_to_host(threads == 1 ? one : other, g));
    if (threads > 1) CHECK(memcmp(one, other, sizeof one) == 0);
    CHECK_OK(mb_zero_grad(logits));
    mb_tensor_release(g), mb_tensor_release(loss);
  }
  CHECK_OK(mb_threads_set(before));
  mb_tensor_release(logits), mb_tensor_release(targets);
}

int main(void) {
  seed_test();
  int64_t before = live_tensors();
  values_agree();
  gradients_agree();
  backward_is_in_place();
  logits_are_given_up();
  logits_in_use_stay();
  extreme_numbers();
  masked_start();
  all_ignored();
  misuse_is_refused();
  bits_do_not_depend_on_threads();
  CHECK_EQ(live_tensors(), before);
  return check_end();
}
