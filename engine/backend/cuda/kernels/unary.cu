// SPDX-License-Identifier: MIT
//
// unary.cu: y = f(x) and dx = dy f'(x), an element a thread.
#include "backend/cuda/math.h"
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

template <class T> struct MapBackward {
  enum mbi_unary f;
  T *dx;
  const T *dy, *v;
  Wide<T> alpha;
  SIMT void operator()(int64_t i) const {
    Wide<T> at = v ? (Wide<T>)v[i] : Wide<T>(0);
    dx[i] = (T)((Wide<T>)dy[i] * slope_of(f, at, alpha));
  }
};

} // namespace

template <class T> mb_status Kernels<T>::unary(enum mbi_unary f, const mbi_view *y, const mbi_view *x, double alpha, double beta) {
  Walk<2> walk = make_walk<2>({y, x});
  return launch_elements(Map<T>{f, walk, (T *)y->data, (const T *)x->data, (Wide<T>)alpha, (Wide<T>)beta}, walk.count, "unary");
}

template <class T>
mb_status Kernels<T>::unary_backward(enum mbi_unary f, void *dx, const void *dy, const void *x, const void *y, int64_t count, double alpha) {
  return launch_elements(MapBackward<T>{f, (T *)dx, (const T *)dy, (const T *)(x ? x : y), (Wide<T>)alpha}, count, "unary_backward");
}

MBK_SLOT(unary);
MBK_SLOT(unary_backward);

} // namespace mbk
