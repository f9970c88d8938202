// SPDX-License-Identifier: MIT
//
// gram.cu: eigenvalues and eigenvectors of G^T G (or G G^T, whichever is smaller). The Gram matrix is formed in float64
// also from float32: its eigenvalues are squares, so a singular value s of a float32 matrix comes out to about
// 1e-16 s_1^2 / s, far below the matrix's own rounding. All vectors are found with the values and kept; how many are wanted
// is known later.
#include "backend/cuda/math.h"
#include "backend/cuda/small.h"
#include "backend/cuda/solver.h"

namespace mbk {
namespace {

constexpr int WIDE_SLOT = 0, VALUES_SLOT = 1;

// float64 numbers of G that are held at a time: 128 MiB.
constexpr int64_t MOST_WIDE = 1 << 24;

// to (rows, width) = scale times a part of a matrix whose rows are `stride` apart.
template <class T> struct Widen {
  double *to;
  const T *from;
  int64_t width, stride;
  double scale;
  SIMT void operator()(int64_t i) const { to[i] = scale * (double)from[i / width * stride + i % width]; }
};

template <class T> mb_status widen(double *to, const mbi_gram *s, int64_t i, int64_t row, int64_t rows, int64_t column, int64_t width) {
  const T *from = (const T *)s->g[i] + row * s->n + column;
  return launch_elements(Widen<T>{to, from, width, s->n, s->scale[i]}, rows * width, "gram_factor");
}

// S (+)= of `batch` parts (rows, width), rows of S being k + 4 apart.
mb_status add_product(double *square, const double *part, int64_t rows, int64_t width, int64_t batch, bool tall, double beta) {
  mbi_gemm g{};
  int64_t k = tall ? width : rows;
  g.transpose_a = tall, g.transpose_b = !tall;
  g.m = g.n = k, g.k = tall ? rows : width;
  g.alpha = 1, g.beta = beta;
  g.a = g.b = part, g.c = square;
  g.lda = g.ldb = width, g.ldc = k + 4;
  g.batch = batch, g.stride_a = g.stride_b = rows * width, g.stride_c = k * (k + 4);
  return Kernels<double>::gemm(&g);
}

// Matrices that fit together are multiplied together, a larger one in parts of its longer side.
template <class T> mb_status squares(const mbi_gram *s) {
  bool tall = s->m >= s->n;
  int64_t k = s->k, size = s->m * s->n, longer = tall ? s->m : s->n, most = MOST_WIDE / k > 1 ? MOST_WIDE / k : 1;
  int64_t together = size < MOST_WIDE ? MOST_WIDE / size : 1, part = longer < most ? longer : most;
  together = together < s->count ? together : s->count;
  double *wide;
  MB_TRY(scratch_of(&wide, WIDE_SLOT, together * part * k));
  for (int64_t i = 0; i < s->count; i += together) {
    int64_t batch = s->count - i < together ? s->count - i : together;
    double *square = s->factor + i * k * (k + 4);
    for (int64_t start = 0; start < longer; start += part) {
      int64_t length = longer - start < part ? longer - start : part, rows = tall ? length : s->m, width = tall ? s->n : length;
      for (int64_t b = 0; b < batch; b++)
        MB_TRY(widen<T>(wide + b * rows * width, s, i + b, tall ? start : 0, rows, tall ? 0 : start, width));
      MB_TRY(add_product(square, wide, rows, width, batch, tall, start > 0));
    }
  }
  return MB_OK;
}

// sigma, descending, from eigenvalues, ascending.
struct Roots {
  double *sigma;
  const double *values;
  int64_t k;
  SIMT void operator()(int64_t i) const {
    double value = values[i / k * k + k - 1 - i % k];
    sigma[i] = value > 0 ? sqrt_of(value) : 0 * value;
  }
};

// Rows of vectors (c, k) from the last rows of z (k, k + 4).
template <class T> struct Rows {
  T *vectors;
  const double *z;
  int64_t k;
  SIMT void operator()(int64_t i) const { vectors[i] = (T)z[(k - 1 - i / k) * (k + 4) + i % k]; }
};

} // namespace

template <class T> mb_status Kernels<T>::gram_factor(const mbi_gram *s) {
  double *values;
  int *info;
  MB_TRY(scratch_of(&values, VALUES_SLOT, s->count * s->k));
  MB_TRY(scratch_of(&info, INFO_SLOT, s->count));
  MB_TRY(squares<T>(s));
  MB_TRY(eigen(values, s->factor, s->k, s->k + 4, s->count, info));
  return launch_elements(Roots{s->sigma, values, s->k}, s->count * s->k, "gram_factor");
}

template <class T> mb_status Kernels<T>::gram_vectors(const mbi_gram *s, const int64_t *c, void *const *vectors) {
  int64_t k = s->k;
  for (int64_t i = 0; i < s->count; i++)
    if (c[i] > 0) MB_TRY(launch_elements(Rows<T>{(T *)vectors[i], s->factor + i * k * (k + 4), k}, c[i] * k, "gram_vectors"));
  return MB_OK;
}

MBK_WIDE_SLOT(gram_factor, const mbi_gram *);
MBK_WIDE_SLOT(gram_vectors, const mbi_gram *, const int64_t *, void *const *);

} // namespace mbk
