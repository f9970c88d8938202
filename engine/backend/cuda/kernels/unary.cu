// SPDX-License-Identifier: MIT
//
// unary.cu: y = f(x) and dx = dy f'(x). Contiguous elements go 16 bytes a thread, by a kernel for each f; views of other
// strides an element a thread, by one kernel for all.
#include "backend/cuda/math.h"
#include "backend/cuda/packs.h"
#include "backend/cuda/views.h"

namespace mbk {
namespace {

// x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3), is gelu's tanh form.
template <class T> SIMT T gelu_gate(T x) {
  return sigmoid_of(T(1.59576912160573071176) * (x + T(0.044715) * x * x * x));
}

template <class T> SIMT T value_of(enum mbi_unary f, T x, T alpha, T beta) {
  switch (f) {
    case MBI_NEG: return -x;
    case MBI_ABS: return abs_of(x);
    case MBI_SIGN: return x > 0 ? T(1) : x < 0 ? T(-1) : x;
    case MBI_EXP: return exp_of(x);
    case MBI_LOG: return log_of(x);
    case MBI_SQRT: return sqrt_of(x);
    case MBI_SQUARE: return x * x;
    case MBI_RECIPROCAL: return 1 / x;
    case MBI_TANH: return tanh_of(x);
    case MBI_SIGMOID: return sigmoid_of(x);
    case MBI_SILU: return x * sigmoid_of(x);
    case MBI_RELU: return x > 0 || x != x ? x : T(0);
    case MBI_GELU_TANH: return x * gelu_gate(x);
    case MBI_GELU_ERF: return x * normal_cdf_of(x);
    case MBI_AFFINE: return alpha * x + beta;
    case MBI_POW_SCALAR: return pow_of(x, alpha);
    default: return T(0);
  }
}

// v is x or y, as ops/unary.c saves it.
template <class T> SIMT T slope_of(enum mbi_unary f, T v, T alpha) {
  switch (f) {
    case MBI_NEG: return T(-1);
    case MBI_ABS: return v > 0 ? T(1) : v < 0 ? T(-1) : T(0);
    case MBI_EXP: return v;
    case MBI_LOG: return 1 / v;
    case MBI_SQRT: return T(0.5) / v;
    case MBI_SQUARE: return 2 * v;
    case MBI_RECIPROCAL: return -v * v;
    case MBI_TANH: return 1 - v * v;
    case MBI_SIGMOID: return v * (1 - v);
    case MBI_SILU: {
      T s = sigmoid_of(v);
      return s * (1 + v * (1 - s));
    }
    case MBI_RELU: return v > 0 ? T(1) : T(0);
    case MBI_GELU_TANH: {
      T s = gelu_gate(v);
      return s + v * s * (1 - s) * T(1.59576912160573071176) * (1 + T(3 * 0.044715) * v * v);
    }
    case MBI_GELU_ERF: return normal_cdf_of(v) + v * T(0.39894228040143267794) * exp_of(T(-0.5) * v * v);
    case MBI_AFFINE: return alpha;
    case MBI_POW_SCALAR: return alpha == 0 ? T(0) : alpha * pow_of(v, alpha - 1);
    default: return T(0);
  }
}

template <class T> struct Map {
  enum mbi_unary f;
  Walk<2> walk;
  T *y;
  const T *x;
  Wide<T> alpha, beta;
  SIMT void operator()(int64_t i) const {
    int64_t at[2];
    walk.offsets(i, at);
    y[at[0]] = (T)value_of<Wide<T>>(f, x[at[1]], alpha, beta);
  }
};

template <class T, enum mbi_unary f> struct MapPacks {
  T *y;
  const T *x;
  Wide<T> alpha, beta;
  template <int N> SIMT void many(int64_t first, bool wide) const {
    Lanes<T, N> v = load<N>(x + first, wide);
SIMT_UNROLL
    for (int k = 0; k < N; k++) v.at[k] = (T)value_of<Wide<T>>(f, v.at[k], alpha, beta);
    store(y + first, v, wide);
  }
};

template <class T, enum mbi_unary f> struct MapBackwardPacks {
  T *dx;
  const T *dy, *v; // v is NULL where f' is constant
  Wide<T> alpha;
  template <int N> SIMT void many(int64_t first, bool wide) const {
    Lanes<T, N> g = load<N>(dy + first, wide), at{};
    if (v) at = load<N>(v + first, wide);
SIMT_UNROLL
    for (int k = 0; k < N; k++) g.at[k] = (T)((Wide<T>)g.at[k] * slope_of<Wide<T>>(f, at.at[k], alpha));
    store(dx + first, g, wide);
  }
};

// The kernel of f, found among those of all functions from `first` on.
template <class T, int first = 0> mb_status map(enum mbi_unary f, T *y, const T *x, int64_t count, double alpha, double beta) {
  constexpr enum mbi_unary mine = (enum mbi_unary)first;
  if constexpr (first == MBI_UNARY_COUNT) return fail(MB_ERR_INTERNAL, "unary on cuda: function %d is not known", (int)f);
  else if (f != mine) return map<T, first + 1>(f, y, x, count, alpha, beta);
  else return launch_packs(MapPacks<T, mine>{y, x, (Wide<T>)alpha, (Wide<T>)beta}, count, "unary", y, x);
}
template <class T, int first = 0> mb_status map_backward(enum mbi_unary f, T *dx, const T *dy, const T *v, int64_t count, double alpha) {
  constexpr enum mbi_unary mine = (enum mbi_unary)first;
  if constexpr (first == MBI_UNARY_COUNT) return fail(MB_ERR_INTERNAL, "unary_backward on cuda: function %d is not known", (int)f);
  else if (f != mine) return map_backward<T, first + 1>(f, dx, dy, v, count, alpha);
  else return launch_packs(MapBackwardPacks<T, mine>{dx, dy, v, (Wide<T>)alpha}, count, "unary_backward", dx, dy, v);
}

} // namespace

template <class T> mb_status Kernels<T>::unary(enum mbi_unary f, const mbi_view *y, const mbi_view *x, double alpha, double beta) {
  Walk<2> walk = make_walk<2>({y, x});
  T *to = (T *)y->data;
  const T *from = (const T *)x->data;
  if (is_dense(walk)) return map(f, to, from, walk.count, alpha, beta);
  return launch_elements(Map<T>{f, walk, to, from, (Wide<T>)alpha, (Wide<T>)beta}, walk.count, "unary");
}

template <class T>
mb_status Kernels<T>::unary_backward(enum mbi_unary f, void *dx, const void *dy, const void *x, const void *y, int64_t count, double alpha) {
  return map_backward(f, (T *)dx, (const T *)dy, (const T *)(x ? x : y), count, alpha);
}

MBK_SLOT(unary);
MBK_SLOT(unary_backward);

} // namespace mbk
