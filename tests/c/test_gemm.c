// SPDX-License-Identifier: MIT
//
// test_gemm.c: the gemm kernel against a double loop, for every transpose, stride, factor, bias and batch.
// ctest runs it once by the default rule and once with each value of MOONBOW_BLAS.
#include "backend/cpu/gemm.h"
#include "check.h"
#include "seed.h"

enum { MOST = 1 << 16 };
static double a[MOST], b[MOST], c[MOST], bias[1024], expected[MOST], slack[MOST];
static float a32[MOST], b32[MOST], c32[MOST], bias32[1024];

// expected = the product in double; slack = the sum of |terms|, which rounding errors are in proportion to.
static void naive(const mbi_gemm *g) {
  memcpy(expected, c, sizeof expected);
  memset(slack, 0, sizeof slack);
  for (int64_t i = 0; i < g->batch; i++)
    for (int64_t row = 0; row < g->m; row++)
      for (int64_t column = 0; column < g->n; column++) {
        double sum = 0, terms = 0;
        for (int64_t p = 0; p < g->k; p++) {
          double x = a[i * g->stride_a + (g->transpose_a ? p * g->lda + row : row * g->lda + p)];
          double y = b[i * g->stride_b + (g->transpose_b ? column * g->ldb + p : p * g->ldb + column)];
          sum += x * y, terms += fabs(x * y);
        }
        int64_t at = i * g->stride_c + row * g->ldc + column;
        double before = g->beta == 0 ? 0 : g->beta * c[at], shift = g->bias ? bias[column] : 0;
        expected[at] = g->alpha * sum + before + shift;
        slack[at] = fabs(g->alpha) * terms + fabs(before) + fabs(shift);
      }
}

static mb_status f32_by_rule(int *done, const mbi_gemm *g) {
  *done = 1;
  return mbi_cpu_device()->kernels[MB_F32]->gemm(g);
}
static mb_status f64_by_rule(int *done, const mbi_gemm *g) {
  *done = 1;
  return mbi_cpu_device()->kernels[MB_F64]->gemm(g);
}

// Computes the product in one way; elements of C outside it must stay as they are, bit for bit.
static void compare(mbi_gemm g, const char *name, mb_status (*compute)(int *done, const mbi_gemm *g)) {
  int single = name[1] == '3', done;
  double unit = single ? 6e-8 : 1.2e-16;
  for (int i = 0; i < MOST; i++) a32[i] = (float)a[i], b32[i] = (float)b[i], c32[i] = (float)c[i];
  for (int i = 0; i < 1024; i++) bias32[i] = (float)bias[i];
  naive(&g);
  static double c64[MOST];
  memcpy(c64, c, sizeof c);
  g.a = single ? (void *)a32 : (void *)a, g.b = single ? (void *)b32 : (void *)b, g.c = single ? (void *)c32 : (void *)c64;
  if (g.bias) g.bias = single ? (void *)bias32 : (void *)bias;
  if (g.beta == 0) // what C held must not be read
    for (int i = 0; i < MOST; i++)
      if (slack[i] != 0) c32[i] = NAN, c64[i] = NAN;
  CHECK_OK(compute(&done, &g));
  if (!done) return;
  for (int i = 0; i < MOST; i++) {
    double found = single ? (double)c32[i] : c64[i];
    double tolerance = slack[i] * unit * (double)(g.k + 4);
    if (!(fabs(found - expected[i]) <= tolerance)) {
      fprintf(stderr, "%s %lldx%lldx%lld %c%c alpha %g beta %g bias %d batch %lld ld %lld %lld %lld: element %d is %.9g, not %.9g\n",
              name, (long long)g.m, (long long)g.n, (long long)g.k, g.transpose_a ? 'T' : 'N', g.transpose_b ? 'T' : 'N', g.alpha, g.beta,
              g.bias != NULL, (long long)g.batch, (long long)g.lda, (long long)g.ldb, (long long)g.ldc, i, found, expected[i]);
      exit(1);
    }
  }
  check_count++;
}

static void refill(void) {
  // Numbers of few digits, so that float and double inputs are the same.
  for (int i = 0; i < MOST; i++) {
    a[i] = (int)(seed_next() % 513) / 256.0 - 1.0;
    b[i] = (int)(seed_next() % 513) / 256.0 - 1.0;
    c[i] = (int)(seed_next() % 513) / 256.0 - 1.0;
  }
  for (int i = 0; i < 1024; i++) bias[i] = (int)(seed_next() % 513) / 256.0 - 1.0;
}

static mbi_gemm product(int64_t m, int64_t n, int64_t k, int transpose_a, int transpose_b, int64_t padding) {
  mbi_gemm g = {.transpose_a = transpose_a, .transpose_b = transpose_b, .m = m, .n = n, .k = k, .alpha = 1, .batch = 1};
  g.lda = (transpose_a ? m : k) + padding, g.ldb = (transpose_b ? k : n) + 2 * padding, g.ldc = n + 3 * padding;
  return g;
}

// By the rule in both dtypes, and with oneDNN at sizes that the rule gives to OpenBLAS.
static void all_ways(const mbi_gemm *g) {
  compare(*g, "f32", f32_by_rule);
  compare(*g, "f64", f64_by_rule);
  compare(*g, "f32 oneDNN", mbi_onednn_f32);
}

static void sizes_and_transposes(void) {
  static const int64_t sizes[][3] = {{1, 1, 1},   {1, 7, 5},   {5, 1, 7},   {7, 5, 1},    {2, 3, 4},     {16, 16, 16}, {17, 33, 9},
                                     {1, 128, 64}, {128, 1, 64}, {65, 63, 64}, {96, 130, 48}, {31, 200, 77}, {3, 2, 700}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int t = 0; t < 4; t++)
      for (int64_t padding = 0; padding <= 5; padding += 5) {
        mbi_gemm g = product(sizes[i][0], sizes[i][1], sizes[i][2], t & 1, t >> 1, padding);
        all_ways(&g);
      }
}

static void factors_and_bias(void) {
  static const double factors[][2] = {{1, 0}, {1, 1}, {0.75, 0}, {-2, 1}, {1, -0.5}, {0.3, 2.5}, {0, 1}, {0, 0}};
  static const int64_t sizes[][3] = {{3, 5, 4}, {64, 80, 96}, {1, 100, 40}};
  for (size_t s = 0; s < 3; s++)
    for (int t = 0; t < 4; t++)
      for (size_t f = 0; f < sizeof factors / sizeof *factors; f++)
        for (int with_bias = 0; with_bias <= (factors[f][1] == 0); with_bias++) {
          mbi_gemm g = product(sizes[s][0], sizes[s][1], sizes[s][2], t & 1, t >> 1, with_bias ? 3 : 0);
          g.alpha = factors[f][0], g.beta = factors[f][1], g.bias = with_bias ? bias : NULL;
          all_ways(&g);
        }
}

static void batches(void) {
  static const int64_t sizes[][4] = {{5, 3, 4, 6}, {3, 48, 40, 56}, {40, 8, 9, 7}, {7, 1, 12, 5}, {2, 64, 64, 64}};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
    for (int t = 0; t < 4; t++)
      for (int form = 0; form < 6; form++) {
        mbi_gemm g = product(sizes[s][1], sizes[s][2], sizes[s][3], t & 1, t >> 1, form >= 3 ? 2 : 0);
        g.batch = sizes[s][0];
        int64_t gap = form == 1 ? 11 : 0; // forms: packed, gaps, A shared, B shared, interleaved rows, with factors
        g.stride_a = (g.transpose_a ? g.k : g.m) * g.lda + gap;
        g.stride_b = (g.transpose_b ? g.n : g.k) * g.ldb + gap;
        g.stride_c = g.m * g.ldc + gap;
        if (form == 2) g.stride_a = 0;
        if (form == 3) g.stride_b = 0;
        if (form == 4) { // member i is columns [i n, (i + 1) n) of one wide C, as the heads of attention are
          g.stride_c = g.n;
          g.ldc = g.n * g.batch + 1;
        }
        if (form == 5) g.alpha = 0.5, g.beta = 1;
        all_ways(&g);
        if (form == 0) {
          g.bias = bias;
          all_ways(&g);
        }
      }
}

// More products than oneDNN's primitives are kept for; those of the second round may have been dropped, or not.
static void many_products_come_and_go(void) {
  int threads = mb_threads();
  CHECK_OK(mb_threads_set(1));
  for (int round = 0; round < 2; round++)
    for (int64_t m = 1; m <= 40; m++)
      for (int64_t n = 30; n <= 48; n++) {
        mbi_gemm g = product(m, n, 33, 0, 1, 0);
        int done;
        g.a = a32, g.b = b32, g.c = c32;
        CHECK_OK(mbi_onednn_f32(&done, &g));
      }
  for (int64_t m = 1; m <= 40; m++) {
    mbi_gemm g = product(m, 48, 33, 0, 1, 0);
    all_ways(&g);
  }
  CHECK_OK(mb_threads_set(threads));
}

// Large enough for threads; integers, so that the sum of each row is exact in any order.
static void threads_share_a_product(void) {
  enum { M = 200, N = 300, K = 150 };
  for (int threads = 1; threads <= 3; threads++) {
    CHECK_OK(mb_threads_set(threads));
    for (int i = 0; i < M * K; i++) a32[i] = (float)(i % 7 - 3), a[i] = i % 7 - 3;
    for (int i = 0; i < K * N; i++) b32[i] = (float)(i % 5 - 2), b[i] = i % 5 - 2;
    mbi_gemm g = product(M, N, K, 0, 0, 0);
    g.a = a32, g.b = b32, g.c = c32;
    CHECK_OK(mbi_cpu_device()->kernels[MB_F32]->gemm(&g));
    g.a = a, g.b = b, g.c = c;
    CHECK_OK(mbi_cpu_device()->kernels[MB_F64]->gemm(&g));
    for (int i = 0; i < M; i += 13)
      for (int j = 0; j < N; j++) {
        double sum = 0;
        for (int p = 0; p < K; p++) sum += a[i * K + p] * b[p * N + j];
        CHECK(sum == (double)c32[i * N + j]);
        CHECK(sum == c[i * N + j]);
      }
  }
}

// GELU's bits are those of a pass over the product, of members that are neighbours and of others.
static void gelu_is_a_pass(void) {
  enum { M = 9, N = 13, K = 11, B = 3, MOST_GAP = 5, ALL = B * (M * N + MOST_GAP) };
  static float p[ALL], made[ALL], aux[ALL], want[ALL];
  for (int i = 0; i < MOST; i++) a32[i] = (float)a[i], b32[i] = (float)b[i];
  for (int gap = 0; gap <= MOST_GAP; gap += MOST_GAP)
    for (int gelu = MBI_GELU_OF; gelu <= MBI_GELU_SLOPE; gelu++) {
      const mbi_kernels *kernels = mbi_cpu_device()->kernels[MB_F32];
      mbi_gemm g = product(M, N, K, 0, 1, 0);
      g.batch = B, g.stride_a = M * K, g.stride_c = M * N + gap, g.a = a32, g.b = b32, g.c = p;
      for (int i = 0; i < ALL; i++) p[i] = made[i] = want[i] = -7, aux[i] = (float)c[i];
      CHECK_OK(kernels->gemm(&g));
      g.gelu = gelu, g.c = made, g.aux = aux;
      float before[ALL];
      memcpy(before, aux, sizeof aux);
      CHECK_OK(kernels->gemm(&g));
      for (int i = 0; i < B; i++) {
        int at = i * (M * N + gap);
        mbi_view to = {.data = want + at, .ndim = 1, .size = {M * N}, .stride = {1}}, from = to;
        from.data = p + at;
        if (gelu == MBI_GELU_OF) CHECK_OK(kernels->unary(MBI_GELU_TANH, &to, &from, 0, 0));
        else CHECK_OK(kernels->unary_backward(MBI_GELU_TANH, want + at, p + at, before + at, before + at, M * N, 0));
        CHECK(memcmp(aux + at, gelu == MBI_GELU_OF ? p + at : before + at, sizeof(float) * M * N) == 0);
      }
      CHECK(memcmp(made, want, sizeof made) == 0);
    }
}

static void wrong_strides_are_refused(void) {
  mbi_gemm g = product(4, 4, 4, 0, 0, 0);
  g.a = a32, g.b = b32, g.c = c32, g.ldb = 3;
  CHECK_FAILS(MB_ERR_INTERNAL, "row strides 4, 3, 4", mbi_cpu_device()->kernels[MB_F32]->gemm(&g));
  g.ldb = 4, g.lda = (int64_t)1 << 31;
  CHECK_FAILS(MB_ERR_SHAPE, "exceeds 2^31 - 1", mbi_cpu_device()->kernels[MB_F32]->gemm(&g));
}

static void build_info_tells_the_library(void) {
  const char *wish = getenv("MOONBOW_BLAS"), *info = mb_build_info();
  CHECK(strstr(info, "OpenBLAS") != NULL);
  if (!wish) return;
  if (strcmp(wish, "onednn") == 0) CHECK(strstr(info, "oneDNN") != NULL); // in use, or "not built in"
  else if (strcmp(wish, "openblas") == 0) CHECK(strstr(info, "oneDNN") == NULL);
  else CHECK(strstr(info, "neither onednn nor openblas") != NULL);
}

int main(void) {
  seed_start();
  refill();
  sizes_and_transposes();
  factors_and_bias();
  batches();
  many_products_come_and_go();
  gelu_is_a_pass();
  wrong_strides_are_refused();
  build_info_tells_the_library();
  threads_share_a_product();
  return check_end();
}
