// SPDX-License-Identifier: MIT
//
// sketch.cu: a few singular directions of many large matrices. Thin matrices are kept as q rows. What is q by q is float64
// and stays on the device: Gram matrices of thin rows, their eigenvalues and triangular bases (small.h), and rows mixed by
// them, summed in float64 from the dtype's numbers, as small differences of nearly parallel rows are what counts. All groups of a
// call are one launch of each kernel.
//
// Products with the large matrices are in thin.h, and with many rows in thin_mma.h. W and sigma follow from T being Y G: what T = Y G rounds is what a small
// direction beside a large one loses, so T is summed in float64. Y = X G^T may be any vectors
// near G's range; 32 products are added in the dtype, and such sums in float64. Measured on (97, 64), 13 vectors, steep and
// deficient spectra, the error of the clamped matrix beside sigma_1: 2e-7; with T summed as Y is 3e-6, with a library's
// float32 products 6e-6. A T that only a basis is made of may be rounded as Y is.
#include "backend/cuda/normal.h"
#include "backend/cuda/small.h"
#include "backend/cuda/solver.h"
#include "backend/cuda/thin_mma.h"
#include "backend/cuda/together.h"
#include "core/spectra.h"

namespace mbk {
namespace {

// Scratch of this file, below that of small.h.
constexpr int PARTS_SLOT = 0, SQUARES_SLOT = 1, THIN_SLOT = 2, CHANGED_SLOT = 0;

// ----- Gram matrices of thin rows ---------------------------------------------------------------------------------

constexpr int CHUNK = 64;

// A block makes one tile (row, column), row >= column, of x x^T over one slice of the columns of x (q, n). A thread has EACH by EACH
// elements of it, which lie 16 apart.
template <class T, int EACH> struct GramParts {
  static constexpr int THREADS = 256, SIDE = 16, TILE = SIDE * EACH;
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
    Private<Sums<double, EACH * EACH>, THREADS> sums;
    block.each([&](int thread) {
SIMT_UNROLL
      for (int e = 0; e < EACH * EACH; e++) sums[thread].of[e] = 0;
    });
    for (int64_t start = first; start < last; start += CHUNK) {
      block.each([&](int thread) {
        load(shared.a, from, row, start, last, thread);
        load(shared.b, from, column, start, last, thread);
      });
      block.each([&](int thread) {
        Sums<double, EACH * EACH> mine = sums[thread];
        for (int k = 0; k < CHUNK; k++)
SIMT_UNROLL
          for (int e = 0; e < EACH * EACH; e++)
            mine.of[e] += shared.a[thread / SIDE + e / EACH * SIDE][k] * shared.b[thread % SIDE + e % EACH * SIDE][k];
        sums[thread] = mine;
      });
    }
    block.each([&](int thread) {
      double *to = parts + (matrix * slices + slice) * q * q;
SIMT_UNROLL
      for (int e = 0; e < EACH * EACH; e++) {
        int64_t i = row * TILE + thread / SIDE + e / EACH * SIDE, j = column * TILE + thread % SIDE + e % EACH * SIDE;
        if (i >= q || j >= q) continue;
        to[i * q + j] = sums[thread].of[e];
        if (row != column) to[j * q + i] = sums[thread].of[e];
      }
    });
  }
};

// The Gram matrices of thin matrices x (count, q, n) in slices of their columns.
constexpr int64_t GRAM_SLICE = 512, MOST_SLICES = 64;
int64_t slices_of(int64_t n) {
  int64_t slices = ceil_div(n, GRAM_SLICE);
  return slices < MOST_SLICES ? slices : MOST_SLICES;
}

template <class T> class Grams {
  Launches<GramParts<T, 1>> few{"sketch_gram"};
  Launches<GramParts<T, 2>> many{"sketch_gram"};

  template <int EACH>
  mb_status add_to(Launches<GramParts<T, EACH>> *to, double *parts, const void *x, int64_t q, int64_t n, int64_t count, const Mask &mask) {
    int64_t tiles = ceil_div(q, GramParts<T, EACH>::TILE), pairs = tiles * (tiles + 1) / 2, slices = slices_of(n);
    return to->add(GramParts<T, EACH>{parts, (const T *)x, q, n, slices, pairs, mask}, count * pairs * slices);
  }

public:
  mb_status add(double *parts, const void *x, int64_t q, int64_t n, int64_t count, const Mask &mask) {
    return q <= 16 ? add_to(&few, parts, x, q, n, count, mask) : add_to(&many, parts, x, q, n, count, mask);
  }
  mb_status go() {
    MB_TRY(few.go());
    return many.go();
  }
};

// ----- rows mixed -------------------------------------------------------------------------------------------------

// out (count, q, n) = the rows that count of a (count, q, q), times x (count, q, n); row r of matrix i times
// gain[i q + r] / scale[i], if there are gains, or made of length 1, if sigma[i q + r] is what they have. A thread makes ROWS rows of a column. In place, if a is lower triangular, a block makes
// all rows of its columns, from the last to the first.
template <class T> struct Mix {
  static constexpr int THREADS = 128, ROWS = 16, DEPTH = 32;
  struct Shared {
    alignas(16) double a[DEPTH][ROWS];
  };
  T *out;
  const double *a;
  const T *x;
  Rows which;
  int64_t n, row_tiles, strips; // row_tiles: 1 in place
  const double *gain, *scale, *sigma;

  SIMT double factor(int64_t matrix, int64_t row, int64_t c, int64_t k) const {
    int64_t q = which.q;
    if (row >= c || k >= q) return 0;
    double value = a[(matrix * q + row) * q + k];
    if (sigma) return value * mbi_direction(sigma[matrix * q + row], sigma[matrix * q]);
    return gain ? value * (gain[matrix * q + row] / scale[matrix]) : value;
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t strip = block.index % strips, tile = block.index / strips % row_tiles, matrix = block.index / (strips * row_tiles);
    int64_t c = which.of(matrix), low = tile * ROWS, high = out == x ? (c - 1) / ROWS * ROWS : low;
    for (int64_t first = high; first >= low && first < c; first -= ROWS) make(block, shared, matrix, first, strip, c);
  }

  SIMT void make(const Block<THREADS> &block, Shared &shared, int64_t matrix, int64_t first, int64_t strip, int64_t c) const {
    int64_t q = which.q;
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
mb_status add_mix(Launches<Mix<T>> *launches, void *out, const double *a, const void *x, const Rows &which, int64_t n, int64_t count,
                  const double *gain = nullptr, const double *scale = nullptr, const double *sigma = nullptr) {
  int64_t row_tiles = out == x ? 1 : ceil_div(which.q, Mix<T>::ROWS), strips = ceil_div(n, Mix<T>::THREADS);
  return launches->add(Mix<T>{(T *)out, a, (const T *)x, which, n, row_tiles, strips, gain, scale, sigma}, count * row_tiles * strips);
}

// ----- bases ----------------------------------------------------------------------------------------------------------

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
  const T *basis; // or NULL
  const int64_t *place;
  int64_t size, blocks; // of a matrix: numbers, and blocks of four of them
  int64_t kept;         // numbers of a basis
  T beside, behind;
  Stream stream;
  SIMT void recall(int64_t matrix, int64_t b) const {
    const T *first = basis + matrix * size;
    T *to = out + matrix * size;
    if (*first != *first) return;
    for (int64_t e = 4 * b; e < size && e < 4 * b + 4; e++) to[e] = e < kept ? first[e] + beside * to[e] : behind * to[e];
  }
  SIMT void operator()(int64_t i) const {
    int64_t matrix = i / blocks;
    Stream own = stream.now();
    own.stream ^= (uint64_t)place[matrix] << 32;
    put_normal(out + matrix * size, size, i % blocks, Wide<T>(0), Wide<T>(1), own);
    if (basis) recall(matrix, i % blocks);
  }
};

template <class T> struct CopyRows {
  T *to;
  const T *from;
  int64_t size; // of a matrix
  Mask mask;
  SIMT void operator()(int64_t i) const {
    if (!mask.skips(i / size)) to[i] = from[i];
  }
};

// What a call needs of q by q numbers for all matrices of all groups, one group after another.
struct Room {
  int64_t q, count; // of all groups
  double *gram, *a, *product, *values, *parts;
  int *info;
};

mb_status make_room(Room *out, const mbi_sketch *s, int64_t groups, int64_t slices) {
  int64_t q = s->q, count = 0;
  for (int64_t at = 0; at < groups; at++) count += s[at].count;
  int64_t squares = count * q * q;
  *out = Room{};
  out->q = q, out->count = count;
  MB_TRY(scratch_of(&out->gram, SQUARES_SLOT, 3 * squares + count * q));
  MB_TRY(scratch_of(&out->parts, PARTS_SLOT, slices * q * q));
  MB_TRY(scratch_of(&out->info, INFO_SLOT, count));
  out->a = out->gram + squares, out->product = out->a + squares, out->values = out->product + squares;
  return MB_OK;
}

// Slices of all Gram matrices of rows of n, or m, numbers.
int64_t all_slices(const mbi_sketch *s, int64_t groups, bool of_m) {
  int64_t slices = 0;
  for (int64_t at = 0; at < groups; at++) slices += s[at].count * slices_of(of_m ? s[at].m : s[at].n);
  return slices;
}

// A group's place among the squares.
Room part_of(const Room &all, int64_t first, int64_t slices) {
  Room own = all;
  int64_t square = all.q * all.q;
  own.gram += first * square, own.a += first * square, own.product += first * square, own.values += first * all.q;
  own.parts += slices * square, own.info += first;
  return own;
}

constexpr int64_t MOST_GROUPS = 64; // in one go

// What a basis is made of, and where.
struct Rough {
  const void *from;
  void *to;
  int64_t n;
};
Rough rough_of(const mbi_sketch &s, int of_y) { return of_y ? Rough{s.y, s.y, s.m} : Rough{s.t, s.x, s.n}; }

// Rows of r.to made orthonormal from the top down, of those matrices that the masks take.
template <class T>
mb_status polish(const mbi_sketch *s, int64_t groups, const Room &all, int of_y, int64_t also) {
  constexpr double CUT = 1e-12;
  if (all.q <= MOST_FEW) {
    FewRows<T> few[MOST_GROUPS];
    for (int64_t at = 0; at < groups; at++) {
      Rough r = rough_of(s[at], of_y);
      few[at] = FewRows<T>{(T *)r.to, r.n, s[at].count, Mask(mbi_mask{s[at].mask.flags, s[at].mask.wanted | also})};
    }
    return orthonormal_rows(few, groups, all.q, CUT);
  }
  Grams<T> grams;
  Launches<Mix<T>> mixes("sketch_mix");
  Triangular triangular[MOST_GROUPS];
  for (int64_t at = 0, first = 0, slices = 0; at < groups; at++) {
    Rough r = rough_of(s[at], of_y);
    Room own = part_of(all, first, slices);
    mbi_mask mask = {s[at].mask.flags, s[at].mask.wanted | also};
    MB_TRY(grams.add(own.parts, r.to, all.q, r.n, s[at].count, mask));
    triangular[at] = Triangular{own.a, own.gram, own.parts, slices_of(r.n), s[at].count, Mask(mask), nullptr, nullptr, 0};
    MB_TRY(add_mix<T>(&mixes, r.to, own.a, r.to, Rows{all.q, nullptr, Mask(mask)}, r.n, s[at].count));
    first += s[at].count, slices += s[at].count * slices_of(r.n);
  }
  MB_TRY(grams.go());
  MB_TRY(orthonormal(triangular, groups, all.q, CUT));
  return mixes.go();
}

// y = its rows turned, which takes room.
template <class T> mb_status turn_in_place(const mbi_sketch *s, int64_t groups, const Room &all) {
  int64_t numbers = 0, first = 0;
  T *room, *own;
  for (int64_t at = 0; at < groups; at++) numbers += s[at].count * all.q * s[at].m;
  MB_TRY(scratch_of(&room, THIN_SLOT, numbers));
  Launches<Mix<T>> mixes("sketch_mix");
  own = room;
  for (int64_t at = 0; at < groups; at++) {
    Rows which{all.q, nullptr, s[at].mask};
    MB_TRY(add_mix<T>(&mixes, own, part_of(all, first, 0).a, s[at].y, which, s[at].m, s[at].count));
    first += s[at].count, own += s[at].count * all.q * s[at].m;
  }
  MB_TRY(mixes.go());
  ElementLaunches<CopyRows<T>> copies("sketch_mix");
  own = room;
  for (int64_t at = 0; at < groups; at++) {
    int64_t size = all.q * s[at].m;
    MB_TRY(copies.add(CopyRows<T>{(T *)s[at].y, own, size, s[at].mask}, s[at].count * size));
    own += s[at].count * size;
  }
  return copies.go();
}

// Singular directions are orthogonal to 1e-16 times the ratio of their squared sizes. Where that is not enough they are made so
// once more, from the Gram matrix of what by then have unit length: MBI_ROUGH, which the host need not know of.
constexpr double NEARLY = 1e-6;
template <class T> mb_status make_basis(const mbi_sketch *s, int64_t groups, int of_y, const mbi_sketch_limits *limits) {
  Room all;
  MB_TRY(make_room(&all, s, groups, all_slices(s, groups, of_y)));
  Grams<T> grams;
  Launches<Mix<T>> mixes("sketch_mix");
  SmallProblem problems[MOST_GROUPS];
  for (int64_t at = 0, first = 0, slices = 0; at < groups; at++) {
    Rough r = rough_of(s[at], of_y);
    Room own = part_of(all, first, slices);
    MB_TRY(grams.add(own.parts, r.from, all.q, r.n, s[at].count, s[at].mask));
    Align align{own.a, s[at].sizes, s[at].mask.flags, limits ? *limits : mbi_sketch_limits{}, limits != nullptr};
    problems[at] = SmallProblem{own.values, own.gram, own.parts, slices_of(r.n), s[at].count, own.info, s[at].mask, align, NEARLY};
    if (!of_y) MB_TRY(add_mix<T>(&mixes, r.to, own.a, r.from, Rows{all.q, nullptr, s[at].mask}, r.n, s[at].count));
    first += s[at].count, slices += s[at].count * slices_of(r.n);
  }
  MB_TRY(grams.go());
  MB_TRY(eigen(problems, groups, all.q, all.q));
  MB_TRY(of_y ? turn_in_place<T>(s, groups, all) : mixes.go());
  return polish<T>(s, groups, all, of_y, MBI_ROUGH);
}

template <class T> mb_status make_ritz(const mbi_sketch *s, int64_t groups) {
  constexpr double CUT = 1e-6;
  Room all;
  int64_t of_y = all_slices(s, groups, true), of_t = all_slices(s, groups, false);
  MB_TRY(make_room(&all, s, groups, of_y + of_t));
  Grams<T> grams;
  Triangular triangular[MOST_GROUPS];
  SmallProblem problems[MOST_GROUPS];
  for (int64_t at = 0, first = 0, y = 0, t = of_y; at < groups; at++) {
    Room own = part_of(all, first, 0);
    double *parts_y = all.parts + y * all.q * all.q, *parts_t = all.parts + t * all.q * all.q;
    int64_t slices_y = slices_of(s[at].m), slices_t = slices_of(s[at].n);
    MB_TRY(grams.add(parts_y, s[at].y, all.q, s[at].m, s[at].count, s[at].mask));
    MB_TRY(grams.add(parts_t, s[at].t, all.q, s[at].n, s[at].count, s[at].mask));
    // The room that orthonormal may use is the product's.
    triangular[at] = Triangular{own.a, own.product, parts_y, slices_y, s[at].count, s[at].mask, own.gram, parts_t, slices_t};
    problems[at] = SmallProblem{own.values, own.gram, own.gram, 1, s[at].count, own.info, s[at].mask, Align{}};
    first += s[at].count, y += s[at].count * slices_y, t += s[at].count * slices_t;
  }
  MB_TRY(grams.go());
  MB_TRY(orthonormal(triangular, groups, all.q, CUT));
  MB_TRY(square_product(all.product, all.a, all.gram, false, all.q, all.count));
  MB_TRY(square_product(all.gram, all.product, all.a, true, all.q, all.count)); // of a t
  MB_TRY(eigen(problems, groups, all.q, all.q));
  MB_TRY(square_product(all.product, all.gram, all.a, false, all.q, all.count));
  ElementLaunches<Ritz> ritz("sketch_ritz");
  for (int64_t at = 0, first = 0; at < groups; at++) {
    Room own = part_of(all, first, 0);
    MB_TRY(ritz.add(Ritz{s[at].w, s[at].sigma, own.product, own.values, all.q, s[at].mask}, s[at].count * all.q * all.q));
    first += s[at].count;
  }
  return ritz.go();
}

template <class T> mb_status change(const mbi_sketch *s, int64_t groups) {
  const char *name = "sketch_update";
  int64_t q = s->q, count = 0, numbers = 0, *changed;
  for (int64_t at = 0; at < groups; at++) count += s[at].count, numbers += s[at].count * q * (s[at].m + s[at].n);
  T *u;
  MB_TRY(scratch_of(&changed, CHANGED_SLOT, count));
  MB_TRY(scratch_of(&u, THIN_SLOT, numbers));
  ElementLaunches<Changed> counts(name);
  Launches<Mix<T>> mixes(name);
  Launches<Update<T>> updates(name);
  for (int64_t at = 0; at < groups; at++) {
    int64_t m = s[at].m, n = s[at].n, own = s[at].count;
    T *p = u + own * q * m;
    Rows which{q, changed, Mask()};
    MB_TRY(counts.add(Changed{changed, s[at].gain, q}, own));
    MB_TRY(add_mix<T>(&mixes, u, s[at].w, s[at].y, which, m, own));
    MB_TRY(add_mix<T>(&mixes, p, s[at].w, s[at].t, which, n, own, s[at].gain, s[at].scale));
    MB_TRY(add_update(&updates, s[at].g, u, p, which, m, n, own));
    changed += own, u += own * q * (m + n);
  }
  MB_TRY(counts.go());
  MB_TRY(mixes.go());
  return updates.go();
}

// Calls f for parts of the groups that fit.
template <class F> mb_status in_parts(const mbi_sketch *s, int64_t groups, F f) {
  for (int64_t at = 0; at < groups; at += MOST_GROUPS) MB_TRY(f(s + at, groups - at < MOST_GROUPS ? groups - at : MOST_GROUPS));
  return MB_OK;
}

} // namespace

template <class T>
mb_status Kernels<T>::sketch_draw(const mbi_sketch *s, int64_t groups, uint64_t seed, uint64_t step, uint64_t stream) {
  ElementLaunches<Draw<T>> launches("sketch_draw");
  Stream numbers;
  MB_TRY(stream_of(&numbers, seed, step, stream));
  for (int64_t at = 0; at < groups; at++) {
    int64_t size = s[at].q * s[at].n, blocks = ceil_div(size, 4);
    Draw<T> draw{(T *)s[at].omega, (const T *)s[at].basis, s[at].place, size, blocks, s[at].kept * s[at].n,
                 (T)mbi_beside(s[at].n), (T)mbi_behind(s[at].n), numbers};
    MB_TRY(launches.add(draw, s[at].count * blocks));
  }
  return launches.go();
}

namespace {

// Up to this many rows reading G takes longer than what is done with it.
constexpr int64_t MOST_LIGHT = 16;

template <class T, bool TRANSPOSED> mb_status product(const Thin<T> *all, int64_t groups, bool is_last) {
  const char *name = "sketch_pass";
  if constexpr (std::is_same_v<T, float>)
    if (!is_last && all->which.q > MOST_LIGHT) return multiply_tensor<TRANSPOSED>(all, groups, THIN_SLOT, name);
  return multiply<T, TRANSPOSED>(all, groups, THIN_SLOT, name);
}

} // namespace

template <class T> mb_status Kernels<T>::sketch_pass(const mbi_sketch *s, int64_t groups, int forms) {
  return in_parts(s, groups, [&](const mbi_sketch *part, int64_t count) {
    Thin<T> y[MOST_GROUPS], t[MOST_GROUPS];
    for (int64_t at = 0; at < count; at++) {
      const mbi_sketch &g = part[at];
      Rows which{g.q, nullptr, g.mask};
      y[at] = Thin<T>{(T *)g.y, (const T *)(forms & MBI_FROM_OMEGA ? g.omega : g.x), g.g, g.scale, which, g.m, g.n, g.count};
      t[at] = Thin<T>{(T *)g.t, (const T *)g.y, g.g, g.scale, which, g.m, g.n, g.count};
    }
    if (forms & MBI_FORMS_Y) MB_TRY((product<T, true>(y, count, false)));
    return forms & MBI_FORMS_T ? product<T, false>(t, count, !(forms & MBI_FOR_BASIS)) : MB_OK;
  });
}

template <class T>
mb_status Kernels<T>::sketch_basis(const mbi_sketch *s, int64_t groups, int of_y, const mbi_sketch_limits *limits) {
  return in_parts(s, groups, [&](const mbi_sketch *part, int64_t count) { return make_basis<T>(part, count, of_y, limits); });
}

template <class T> mb_status Kernels<T>::sketch_ritz(const mbi_sketch *s, int64_t groups) {
  return in_parts(s, groups, [&](const mbi_sketch *part, int64_t count) { return make_ritz<T>(part, count); });
}

template <class T> mb_status Kernels<T>::sketch_keep(const mbi_sketch *s, int64_t groups) {
  Launches<Mix<T>> mixes("sketch_keep");
  for (int64_t at = 0; at < groups; at++) {
    Rows which{s[at].q, nullptr, s[at].mask};
    MB_TRY(add_mix<T>(&mixes, s[at].basis, s[at].w, s[at].t, which, s[at].n, s[at].count, nullptr, nullptr, s[at].sigma));
  }
  return mixes.go();
}

template <class T> mb_status Kernels<T>::sketch_update(const mbi_sketch *s, int64_t groups) {
  return in_parts(s, groups, [&](const mbi_sketch *part, int64_t count) { return change<T>(part, count); });
}

MBK_WIDE_SLOT(sketch_draw, const mbi_sketch *, int64_t, uint64_t, uint64_t, uint64_t);
MBK_WIDE_SLOT(sketch_pass, const mbi_sketch *, int64_t, int);
MBK_WIDE_SLOT(sketch_basis, const mbi_sketch *, int64_t, int, const mbi_sketch_limits *);
MBK_WIDE_SLOT(sketch_ritz, const mbi_sketch *, int64_t);
MBK_WIDE_SLOT(sketch_keep, const mbi_sketch *, int64_t);
MBK_WIDE_SLOT(sketch_update, const mbi_sketch *, int64_t);

} // namespace mbk
