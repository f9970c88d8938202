// SPDX-License-Identifier: MIT
//
// binary.cu: out = f(a, b) and its derivatives, y = alpha x + beta y, and where, an element a thread.
#include "backend/cuda/math.h"
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

} // namespace

template <class T> mb_status Kernels<T>::binary(enum mbi_binary f, const mbi_view *out, const mbi_view *a, const mbi_view *b) {
  Walk<3> walk = make_walk<3>({out, a, b});
  return launch_elements(Pair<T>{f, walk, (T *)out->data, (const T *)a->data, (const T *)b->data}, walk.count, "binary");
}

template <class T>
mb_status Kernels<T>::binary_backward(enum mbi_binary f, int side, void *dx, const void *dy, const mbi_view *a, const mbi_view *b) {
  Walk<2> walk = make_walk<2>({a, b});
  return launch_elements(PairBackward<T>{f, side, walk, (T *)dx, (const T *)dy, (const T *)a->data, (const T *)b->data}, walk.count,
                         "binary_backward");
}

template <class T> mb_status Kernels<T>::axpby(const mbi_view *y, const mbi_view *x, double alpha, double beta) {
  Walk<2> walk = make_walk<2>({y, x});
  return launch_elements(Axpby<T>{walk, (T *)y->data, (const T *)x->data, (Wide<T>)alpha, (Wide<T>)beta}, walk.count, "axpby");
}

template <class T> mb_status Kernels<T>::where(const mbi_view *out, const mbi_view *c, const mbi_view *a, const mbi_view *b) {
  Walk<4> walk = make_walk<4>({out, c, a, b});
  return launch_elements(Choose<T>{walk, (T *)out->data, (const T *)c->data, (const T *)a->data, (const T *)b->data}, walk.count,
                         "where");
}

MBK_SLOT(binary);
MBK_SLOT(binary_backward);
MBK_SLOT(axpby);
MBK_SLOT(where);

} // namespace mbk
