// SPDX-License-Identifier: MIT
//
// test_linalg.c: QR, symmetric eigenvalues, Cholesky factors and low-rank decompositions of matrices whose factors
// are known, against what defines them: orthonormal columns, triangles, products.
#include "spectra.h"

static const int64_t shapes[][2] = {{1, 1}, {1, 9}, {9, 1}, {2, 3}, {17, 17}, {40, 13}, {13, 40}, {130, 70}, {70, 130}};
enum { SHAPES = sizeof shapes / sizeof *shapes };
static const double scales[] = {1, 1e30, 1e-30};

// Rounding of a product of orthogonal factors, relative to the largest value.
static double tolerance(mb_dtype dtype) { return dtype == MB_F32 ? 3e-6 : 1e-13; }

// (rows, columns) = a^T a - 1, its largest element; a (count, rows, columns) in float64.
static double defect(const double *a, int64_t count, int64_t rows, int64_t columns) {
  double most = 0;
  for (int64_t i = 0; i < count; i++, a += rows * columns)
    for (int64_t p = 0; p < columns; p++)
      for (int64_t q = 0; q <= p; q++) {
        double dot = p == q ? -1 : 0;
        for (int64_t r = 0; r < rows; r++) dot += a[r * columns + p] * a[r * columns + q];
        most = fabs(dot) > most ? fabs(dot) : most;
      }
  return most;
}

static double defect_of(mb_tensor *t) {
  const int64_t *shape = mb_tensor_shape(t) + mb_tensor_ndim(t) - 2;
  double *values = doubles_of(t), result = defect(values, mb_tensor_numel(t) / (shape[0] * shape[1]), shape[0], shape[1]);
  free(values);
  return result;
}

// Frobenius norm of a - left diag(s) right^T (s or NULL for ones), of single matrices; a (m, n) in float64.
static double residual(const double *a, mb_tensor *left, mb_tensor *s, mb_tensor *right, int64_t m, int64_t n) {
  int64_t k = mb_tensor_shape(left)[1];
  double *l = doubles_of(left), *r = doubles_of(right), *d = s ? doubles_of(s) : NULL, sum = 0;
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      double rest = a[i * n + j];
      for (int64_t p = 0; p < k; p++) rest -= l[i * k + p] * (d ? d[p] : 1) * r[j * k + p];
      sum += rest * rest;
    }
  free(l), free(r), free(d);
  return sqrt(sum);
}

static mb_tensor *turned(mb_tensor *t) {
  mb_tensor *view;
  CHECK_OK(mb_transpose(&view, t, -1, -2));
  return view;
}

static void release_all(int count, mb_tensor **tensors) {
  for (int i = 0; i < count; i++) mb_tensor_release(tensors[i]);
}

// ----- qr -------------------------------------------------------------------------------------------------

static void check_qr(int64_t m, int64_t n, enum spectrum kind, double scale, mb_dtype dtype) {
  known a = known_new(m, n);
  known_fill(&a, kind);
  double *g = compose(&a, a.s, scale), top = a.s[0] > 0 ? a.s[0] * scale : 1;
  mb_tensor *t = tensor_of(g, dtype, m, n), *q, *r, *back;
  double *rounded = doubles_of(t);
  CHECK_OK(mb_qr(&q, &r, t));
  CHECK(mb_tensor_dtype(q) == dtype && mb_tensor_dtype(r) == dtype);
  CHECK_EQ(mb_tensor_shape(q)[0], m);
  CHECK_EQ(mb_tensor_shape(q)[1], a.k);
  CHECK_EQ(mb_tensor_shape(r)[0], a.k);
  CHECK_EQ(mb_tensor_shape(r)[1], n);
  CHECK(defect_of(q) <= tolerance(dtype));
  back = turned(r);
  CHECK(residual(rounded, q, NULL, back, m, n) <= tolerance(dtype) * sqrt((double)a.k) * top);
  double *upper = doubles_of(r);
  for (int64_t i = 0; i < a.k; i++) {
    CHECK(upper[i * n + i] >= 0);
    for (int64_t j = 0; j < i; j++) CHECK(upper[i * n + j] == 0);
  }
  free(g), free(rounded), free(upper);
  release_all(4, (mb_tensor *[]){t, q, r, back});
  known_free(&a);
}

static void qr_of_known_spectra(void) {
  for (int s = 0; s < SHAPES; s++)
    for (int kind = 0; kind < SPECTRUM_COUNT; kind++)
      for (int i = 0; i < 3; i++) {
        check_qr(shapes[s][0], shapes[s][1], (enum spectrum)kind, scales[i], MB_F32);
        check_qr(shapes[s][0], shapes[s][1], (enum spectrum)kind, scales[i], MB_F64);
      }
}

// Factors with a positive diagonal are the only ones: those that a matrix was made of are found again.
static void qr_is_unique(void) {
  enum { M = 30, N = 12 };
  double *q = orthonormal(N, M), r[N * N] = {0}, g[M * N] = {0};
  for (int i = 0; i < N; i++)
    for (int j = i; j < N; j++) r[i * N + j] = i == j ? seed_between(1, 2) : seed_between(-0.3, 0.3);
  for (int i = 0; i < M; i++)
    for (int j = 0; j < N; j++)
      for (int p = 0; p < N; p++) g[i * N + j] += q[p * M + i] * r[p * N + j];
  mb_tensor *t = tensor_of(g, MB_F64, M, N), *left, *right, *left_turned;
  CHECK_OK(mb_qr(&left, &right, t));
  left_turned = turned(left);
  CHECK(distance_of(right, r) <= 1e-13);
  CHECK(distance_of(left_turned, q) <= 1e-13);
  free(q);
  release_all(4, (mb_tensor *[]){t, left, right, left_turned});
}

// ----- eigh -----------------------------------------------------------------------------------------------

static int rising(const void *a, const void *b) { return -falling(a, b); }

// Eigenvalues of both signs, repeated ones and zeros; what is above the diagonal must not matter.
static void check_eigh(int64_t n, double scale, mb_dtype dtype) {
  double *v = orthonormal(n, n), *values = calloc((size_t)n, sizeof *values), *g = calloc((size_t)n, (size_t)n * sizeof *g), top = 1;
  for (int64_t i = 0; i < n; i++) values[i] = i % 4 == 0 ? -2 : i % 4 == 1 ? 0 : seed_between(-3, 3);
  qsort(values, (size_t)n, sizeof *values, rising);
  for (int64_t i = 0; i < n; i++) {
    top = fabs(values[i]) > top ? fabs(values[i]) : top;
    for (int64_t r = 0; r < n; r++)
      for (int64_t c = 0; c < n; c++) g[r * n + c] += scale * values[i] * v[i * n + r] * v[i * n + c];
  }
  mb_tensor *t = tensor_of(g, dtype, n, n), *found, *vectors, *alone;
  double *whole = doubles_of(t);
  for (int64_t r = 0; r < n; r++)
    for (int64_t c = r + 1; c < n; c++) g[r * n + c] = 7 * scale, whole[r * n + c] = whole[c * n + r];
  mb_tensor_release(t);
  t = tensor_of(g, dtype, n, n);
  CHECK_OK(mb_eigh(&found, &vectors, t));
  CHECK_OK(mb_eigvalsh(&alone, t));
  double *got = doubles_of(found), *got_alone = doubles_of(alone), close = tolerance(dtype) * sqrt((double)n) * top * scale;
  for (int64_t i = 0; i < n; i++) {
    CHECK_NEAR(got[i], scale * values[i], close);
    CHECK_NEAR(got_alone[i], scale * values[i], close);
    CHECK(i == 0 || got[i] >= got[i - 1]);
  }
  CHECK(defect_of(vectors) <= tolerance(dtype));
  CHECK(residual(whole, vectors, found, vectors, n, n) <= 3 * close);
  free(v), free(values), free(g), free(whole), free(got), free(got_alone);
  release_all(4, (mb_tensor *[]){t, found, vectors, alone});
}

static void eigenvalues_are_known(void) {
  static const int64_t sides[] = {1, 2, 5, 33, 90};
  for (int s = 0; s < 5; s++)
    for (int i = 0; i < 3; i++) {
      check_eigh(sides[s], scales[i], MB_F32);
      check_eigh(sides[s], scales[i], MB_F64);
    }
}

// ----- cholesky -------------------------------------------------------------------------------------------

static void check_cholesky(int64_t n, double scale, mb_dtype dtype) {
  double *l = calloc((size_t)n, (size_t)n * sizeof *l), *g = calloc((size_t)n, (size_t)n * sizeof *g);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j <= i; j++) l[i * n + j] = sqrt(scale) * (i == j ? seed_between(1, 2) : seed_between(-0.2, 0.2));
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      if (j > i) g[i * n + j] = -3 * scale; // not read
      else
        for (int64_t p = 0; p <= j; p++) g[i * n + j] += l[i * n + p] * l[j * n + p];
  mb_tensor *t = tensor_of(g, dtype, n, n), *found;
  CHECK_OK(mb_cholesky(&found, t));
  CHECK(distance_of(found, l) <= tolerance(dtype) * (double)n * sqrt(scale));
  double *lower = doubles_of(found);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = i + 1; j < n; j++) CHECK(lower[i * n + j] == 0);
  free(l), free(g), free(lower);
  mb_tensor_release(t), mb_tensor_release(found);
}

static void cholesky_factors_are_known(void) {
  static const int64_t sides[] = {1, 2, 7, 40, 130};
  for (int s = 0; s < 5; s++)
    for (int i = 0; i < 3; i++) {
      check_cholesky(sides[s], scales[i], MB_F32);
      check_cholesky(sides[s], scales[i], MB_F64);
    }
}

static void cholesky_names_what_is_not_positive(void) {
  // Of three matrices the second fails at its third minor, the last at its first.
  double g[3][9] = {{4, 0, 0, 1, 4, 0, 1, 1, 4}, {4, 0, 0, 1, 4, 0, 1, 1, -1}, {-1, 0, 0, 0, 1, 0, 0, 0, 1}};
  for (int dtype = MB_F32; dtype <= MB_F64; dtype++) {
    mb_tensor *wide, *t, *l = (mb_tensor *)g;
    CHECK_OK(mb_from_host(&wide, MB_F64, 3, (int64_t[]){3, 3, 3}, MB_CPU, g));
    CHECK_OK(mb_cast(&t, wide, (mb_dtype)dtype));
    CHECK_FAILS(MB_ERR_NUMERIC,
                "mb_cholesky: matrix 1 of 3, of shape (3, 3), is not positive definite: its leading minor of order 3 is not positive",
                mb_cholesky(&l, t));
    CHECK(l == NULL);
    mb_tensor_release(wide), mb_tensor_release(t);
  }
  mb_tensor *zero, *l;
  CHECK_OK(mb_full(&zero, MB_F32, 2, (int64_t[]){2, 2}, MB_CPU, 0));
  CHECK_FAILS(MB_ERR_NUMERIC, "matrix 0 of 1, of shape (2, 2), is not positive definite: its leading minor of order 1", mb_cholesky(&l, zero));
  mb_tensor_release(zero);
}

// ----- svd_lowrank ----------------------------------------------------------------------------------------

// The randomized subspace iteration as the textbook has it (Halko, Martinsson, Tropp 2011, algorithm 4.4), in float64
// and without a thought to speed: distance of g from its part on the r best directions found.
static void orthonormalise(double *rows, int64_t count, int64_t n) {
  for (int64_t i = 0; i < count; i++) {
    double *row = rows + i * n, norm = 0;
    for (int pass = 0; pass < 2; pass++)
      for (int64_t other = 0; other < i; other++) {
        double dot = 0;
        for (int64_t j = 0; j < n; j++) dot += row[j] * rows[other * n + j];
        for (int64_t j = 0; j < n; j++) row[j] -= dot * rows[other * n + j];
      }
    for (int64_t j = 0; j < n; j++) norm += row[j] * row[j];
    for (int64_t j = 0; j < n && norm > 0; j++) row[j] /= sqrt(norm);
  }
}

// out (count, turned ? n : m) = rows times g^T, or times g when turned.
static void multiply(double *out, const double *rows, const double *g, int64_t count, int64_t m, int64_t n, int is_turned) {
  memset(out, 0, (size_t)(count * (is_turned ? n : m)) * sizeof *out);
  for (int64_t i = 0; i < count; i++)
    for (int64_t r = 0; r < m; r++)
      for (int64_t c = 0; c < n; c++)
        if (is_turned) out[i * n + c] += rows[i * m + r] * g[r * n + c];
        else out[i * m + r] += rows[i * n + c] * g[r * n + c];
}

static double textbook(const double *g, int64_t m, int64_t n, int64_t r, int64_t q, int64_t iters) {
  double *x = malloc((size_t)(q * n) * sizeof *x), *y = malloc((size_t)(q * m) * sizeof *y);
  for (int64_t i = 0; i < q * n; i++) x[i] = gauss();
  multiply(y, x, g, q, m, n, 0);
  for (int64_t round = 0; round < iters; round++) {
    orthonormalise(y, q, m);
    multiply(x, y, g, q, m, n, 1);
    orthonormalise(x, q, n);
    multiply(y, x, g, q, m, n, 0);
  }
  orthonormalise(y, q, m);
  multiply(x, y, g, q, m, n, 1); // B = Q^T G, whose own decomposition is left to the exact one
  mb_tensor *b = tensor_of(x, MB_F64, q, n), *left, *values, *right;
  CHECK_OK(mb_svd(&left, &values, &right, b));
  double *u = doubles_of(left), *s = doubles_of(values), *v = doubles_of(right), sum = 0;
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      double rest = g[i * n + j];
      for (int64_t p = 0; p < r; p++) {
        double along = 0;
        for (int64_t c = 0; c < q; c++) along += y[c * m + i] * u[c * q + p];
        rest -= along * s[p] * v[j * q + p];
      }
      sum += rest * rest;
    }
  free(x), free(y), free(u), free(s), free(v);
  release_all(4, (mb_tensor *[]){b, left, values, right});
  return sqrt(sum);
}

// Over a few draws the error is on average no larger than the textbook's, and never far above the best there is.
static void lowrank_is_as_good_as_the_textbook(void) {
  enum { M = 90, N = 60, R = 6, P = 4, DRAWS = 6 };
  static const enum spectrum kinds[] = {GEOMETRIC, CAUCHY, FLAT, STEEP};
  for (int kind = 0; kind < 4; kind++)
    for (int iters = 0; iters <= 2; iters++)
      for (int dtype = MB_F32; dtype <= MB_F64; dtype++) {
        known a = known_new(M, N);
        known_fill(&a, kinds[kind]);
        double *g = compose(&a, a.s, 1), ours = 0, theirs = 0, best = 0;
        for (int64_t i = R; i < a.k; i++) best += a.s[i] * a.s[i];
        for (int draw = 0; draw < DRAWS; draw++) {
          mb_tensor *t = tensor_of(g, (mb_dtype)dtype, M, N), *u, *s, *v;
          CHECK_OK(mb_svd_lowrank(&u, &s, &v, t, R, P, iters));
          CHECK(defect_of(u) <= tolerance((mb_dtype)dtype) && defect_of(v) <= tolerance((mb_dtype)dtype));
          ours += residual(g, u, s, v, M, N) / DRAWS;
          theirs += textbook(g, M, N, R, R + P, iters) / DRAWS;
          release_all(4, (mb_tensor *[]){t, u, s, v});
        }
        double rounding = tolerance((mb_dtype)dtype) * a.s[0], luck = iters == 0 ? 1.2 : 1.05;
        if (!(ours <= luck * theirs + rounding))
          fprintf(stderr, "%s, %d rounds: error %g, the textbook's %g, the best %g\n", spectrum_names[kinds[kind]], iters, ours, theirs,
                  sqrt(best));
        CHECK(ours <= luck * theirs + rounding);
        CHECK(ours >= sqrt(best) - rounding);
        free(g);
        known_free(&a);
      }
}

// Of rank 5, seen through 8 directions: the five are right, the rest is zero with orthonormal vectors.
static void lowrank_of_a_deficient_matrix(void) {
  for (int shape = 0; shape < 2; shape++)
    for (int iters = 0; iters <= 2; iters++)
      for (int i = 0; i < 3; i++)
        for (int dtype = MB_F32; dtype <= MB_F64; dtype++) {
          int64_t m = shape ? 50 : 120, n = shape ? 120 : 50;
          known a = known_new(m, n);
          for (int j = 0; j < 5; j++) a.s[j] = 5 - j;
          double *g = compose(&a, a.s, scales[i]), close = tolerance((mb_dtype)dtype) * 5 * scales[i];
          mb_tensor *t = tensor_of(g, (mb_dtype)dtype, m, n), *u, *s, *v;
          CHECK_OK(mb_svd_lowrank(&u, &s, &v, t, 8, 5, iters));
          CHECK_EQ(mb_tensor_shape(u)[1], 8);
          CHECK_EQ(mb_tensor_shape(v)[1], 8);
          double *values = doubles_of(s);
          for (int j = 0; j < 8; j++) CHECK_NEAR(values[j], scales[i] * a.s[j], close);
          CHECK(defect_of(u) <= tolerance((mb_dtype)dtype));
          CHECK(defect_of(v) <= tolerance((mb_dtype)dtype));
          CHECK(residual(g, u, s, v, m, n) <= 4 * close);
          free(g), free(values);
          release_all(4, (mb_tensor *[]){t, u, s, v});
          known_free(&a);
        }
  mb_tensor *zero, *u, *s, *v;
  CHECK_OK(mb_full(&zero, MB_F32, 2, (int64_t[]){60, 40}, MB_CPU, 0));
  CHECK_OK(mb_svd_lowrank(&u, &s, &v, zero, 3, 2, 1));
  double *values = doubles_of(s);
  CHECK(values[0] == 0 && values[1] == 0 && values[2] == 0);
  CHECK(defect_of(u) <= 1e-6 && defect_of(v) <= 1e-6);
  free(values);
  release_all(4, (mb_tensor *[]){zero, u, s, v});
}

// Where a sketch would cost more than everything, everything is computed and cut.
static void lowrank_of_small_matrices(void) {
  for (int s = 0; s < SHAPES; s++) {
    int64_t m = shapes[s][0], n = shapes[s][1];
    known a = known_new(m, n);
    known_fill(&a, CAUCHY);
    double *g = compose(&a, a.s, 1);
    mb_tensor *t = tensor_of(g, MB_F64, m, n), *u, *values, *v;
    for (int64_t rank = 1; rank <= a.k + 1; rank += 4) {
      int64_t kept = rank < a.k ? rank : a.k;
      CHECK_OK(mb_svd_lowrank(&u, &values, &v, t, rank, a.k, 1));
      CHECK_EQ(mb_tensor_shape(u)[0], m);
      CHECK_EQ(mb_tensor_shape(v)[0], n);
      CHECK_EQ(mb_tensor_shape(u)[1], kept);
      CHECK_EQ(mb_tensor_shape(v)[1], kept);
      CHECK_EQ(mb_tensor_shape(values)[0], kept);
      double *got = doubles_of(values), rest = 0;
      for (int64_t i = 0; i < kept; i++) CHECK_NEAR(got[i], a.s[i], 1e-13 * a.s[0]);
      for (int64_t i = kept; i < a.k; i++) rest += a.s[i] * a.s[i];
      CHECK_NEAR(residual(g, u, values, v, m, n), sqrt(rest), 1e-12 * a.s[0]);
      free(got);
      release_all(3, (mb_tensor *[]){u, values, v});
    }
    free(g);
    mb_tensor_release(t);
    known_free(&a);
  }
}

static void lowrank_takes_one_stream(void) {
  mb_tensor *t, *first[3], *second[3];
  uint64_t seed, step, stream;
  int64_t sides[][2] = {{80, 60}, {6, 5}};
  for (int i = 0; i < 2; i++) {
    CHECK_OK(mb_randn(&t, MB_F32, 2, sides[i], MB_CPU));
    mb_rng_set(11, 2, 40);
    CHECK_OK(mb_svd_lowrank(&first[0], &first[1], &first[2], t, 4, 3, 1));
    mb_rng_get(&seed, &step, &stream);
    CHECK(seed == 11 && step == 2 && stream == 41);
    mb_rng_set(11, 2, 40);
    CHECK_OK(mb_svd_lowrank(&second[0], &second[1], &second[2], t, 4, 3, 1));
    for (int j = 0; j < 3; j++) {
      double *x = doubles_of(first[j]), *y = doubles_of(second[j]);
      CHECK(memcmp(x, y, (size_t)mb_tensor_numel(first[j]) * sizeof *x) == 0);
      free(x), free(y);
    }
    release_all(3, first), release_all(3, second);
    mb_tensor_release(t);
  }
}

// ----- batches, views, errors -----------------------------------------------------------------------------

// Member `i` of a batch (or of the only tensor there is) equals `alone` to the bit.
static void check_member(mb_tensor *batch, int64_t i, mb_tensor *alone) {
  double *all = doubles_of(batch), *one = doubles_of(alone);
  int64_t size = mb_tensor_numel(alone);
  CHECK_EQ(mb_tensor_ndim(batch), mb_tensor_ndim(alone) + 1);
  CHECK(memcmp(all + i * size, one, (size_t)size * sizeof *one) == 0);
  free(all), free(one);
}

// A batch of three, turned in memory: each result is that of the member alone.
static void batches_are_their_members(void) {
  enum { COUNT = 3, M = 19, N = 19, CALLS = 5 };
  mb_tensor *t, *view, *product, *eye, *all[CALLS][2] = {{0}};
  CHECK_OK(mb_randn(&t, MB_F32, 3, (int64_t[]){COUNT, N, M}, MB_CPU));
  CHECK_OK(mb_matmul(&product, t, t, 1, 0)); // symmetric, positive definite but for rounding
  double ones[N * N] = {0};
  for (int i = 0; i < N; i++) ones[i * N + i] = 1;
  eye = tensor_of(ones, MB_F32, N, N);
  CHECK_OK(mb_add_(product, eye, 1));
  view = turned(t);
  CHECK(!mb_tensor_is_contiguous(view));
  CHECK_OK(mb_qr(&all[0][0], &all[0][1], view));
  CHECK_OK(mb_eigh(&all[1][0], &all[1][1], product));
  CHECK_OK(mb_eigvalsh(&all[2][0], product));
  CHECK_OK(mb_cholesky(&all[3][0], product));
  CHECK_OK(mb_svdvals(&all[4][0], view));
  for (int64_t i = 0; i < COUNT; i++) {
    mb_tensor *part, *flat, *symmetric, *square, *one[CALLS][2] = {{0}};
    CHECK_OK(mb_slice(&part, view, 0, i, i + 1, 1));
    CHECK_OK(mb_reshape(&flat, part, 2, (int64_t[]){M, N}));
    CHECK_OK(mb_slice(&square, product, 0, i, i + 1, 1));
    CHECK_OK(mb_reshape(&symmetric, square, 2, (int64_t[]){N, N}));
    CHECK_OK(mb_qr(&one[0][0], &one[0][1], flat));
    CHECK_OK(mb_eigh(&one[1][0], &one[1][1], symmetric));
    CHECK_OK(mb_eigvalsh(&one[2][0], symmetric));
    CHECK_OK(mb_cholesky(&one[3][0], symmetric));
    CHECK_OK(mb_svdvals(&one[4][0], flat));
    for (int c = 0; c < CALLS; c++)
      for (int j = 0; j < 2; j++)
        if (one[c][j]) {
          check_member(all[c][j], i, one[c][j]);
          mb_tensor_release(one[c][j]);
        }
    release_all(4, (mb_tensor *[]){part, flat, square, symmetric});
  }
  for (int c = 0; c < CALLS; c++) mb_tensor_release(all[c][0]), mb_tensor_release(all[c][1]);
  release_all(4, (mb_tensor *[]){t, view, product, eye});
}

// Sketches of a batch differ from a matrix's own by the random numbers of its place, so they are held to what they find.
static void batches_are_sketched(void) {
  enum { COUNT = 4, M = 70, N = 50, R = 3 };
  known a[COUNT];
  double *values = malloc(COUNT * M * N * sizeof *values);
  for (int i = 0; i < COUNT; i++) {
    a[i] = known_new(M, N);
    for (int j = 0; j < N; j++) a[i].s[j] = (i + 1) * pow(0.3, j);
    double *g = compose(&a[i], a[i].s, 1);
    memcpy(values + i * M * N, g, M * N * sizeof *g);
    free(g);
  }
  mb_tensor *t, *u, *s, *v;
  CHECK_OK(mb_from_host(&t, MB_F64, 3, (int64_t[]){COUNT, M, N}, MB_CPU, values));
  CHECK_OK(mb_svd_lowrank(&u, &s, &v, t, R, 6, 2));
  double *left = doubles_of(u), *found = doubles_of(s), *right = doubles_of(v);
  CHECK(defect(left, COUNT, M, R) <= 1e-13 && defect(right, COUNT, N, R) <= 1e-13);
  for (int i = 0; i < COUNT; i++)
    for (int j = 0; j < R; j++) {
      double along_u = 0, along_v = 0;
      for (int p = 0; p < M; p++) along_u += left[(i * M + p) * R + j] * a[i].u[j * M + p];
      for (int p = 0; p < N; p++) along_v += right[(i * N + p) * R + j] * a[i].v[j * N + p];
      CHECK_NEAR(found[i * R + j], a[i].s[j], 1e-9);
      CHECK_NEAR(along_u * along_v, 1, 1e-8); // the known directions, both turned or neither
    }
  free(values), free(left), free(found), free(right);
  release_all(4, (mb_tensor *[]){t, u, s, v});
  for (int i = 0; i < COUNT; i++) known_free(&a[i]);
}

static void what_makes_no_sense_is_refused(void) {
  mb_tensor *line, *wide, *whole, *bad, *out[3];
  CHECK_OK(mb_full(&line, MB_F32, 1, (int64_t[]){4}, MB_CPU, 1));
  CHECK_OK(mb_full(&wide, MB_F32, 3, (int64_t[]){2, 3, 4}, MB_CPU, 1));
  CHECK_OK(mb_full(&whole, MB_I32, 2, (int64_t[]){3, 3}, MB_CPU, 1));
  double numbers[18] = {0};
  numbers[13] = INFINITY;
  CHECK_OK(mb_from_host(&bad, MB_F64, 3, (int64_t[]){2, 3, 3}, MB_CPU, numbers));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_qr: a (m, n) or (L, m, n) was expected, the tensor has shape (4)", mb_qr(&out[0], &out[1], line));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_eigh: a square matrix (n, n) or (L, n, n) was expected, a has shape (2, 3, 4)", mb_eigh(&out[0], &out[1], wide));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_eigvalsh: a square matrix", mb_eigvalsh(&out[0], wide));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_cholesky: a square matrix", mb_cholesky(&out[0], wide));
  CHECK_FAILS(MB_ERR_DTYPE, "mb_qr", mb_qr(&out[0], &out[1], whole));
  CHECK_FAILS(MB_ERR_DTYPE, "mb_svd_lowrank", mb_svd_lowrank(&out[0], &out[1], &out[2], whole, 1, 1, 1));
  CHECK_FAILS(MB_ERR_ARG, "mb_svd_lowrank: a is NULL", mb_svd_lowrank(&out[0], &out[1], &out[2], NULL, 1, 1, 1));
  CHECK_FAILS(MB_ERR_NONFINITE, "mb_qr: a holds NaN or Inf, first at element 13", mb_qr(&out[0], &out[1], bad));
  CHECK_FAILS(MB_ERR_NONFINITE, "mb_eigh: a holds NaN or Inf, first at element 13", mb_eigh(&out[0], &out[1], bad));
  CHECK_FAILS(MB_ERR_NONFINITE, "mb_cholesky: a holds NaN or Inf, first at element 13", mb_cholesky(&out[0], bad));
  CHECK_FAILS(MB_ERR_NONFINITE, "mb_svd_lowrank: a holds NaN or Inf, first at element 13",
              mb_svd_lowrank(&out[0], &out[1], &out[2], bad, 1, 1, 1));
  CHECK(!out[0] && !out[1] && !out[2]);
  CHECK_FAILS(MB_ERR_ARG, "mb_svd_lowrank: rank is 0, at least 1 was expected", mb_svd_lowrank(&out[0], &out[1], &out[2], wide, 0, 1, 1));
  CHECK_FAILS(MB_ERR_ARG, "oversample is -1, at least 0", mb_svd_lowrank(&out[0], &out[1], &out[2], wide, 1, -1, 1));
  CHECK_FAILS(MB_ERR_ARG, "power_iters is -2, at least 0", mb_svd_lowrank(&out[0], &out[1], &out[2], wide, 1, 1, -2));
  release_all(4, (mb_tensor *[]){line, wide, whole, bad});
}

// Whichever allocation fails, everything made before it is given back.
static void failures_leave_nothing(void) {
  mb_tensor *t, *small, *out[3];
  mb_memory_stats before, after;
  CHECK_OK(mb_randn(&t, MB_F32, 3, (int64_t[]){2, 60, 50}, MB_CPU));
  CHECK_OK(mb_randn(&small, MB_F32, 2, (int64_t[]){5, 5}, MB_CPU));
  mb_memory(&before);
  for (int call = 0; call < 5; call++) {
    mb_status status = MB_ERR_NOMEM;
    int64_t n = 1;
    for (; status != MB_OK; n++) {
      CHECK(n < 200);
      mb_rng_set(1, 0, 0);
      mb_debug_fail_allocation(n);
      switch (call) {
        case 0: status = mb_qr(&out[0], &out[1], t), out[2] = NULL; break;
        case 1: status = mb_eigh(&out[0], &out[1], small), out[2] = NULL; break;
        case 2: status = mb_eigvalsh(&out[0], small), out[1] = out[2] = NULL; break;
        case 3: status = mb_svd_lowrank(&out[0], &out[1], &out[2], t, 4, 2, 1); break;
        default: status = mb_svd_lowrank(&out[0], &out[1], &out[2], small, 4, 2, 1); break;
      }
      mb_debug_fail_allocation(0);
      uint64_t seed, step, stream;
      mb_rng_get(&seed, &step, &stream);
      if (status == MB_OK) {
        CHECK(stream == (call >= 3));
        release_all(3, out);
      } else {
        CHECK(status == MB_ERR_NOMEM && stream == 0);
        CHECK(!out[0] && !out[1] && !out[2]);
      }
      mb_memory(&after);
      CHECK_EQ(after.live_tensors, before.live_tensors);
      CHECK_EQ(after.bytes_live, before.bytes_live);
    }
    CHECK(n > 2);
  }
  mb_tensor_release(t), mb_tensor_release(small);
}

int main(void) {
  mb_memory_stats before, after;
  seed_start();
  mb_rng_seed(seed_state);
  mb_memory(&before);
  qr_of_known_spectra();
  qr_is_unique();
  eigenvalues_are_known();
  cholesky_factors_are_known();
  cholesky_names_what_is_not_positive();
  lowrank_is_as_good_as_the_textbook();
  lowrank_of_a_deficient_matrix();
  lowrank_of_small_matrices();
  lowrank_takes_one_stream();
  batches_are_their_members();
  batches_are_sketched();
  what_makes_no_sense_is_refused();
  failures_leave_nothing();
  mb_memory(&after);
  CHECK_EQ(after.live_tensors, before.live_tensors);
  return check_end();
}
