// SPDX-License-Identifier: MIT
//
// views.h: walking up to four strided views of the same sizes element by element. Dimensions of size 1 are dropped and
// neighbours that every view walks as one are merged, so that most walks have one or two dimensions; an element's number
// becomes an offset by divisions.
#ifndef MBK_CUDA_VIEWS_H
#define MBK_CUDA_VIEWS_H
#include "backend/cuda/bf16.h"
#include "backend/cuda/simt.h"

namespace mbk {

template <int VIEWS> struct Walk {
  int ndim;
  int64_t count;
  int64_t size[MB_MAX_DIMS];
  int64_t stride[VIEWS][MB_MAX_DIMS];

  // Offsets of element i in every view.
  SIMT_BOTH void offsets(int64_t i, int64_t (&at)[VIEWS]) const {
SIMT_UNROLL
    for (int v = 0; v < VIEWS; v++) at[v] = 0;
    for (int d = ndim - 1; d > 0; d--) {
      int64_t rest = i / size[d], place = i - rest * size[d];
SIMT_UNROLL
      for (int v = 0; v < VIEWS; v++) at[v] += place * stride[v][d];
      i = rest;
    }
SIMT_UNROLL
    for (int v = 0; v < VIEWS; v++) at[v] += i * stride[v][0];
  }
};

// Views of equal sizes; strides may be 0. A walk has at least one dimension.
template <int VIEWS> Walk<VIEWS> make_walk(const mbi_view *const (&views)[VIEWS]) {
  Walk<VIEWS> w{};
  w.count = 1;
  for (int d = 0; d < views[0]->ndim; d++) {
    int64_t size = views[0]->size[d];
    if (size == 1) continue;
    w.count *= size;
    bool merges = w.ndim > 0;
    for (int v = 0; v < VIEWS && merges; v++) merges = w.stride[v][w.ndim - 1] == views[v]->stride[d] * size;
    if (!merges) w.size[w.ndim++] = 1;
    w.size[w.ndim - 1] *= size;
    for (int v = 0; v < VIEWS; v++) w.stride[v][w.ndim - 1] = views[v]->stride[d];
  }
  if (w.ndim == 0) w.ndim = 1, w.size[0] = 1;
  return w;
}

// Whether every view walks contiguous memory.
template <int VIEWS> bool is_dense(const Walk<VIEWS> &w) {
  for (int v = 0; v < VIEWS; v++)
    if (w.ndim != 1 || (w.count > 1 && w.stride[v][0] != 1)) return false;
  return true;
}

} // namespace mbk
#endif
