// SPDX-License-Identifier: MIT
//
// sketch.cu: a few singular directions of many large matrices. Thin matrices are kept as q rows. What is q by q is float64
// and stays on the device: Gram matrices of thin rows, their eigenvalues and triangular bases (small.h), and rows mixed by
// them, summed in float64 from the dtype's numbers, as small differences of nearly parallel rows are what counts.
//
// Products with the large matrices are in thin.h. W and sigma follow from T being Y G: what T = Y G rounds is what a small
// direction beside a large one loses, so T is summed in float64. Y = X G^T may be any vectors
// near G's range; 32 products are added in the dtype, and such sums in float64. Measured on (97, 64), 13 vectors, steep and
// deficient spectra, the error of the clamped matrix beside sigma_1: 2e-7; with T summed as Y is 3e-6, with a library's
// float32 products 6e-6.
#include "backend/cuda/normal.h"
#include "backend/cuda/small.h"
#include "backend/cuda/solver.h"
#include "backend/cuda/thin.h"

namespace mbk {
namespace {

// Scratch of this file, below that of small.h.
constexpr int PARTS_SLOT = 0, SQUARES_SLOT = 1, THIN_SLOT = 2, CHANGED_SLOT = 0;

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
  Mask mask;

  SIMT void load(double (*to)[CHUNK + 1], const T *from, int64_t tile, int64_t start, int64_t last, int thread) const {
    for (int e = thread; e < TILE * CHUNK; e += THREADS) {
      int64_t row = tile * TILE + e / CHUNK, column = start + e % CHUNK;
      to[e / CHUNK][e % CHUNK] = row < q && column < last ? (double)from[row * n + column] : 0;
    }
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t slice = block.index % slices, pair = block.index / slices % pairs, matrix = block.index / (slices * pairs);
    int64_t row = 0, first = n * slice / slices, last = n * (slice + 1) / slices;
    if (mask.skips(matrix)) return;
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
  Mask mask;
  SIMT void operator()(int64_t i) const {
    if (mask.skips(i / square)) return;
    const double *from = parts + i / square * slices * square + i % square;
    double sum = 0;
    for (int64_t slice = 0; slice < slices; slice++) sum += from[slice * square];
    gram[i] = sum;
  }
};

// gram (count, q, q) = x x^T of thin matrices x (count, q, n).
template <class T> mb_status gram_of(double *gram, const T *x, int64_t q, int64_t n, int64_t count, const Mask &mask) {
  constexpr int64_t SLICE = 512, MOST_SLICES = 64;
  int64_t tiles = ceil_div(q, TILE), pairs = tiles * (tiles + 1) / 2, slices = ceil_div(n, SLICE);
  slices = slices < MOST_SLICES ? slices : MOST_SLICES;
  double *parts;
  MB_TRY(scratch_of(&parts, PARTS_SLOT, count * slices * q * q));
  MB_TRY(launch(GramParts<T>{parts, x, q, n, slices, pairs, mask}, count * pairs * slices, "sketch_gram"));
  return launch_elements(SumParts{gram, parts, q * q, slices, mask}, count * q * q, "sketch_gram");
}

// ----- rows mixed -------------------------------------------------------------------------------------------------

// out (count, q, n) = the rows that count of a (count, q, q), times x (count, q, n); row r of matrix i times
// gain[i q + r] / scale[i], if there are gains. A thread makes ROWS rows of a column.
template <class T> struct Mix {
  static constexpr int THREADS = 128, ROWS = 16, DEPTH = 32;
  struct Shared {
    alignas(16) double a[DEPTH][ROWS];
  };
  T *out;
  const double *a;
  const T *x;
  Rows which;
  int64_t n, row_tiles, strips;
  const double *gain, *scale;

  SIMT double factor(int64_t matrix, int64_t row, int64_t c, int64_t k) const {
    int64_t q = which.q;
    if (row >= c || k >= q) return 0;
    double value = a[(matrix * q + row) * q + k];
    return gain ? value * (gain[matrix * q + row] / scale[matrix]) : value;
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t strip = block.index % strips, first = block.index / strips % row_tiles * ROWS, matrix = block.index / (strips * row_tiles);
    int64_t q = which.q, c = which.of(matrix);
    if (first >= c) return;
    const T *from = x + matrix * q * n + strip * THREADS;
    int64_t width = n - strip * THREADS;
    Private<Sums<double, ROWS>, THREADS> sums;
    block.each([&](int thread) {
SIMT_UNROLL
      for (int r = 0; r < ROWS; r++) sums[thread].of[r] = 0;
    });
    for (int64_t start = 0; start < q; start += DEPTH) {
      int depth = q - start < DEPTH ? (int)(q - start) : DEPTH;
      block.each([&](int thread) {
        for (int e = thread; e < DEPTH * ROWS; e += THREADS)
          shared.a[e % DEPTH][e / DEPTH] = factor(matrix, first + e / DEPTH, c, start + e % DEPTH);
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
      T *to = out + (matrix * q + first) * n + strip * THREADS + thread;
SIMT_UNROLL
      for (int r = 0; r < ROWS; r++)
        if (first + r < c && thread < width) to[r * n] = (T)sums[thread].of[r];
    });
  }
};

template <class T>
mb_status mix(T *out, const double *a, const T *x, const Rows &which, int64_t n, int64_t count, const double *gain, const double *scale) {
  int64_t row_tiles = ceil_div(which.q, Mix<T>::ROWS), strips = ceil_div(n, Mix<T>::THREADS);
  return launch(Mix<T>{out, a, x, which, n, row_tiles, strips, gain, scale}, count * row_tiles * strips, "sketch_mix");
}

// ----- bases ----------------------------------------------------------------------------------------------------------

// From the eigenvectors z (count, q, q) of Gram matrices, one a row, and their values, ascending: rows of a that turn the
// vectors into their singular directions, the largest first, each of about unit length.
struct Align {
  double *a, *sizes;
  const double *z, *values;
  int64_t q;
  Mask mask;
  SIMT void operator()(int64_t i) const {
    int64_t matrix = i / (q * q), row = i / q % q, column = i % q;
    if (mask.skips(matrix)) return;
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
  Mask mask;
  SIMT void operator()(int64_t i) const {
    int64_t matrix = i / (q * q), row = i / q % q, column = i % q;
    if (mask.skips(matrix)) return;
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

template <class T> struct Draw {
  T *out;
  const int64_t *place;
  int64_t size, blocks; // of a matrix: numbers, and blocks of four of them
  Stream stream;
  SIMT void operator()(int64_t i) const {
    int64_t matrix = i / blocks;
    Stream own = stream.now();
    own.stream ^= (uint64_t)place[matrix] << 32;
    put_normal(out + matrix * size, size, i % blocks, Wide<T>(0), Wide<T>(1), own);
  }
};

struct Flag {
  int64_t *flags, flag;
  const double *sizes;
  double low, high, ratio;
  SIMT void operator()(int64_t i) const {
    double large = sizes[2 * i], small = sizes[2 * i + 1];
    bool is_so = !(large >= low && large <= high) || small < ratio * large;
    if ((flags[i] & MBI_FINITE) && is_so) flags[i] |= flag;
  }
};

} // namespace

template <class T>
mb_status Kernels<T>::sketch_draw(const mbi_sketch *s, void *out, const int64_t *place, uint64_t seed, uint64_t step, uint64_t stream) {
  int64_t size = s->q * s->n, blocks = ceil_div(size, 4);
  Stream numbers;
  MB_TRY(stream_of(&numbers, seed, step, stream));
  return launch_elements(Draw<T>{(T *)out, place, size, blocks, numbers}, s->count * blocks, "sketch_draw");
}

template <class T> mb_status Kernels<T>::sketch_pass(const mbi_sketch *s, int forms_y, int forms_t) {
  const char *name = "sketch_pass";
  Rows which{s->q, nullptr, s->mask};
  T *y = (T *)s->y;
  if (forms_y) MB_TRY((multiply<T, true>(y, (const T *)s->x, s->g, s->scale, which, s->m, s->n, s->count, THIN_SLOT, name)));
  if (!forms_t) return MB_OK;
  return multiply<T, false>((T *)s->t, y, s->g, s->scale, which, s->m, s->n, s->count, THIN_SLOT, name);
}

// Singular directions are orthogonal to 1e-16 times the ratio of their squared sizes. They are made so once more, from the
// Gram matrix of what by then have unit length, whether that was enough or not: the host need not know.
template <class T> mb_status Kernels<T>::sketch_basis(const mbi_sketch *s, void *out, const void *x, double *sizes, int64_t n) {
  constexpr double CUT = 1e-12;
  int64_t q = s->q, count = s->count, squares = count * q * q;
  Mask mask = s->mask;
  Rows which{q, nullptr, mask};
  double *gram;
  int *info;
  T *turned;
  MB_TRY(scratch_of(&gram, SQUARES_SLOT, 2 * squares + count * q));
  MB_TRY(scratch_of(&turned, THIN_SLOT, count * q * n));
  MB_TRY(scratch_of(&info, INFO_SLOT, count));
  double *a = gram + squares, *values = a + squares;
  MB_TRY(gram_of(gram, (const T *)x, q, n, count, mask));
  MB_TRY(eigen(values, gram, q, q, count, info, mask));
  MB_TRY(launch_elements(Align{a, sizes, gram, values, q, mask}, squares, "sketch_basis"));
  MB_TRY(mix(turned, a, (const T *)x, which, n, count, nullptr, nullptr));
  MB_TRY(gram_of(gram, turned, q, n, count, mask));
  MB_TRY(orthonormal(a, gram, q, count, CUT, mask));
  return mix((T *)out, a, turned, which, n, count, nullptr, nullptr);
}

template <class T>
mb_status Kernels<T>::sketch_flag(int64_t *flags, int64_t flag, const double *sizes, int64_t count, double low, double high, double ratio) {
  return launch_elements(Flag{flags, flag, sizes, low, high, ratio}, count, "sketch_flag");
}

template <class T> mb_status Kernels<T>::sketch_ritz(const mbi_sketch *s) {
  constexpr double CUT = 1e-6;
  int64_t q = s->q, squares = s->count * q * q;
  Mask mask = s->mask;
  double *gram;
  int *info;
  MB_TRY(scratch_of(&gram, SQUARES_SLOT, 3 * squares + s->count * q));
  MB_TRY(scratch_of(&info, INFO_SLOT, s->count));
  double *a = gram + squares, *product = a + squares, *values = product + squares;
  MB_TRY(gram_of(gram, (const T *)s->y, q, s->m, s->count, mask));
  MB_TRY(orthonormal(a, gram, q, s->count, CUT, mask));
  MB_TRY(gram_of(gram, (const T *)s->t, q, s->n, s->count, mask));
  MB_TRY(square_product(product, a, gram, false, q, s->count));
  MB_TRY(square_product(gram, product, a, true, q, s->count)); // of a t
  MB_TRY(eigen(values, gram, q, q, s->count, info, mask));
  MB_TRY(square_product(product, gram, a, false, q, s->count));
  return launch_elements(Ritz{s->w, s->sigma, product, values, q, mask}, squares, "sketch_ritz");
}

template <class T> mb_status Kernels<T>::sketch_update(const mbi_sketch *s, const double *gain) {
  int64_t m = s->m, n = s->n, q = s->q, *changed;
  T *u;
  MB_TRY(scratch_of(&changed, CHANGED_SLOT, s->count));
  MB_TRY(scratch_of(&u, THIN_SLOT, s->count * q * (m + n)));
  T *p = u + s->count * q * m;
  Rows which{q, changed, Mask()};
  MB_TRY(launch_elements(Changed{changed, gain, q}, s->count, "sketch_update"));
  MB_TRY(mix(u, s->w, (const T *)s->y, which, m, s->count, nullptr, nullptr));
  MB_TRY(mix(p, s->w, (const T *)s->t, which, n, s->count, gain, s->scale));
  return update(s->g, u, p, which, m, n, s->count, "sketch_update");
}

MBK_WIDE_SLOT(sketch_draw, const mbi_sketch *, void *, const int64_t *, uint64_t, uint64_t, uint64_t);
MBK_WIDE_SLOT(sketch_pass, const mbi_sketch *, int, int);
MBK_WIDE_SLOT(sketch_basis, const mbi_sketch *, void *, const void *, double *, int64_t);
MBK_WIDE_SLOT(sketch_flag, int64_t *, int64_t, const double *, int64_t, double, double, double);
MBK_WIDE_SLOT(sketch_ritz, const mbi_sketch *);
MBK_WIDE_SLOT(sketch_update, const mbi_sketch *, const double *);

} // namespace mbk
