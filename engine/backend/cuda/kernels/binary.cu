// SPDX-License-Identifier: MIT
//
// binary.cu: out = f(a, b) and its derivatives, y = alpha x + beta y, and where. Where all views are contiguous a thread
// takes 16 bytes, by a kernel for each f; else an element, by one kernel for all.
#include "backend/cuda/math.h"
#include "backend/cuda/packs.h"
#include "backend/cuda/views.h"

namespace mbk {
namespace {

template <class T> SIMT T value_of(enum mbi_binary f, T a, T b) {
  switch (f) {
    case MBI_ADD: return a + b;
    case MBI_SUB: return a - b;
    case MBI_MUL: return a * b;
    case MBI_DIV: return a / b;
    case MBI_POW: return pow_of(a, b);
    case MBI_MIN: return a <= b || a != a ? a : b; // a NaN on either side stays one
    case MBI_MAX: return a >= b || a != a ? a : b;
    case MBI_LESS: return a < b;
    case MBI_LESS_EQUAL: return a <= b;
    case MBI_EQUAL: return a == b;
    default: return T(0);
  }
}

// df/da (side 0) or df/db (side 1).
template <class T> SIMT T slope_of(enum mbi_binary f, int side, T a, T b) {
  switch (f) {
    case MBI_MUL: return side == 0 ? b : a;
    case MBI_DIV: return side == 0 ? 1 / b : -a / (b * b);
    case MBI_POW:
      if (side == 0) return b == 0 ? T(0) : b * pow_of(a, b - 1);
      return a == 0 ? T(0) : pow_of(a, b) * log_of(a);
    case MBI_MIN: return (side == 0) == (a <= b) ? T(1) : T(0);
    case MBI_MAX: return (side == 0) == (a >= b) ? T(1) : T(0);
    default: return T(0);
  }
}

template <class T> struct Pair {
  enum mbi_binary f;
  Walk<3> walk;
  T *out;
  const T *a, *b;
  SIMT void operator()(int64_t i) const {
    int64_t at[3];
    walk.offsets(i, at);
    out[at[0]] = (T)value_of<Wide<T>>(f, a[at[1]], b[at[2]]);
  }
};

template <class T> struct PairBackward {
  enum mbi_binary f;
  int side;
  Walk<2> walk; // of a and b; dx and dy are contiguous
  T *dx;
  const T *dy, *a, *b;
  SIMT void operator()(int64_t i) const {
    int64_t at[2];
    walk.offsets(i, at);
    dx[i] = (T)((Wide<T>)dy[i] * slope_of<Wide<T>>(f, side, a[at[0]], b[at[1]]));
  }
};

template <class T> struct Axpby {
  Walk<2> walk;
  T *y;
  const T *x;
  Wide<T> alpha, beta;
  SIMT void operator()(int64_t i) const {
    int64_t at[2];
    walk.offsets(i, at);
    Wide<T> value = alpha * (Wide<T>)x[at[1]];
    y[at[0]] = (T)(beta == 0 ? value : value + beta * (Wide<T>)y[at[0]]);
  }
};

template <class T> struct Choose {
  Walk<4> walk;
  T *out;
  const T *c, *a, *b;
  SIMT void operator()(int64_t i) const {
    int64_t at[4];
    walk.offsets(i, at);
    out[at[0]] = (Wide<T>)c[at[1]] != 0 ? a[at[2]] : b[at[3]];
  }
};

// ----- contiguous -----------------------------------------------------------------------------------------------

template <class T, enum mbi_binary f> struct PairPacks {
  T *out;
  const T *a, *b;
  template <int N> SIMT void many(int64_t first, bool wide) const {
    Lanes<T, N> x = load<N>(a + first, wide), y = load<N>(b + first, wide);
SIMT_UNROLL
    for (int k = 0; k < N; k++) x.at[k] = (T)value_of<Wide<T>>(f, x.at[k], y.at[k]);
    store(out + first, x, wide);
  }
};

template <class T, enum mbi_binary f, int side> struct PairBackwardPacks {
  T *dx;
  const T *dy, *a, *b;
  template <int N> SIMT void many(int64_t first, bool wide) const {
    Lanes<T, N> g = load<N>(dy + first, wide), x = load<N>(a + first, wide), y = load<N>(b + first, wide);
SIMT_UNROLL
    for (int k = 0; k < N; k++) g.at[k] = (T)((Wide<T>)g.at[k] * slope_of<Wide<T>>(f, side, x.at[k], y.at[k]));
    store(dx + first, g, wide);
  }
};

template <class T, bool adds> struct AxpbyPacks {
  T *y;
  const T *x;
  Wide<T> alpha, beta;
  template <int N> SIMT void many(int64_t first, bool wide) const {
    Lanes<T, N> v = load<N>(x + first, wide), before{};
    if (adds) before = load<N>(y + first, wide);
SIMT_UNROLL
    for (int k = 0; k < N; k++) {
      Wide<T> value = alpha * (Wide<T>)v.at[k];
      v.at[k] = (T)(adds ? value + beta * (Wide<T>)before.at[k] : value);
    }
    store(y + first, v, wide);
  }
};

template <class T> struct ChoosePacks {
  T *out;
  const T *c, *a, *b;
  template <int N> SIMT void many(int64_t first, bool wide) const {
    Lanes<T, N> x = load<N>(c + first, wide), y = load<N>(a + first, wide), z = load<N>(b + first, wide);
SIMT_UNROLL
    for (int k = 0; k < N; k++) x.at[k] = (Wide<T>)x.at[k] != 0 ? y.at[k] : z.at[k];
    store(out + first, x, wide);
  }
};

// The kernel of f, found among those of all functions from `first` on.
template <class T, int first = 0> mb_status pair(enum mbi_binary f, T *out, const T *a, const T *b, int64_t count) {
  constexpr enum mbi_binary mine = (enum mbi_binary)first;
  if constexpr (first == MBI_BINARY_COUNT) return fail(MB_ERR_INTERNAL, "binary on cuda: function %d is not known", (int)f);
  else if (f != mine) return pair<T, first + 1>(f, out, a, b, count);
  else return launch_packs(PairPacks<T, mine>{out, a, b}, count, "binary", out, a, b);
}
template <class T, int side, int first = 0>
mb_status pair_backward(enum mbi_binary f, T *dx, const T *dy, const T *a, const T *b, int64_t count) {
  constexpr enum mbi_binary mine = (enum mbi_binary)first;
  if constexpr (first == MBI_BINARY_COUNT) return fail(MB_ERR_INTERNAL, "binary_backward on cuda: function %d is not known", (int)f);
  else if (f != mine) return pair_backward<T, side, first + 1>(f, dx, dy, a, b, count);
  else return launch_packs(PairBackwardPacks<T, mine, side>{dx, dy, a, b}, count, "binary_backward", dx, dy, a, b);
}

} // namespace

template <class T> mb_status Kernels<T>::binary(enum mbi_binary f, const mbi_view *out, const mbi_view *a, const mbi_view *b) {
  Walk<3> walk = make_walk<3>({out, a, b});
  T *to = (T *)out->data;
  const T *x = (const T *)a->data, *y = (const T *)b->data;
  if (is_dense(walk)) return pair(f, to, x, y, walk.count);
  return launch_elements(Pair<T>{f, walk, to, x, y}, walk.count, "binary");
}

template <class T>
mb_status Kernels<T>::binary_backward(enum mbi_binary f, int side, void *dx, const void *dy, const mbi_view *a, const mbi_view *b) {
  Walk<2> walk = make_walk<2>({a, b});
  T *to = (T *)dx;
  const T *g = (const T *)dy, *x = (const T *)a->data, *y = (const T *)b->data;
  if (is_dense(walk)) return side == 0 ? pair_backward<T, 0>(f, to, g, x, y, walk.count) : pair_backward<T, 1>(f, to, g, x, y, walk.count);
  return launch_elements(PairBackward<T>{f, side, walk, to, g, x, y}, walk.count, "binary_backward");
}

template <class T> mb_status Kernels<T>::axpby(const mbi_view *y, const mbi_view *x, double alpha, double beta) {
  Walk<2> walk = make_walk<2>({y, x});
  T *to = (T *)y->data;
  const T *from = (const T *)x->data;
  Wide<T> a = (Wide<T>)alpha, b = (Wide<T>)beta;
  if (is_dense(walk) && b != 0) return launch_packs(AxpbyPacks<T, true>{to, from, a, b}, walk.count, "axpby", to, from);
  if (is_dense(walk)) return launch_packs(AxpbyPacks<T, false>{to, from, a, b}, walk.count, "axpby", to, from);
  return launch_elements(Axpby<T>{walk, to, from, a, b}, walk.count, "axpby");
}

template <class T> mb_status Kernels<T>::where(const mbi_view *out, const mbi_view *c, const mbi_view *a, const mbi_view *b) {
  Walk<4> walk = make_walk<4>({out, c, a, b});
  T *to = (T *)out->data;
  const T *x = (const T *)c->data, *y = (const T *)a->data, *z = (const T *)b->data;
  if (is_dense(walk)) return launch_packs(ChoosePacks<T>{to, x, y, z}, walk.count, "where", to, x, y, z);
  return launch_elements(Choose<T>{walk, to, x, y, z}, walk.count, "where");
}

MBK_SLOT(binary);
MBK_SLOT(binary_backward);
MBK_SLOT(axpby);
MBK_SLOT(where);

} // namespace mbk
