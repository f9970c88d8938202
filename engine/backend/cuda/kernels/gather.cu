// SPDX-License-Identifier: MIT
//
// gather.cu: reading and adding at places given by an index. In the backward two elements can meet in one place only if
// they differ in dimension `dim` alone: a thread takes all of those, in order, so that sums come out the same every time.
#include "backend/cuda/views.h"

namespace mbk {
namespace {

struct Places {
  int ndim, dim;
  int64_t size[MB_MAX_DIMS], stride[MB_MAX_DIMS], step[MB_MAX_DIMS]; // of the index; of x; contiguous strides of the index
};

int64_t make_places(Places *p, const mbi_view *x, const int64_t *sizes, int dim) {
  int64_t count = 1;
  p->ndim = x->ndim, p->dim = dim;
  for (int d = x->ndim - 1; d >= 0; d--) {
    p->size[d] = sizes[d], p->stride[d] = x->stride[d], p->step[d] = count;
    count *= sizes[d];
  }
  return count;
}

template <class T> struct Gather {
  Places p;
  T *out;
  const T *x;
  const int32_t *index;
  SIMT void operator()(int64_t i) const {
    int64_t at = index[i] * p.stride[p.dim], rest = i;
    for (int d = p.ndim - 1; d >= 0; d--) {
      if (d != p.dim) at += rest % p.size[d] * p.stride[d];
      rest /= p.size[d];
    }
    out[i] = x[at];
  }
};

template <class T> struct GatherBackward {
  Places p;
  T *dx;
  const T *dy;
  const int32_t *index;
  SIMT void operator()(int64_t i) const { // i counts the positions of all dimensions but dim
    int64_t at = 0, from = 0;
    for (int d = p.ndim - 1; d >= 0; d--) {
      if (d == p.dim) continue;
      at += i % p.size[d] * p.stride[d];
      from += i % p.size[d] * p.step[d];
      i /= p.size[d];
    }
    for (int64_t k = 0; k < p.size[p.dim]; k++, from += p.step[p.dim]) {
      T &to = dx[at + index[from] * p.stride[p.dim]];
      to = (T)((Wide<T>)to + (Wide<T>)dy[from]);
    }
  }
};

} // namespace

template <class T> mb_status Kernels<T>::gather(void *out, const mbi_view *x, const int32_t *index, const int64_t *sizes, int dim) {
  Places p;
  int64_t count = make_places(&p, x, sizes, dim);
  return launch_elements(Gather<T>{p, (T *)out, (const T *)x->data, index}, count, "gather");
}

template <class T>
mb_status Kernels<T>::gather_backward(const mbi_view *dx, const void *dy, const int32_t *index, const int64_t *sizes, int dim) {
  Places p;
  int64_t count = make_places(&p, dx, sizes, dim);
  return launch_elements(GatherBackward<T>{p, (T *)dx->data, (const T *)dy, index}, count / sizes[dim], "gather_backward");
}

MBK_SLOT(gather);
MBK_SLOT(gather_backward);

} // namespace mbk
