// SPDX-License-Identifier: MIT
//
// embedding.cu: out[i] = table[ids[i]], and the sum of rows back into the table. The backward needs no atomics: a block owns
// ROWS rows of the table and goes through all ids in order, tile by tile; its threads share out the columns, so that every
// element is added up in the order of the ids.
#include "backend/cuda/packs.h"

namespace mbk {
namespace {

// A thread takes N neighbouring columns.
template <class T, int N> struct Look {
  T *out;
  const T *table;
  const int32_t *ids;
  int64_t columns;
  SIMT void operator()(int64_t i) const {
    int64_t row = i / (columns / N), c = i % (columns / N) * N;
    store(out + row * columns + c, load<N>(table + ids[row] * columns + c, true), true);
  }
};

template <class T> struct AddRows {
  static constexpr int THREADS = 256, ROWS = 64;
  struct Shared {
    int32_t ids[THREADS];
  };
  T *dtable;
  const T *dy;
  const int32_t *ids;
  int64_t count, columns;
  bool wide; // all rows begin on boundaries
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t first = block.index * ROWS;
    for (int64_t tile = 0; tile < count; tile += THREADS) {
      int n = (int)(count - tile < THREADS ? count - tile : THREADS);
      block.each([&](int thread) {
        if (thread < n) shared.ids[thread] = ids[tile + thread];
      });
      block.each([&](int thread) {
        for (int k = 0; k < n; k++) {
          int64_t row = shared.ids[k];
          if (row < first || row >= first + ROWS) continue;
          T *to = dtable + row * columns;
          const T *from = dy + (tile + k) * columns;
          row_parts<lanes_of<T>(), THREADS>(thread, columns, [&](auto lanes, int64_t c) {
            constexpr int N = decltype(lanes)::value;
            Lanes<T, N> sum = load<N>(to + c, wide), more = load<N>(from + c, wide);
SIMT_UNROLL
            for (int l = 0; l < N; l++) sum.at[l] = (T)((Wide<T>)sum.at[l] + (Wide<T>)more.at[l]);
            store(to + c, sum, wide);
          });
        }
      });
    }
  }
};

} // namespace

template <class T> mb_status Kernels<T>::embedding(void *out, const void *table, const int32_t *ids, int64_t count, int64_t columns) {
  constexpr int LANES = lanes_of<T>();
  T *to = (T *)out;
  const T *from = (const T *)table;
  if (on_boundary(to) && on_boundary(from) && columns % LANES == 0)
    return launch_elements(Look<T, LANES>{to, from, ids, columns}, count * (columns / LANES), "embedding");
  return launch_elements(Look<T, 1>{to, from, ids, columns}, count * columns, "embedding");
}

template <class T>
mb_status Kernels<T>::embedding_backward(void *dtable, const void *dy, const int32_t *ids, int64_t count, int64_t rows, int64_t columns) {
  bool wide = on_boundary(dtable) && on_boundary(dy) && columns % lanes_of<T>() == 0;
  return launch(AddRows<T>{(T *)dtable, (const T *)dy, ids, count, columns, wide}, ceil_div(rows, AddRows<T>::ROWS), "embedding_backward");
}

MBK_SLOT(embedding);
MBK_SLOT(embedding_backward);

} // namespace mbk
