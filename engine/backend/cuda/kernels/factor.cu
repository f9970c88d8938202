// SPDX-License-Identifier: MIT
//
// factor.cu: singular values, QR, symmetric eigenvalues and Cholesky factors of many matrices of one shape. The solver
// works on columns (solver.h): a row-major matrix is its transpose there, and results are put as the engine wants them:
// vectors in columns of row-major matrices, R with a diagonal >= 0. The host waits once, for how the call went.
#include "backend/cuda/math.h"
#include "backend/cuda/small.h"
#include "backend/cuda/solver.h"

namespace mbk {
namespace {

constexpr int COPY_SLOT = 0, SIDE_SLOT = 1, FOUND_SLOT = 2;

// ----- transposes ---------------------------------------------------------------------------------------------------

// to (count, columns, rows) = from (count, rows, columns) transposed, in tiles; matrices of `from` are `step` apart. Row r
// of `from` is turned where sign (count, rows), if there is one, is negative.
template <class T> struct Transpose {
  static constexpr int THREADS = 256, TILE = 32;
  struct Shared {
    T tile[TILE][TILE + 1];
  };
  T *to;
  const T *from, *sign;
  int64_t rows, columns, step, across, down;

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t column = block.index % across * TILE, row = block.index / across % down * TILE, matrix = block.index / (across * down);
    const T *source = from + matrix * step;
    T *target = to + matrix * rows * columns;
    block.each([&](int thread) {
      for (int e = thread; e < TILE * TILE; e += THREADS) {
        int64_t r = row + e / TILE, c = column + e % TILE;
        if (r < rows && c < columns) shared.tile[e / TILE][e % TILE] = source[r * columns + c] * (sign ? sign[matrix * rows + r] : T(1));
      }
    });
    block.each([&](int thread) {
      for (int e = thread; e < TILE * TILE; e += THREADS) {
        int64_t c = column + e / TILE, r = row + e % TILE;
        if (r < rows && c < columns) target[c * rows + r] = shared.tile[e % TILE][e / TILE];
      }
    });
  }
};

template <class T>
mb_status transpose(T *to, const T *from, int64_t rows, int64_t columns, int64_t step, int64_t count, const T *sign) {
  int64_t across = ceil_div(columns, Transpose<T>::TILE), down = ceil_div(rows, Transpose<T>::TILE);
  return launch(Transpose<T>{to, from, sign, rows, columns, step, across, down}, count * across * down, "transpose");
}

// ----- how a call went --------------------------------------------------------------------------------------------------

// found: the first matrix whose info is not 0, and that info; or -1.
struct FirstFailure {
  int64_t *found;
  const int *info;
  int64_t count;
  SIMT void operator()(int64_t) const {
    int64_t first = 0;
    while (first < count && info[first] == 0) first++;
    found[0] = first < count ? first : -1;
    found[1] = first < count ? info[first] : -1;
  }
};

mb_status first_failure(int64_t (&first)[2], const int *info, int64_t count) {
  int64_t *found;
  MB_TRY(scratch_of(&found, FOUND_SLOT, 2));
  MB_TRY(launch_elements(FirstFailure{found, info, count}, 1, "first_failure"));
  return to_host(first, found, sizeof first);
}

mb_status check_converged(const int *info, int64_t count, const char *what, int64_t m, int64_t n) {
  int64_t first[2];
  MB_TRY(first_failure(first, info, count));
  if (first[0] < 0) return MB_OK;
  return fail(MB_ERR_NUMERIC, "%s of (%lld, %lld) did not converge", what, (long long)m, (long long)n);
}

// ----- parts of results -------------------------------------------------------------------------------------------------

// sign (count, k) of the diagonal, and r (count, k, n) = the upper triangle of a, its rows turned by it; a (count, n, m)
// holds columns.
template <class T> struct Upper {
  T *r, *sign;
  const T *a;
  int64_t m, n, k;
  SIMT void operator()(int64_t e) const {
    int64_t matrix = e / (k * n), i = e / n % k, j = e % n;
    const T *columns = a + matrix * m * n;
    T turn = columns[i * m + i] < 0 ? T(-1) : T(1);
    r[e] = j < i ? T(0) : turn * columns[j * m + i];
    if (i == j) sign[matrix * k + i] = turn;
  }
};

template <class T> struct Lower {
  T *a;
  int64_t n;
  SIMT void operator()(int64_t e) const {
    if (e % n > e / n % n) a[e] = 0;
  }
};

template <class T> struct Put {
  T *to;
  const double *from;
  SIMT void operator()(int64_t i) const { to[i] = (T)from[i]; }
};

template <class T> struct Widen {
  double *to;
  const T *from;
  SIMT void operator()(int64_t i) const { to[i] = (double)from[i]; }
};

// vectors in columns, from rows.
template <class T> struct Columns {
  T *to;
  const double *from;
  int64_t n;
  SIMT void operator()(int64_t e) const { to[e] = (T)from[e / (n * n) * n * n + e % n * n + e / n % n]; }
};

// In float64, a block each.
template <class T> mb_status small_eigh(T *values, T *vectors, const T *a, int64_t n, int64_t count, int *info) {
  double *wide;
  MB_TRY(scratch_of(&wide, COPY_SLOT, count * n * (n + 1)));
  double *found = wide + count * n * n;
  MB_TRY(launch_elements(Widen<T>{wide, a}, count * n * n, "eigh"));
  SmallProblem problem{found, wide, wide, 1, count, info, Mask(), Align{}};
  MB_TRY(eigen(&problem, 1, n, n));
  MB_TRY(launch_elements(Put<T>{values, found}, count * n, "eigh"));
  return vectors ? launch_elements(Columns<T>{vectors, wide, n}, count * n * n, "eigh") : MB_OK;
}

} // namespace

template <class T> mb_status Kernels<T>::svd(void *u, void *s, void *v, void *a, int64_t m, int64_t n, int64_t count) {
  int64_t k = m < n ? m : n;
  int *info;
  T *left, *right; // of a^T (n, m): in its left vectors v, in its right ones u; the routine wants room for them in any case
  MB_TRY(scratch_of(&info, INFO_SLOT, count));
  MB_TRY(scratch_of(&left, COPY_SLOT, (u ? count : 1) * n * k));
  MB_TRY(scratch_of(&right, SIDE_SLOT, (u ? count : 1) * m * k));
  MB_TRY(Solver<T>::svd(left, (T *)s, right, (T *)a, n, m, count, u != nullptr, info));
  if (u) {
    MB_TRY(transpose<T>((T *)v, left, k, n, n * k, count, nullptr));
    MB_TRY(transpose<T>((T *)u, right, k, m, m * k, count, nullptr));
  }
  return check_converged(info, count, "svd", m, n);
}

template <class T> mb_status Kernels<T>::qr(void *q, void *r, void *a, int64_t m, int64_t n, int64_t count) {
  int64_t k = m < n ? m : n, first[2];
  int *info;
  T *columns, *tau;
  MB_TRY(scratch_of(&info, INFO_SLOT, 2 * count));
  MB_TRY(scratch_of(&columns, COPY_SLOT, count * m * n));
  MB_TRY(scratch_of(&tau, SIDE_SLOT, 2 * count * k));
  T *sign = tau + count * k;
  MB_TRY(transpose<T>(columns, (const T *)a, m, n, m * n, count, nullptr));
  MB_TRY(Solver<T>::factor(columns, tau, m, n, count, info));
  MB_TRY(launch_elements(Upper<T>{(T *)r, sign, columns, m, n, k}, count * k * n, "qr"));
  MB_TRY(Solver<T>::reflect(columns, tau, m, n, count, info + count));
  MB_TRY(transpose<T>((T *)q, columns, k, m, m * n, count, sign));
  MB_TRY(first_failure(first, info, 2 * count));
  if (first[0] < 0) return MB_OK;
  return fail(MB_ERR_INTERNAL, "qr of (%lld, %lld): the solver refused argument %lld", (long long)m, (long long)n, (long long)-first[1]);
}

template <class T> mb_status Kernels<T>::eigh(void *values, void *vectors, void *a, int64_t n, int64_t count) {
  int *info;
  MB_TRY(scratch_of(&info, INFO_SLOT, count));
  if (n <= MOST_SMALL) {
    MB_TRY(small_eigh((T *)values, (T *)vectors, (const T *)a, n, count, info));
  } else {
    MB_TRY(Solver<T>::eigh((T *)values, (T *)a, n, n, count, vectors != nullptr, info));
    if (vectors) MB_TRY(transpose<T>((T *)vectors, (const T *)a, n, n, n * n, count, nullptr));
  }
  return check_converged(info, count, "eigenvalues", n, n);
}

template <class T> mb_status Kernels<T>::cholesky(int64_t *member, int64_t *minor, void *a, int64_t n, int64_t count) {
  int64_t first[2];
  int *info;
  MB_TRY(scratch_of(&info, INFO_SLOT, count));
  MB_TRY(Solver<T>::cholesky((T *)a, n, count, info));
  MB_TRY(launch_elements(Lower<T>{(T *)a, n}, count * n * n, "cholesky"));
  MB_TRY(first_failure(first, info, count));
  *member = first[0];
  *minor = first[1];
  return MB_OK;
}

MBK_WIDE_SLOT(svd, void *, void *, void *, void *, int64_t, int64_t, int64_t);
MBK_WIDE_SLOT(qr, void *, void *, void *, int64_t, int64_t, int64_t);
MBK_WIDE_SLOT(eigh, void *, void *, void *, int64_t, int64_t);
MBK_WIDE_SLOT(cholesky, int64_t *, int64_t *, void *, int64_t, int64_t);

} // namespace mbk
