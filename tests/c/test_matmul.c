// SPDX-License-Identifier: MIT
//
// test_matmul.c: mb_matmul and mb_linear, values and gradients, against sums written out from their
// definitions, over broadcast leading dimensions, transposes and views of every kind.
#include "check.h"
#include "seed.h"

enum { MOST = 4096 };

// How a test tensor lies in memory.
enum layout { DENSE, SWAPPED, PADDED, STRIDED, EXPANDED, LAYOUTS };

static mb_tensor *filled(mb_dtype dtype, int ndim, const int64_t *shape) {
  static double values[4 * MOST];
  static float singles[4 * MOST];
  int64_t n = 1;
  for (int d = 0; d < ndim; d++) n *= shape[d];
  CHECK(n <= 4 * MOST);
  for (int64_t i = 0; i < n; i++) singles[i] = (float)(values[i] = (int)(seed_next() % 65) / 32.0 - 1.0);
  mb_tensor *t;
  CHECK_OK(mb_from_host(&t, dtype, ndim, shape, MB_CPU, dtype == MB_F32 ? (void *)singles : (void *)values));
  return t;
}

// A leaf of the given shape and layout that wants a gradient.
static mb_tensor *leaf(mb_dtype dtype, int ndim, const int64_t *shape, enum layout layout) {
  int64_t size[MB_MAX_DIMS];
  memcpy(size, shape, sizeof size);
  mb_tensor *base, *view = NULL;
  int last = ndim - 1;
  if (layout == SWAPPED && ndim > 1) {
    size[last] = shape[last - 1], size[last - 1] = shape[last];
    base = filled(dtype, ndim, size);
    CHECK_OK(mb_transpose(&view, base, last, last - 1));
  } else if (layout == PADDED) { // rows of a wider matrix
    size[last] = shape[last] + 3;
    base = filled(dtype, ndim, size);
    CHECK_OK(mb_slice(&view, base, last, 2, shape[last] + 2, 1));
  } else if (layout == STRIDED) { // no unit stride at all
    size[last] = 2 * shape[last];
    base = filled(dtype, ndim, size);
    CHECK_OK(mb_slice(&view, base, last, 1, 2 * shape[last], 2));
  } else if (layout == EXPANDED && ndim > 1) { // one row for all
    size[last - 1] = 1;
    base = filled(dtype, ndim, size);
    CHECK_OK(mb_expand(&view, base, ndim, shape));
  } else {
    return filled(dtype, ndim, shape);
  }
  mb_tensor_release(base);
  return view;
}

static int64_t read(double *values, mb_tensor *t) {
  static float singles[MOST];
  int64_t n = mb_tensor_numel(t);
  CHECK(n <= MOST);
  if (mb_tensor_dtype(t) == MB_F64) {
    CHECK_OK(mb_tensor_to_host(values, t));
  } else {
    CHECK_OK(mb_tensor_to_host(singles, t));
    for (int64_t i = 0; i < n; i++) values[i] = (double)singles[i];
  }
  return n;
}

// Runs backward with a random seed gradient, which it returns in g.
static void run_backward(mb_tensor *y, double *g) {
  mb_tensor *seed = filled(mb_tensor_dtype(y), mb_tensor_ndim(y), mb_tensor_shape(y));
  read(g, seed);
  CHECK_OK(mb_backward(y, seed));
  mb_tensor_release(seed);
}

static void expect(mb_tensor *t, const double *values, double times) {
  static double found[MOST];
  int64_t n = read(found, t);
  for (int64_t i = 0; i < n; i++) CHECK_NEAR(found[i], times * values[i], mb_tensor_dtype(t) == MB_F64 ? 1e-12 : 1e-4);
}

static void expect_gradient(mb_tensor *t, const double *values, double times) {
  mb_tensor *g;
  CHECK_OK(mb_grad(&g, t));
  CHECK(g != NULL);
  expect(g, values, times);
  mb_tensor_release(g);
}

// Index of the matrix of `shape` that leading index `lead` (of a result with the sizes of y) falls on.
static int64_t matrix_of(int64_t lead, mb_tensor *y, mb_tensor *t) {
  int64_t index = 0, step = 1;
  int ny = mb_tensor_ndim(y), nt = mb_tensor_ndim(t);
  for (int d = 3; d <= ny; d++) {
    int64_t size = mb_tensor_shape(y)[ny - d], at = lead % size;
    lead /= size;
    if (d > nt) continue;
    int64_t own = mb_tensor_shape(t)[nt - d];
    if (own > 1) index += at * step;
    step *= own;
  }
  return index;
}

static void matmul_case(mb_dtype dtype, int na, const int64_t *sa, enum layout la, int nb, const int64_t *sb, enum layout lb, int ta,
                        int tb) {
  static double a[MOST], b[MOST], y[MOST], da[MOST], db[MOST], g[MOST];
  mb_tensor *x = leaf(dtype, na, sa, la), *w = leaf(dtype, nb, sb, lb), *out;
  CHECK_OK(mb_set_requires_grad(x, 1));
  CHECK_OK(mb_set_requires_grad(w, 1));
  read(a, x), read(b, w);
  int64_t m = sa[na - (ta ? 1 : 2)], k = sa[na - (ta ? 2 : 1)], n = sb[nb - (tb ? 2 : 1)];
  memset(da, 0, sizeof da), memset(db, 0, sizeof db);
  for (int pass = 1; pass <= 2; pass++) { // the second time gradients add up
    CHECK_OK(mb_matmul(&out, x, w, ta, tb));
    int ndim = mb_tensor_ndim(out);
    CHECK_EQ(ndim, na > nb ? na : nb);
    CHECK_EQ(mb_tensor_shape(out)[ndim - 2], m);
    CHECK_EQ(mb_tensor_shape(out)[ndim - 1], n);
    int64_t leads = mb_tensor_numel(out) / (m * n);
    mb_tensor *kept = out;
    memset(y, 0, sizeof y);
    // Values first; the seed gradient is known only after backward has drawn it.
    for (int with_gradient = 0; with_gradient < 2; with_gradient++) {
      for (int64_t lead = 0; lead < leads; lead++)
        for (int64_t i = 0; i < m; i++)
          for (int64_t j = 0; j < n; j++)
            for (int64_t p = 0; p < k; p++) {
              int64_t ia = matrix_of(lead, kept, x) * m * k + (ta ? p * m + i : i * k + p);
              int64_t ib = matrix_of(lead, kept, w) * k * n + (tb ? j * k + p : p * n + j);
              int64_t iy = (lead * m + i) * n + j;
              if (with_gradient) da[ia] += g[iy] * b[ib], db[ib] += g[iy] * a[ia];
              else y[iy] += a[ia] * b[ib];
            }
      if (!with_gradient) {
        expect(out, y, 1);
        run_backward(out, g);
      }
    }
    expect_gradient(x, da, 1);
    expect_gradient(w, db, 1);
    mb_tensor_release(out);
  }
  mb_tensor_release(x), mb_tensor_release(w);
}

static void matmul_over_shapes_and_layouts(void) {
  static const struct {
    int na, nb;
    int64_t a[MB_MAX_DIMS], b[MB_MAX_DIMS]; // a (..., m, k), b (..., k, n)
  } cases[] = {
    {2, 2, {3, 4}, {4, 5}},          {2, 2, {1, 1}, {1, 1}},          {2, 2, {1, 6}, {6, 1}},       {2, 2, {7, 1}, {1, 5}},
    {3, 2, {4, 3, 5}, {5, 2}},       {2, 3, {3, 5}, {4, 5, 2}},       {3, 3, {4, 3, 5}, {4, 5, 2}}, {3, 3, {1, 3, 5}, {4, 5, 2}},
    {4, 3, {2, 3, 4, 5}, {3, 5, 2}}, {4, 4, {2, 1, 4, 5}, {1, 3, 5, 2}}, {4, 2, {3, 2, 1, 4}, {4, 3}}, {5, 3, {2, 1, 2, 3, 2}, {2, 2, 3}},
    {6, 6, {2, 1, 2, 1, 3, 2}, {1, 2, 2, 2, 2, 3}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int t = 0; t < 4; t++)
      for (int layout = 0; layout < LAYOUTS; layout++)
        for (int dtype = MB_F32; dtype <= MB_F64; dtype++) {
          int64_t a[MB_MAX_DIMS], b[MB_MAX_DIMS];
          memcpy(a, cases[i].a, sizeof a), memcpy(b, cases[i].b, sizeof b);
          int na = cases[i].na, nb = cases[i].nb, ta = t & 1, tb = t >> 1;
          if (ta) a[na - 1] = cases[i].a[na - 2], a[na - 2] = cases[i].a[na - 1];
          if (tb) b[nb - 1] = cases[i].b[nb - 2], b[nb - 2] = cases[i].b[nb - 1];
          matmul_case((mb_dtype)dtype, na, a, (enum layout)layout, nb, b, (enum layout)((layout + (int)i) % LAYOUTS), ta, tb);
        }
}

// Leading dimensions in another order than in memory: heads of attention.
static void matmul_of_permuted_leading_dimensions(void) {
  enum { B = 2, T = 3, H = 4, D = 5 };
  mb_tensor *base = filled(MB_F64, 4, (int64_t[]){B, T, H, D}), *x, *y;
  static double v[MOST], expected[MOST];
  read(v, base);
  CHECK_OK(mb_permute(&x, base, 4, (int[]){0, 2, 1, 3})); // (B, H, T, D)
  CHECK_OK(mb_matmul(&y, x, x, 0, 1));                    // (B, H, T, T)
  for (int b = 0; b < B; b++)
    for (int h = 0; h < H; h++)
      for (int s = 0; s < T; s++)
        for (int t = 0; t < T; t++) {
          double sum = 0;
          for (int d = 0; d < D; d++) sum += v[((b * T + s) * H + h) * D + d] * v[((b * T + t) * H + h) * D + d];
          expected[((b * H + h) * T + s) * T + t] = sum;
        }
  expect(y, expected, 1);
  mb_tensor_release(base), mb_tensor_release(x), mb_tensor_release(y);
}

static void linear_case(mb_dtype dtype, int ndim, const int64_t *shape, enum layout lx, int64_t outputs, enum layout lw, int with_bias) {
  static double x[MOST], w[MOST], b[MOST], y[MOST], g[MOST], dx[MOST], dw[MOST], db[MOST];
  int64_t inputs = shape[ndim - 1], shape_w[MB_MAX_DIMS] = {outputs, inputs};
  mb_tensor *tx = leaf(dtype, ndim, shape, lx), *tw = leaf(dtype, 2, shape_w, lw), *tb = NULL, *out;
  if (with_bias) tb = leaf(dtype, 1, (int64_t[MB_MAX_DIMS]){outputs}, lw == STRIDED ? STRIDED : DENSE);
  CHECK_OK(mb_set_requires_grad(tx, 1));
  CHECK_OK(mb_set_requires_grad(tw, 1));
  if (tb) CHECK_OK(mb_set_requires_grad(tb, 1));
  int64_t rows = read(x, tx) / inputs;
  read(w, tw);
  if (tb) read(b, tb);
  CHECK_OK(mb_linear(&out, tx, tw, tb));
  CHECK_EQ(mb_tensor_ndim(out), ndim);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t o = 0; o < outputs; o++) {
      y[r * outputs + o] = tb ? b[o] : 0;
      for (int64_t i = 0; i < inputs; i++) y[r * outputs + o] += x[r * inputs + i] * w[o * inputs + i];
    }
  expect(out, y, 1);
  run_backward(out, g);
  memset(dx, 0, sizeof dx), memset(dw, 0, sizeof dw), memset(db, 0, sizeof db);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t o = 0; o < outputs; o++) {
      db[o] += g[r * outputs + o];
      for (int64_t i = 0; i < inputs; i++) {
        dx[r * inputs + i] += g[r * outputs + o] * w[o * inputs + i];
        dw[o * inputs + i] += g[r * outputs + o] * x[r * inputs + i];
      }
    }
  expect_gradient(tx, dx, 1);
  expect_gradient(tw, dw, 1);
  if (tb) expect_gradient(tb, db, 1);
  mb_tensor_release(tx), mb_tensor_release(tw), mb_tensor_release(tb), mb_tensor_release(out);
}

static void linear_over_shapes_and_layouts(void) {
  static const struct {
    int ndim;
    int64_t shape[MB_MAX_DIMS], outputs;
  } cases[] = {{1, {5}, 3}, {2, {4, 6}, 5}, {2, {1, 1}, 1}, {3, {2, 3, 7}, 4}, {3, {5, 1, 6}, 7}, {4, {2, 3, 2, 5}, 9}, {2, {33, 17}, 20}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int lx = 0; lx < LAYOUTS; lx++)
      for (int lw = 0; lw < LAYOUTS; lw++)
        for (int with_bias = 0; with_bias < 2; with_bias++)
          for (int dtype = MB_F32; dtype <= MB_F64; dtype++)
            linear_case((mb_dtype)dtype, cases[i].ndim, cases[i].shape, (enum layout)lx, cases[i].outputs, (enum layout)lw, with_bias);
}

// x x^T: both gradients go to one tensor.
static void a_tensor_times_itself(void) {
  mb_tensor *x = filled(MB_F64, 2, (int64_t[]){3, 4}), *y;
  static double v[MOST], g[MOST], d[MOST];
  read(v, x);
  CHECK_OK(mb_set_requires_grad(x, 1));
  CHECK_OK(mb_matmul(&y, x, x, 0, 1));
  run_backward(y, g);
  memset(d, 0, sizeof d);
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++)
      for (int p = 0; p < 4; p++) d[i * 4 + p] += (g[i * 3 + j] + g[j * 3 + i]) * v[j * 4 + p];
  expect_gradient(x, d, 1);
  mb_tensor_release(x), mb_tensor_release(y);
}

static void wrong_shapes_are_refused(void) {
  mb_tensor *a = filled(MB_F32, 2, (int64_t[]){2, 3}), *b = filled(MB_F32, 2, (int64_t[]){4, 3}), *v = filled(MB_F32, 1, (int64_t[]){3});
  mb_tensor *c = filled(MB_F32, 3, (int64_t[]){2, 3, 4}), *d = filled(MB_F32, 3, (int64_t[]){3, 4, 3});
  mb_tensor *e = filled(MB_F64, 2, (int64_t[]){4, 3}), *out;
  CHECK_FAILS(MB_ERR_SHAPE, "mb_matmul: a is (2, 3), b is (4, 3): 3 columns meet 4 rows", mb_matmul(&out, a, b, 0, 0));
  CHECK(out == NULL);
  CHECK_FAILS(MB_ERR_SHAPE, "a is (2, 3) transposed, b is (4, 3) transposed: 2 columns meet 3 rows", mb_matmul(&out, a, b, 1, 1));
  CHECK_FAILS(MB_ERR_SHAPE, "b is (3); both need two dimensions", mb_matmul(&out, a, v, 0, 0));
  CHECK_FAILS(MB_ERR_SHAPE, "a is (2, 3, 4), b is (3, 4, 3): their leading", mb_matmul(&out, c, d, 0, 0));
  CHECK_FAILS(MB_ERR_DTYPE, "mb_matmul", mb_matmul(&out, a, e, 0, 1));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_linear: x is (2, 3, 4), weight is (4, 3)", mb_linear(&out, c, b, NULL));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_linear: bias is (3), weight is (4, 3)", mb_linear(&out, a, b, v));
  CHECK(out == NULL);
  mb_tensor_release(a), mb_tensor_release(b), mb_tensor_release(v), mb_tensor_release(c), mb_tensor_release(d), mb_tensor_release(e);
}

static int64_t live(void) {
  mb_memory_stats stats;
  mb_memory(&stats);
  return stats.live_tensors;
}

// Every allocation of forward and backward fails once: a status, no result, nothing left behind.
static void memory_may_run_out(void) {
  mb_tensor *x = leaf(MB_F32, 3, (int64_t[MB_MAX_DIMS]){2, 3, 4}, STRIDED), *w = leaf(MB_F32, 2, (int64_t[MB_MAX_DIMS]){5, 4}, STRIDED);
  mb_tensor *b = leaf(MB_F32, 1, (int64_t[MB_MAX_DIMS]){5}, STRIDED), *y, *z, *seed = filled(MB_F32, 3, (int64_t[]){2, 3, 5});
  mb_tensor *leaves[] = {x, w, b};
  for (int i = 0; i < 3; i++) CHECK_OK(mb_set_requires_grad(leaves[i], 1));
  int64_t before = live(), failures = 0;
  for (int64_t n = 1;; n++) {
    mb_debug_fail_allocation(n);
    mb_status status = mb_linear(&y, x, w, b);
    if (status == MB_OK) {
      status = mb_matmul(&z, x, w, 0, 1);
      if (status != MB_OK) CHECK(z == NULL);
    } else {
      CHECK(y == NULL);
      z = NULL;
    }
    if (status == MB_OK) status = mb_backward(y, seed);
    if (status == MB_OK) status = mb_backward(z, seed);
    mb_debug_fail_allocation(0);
    mb_tensor_release(y), mb_tensor_release(z);
    if (status == MB_OK) break;
    CHECK_EQ(status, MB_ERR_NOMEM);
    CHECK(mb_last_error()[0] != 0);
    failures++;
    CHECK(live() <= before + 3); // the leaves may have their gradients by now
  }
  CHECK(failures > 10);
  mb_tensor_release(x), mb_tensor_release(w), mb_tensor_release(b), mb_tensor_release(seed);
}

int main(void) {
  seed_start();
  mb_memory_stats before, after;
  mb_memory(&before);
  matmul_over_shapes_and_layouts();
  matmul_of_permuted_leading_dimensions();
  linear_over_shapes_and_layouts();
  a_tensor_times_itself();
  wrong_shapes_are_refused();
  memory_may_run_out();
  mb_memory(&after);
  CHECK_EQ(after.live_tensors, before.live_tensors);
  return check_end();
}
