// SPDX-License-Identifier: MIT
//
// embedding.cu: out[i] = table[ids[i]], and the sum of rows back into the table. The backward needs no atomics: a block owns
// ROWS rows of the table and goes through all ids in order, tile by tile; its threads share out the columns, so that every
// element is added up in the order of the ids.
#include "backend/cuda/bf16.h"
#include "backend/cuda/simt.h"

namespace mbk {
namespace {

template <class T> struct Look {
  T *out;
  const T *table;
  const int32_t *ids;
  int64_t columns;
  SIMT void operator()(int64_t i) const {
    int64_t row = i / columns;
    out[i] = table[ids[row] * columns + (i - row * columns)];
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
          for (int64_t c = thread; c < columns; c += THREADS) {
            T &to = dtable[row * columns + c];
            to = (T)((Wide<T>)to + (Wide<T>)dy[(tile + k) * columns + c]);
          }
        }
      });
    }
  }
};

// The largest id, which says how many rows of the table there are to own.
struct MostId {
  static constexpr int THREADS = 1024;
  struct Shared {
    ReduceRoom<int32_t> room;
  };
  const int32_t *ids;
  int64_t count;
  int32_t *most;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    Private<int32_t, THREADS> mine;
    block.each([&](int thread) {
      mine[thread] = 0;
      for (int64_t i = thread; i < count; i += THREADS) mine[thread] = ids[i] > mine[thread] ? ids[i] : mine[thread];
    });
    int32_t all = block.most(mine, shared.room);
    block.each([&](int thread) {
      if (thread == 0) *most = all;
    });
  }
};

} // namespace

template <class T> mb_status Kernels<T>::embedding(void *out, const void *table, const int32_t *ids, int64_t count, int64_t columns) {
  return launch_elements(Look<T>{(T *)out, (const T *)table, ids, columns}, count * columns, "embedding");
}

template <class T>
mb_status Kernels<T>::embedding_backward(void *dtable, const void *dy, const int32_t *ids, int64_t count, int64_t columns) {
  int32_t *found, most;
  MB_TRY(scratch_of(&found, 0, 1));
  MB_TRY(launch(MostId{ids, count, found}, 1, "embedding_backward"));
  MB_TRY(to_host(&most, found, sizeof most));
  return launch(AddRows<T>{(T *)dtable, (const T *)dy, ids, count, columns}, most / AddRows<T>::ROWS + 1, "embedding_backward");
}

MBK_SLOT(embedding);
MBK_SLOT(embedding_backward);

} // namespace mbk
