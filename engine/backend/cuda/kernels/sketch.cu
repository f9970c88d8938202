// SPDX-License-Identifier: MIT
//
// sketch.cu: a few singular directions of many large matrices. Thin matrices are kept as q rows. What is q by q is float64
// and stays on the device: Gram matrices of thin rows, their eigenvalues and triangular bases (small.h), and rows mixed by
// them, summed in float64 from the dtype's numbers, as small differences of nearly parallel rows are what counts.
//
// Products with the large matrices have few rows and are bound by memory. All matrices of a group are one launch, wherever
// they lie, and are cut by their shape alone, so that bits depend on nothing else. W and sigma follow from T being Y G: what
// T = Y G rounds is what a small direction beside a large one loses, so T is summed in float64. Y = X G^T may be any vectors
// near G's range; 32 products are added in the dtype, and such sums in float64. Measured on (97, 64), 13 vectors, steep and
// deficient spectra, the error of the clamped matrix beside sigma_1: 2e-7; with T summed as Y is 3e-6, with a library's
// float32 products 6e-6.
#include <memory>
#include <new>
#include <type_traits>

#include "backend/cuda/math.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/small.h"
#include "backend/cuda/solver.h"

namespace mbk {
namespace {

// Scratch of this file, below that of small.h.
constexpr int PARTS_SLOT = 0, SQUARES_SLOT = 1, THIN_SLOT = 2, TABLE_SLOT = 0;

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

template <class S, int ROWS> struct Sums {
  S of[ROWS];
};

// out (count, c, n) = the first c rows of a (count, q, q), times x (count, q, n); row r of matrix i times
// gain[i q + r] / scale[i], if there are gains. A thread makes ROWS rows of a column.
template <class T> struct Mix {
  static constexpr int THREADS = 128, ROWS = 16, DEPTH = 32;
  struct Shared {
    alignas(16) double a[DEPTH][ROWS];
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
    Private<Sums<double, ROWS>, THREADS> sums;
    block.each([&](int thread) {
SIMT_UNROLL
      for (int r = 0; r < ROWS; r++) sums[thread].of[r] = 0;
    });
    for (int64_t start = 0; start < q; start += DEPTH) {
      int depth = q - start < DEPTH ? (int)(q - start) : DEPTH;
      block.each([&](int thread) {
        for (int e = thread; e < DEPTH * ROWS; e += THREADS)
          shared.a[e % DEPTH][e / DEPTH] = factor(matrix, first + e / DEPTH, start + e % DEPTH);
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
mb_status mix(T *out, const double *a, const T *x, int64_t c, int64_t q, int64_t n, int64_t count, const double *gain,
              const double *scale) {
  int64_t row_tiles = ceil_div(c, Mix<T>::ROWS), strips = ceil_div(n, Mix<T>::THREADS);
  return launch(Mix<T>{out, a, x, c, q, n, row_tiles, strips, gain, scale}, count * row_tiles * strips, "sketch_mix");
}

// ----- products with the large matrices -------------------------------------------------------------------------------

// Shares of y (count, q, n) = thin (count, q, k) (scale G)^T, or without the transposition; G's rows are ldg apart. A block
// makes a tile of ROWS rows and THREADS columns from a slice of k, and a thread makes one column of it.
template <class T, bool TRANSPOSED> struct Product {
  static constexpr int THREADS = 128, ROWS = 16, DEPTH = 32;
  using Sum = std::conditional_t<TRANSPOSED, T, double>; // of DEPTH products
  static constexpr bool IS_WIDE = std::is_same_v<Sum, double>;
  struct Shared {
    alignas(16) Sum a[DEPTH][ROWS];
    T b[DEPTH][THREADS + 1]; // odd rows: written along columns or rows, a warp's numbers go to different banks
  };
  T *parts; // (count, slices, q, n)
  const T *thin;
  void *const *g;
  const double *scale;
  int64_t q, n, k, ldg, slices, row_tiles, strips;

  // DEPTH numbers, of which `depth` are there, of ROWS rows of a and THREADS columns of b; zeros beyond what there is.
  SIMT void load(Shared &shared, const T *a, T factor, const T *b, int rows, int width, int depth, int thread) const {
    for (int e = thread; e < DEPTH * ROWS; e += THREADS) {
      int row = e / DEPTH, d = e % DEPTH;
      shared.a[d][row] = row < rows && d < depth ? (Sum)(a[row * k + d] * factor) : Sum(0);
    }
    int d = TRANSPOSED ? thread % DEPTH : 0, column = TRANSPOSED ? thread / DEPTH : thread;
    const T *from = b + (TRANSPOSED ? column * ldg + d : column);
SIMT_UNROLL_8
    for (int step = 0; step < DEPTH; step++) {
      shared.b[d][column] = column < width && d < depth ? *from : T(0);
      if (TRANSPOSED) column += THREADS / DEPTH, from += THREADS / DEPTH * ldg;
      else d++, from += ldg;
    }
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t row = block.index % row_tiles * ROWS, part = block.index / row_tiles, column = part % strips * THREADS;
    int64_t slice = part / strips % slices, matrix = part / (strips * slices);
    int64_t first = k * slice / slices, last = k * (slice + 1) / slices;
    const T *a = thin + (matrix * q + row) * k + first;
    const T *b = (const T *)g[matrix] + (TRANSPOSED ? column * ldg + first : first * ldg + column);
    T factor = (T)scale[matrix];
    int length = (int)(last - first), rows = q - row < ROWS ? (int)(q - row) : ROWS;
    int width = n - column < THREADS ? (int)(n - column) : THREADS;
    Private<Sums<double, ROWS>, THREADS> sums;
    block.each([&](int thread) {
SIMT_UNROLL
      for (int r = 0; r < ROWS; r++) sums[thread].of[r] = 0;
    });
    for (int start = 0; start < length; start += DEPTH) {
      block.each([&](int thread) {
        load(shared, a + start, factor, b + (TRANSPOSED ? start : start * ldg), rows, width, length - start, thread);
      });
      block.each([&](int thread) {
        Sums<double, ROWS> &all = sums[thread];
        Sums<Sum, ROWS> few{}; // is not used where Sum is float64
SIMT_UNROLL_8
        for (int d = 0; d < DEPTH; d++) {
          Sum number = shared.b[d][thread];
SIMT_UNROLL
          for (int r = 0; r < ROWS; r++) {
            if constexpr (IS_WIDE) all.of[r] += shared.a[d][r] * number;
            else few.of[r] += shared.a[d][r] * number;
          }
        }
SIMT_UNROLL
        for (int r = 0; r < ROWS && !IS_WIDE; r++) all.of[r] += (double)few.of[r];
      });
    }
    block.each([&](int thread) {
      T *to = parts + ((matrix * slices + slice) * q + row) * n + column + thread;
SIMT_UNROLL
      for (int r = 0; r < ROWS; r++)
        if (r < rows && thread < width) to[r * n] = (T)sums[thread].of[r];
    });
  }
};

template <class T> struct AddParts {
  T *out;
  const T *parts;
  int64_t size, slices; // size: of a matrix
  SIMT void operator()(int64_t i) const {
    const T *from = parts + i / size * slices * size + i % size;
    double sum = 0;
    for (int64_t slice = 0; slice < slices; slice++) sum += (double)from[slice * size];
    out[i] = (T)sum;
  }
};

// The matrices' addresses and scales on the device.
struct Table {
  void **g;
  double *scale;
};

mb_status upload(Table *table, const mbi_sketch *s, void *const *g) {
  MB_TRY(scratch_of(&table->g, TABLE_SLOT, 2 * s->count));
  table->scale = reinterpret_cast<double *>(table->g + s->count);
  static_assert(sizeof(void *) == sizeof(double), "one array for both");
  MB_TRY(to_device(table->g, g, (size_t)s->count * sizeof *g));
  return to_device(table->scale, s->scale, (size_t)s->count * sizeof *s->scale);
}

template <class T, bool TRANSPOSED> mb_status multiply(T *out, const void *thin, const mbi_sketch *s, const Table &table) {
  using P = Product<T, TRANSPOSED>;
  constexpr int64_t SLICE = 4 * P::DEPTH, MOST_SLICES = 64;
  int64_t n = TRANSPOSED ? s->m : s->n, k = TRANSPOSED ? s->n : s->m, slices = ceil_div(k, SLICE);
  slices = slices < MOST_SLICES ? slices : MOST_SLICES;
  int64_t row_tiles = ceil_div(s->q, P::ROWS), strips = ceil_div(n, P::THREADS), size = s->q * n;
  T *parts = out;
  if (slices > 1) MB_TRY(scratch_of(&parts, THIN_SLOT, s->count * slices * size));
  P product{parts, (const T *)thin, table.g, table.scale, s->q, n, k, s->n, slices, row_tiles, strips};
  MB_TRY(launch(product, s->count * slices * row_tiles * strips, "sketch_pass"));
  if (slices == 1) return MB_OK;
  return launch_elements(AddParts<T>{out, parts, size, slices}, s->count * size, "sketch_pass");
}

// G += u^T p, u (count, c, m) and p (count, c, n); a matrix whose address is NULL is left alone.
template <class T> struct Update {
  static constexpr int THREADS = 128, ROWS = 32, DEPTH = 16;
  struct Shared {
    alignas(16) T u[DEPTH][ROWS];
  };
  void *const *g;
  const T *u, *p;
  int64_t c, m, n, row_tiles, strips;

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t strip = block.index % strips, row = block.index / strips % row_tiles * ROWS, matrix = block.index / (strips * row_tiles);
    int64_t column = strip * THREADS;
    T *to = (T *)g[matrix];
    if (!to) return;
    Private<Sums<T, ROWS>, THREADS> sums;
    block.each([&](int thread) {
SIMT_UNROLL
      for (int r = 0; r < ROWS; r++) sums[thread].of[r] = 0;
    });
    for (int64_t start = 0; start < c; start += DEPTH) {
      int depth = c - start < DEPTH ? (int)(c - start) : DEPTH;
      block.each([&](int thread) {
        for (int e = thread; e < depth * ROWS; e += THREADS) {
          int64_t r = row + e % ROWS;
          shared.u[e / ROWS][e % ROWS] = r < m ? u[(matrix * c + start + e / ROWS) * m + r] : T(0);
        }
      });
      block.each([&](int thread) {
        for (int d = 0; d < depth && column + thread < n; d++) {
          T number = p[(matrix * c + start + d) * n + column + thread];
SIMT_UNROLL
          for (int r = 0; r < ROWS; r++) sums[thread].of[r] += shared.u[d][r] * number;
        }
      });
    }
    block.each([&](int thread) {
SIMT_UNROLL
      for (int r = 0; r < ROWS; r++)
        if (row + r < m && column + thread < n) to[(row + r) * n + column + thread] += sums[thread].of[r];
    });
  }
};

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
  Table table;
  MB_TRY(upload(&table, s, s->g));
  if (forms_y) MB_TRY((multiply<T, true>((T *)s->y, s->x, s, table)));
  return forms_t ? multiply<T, false>((T *)s->t, s->y, s, table) : MB_OK;
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
  int64_t m = s->m, n = s->n, q = s->q, c = 0;
  std::unique_ptr<void *[]> g(new (std::nothrow) void *[(size_t)s->count]());
  if (!g) return fail(MB_ERR_NOMEM, "out of memory: %lld addresses of matrices", (long long)s->count);
  for (int64_t i = 0; i < s->count * q; i++) {
    if (gain[i] == 0) continue;
    g[(size_t)(i / q)] = s->g[i / q];
    c = i % q + 1 > c ? i % q + 1 : c;
  }
  if (c == 0) return MB_OK;
  double *gains;
  T *u;
  Table table;
  MB_TRY(scratch_of(&gains, SQUARES_SLOT, s->count * q));
  MB_TRY(scratch_of(&u, THIN_SLOT, s->count * c * (m + n)));
  T *p = u + s->count * c * m;
  MB_TRY(upload(&table, s, g.get()));
  MB_TRY(to_device(gains, gain, (size_t)(s->count * q) * sizeof *gains));
  MB_TRY(mix(u, s->w, (const T *)s->y, c, q, m, s->count, nullptr, nullptr));
  MB_TRY(mix(p, s->w, (const T *)s->t, c, q, n, s->count, gains, table.scale));
  int64_t row_tiles = ceil_div(m, Update<T>::ROWS), strips = ceil_div(n, Update<T>::THREADS);
  return launch(Update<T>{table.g, u, p, c, m, n, row_tiles, strips}, s->count * row_tiles * strips, "sketch_update");
}

MBK_WIDE_SLOT(sketch_pass, const mbi_sketch *, int, int);
MBK_WIDE_SLOT(sketch_basis, void *, const void *, double *, int64_t, int64_t, int64_t);
MBK_WIDE_SLOT(sketch_ritz, const mbi_sketch *);
MBK_WIDE_SLOT(sketch_update, const mbi_sketch *, const double *);

} // namespace mbk
