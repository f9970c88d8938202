// SPDX-License-Identifier: MIT
//
// rotary.cu: turns pairs (x[i], x[i + D/2]) by position * base^(-2i/D). Angles are made in float64: a position of some
// thousands times a frequency near 1 would cost float32 its last digits.
#include "backend/cuda/math.h"

namespace mbk {
namespace {

template <class T> struct Rotary {
  T *y;
  const T *x;
  int64_t T_, H, D, batch, time, head, step; // sizes; strides of x
  double base;
  int64_t first_position;
  int direction;
  SIMT void operator()(int64_t k) const { // pair k of (B, T, H, D / 2)
    int64_t half = D / 2, i = k % half, row = k / half, h = row % H, t = row / H % T_, b = row / H / T_;
    double angle = (double)(first_position + t) * pow_of(base, -2.0 * (double)i / (double)D);
    Wide<T> cosine = (Wide<T>)cos_of(angle), sine = (Wide<T>)(direction * sin_of(angle));
    const T *from = x + b * batch + t * time + h * head;
    Wide<T> p = from[i * step], q = from[(half + i) * step];
    y[row * D + i] = (T)(p * cosine - q * sine);
    y[row * D + half + i] = (T)(q * cosine + p * sine);
  }
};

} // namespace

template <class T> mb_status Kernels<T>::rotary(void *y, const mbi_view *x, double base, int64_t first_position, int direction) {
  int64_t pairs = x->size[0] * x->size[1] * x->size[2] * (x->size[3] / 2);
  return launch_elements(Rotary<T>{(T *)y, (const T *)x->data, x->size[1], x->size[2], x->size[3], x->stride[0], x->stride[1], x->stride[2],
                                   x->stride[3], base, first_position, direction},
                         pairs, "rotary");
}

MBK_SLOT(rotary);

} // namespace mbk
