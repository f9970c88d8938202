// SPDX-License-Identifier: MIT
//
// small.cu: small float64 problems, a block for each matrix.
//
// Eigenvalues come from cyclic Jacobi: a round turns n / 2 disjoint pairs of rows and columns, n - 1 rounds (a sweep) meet
// every pair once, as in a tournament. All elements of a round are independent: the pairs (p, q) and (r, s) own
// the four elements where they cross. Six to ten sweeps bring float64 to its rounding; the vectors are products of
// rotations and orthogonal to it as well. Beyond MOST_SMALL rows the solver's method is faster.
//
// A round's time is that of its angles, which wait for each other. The tangent t of one is found in float32: what it leaves of the
// element x it is for, where a_pp and a_qq cross, is 1e-7 of that, and is taken along,
//   rho = t (a_qq - a_pp) + x (t^2 - 1),  a_pp -= t x - c^2 t rho,  a_qq += t x - c^2 t rho,  x <- -c^2 rho,
// and c, s are of unit length to float64's rounding.
//
// The Cholesky factor and its inverse grow together, column by column: at step j the factor's column j is finished and
// taken off what is right of it, and row j of the inverse is finished and taken off the rows below.
#include "backend/cuda/small.h"

#include "backend/cuda/math.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/solver.h"
#include "backend/cuda/together.h"
#include "core/spectra.h"

namespace mbk {
namespace {

// ----- eigenvalues ------------------------------------------------------------------------------------------

// Elements below this part of the largest are rounding: far enough below it that small eigenvalues are not moved.
constexpr double NEGLIGIBLE = 1e-17;
constexpr int MOST_SWEEPS = 40;

// Matrices up to N rows; an odd side is made even by a row of zeros, which never turns.
template <int N, int THREADS_> struct Jacobi {
  static constexpr int THREADS = THREADS_;
  struct Shared {
    double a[N * N], v[N * N], cosine[N / 2], sine[N / 2], tangent[N / 2];
    int first[N / 2], second[N / 2], order[N];
    ReduceRoom<double> room;
    ReduceRoom<int> flags;
  };
  SmallProblem problem;
  int n, lda;

  // The rotations of a round: (p, q) of every pair, and c, s that make their crossing 0.
  SIMT int turn(Shared &s, int pair, int round, int even, double least) const {
    int last = even - 1, p = round + pair, q = round - pair;
    p = p >= last ? p - last : p;
    q = pair == 0 ? last : q < 0 ? q + last : q;
    double crossing = s.a[p * even + q], c = 1, tangent = 0;
    double sizes = abs_of(s.a[p * even + p] * s.a[q * even + q]);
    int turns = abs_of(crossing) > least && crossing * crossing > problem.tolerance * problem.tolerance * sizes;
    if (turns) {
      float theta = (float)(s.a[q * even + q] - s.a[p * even + p]) / (float)(2 * crossing);
      float size = 1 / (abs_of(theta) + sqrt_of(theta * theta + 1));
      tangent = theta < 0 ? -size : size;
      double square = tangent * tangent + 1; // 1 to 2
      c = 1 / sqrt_of((float)square);
      c *= 1.5 - 0.5 * square * c * c;
      c *= 1.5 - 0.5 * square * c * c;
    }
    s.first[pair] = p, s.second[pair] = q;
    s.cosine[pair] = c, s.sine[pair] = tangent * c, s.tangent[pair] = tangent;
    return turns;
  }

  // The four elements where rows p, q of one pair cross columns r, t of another, and their mirror images.
  SIMT void cross(Shared &s, int rows, int columns, int even) const {
    double c1 = s.cosine[rows], s1 = s.sine[rows], c2 = s.cosine[columns], s2 = s.sine[columns];
    if (s1 == 0 && s2 == 0) return;
    int p = s.first[rows] * even, q = s.second[rows] * even, r = s.first[columns], t = s.second[columns];
    double x00 = s.a[p + r], x01 = s.a[p + t], x10 = s.a[q + r], x11 = s.a[q + t];
    if (rows == columns) {
      double tangent = s.tangent[rows], rest = c1 * c1 * (tangent * (x11 - x00) + x01 * (tangent * tangent - 1));
      double shift = tangent * x01 - tangent * rest;
      s.a[p + r] = x00 - shift, s.a[q + t] = x11 + shift;
      s.a[p + t] = s.a[q + r] = -rest;
      return;
    }
    double y00 = c1 * x00 - s1 * x10, y01 = c1 * x01 - s1 * x11, y10 = s1 * x00 + c1 * x10, y11 = s1 * x01 + c1 * x11;
    x00 = c2 * y00 - s2 * y01, x01 = s2 * y00 + c2 * y01, x10 = c2 * y10 - s2 * y11, x11 = s2 * y10 + c2 * y11;
    int i = s.first[rows], j = s.second[rows];
    s.a[p + r] = s.a[r * even + i] = x00;
    s.a[p + t] = s.a[t * even + i] = x01;
    s.a[q + r] = s.a[r * even + j] = x10;
    s.a[q + t] = s.a[t * even + j] = x11;
  }

  SIMT void turn_vectors(Shared &s, int pair, int column, int even) const {
    double c = s.cosine[pair], sn = s.sine[pair];
    if (sn == 0) return;
    double *p = s.v + s.first[pair] * even + column, *q = s.v + s.second[pair] * even + column, x = *p, y = *q;
    *p = c * x - sn * y;
    *q = sn * x + c * y;
  }

  // Whether a sweep turned anything.
  SIMT bool sweep(const Block<THREADS> &block, Shared &s, int even, double least) const {
    const int half = even / 2;
    Private<int, THREADS> turned;
    block.each([&](int thread) { turned[thread] = 0; });
    for (int round = 0; round < even - 1; round++) {
      block.each([&](int thread) {
        for (int pair = thread; pair < half; pair += THREADS) turned[thread] |= turn(s, pair, round, even, least);
      });
      block.each([&](int thread) {
        for (int e = thread; e < half * half; e += THREADS)
          if (e / half <= e % half) cross(s, e / half, e % half, even);
        for (int e = thread; e < half * even; e += THREADS) turn_vectors(s, e / even, e % even, even);
      });
    }
    return block.most(turned, s.flags) != 0;
  }

  // The matrix and the identity to shared memory; the largest element, or NaN. The matrix is then scaled by a power of two that brings
  // that near 1, within what float32 holds.
  SIMT double load(const Block<THREADS> &block, Shared &s, int even) const {
    const double *matrix = problem.parts + block.index * problem.slices * n * lda;
    Private<double, THREADS> largest, wrong;
    block.each([&](int thread) {
      double most = 0, nan = 0;
      for (int e = thread; e < even * even; e += THREADS) {
        int i = e / even, j = e % even, row = i > j ? i : j, column = i > j ? j : i;
        double x = 0;
        for (int64_t slice = 0; slice < problem.slices && row < n; slice++) x += matrix[(slice * n + row) * lda + column];
        s.a[e] = x;
        s.v[e] = i == j;
        most = abs_of(x) > most ? abs_of(x) : most;
        nan += x * 0;
      }
      largest[thread] = most, wrong[thread] = nan;
    });
    double most = block.most(largest, s.room);
    return most + block.sum(wrong, s.room);
  }

  SIMT void run(const Block<THREADS> &block, Shared &s) const {
    if (problem.mask.skips(block.index)) return;
    const int even = n + n % 2;
    double *matrix = problem.a + block.index * n * lda, *values = problem.values + block.index * n;
    double largest = load(block, s, even);
    bool is_finite = largest * 0 == 0;
    const double scale = is_finite && largest > 0 ? mbi_scale_of(largest, 0) : 1;
    block.each([&](int thread) {
      for (int e = thread; e < even * even && scale != 1; e += THREADS) s.a[e] *= scale;
    });
    int sweeps = 0;
    while (is_finite && sweeps < MOST_SWEEPS && sweep(block, s, even, NEGLIGIBLE * largest * scale)) sweeps++;
    bool works = is_finite && sweeps < MOST_SWEEPS;
    block.each([&](int thread) {
      for (int i = thread; i < n; i += THREADS) {
        double mine = s.a[i * even + i];
        int rank = 0;
        for (int j = 0; j < n; j++) {
          double other = s.a[j * even + j];
          rank += other < mine || (other == mine && j < i);
        }
        s.order[works ? rank : i] = i;
      }
      if (thread == 0) problem.info[block.index] = works ? 0 : 1;
    });
    block.each([&](int thread) {
      for (int e = thread; e < n * n; e += THREADS)
        matrix[(int64_t)(e / n) * lda + e % n] = works ? s.v[s.order[e / n] * even + e % n] : 0;
      for (int i = thread; i < n; i += THREADS)
        values[i] = works ? s.a[s.order[i] * (even + 1)] / scale : double(NAN);
    });
    if (!problem.align.a) return;
    block.each([&](int thread) {
      for (int e = thread; e < n * n; e += THREADS) problem.align.row_of(block.index, e / n, e % n, matrix, values, n, lda);
      if (thread == 0) problem.align.judge(block.index, values, n);
    });
  }
};

// A matrix that is not finite, or passed over, becomes 0, so that the solver ends; wrong (count) says which.
struct Guard {
  static constexpr int THREADS = 256;
  struct Shared {
    ReduceRoom<double> room;
  };
  double *matrices;
  int64_t n, lda;
  int *wrong;
  Mask mask;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    double *matrix = matrices + block.index * n * lda;
    Private<double, THREADS> mine;
    block.each([&](int thread) {
      double sum = 0;
      for (int64_t e = thread; e < n * n; e += THREADS) sum += matrix[e / n * lda + e % n] * 0;
      mine[thread] = sum;
    });
    double all = block.sum(mine, shared.room) + mask.skips(block.index);
    block.each([&](int thread) {
      if (thread == 0) wrong[block.index] = all == 0 ? 0 : 1;
      for (int64_t e = thread; e < n * n && all != 0; e += THREADS) matrix[e / n * lda + e % n] = 0;
    });
  }
};

// What the solver could not do is marked in its results.
struct Mark {
  double *values, *matrices;
  int64_t n, lda;
  int *info;
  const int *wrong;
  SIMT void operator()(int64_t i) const {
    int64_t matrix = i / (n * n), e = i % (n * n);
    bool fails = wrong[matrix] != 0 || info[matrix] != 0;
    if (!fails) return;
    matrices[matrix * n * lda + e / n * lda + e % n] = 0;
    if (e < n) values[matrix * n + e] = double(NAN);
  }
};

struct Join {
  int *info;
  const int *wrong;
  SIMT void operator()(int64_t i) const { info[i] |= wrong[i]; }
};

struct SumSlices {
  double *a;
  const double *parts;
  int64_t square, slices;
  Mask mask;
  SIMT void operator()(int64_t i) const {
    if (mask.skips(i / square)) return;
    const double *from = parts + i / square * slices * square + i % square;
    double sum = 0;
    for (int64_t slice = 0; slice < slices; slice++) sum += from[slice * square];
    a[i] = sum;
  }
};

struct AlignAll {
  Align align;
  const double *z, *values;
  int64_t q, lda;
  Mask mask;
  SIMT void operator()(int64_t i) const {
    int64_t matrix = i / (q * q), row = i / q % q, column = i % q;
    if (mask.skips(matrix)) return;
    align.row_of(matrix, row, column, z + matrix * q * lda, values + matrix * q, q, lda);
    if (row == 0 && column == 0) align.judge(matrix, values + matrix * q, q);
  }
};

mb_status eigen_by_solver(const SmallProblem &p, int64_t n, int64_t lda) {
  int *wrong;
  if (p.parts != p.a) MB_TRY(launch_elements(SumSlices{p.a, p.parts, n * lda, p.slices, p.mask}, p.count * n * lda, "eigen"));
  MB_TRY(scratch_of(&wrong, SMALL_SLOT, p.count));
  MB_TRY(launch(Guard{p.a, n, lda, wrong, p.mask}, p.count, "eigen"));
  MB_TRY(Solver<double>::eigh(p.values, p.a, n, lda, p.count, true, p.info));
  MB_TRY(launch_elements(Mark{p.values, p.a, n, lda, p.info, wrong}, p.count * n * n, "eigen"));
  MB_TRY(launch_elements(Join{p.info, wrong}, p.count, "eigen"));
  if (!p.align.a) return MB_OK;
  return launch_elements(AlignAll{p.align, p.a, p.values, n, lda, p.mask}, p.count * n * n, "eigen");
}

template <int N, int THREADS> mb_status eigen_in_blocks(const SmallProblem *problems, int64_t groups, int64_t n, int64_t lda) {
  Launches<Jacobi<N, THREADS>> launches("eigen");
  for (int64_t at = 0; at < groups; at++) MB_TRY(launches.add(Jacobi<N, THREADS>{problems[at], (int)n, (int)lda}, problems[at].count));
  return launches.go();
}

// ----- triangular bases ---------------------------------------------------------------------------------------

// In shared memory up to N rows, in the device's for N = 0.
template <int N, int THREADS_> struct Orthonormal {
  static constexpr int THREADS = THREADS_;
  struct Shared {
    double gram[N * N + 1], a[N * N + 1], length[N + 1];
  };
  Triangular problem;
  double *lengths;
  int q;
  double cut;

  SIMT void factor(const Block<THREADS> &block, double *a, double *gram, double *length) const {
    block.each([&](int thread) {
      for (int e = thread; e < q * q; e += THREADS) a[e] = e / q == e % q;
      for (int i = thread; i < q; i += THREADS) length[i] = gram[i * q + i];
    });
    for (int j = 0; j < q; j++) {
      block.each([&](int thread) {
        double rest = gram[j * q + j];
        double root = (rest > cut * length[j] && length[j] > 0 ? sqrt_of(rest) : 0) + rest * 0;
        for (int e = thread; e < q; e += THREADS) {
          double *x = e > j ? gram + e * q + j : a + j * q + e;
          *x = root == 0 ? 0 : *x / root;
        }
      });
      block.each([&](int thread) {
        for (int e = thread; e < (q - 1 - j) * q; e += THREADS) {
          int i = j + 1 + e / q, k = e % q;
          if (k <= j) a[i * q + k] -= gram[i * q + j] * a[j * q + k];
          else if (k <= i) gram[i * q + k] -= gram[i * q + j] * gram[k * q + j];
        }
      });
    }
  }

  SIMT static double total(const double *parts, int64_t matrix, int64_t slices, int64_t square, int64_t e) {
    double sum = 0;
    for (int64_t slice = 0; slice < slices; slice++) sum += parts[(matrix * slices + slice) * square + e];
    return sum;
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    const Triangular &p = problem;
    if (p.mask.skips(block.index)) return;
    int64_t square = (int64_t)q * q, matrix = block.index;
    double *basis = p.a + matrix * square, *gram = N == 0 ? p.gram + matrix * square : shared.gram;
    block.each([&](int thread) {
      for (int64_t e = thread; e < square; e += THREADS) {
        gram[e] = total(p.parts, matrix, p.slices, square, e);
        if (p.sum) p.sum[matrix * square + e] = total(p.other, matrix, p.other_slices, square, e);
      }
    });
    if (N == 0) {
      factor(block, basis, gram, lengths + matrix * q);
      return;
    }
    factor(block, shared.a, shared.gram, shared.length);
    block.each([&](int thread) {
      for (int e = thread; e < q * q; e += THREADS) basis[e] = shared.a[e];
    });
  }
};

// A thread makes elements of the Gram matrix, and then columns of the result, from the last row to the first: a row takes those
// above it as they were.
template <class T> struct Polish {
  static constexpr int THREADS = 512;
  using Factor = Orthonormal<MOST_FEW, THREADS>;
  using Shared = typename Factor::Shared;
  FewRows<T> rows;
  int q;
  double cut;

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    if (rows.mask.skips(block.index)) return;
    int64_t n = rows.n;
    T *x = rows.x + block.index * q * n;
    block.each([&](int thread) {
      for (int e = thread; e < q * q; e += THREADS) {
        const T *a = x + e / q * n, *b = x + e % q * n;
        double sum = 0;
        for (int64_t k = 0; k < n; k++) sum += (double)a[k] * (double)b[k];
        shared.gram[e] = sum;
      }
    });
    Factor factor{};
    factor.q = q, factor.cut = cut;
    factor.factor(block, shared.a, shared.gram, shared.length);
    block.each([&](int thread) {
      for (int64_t column = thread; column < n; column += THREADS)
        for (int r = q - 1; r >= 0; r--) {
          double sum = 0;
          for (int k = 0; k <= r; k++) sum += shared.a[r * q + k] * (double)x[k * n + column];
          x[r * n + column] = (T)sum;
        }
    });
  }
};

template <int N, int THREADS>
mb_status orthonormal_in_blocks(const Triangular *problems, int64_t groups, int64_t q, double cut, double *lengths) {
  Launches<Orthonormal<N, THREADS>> launches("orthonormal");
  for (int64_t at = 0; at < groups; at++) {
    MB_TRY(launches.add(Orthonormal<N, THREADS>{problems[at], lengths, (int)q, cut}, problems[at].count));
    if (lengths) lengths += problems[at].count * q;
  }
  return launches.go();
}

constexpr int64_t MOST_SIDE = 32768; // whose square is a block's loop counter

} // namespace

mb_status eigen(const SmallProblem *problems, int64_t groups, int64_t n, int64_t lda) {
  if (n <= 16) return eigen_in_blocks<16, 64>(problems, groups, n, lda);
  if (n <= 32) return eigen_in_blocks<32, 256>(problems, groups, n, lda);
  if (n <= 64) return eigen_in_blocks<64, 512>(problems, groups, n, lda);
  if (n <= MOST_SMALL) return eigen_in_blocks<MOST_SMALL, 1024>(problems, groups, n, lda);
  for (int64_t at = 0; at < groups; at++) MB_TRY(eigen_by_solver(problems[at], n, lda));
  return MB_OK;
}

template <class T> mb_status orthonormal_rows(const FewRows<T> *problems, int64_t groups, int64_t q, double cut) {
  Launches<Polish<T>> launches("orthonormal");
  for (int64_t at = 0; at < groups; at++) MB_TRY(launches.add(Polish<T>{problems[at], (int)q, cut}, problems[at].count));
  return launches.go();
}
template mb_status orthonormal_rows(const FewRows<float> *, int64_t, int64_t, double);
template mb_status orthonormal_rows(const FewRows<double> *, int64_t, int64_t, double);

mb_status orthonormal(const Triangular *problems, int64_t groups, int64_t q, double cut) {
  double *lengths = nullptr;
  int64_t count = 0;
  if (q <= 32) return orthonormal_in_blocks<32, 128>(problems, groups, q, cut, nullptr);
  if (q <= MOST_SMALL) return orthonormal_in_blocks<MOST_SMALL, 512>(problems, groups, q, cut, nullptr);
  if (q > MOST_SIDE)
    return fail(MB_ERR_SHAPE, "cuda: a basis of %lld vectors, at most %lld can be had", (long long)q, (long long)MOST_SIDE);
  for (int64_t at = 0; at < groups; at++) count += problems[at].count;
  MB_TRY(scratch_of(&lengths, SMALL_SLOT, count * q));
  return orthonormal_in_blocks<0, 1024>(problems, groups, q, cut, lengths);
}

} // namespace mbk
