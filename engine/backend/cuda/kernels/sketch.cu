// SPDX-License-Identifier: MIT
//
// sketch.cu: a few singular directions of many large matrices. Thin matrices are kept as q rows. What is large goes
// through general products, one for each run of matrices that lie at even distances: a model's layers are one. What is
// q by q is float64 and stays on the device: Gram matrices of thin rows, their eigenvalues and triangular bases
// (small.h), and rows mixed by them, summed in float64 from the dtype's numbers, as small differences of nearly parallel
// rows are what counts.
#include <memory>
#include <new>

#include "backend/cuda/math.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/small.h"
#include "backend/cuda/solver.h"

namespace mbk {
namespace {

// Scratch of this file, below that of small.h.
constexpr int PARTS_SLOT = 0, SQUARES_SLOT = 1, THIN_SLOT = 2;

// ----- Gram matrices of thin rows ---------------------------------------------------------------------------------

constexpr int TILE = 16, CHUNK = 64;

// A block makes one tile (row, column), row >= column, of x x^T over one slice of the columns of x (q, n).
template <class T> struct GramParts {
  static constexpr int THREADS = TILE * TILE;
  struct Shared {
    double a[TILE][CHUNK + 1], b[TILE][CHUNK + 1]; // odd rows: a warp's reads go to different banks
  };
  double *parts; // (count, slices, q, q)
  const T *x;
  int64_t q, n, slices, pairs;

  SIMT void load(double (*to)[CHUNK + 1], const T *from, int64_t tile, int64_t start, int64_t last, int thread) const {
    for (int e = thread; e < TILE * CHUNK; e += THREADS) {
      int64_t row = tile * TILE + e / CHUNK, column = start + e % CHUNK;
      to[e / CHUNK][e % CHUNK] = row < q && column < last ? (double)from[row * n + column] : 0;
    }
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t slice = block.index % slices, pair = block.index / slices % pairs, matrix = block.index / (slices * pairs);
    int64_t row = 0, first = n * slice / slices, last = n * (slice + 1) / slices;
    while ((row + 1) * (row + 2) / 2 <= pair) row++;
    int64_t column = pair - row * (row + 1) / 2;
    const T *from = x + matrix * q * n;
    Private<double, THREADS> sum;
    block.each([&](int thread) { sum[thread] = 0; });
    for (int64_t start = first; start < last; start += CHUNK) {
      block.each([&](int thread) {
        load(shared.a, from, row, start, last, thread);
        load(shared.b, from, column, start, last, thread);
      });
      block.each([&](int thread) {
        double mine = sum[thread];
        for (int k = 0; k < CHUNK; k++) mine += shared.a[thread / TILE][k] * shared.b[thread % TILE][k];
        sum[thread] = mine;
      });
    }
    block.each([&](int thread) {
      int64_t i = row * TILE + thread / TILE, j = column * TILE + thread % TILE;
      double *to = parts + (matrix * slices + slice) * q * q;
      if (i >= q || j >= q) return;
      to[i * q + j] = sum[thread];
      if (row != column) to[j * q + i] = sum[thread];
    });
  }
};

struct SumParts {
  double *gram;
  const double *parts;
  int64_t square, slices;
  SIMT void operator()(int64_t i) const {
    const double *from = parts + i / square * slices * square + i % square;
    double sum = 0;
    for (int64_t slice = 0; slice < slices; slice++) sum += from[slice * square];
    gram[i] = sum;
  }
};

// gram (count, q, q) = x x^T of thin matrices x (count, q, n).
template <class T> mb_status gram_of(double *gram, const T *x, int64_t q, int64_t n, int64_t count) {
  constexpr int64_t SLICE = 512, MOST_SLICES = 64;
  int64_t tiles = ceil_div(q, TILE), pairs = tiles * (tiles + 1) / 2, slices = ceil_div(n, SLICE);
  slices = slices < MOST_SLICES ? slices : MOST_SLICES;
  double *parts;
  MB_TRY(scratch_of(&parts, PARTS_SLOT, count * slices * q * q));
  MB_TRY(launch(GramParts<T>{parts, x, q, n, slices, pairs}, count * pairs * slices, "sketch_gram"));
  return launch_elements(SumParts{gram, parts, q * q, slices}, count * q * q, "sketch_gram");
}

// ----- rows mixed -------------------------------------------------------------------------------------------------

// out (count, c, n) = the first c rows of a (count, q, q), times x (count, q, n); row r of matrix i times
// gain[i q + r] / scale[i], if there are gains. A thread makes ROWS rows of a column.
template <class T> struct Mix {
  static constexpr int THREADS = 128, ROWS = 16, DEPTH = 32;
  struct Shared {
    alignas(16) double a[DEPTH][ROWS];
  };
  struct Sums {
    double of[ROWS];
  };
  T *out;
  const double *a;
  const T *x;
  int64_t c, q, n, row_tiles, strips;
  const double *gain, *scale;

  SIMT double factor(int64_t matrix, int64_t row, int64_t k) const {
    if (row >= c || k >= q) return 0;
    double value = a[(matrix * q + row) * q + k];
    return gain ? value * (gain[matrix * q + row] / scale[matrix]) : value;
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t strip = block.index % strips, first = block.index / strips % row_tiles * ROWS, matrix = block.index / (strips * row_tiles);
    const T *from = x + matrix * q * n + strip * THREADS;
    int64_t width = n - strip * THREADS;
    Private<Sums, THREADS> sums;
    block.each([&](int thread) {
SIMT_UNROLL
      for (int r = 0; r < ROWS; r++) sums[thread].of[r] = 0;
    });
    for (int64_t start = 0; start < q; start += DEPTH) {
      int depth = q - start < DEPTH ? (int)(q - start) : DEPTH;
      block.each([&](int thread) {
        for (int e = thread; e < DEPTH * ROWS; e += THREADS) shared.a[e % DEPTH][e / DEPTH] = factor(matrix, first + e / DEPTH, start + e % DEPTH);
      });
      block.each([&](int thread) {
        for (int k = 0; k < depth && thread < width; k++) {
          double number = (double)from[(start + k) * n + thread];
SIMT_UNROLL
          for (int r = 0; r < ROWS; r++) sums[thread].of[r] += shared.a[k][r] * number;
        }
      });
    }
    block.each([&](int thread) {
      T *to = out + (matrix * c + first) * n + strip * THREADS + thread;
SIMT_UNROLL
      for (int r = 0; r < ROWS; r++)
        if (first + r < c && thread < width) to[r * n] = (T)sums[thread].of[r];
    });
  }
};

template <class T>
mb_status mix(T *out, const double *a, const T *x, int64_t c, int64_t q, int64_t n, int64_t count, const double *gain, const double *scale) {
  int64_t row_tiles = ceil_div(c, Mix<T>::ROWS), strips = ceil_div(n, Mix<T>::THREADS);
  return launch(Mix<T>{out, a, x, c, q, n, row_tiles, strips, gain, scale}, count * row_tiles * strips, "sketch_mix");
}

// ----- products with the large matrices -------------------------------------------------------------------------------

// How many matrices from `first` on lie `stride` elements apart, where `wanted` (or NULL) is not 0.
template <class T> int64_t run_from(int64_t *stride, const mbi_sketch *s, int64_t first, const unsigned char *wanted) {
  int64_t length = 1, least = s->m * s->n * (int64_t)sizeof(T), step = 0;
  for (; first + length < s->count && (!wanted || wanted[first + length]); length++) {
    int64_t distance = (char *)s->g[first + length] - (char *)s->g[first + length - 1];
    if (distance < least || distance % (int64_t)sizeof(T) != 0 || (length > 1 && distance != step)) break;
    step = distance;
  }
  *stride = step / (int64_t)sizeof(T);
  return length;
}

template <class T> struct ScaleRows {
  T *to;
  const T *from;
  const double *scale;
  int64_t size;
  SIMT void operator()(int64_t i) const { to[i] = from[i] * (T)scale[i / size]; }
};

// *out = thin matrices of `size` elements times the scales of their matrices; x itself where these are 1.
template <class T> mb_status scaled(const T **out, const T *x, int64_t size, const mbi_sketch *s) {
  bool is_one = true;
  for (int64_t i = 0; i < s->count; i++) is_one = is_one && s->scale[i] == 1;
  *out = x;
  if (is_one) return MB_OK;
  double *scale;
  T *to;
  MB_TRY(scratch_of(&scale, SQUARES_SLOT, s->count));
  MB_TRY(scratch_of(&to, THIN_SLOT, s->count * size));
  MB_TRY(to_device(scale, s->scale, (size_t)s->count * sizeof *scale));
  *out = to;
  return launch_elements(ScaleRows<T>{to, x, scale, size}, s->count * size, "sketch_pass");
}

// y (count, q, m) = x G^T if `transposed`, else t (count, q, n) = y G.
template <class T> mb_status multiply(T *out, const T *thin, const mbi_sketch *s, bool transposed) {
  int64_t n = transposed ? s->m : s->n, k = transposed ? s->n : s->m, length, stride;
  for (int64_t i = 0; i < s->count; i += length) {
    length = run_from<T>(&stride, s, i, nullptr);
    mbi_gemm g{};
    g.transpose_b = transposed;
    g.m = s->q, g.n = n, g.k = k, g.alpha = 1;
    g.a = thin + i * s->q * k, g.b = s->g[i], g.c = out + i * s->q * n;
    g.lda = k, g.ldb = s->n, g.ldc = n;
    g.batch = length, g.stride_a = s->q * k, g.stride_b = stride, g.stride_c = s->q * n;
    MB_TRY(Kernels<T>::gemm(&g));
  }
  return MB_OK;
}

// ----- bases ----------------------------------------------------------------------------------------------------------

// From the eigenvectors z (count, q, q) of Gram matrices, one a row, and their values, ascending: rows of a that turn the
// vectors into their singular directions, the largest first, each of about unit length.
struct Align {
  double *a, *sizes;
  const double *z, *values;
  int64_t q;
  SIMT void operator()(int64_t i) const {
    int64_t matrix = i / (q * q), row = i / q % q, column = i % q;
    const double *value = values + matrix * q;
    double largest = value[q - 1], least = 1e-18 * largest, mine = value[q - 1 - row]; // below, values are rounding
    a[i] = largest > 0 ? z[(matrix * q + q - 1 - row) * q + column] / sqrt_of(mine > least ? mine : least) : 0;
    if (row > 0 || column > 0) return;
    sizes[2 * matrix] = largest > 0 ? sqrt_of(largest) : 0 * largest;
    sizes[2 * matrix + 1] = value[0] > 0 ? sqrt_of(value[0]) : 0 * value[0];
  }
};

// From z a and the eigenvalues that belong to z, ascending: sigma and w, the largest first.
struct Ritz {
  double *w, *sigma;
  const double *mixed, *values;
  int64_t q;
  SIMT void operator()(int64_t i) const {
    int64_t matrix = i / (q * q), row = i / q % q, column = i % q;
    double value = values[matrix * q + q - 1 - row];
    w[i] = value > 0 ? mixed[(matrix * q + q - 1 - row) * q + column] : 0;
    if (column == 0) sigma[matrix * q + row] = value > 0 ? sqrt_of(value) : 0 * value;
  }
};

// c = a b or a b^T of float64 matrices (count, q, q).
mb_status square_product(double *c, const double *a, const double *b, bool transposed, int64_t q, int64_t count) {
  mbi_gemm g{};
  g.transpose_b = transposed;
  g.m = g.n = g.k = g.lda = g.ldb = g.ldc = q;
  g.alpha = 1;
  g.a = a, g.b = b, g.c = c;
  g.batch = count, g.stride_a = g.stride_b = g.stride_c = q * q;
  return Kernels<double>::gemm(&g);
}

} // namespace

template <class T> mb_status Kernels<T>::sketch_pass(const mbi_sketch *s, int forms_y, int forms_t) {
  const T *thin;
  if (forms_y) {
    MB_TRY(scaled(&thin, (const T *)s->x, s->q * s->n, s));
    MB_TRY(multiply((T *)s->y, thin, s, true));
  }
  if (!forms_t) return MB_OK;
  MB_TRY(scaled(&thin, (const T *)s->y, s->q * s->m, s));
  return multiply((T *)s->t, thin, s, false);
}

// Singular directions are orthogonal to 1e-16 times the ratio of their squared sizes. They are made so once more, from the
// Gram matrix of what by then have unit length, whether that was enough or not: the host need not know.
template <class T> mb_status Kernels<T>::sketch_basis(void *out, const void *x, double *sizes, int64_t q, int64_t n, int64_t count) {
  constexpr double CUT = 1e-12;
  int64_t squares = count * q * q;
  double *gram;
  int *info;
  T *turned;
  MB_TRY(scratch_of(&gram, SQUARES_SLOT, 2 * squares + count * q));
  MB_TRY(scratch_of(&turned, THIN_SLOT, count * q * n));
  MB_TRY(scratch_of(&info, INFO_SLOT, count));
  double *a = gram + squares, *values = a + squares;
  MB_TRY(gram_of(gram, (const T *)x, q, n, count));
  MB_TRY(eigen(values, gram, q, q, count, info));
  MB_TRY(launch_elements(Align{a, sizes, gram, values, q}, squares, "sketch_basis"));
  MB_TRY(mix(turned, a, (const T *)x, q, q, n, count, nullptr, nullptr));
  MB_TRY(gram_of(gram, turned, q, n, count));
  MB_TRY(orthonormal(a, gram, q, count, CUT));
  return mix((T *)out, a, turned, q, q, n, count, nullptr, nullptr);
}

template <class T> mb_status Kernels<T>::sketch_ritz(const mbi_sketch *s) {
  constexpr double CUT = 1e-6;
  int64_t q = s->q, squares = s->count * q * q;
  double *gram;
  int *info;
  MB_TRY(scratch_of(&gram, SQUARES_SLOT, 3 * squares + s->count * q));
  MB_TRY(scratch_of(&info, INFO_SLOT, s->count));
  double *a = gram + squares, *product = a + squares, *values = product + squares;
  MB_TRY(gram_of(gram, (const T *)s->y, q, s->m, s->count));
  MB_TRY(orthonormal(a, gram, q, s->count, CUT));
  MB_TRY(gram_of(gram, (const T *)s->t, q, s->n, s->count));
  MB_TRY(square_product(product, a, gram, false, q, s->count));
  MB_TRY(square_product(gram, product, a, true, q, s->count)); // of a t
  MB_TRY(eigen(values, gram, q, q, s->count, info));
  MB_TRY(square_product(product, gram, a, false, q, s->count));
  return launch_elements(Ritz{s->w, s->sigma, product, values, q}, squares, "sketch_ritz");
}

template <class T> mb_status Kernels<T>::sketch_update(const mbi_sketch *s, const double *gain) {
  int64_t m = s->m, n = s->n, q = s->q, c = 0, length, stride;
  std::unique_ptr<unsigned char[]> changes(new (std::nothrow) unsigned char[(size_t)s->count]());
  if (!changes) return fail(MB_ERR_NOMEM, "out of memory: %lld bytes", (long long)s->count);
  for (int64_t i = 0; i < s->count * q; i++) {
    if (gain[i] == 0) continue;
    changes[(size_t)(i / q)] = 1;
    c = i % q + 1 > c ? i % q + 1 : c;
  }
  if (c == 0) return MB_OK;
  double *gains;
  T *u;
  MB_TRY(scratch_of(&gains, SQUARES_SLOT, s->count * (q + 1)));
  MB_TRY(scratch_of(&u, THIN_SLOT, s->count * c * (m + n)));
  double *scale = gains + s->count * q;
  T *p = u + s->count * c * m;
  MB_TRY(to_device(gains, gain, (size_t)(s->count * q) * sizeof *gains));
  MB_TRY(to_device(scale, s->scale, (size_t)s->count * sizeof *scale));
  MB_TRY(mix(u, s->w, (const T *)s->y, c, q, m, s->count, nullptr, nullptr));
  MB_TRY(mix(p, s->w, (const T *)s->t, c, q, n, s->count, gains, scale));
  for (int64_t i = 0; i < s->count; i += length) {
    length = 1;
    if (!changes[(size_t)i]) continue;
    length = run_from<T>(&stride, s, i, changes.get());
    mbi_gemm g{};
    g.transpose_a = 1;
    g.m = m, g.n = n, g.k = c, g.alpha = 1, g.beta = 1;
    g.a = u + i * c * m, g.b = p + i * c * n, g.c = s->g[i];
    g.lda = m, g.ldb = n, g.ldc = n;
    g.batch = length, g.stride_a = c * m, g.stride_b = c * n, g.stride_c = stride;
    MB_TRY(Kernels<T>::gemm(&g));
  }
  return MB_OK;
}

MBK_WIDE_SLOT(sketch_pass, const mbi_sketch *, int, int);
MBK_WIDE_SLOT(sketch_basis, void *, const void *, double *, int64_t, int64_t, int64_t);
MBK_WIDE_SLOT(sketch_ritz, const mbi_sketch *);
MBK_WIDE_SLOT(sketch_update, const mbi_sketch *, const double *);

} // namespace mbk
