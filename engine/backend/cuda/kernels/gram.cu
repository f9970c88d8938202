// SPDX-License-Identifier: MIT
//
// gram.cu: eigenvalues and eigenvectors of G^T G (or G G^T, whichever is smaller). The Gram matrix is formed in float64
// also from float32: its eigenvalues are squares, so a singular value s of a float32 matrix comes out to about
// 1e-16 s_1^2 / s, far below the matrix's own rounding. All vectors are found with the values and kept; which are wanted
// is known later, and to the device alone.
#include "backend/cuda/small.h"
#include "backend/cuda/solver.h"
#include "backend/cuda/thin.h"

namespace mbk {
namespace {

constexpr int WIDE_SLOT = 0, VALUES_SLOT = 1, PARTS_SLOT = 2;

// float64 numbers of G that are held at a time: 128 MiB.
constexpr int64_t MOST_WIDE = 1 << 24;

// to (batch, rows, width) = scale times parts of matrices whose rows are `stride` apart, from element `offset` on; zeros of what
// is passed over.
template <class T> struct Widen {
  double *to;
  void *const *g;
  const double *scale;
  int64_t rows, width, stride, offset;
  Mask mask; // of all: `first` are before the batch
  int64_t first;
  SIMT void operator()(int64_t i) const {
    int64_t line = i / width, column = i - line * width, batch = line / rows, row = line - batch * rows, matrix = first + batch;
    const T *from = (const T *)g[matrix] + offset;
    to[i] = mask.skips(matrix) ? 0 : scale[matrix] * (double)from[row * stride + column];
  }
};

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
      Widen<T> part_of{wide, s->g, s->scale, rows, width, s->n, tall ? start * s->n : start, s->mask, i};
      MB_TRY(launch_elements(part_of, batch * rows * width, "gram_factor"));
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

// e (count, k, k) = eigenvectors z (count, k, k + 4), the largest eigenvalue's first, and scaled = diag(gain) e, of the rows that change.
template <class T> struct Vectors {
  T *e, *scaled;
  const double *z, *gain;
  Rows which;
  SIMT void operator()(int64_t i) const {
    int64_t k = which.q, matrix = i / (k * k), row = i / k % k;
    if (row >= which.of(matrix)) return;
    T x = (T)z[matrix * k * (k + 4) + (k - 1 - row) * (k + 4) + i % k];
    e[i] = x;
    scaled[i] = x * (T)gain[matrix * k + row];
  }
};

// Where G is tall e holds V: diag(sigma) U^T = e G^T, and G += (e G^T)^T (diag(gain) e); else U, and diag(sigma) V^T = e G.
// For `count` matrices from `first` on; vectors: room for all that they need.
template <class T> mb_status change(const mbi_gram *s, const double *gain, int64_t first, int64_t count, const int64_t *changed, T *vectors) {
  const char *name = "gram_update";
  int64_t k = s->k, square = count * k * k;
  void *const *g = s->g + first;
  T *e = vectors, *scaled = e + square, *product = scaled + square;
  Rows which{k, changed + first, Mask()};
  MB_TRY(launch_elements(Vectors<T>{e, scaled, s->factor + first * k * (k + 4), gain + first * k, which}, square, name));
  bool tall = s->m >= s->n;
  Thin<T> thin{product, e, g, nullptr, which, s->m, s->n, count};
  MB_TRY((tall ? multiply<T, true>(&thin, 1, PARTS_SLOT, name) : multiply<T, false>(&thin, 1, PARTS_SLOT, name)));
  Launches<Update<T>> launches(name);
  MB_TRY(add_update(&launches, g, tall ? product : scaled, tall ? scaled : product, which, s->m, s->n, count));
  return launches.go();
}

} // namespace

template <class T> mb_status Kernels<T>::gram_factor(const mbi_gram *s) {
  double *values;
  int *info;
  MB_TRY(scratch_of(&values, VALUES_SLOT, s->count * s->k));
  MB_TRY(scratch_of(&info, INFO_SLOT, s->count));
  MB_TRY(squares<T>(s));
  SmallProblem problem{values, s->factor, s->factor, 1, s->count, info, s->mask, Align{}};
  MB_TRY(eigen(&problem, 1, s->k, s->k + 4));
  return launch_elements(Roots{s->sigma, values, s->k}, s->count * s->k, "gram_factor");
}

template <class T> mb_status Kernels<T>::gram_update(const mbi_gram *s, const double *gain) {
  int64_t k = s->k, each = k * (2 * k + (s->m > s->n ? s->m : s->n)), together = MOST_WIDE / each > 1 ? MOST_WIDE / each : 1, *changed;
  together = together < s->count ? together : s->count;
  T *vectors;
  MB_TRY(scratch_of(&changed, VALUES_SLOT, s->count));
  MB_TRY(scratch_of(&vectors, WIDE_SLOT, together * each));
  MB_TRY(launch_elements(Changed{changed, gain, k}, s->count, "gram_update"));
  for (int64_t i = 0; i < s->count; i += together)
    MB_TRY(change(s, gain, i, s->count - i < together ? s->count - i : together, changed, vectors));
  return MB_OK;
}

MBK_WIDE_SLOT(gram_factor, const mbi_gram *);
MBK_WIDE_SLOT(gram_update, const mbi_gram *, const double *);

} // namespace mbk
