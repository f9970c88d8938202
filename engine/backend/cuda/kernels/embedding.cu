// SPDX-License-Identifier: MIT
//
// embedding.cu: out[i] = table[ids[i]], and the sum of rows back into the table. The backward needs no atomics: a block owns a few
// rows of the table and goes through all ids, so that every element is added up in the order of the ids, in the wide dtype, which
// the gradient is of. Text has few ids that are frequent: their rows are read many at once, and what they wait for is that.
//
// Bytes of N ids of V, rows of C elements of e bytes, w of the wide dtype: N C e, 2 C w for each row that occurs, or C w for every
// row where nothing was there, and from the L2 cache 4 N for every 32 rows and 32 packs of columns.
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

// A block adds up ROWS rows of the table at 32 packs of columns. It goes through the ids tile by tile and makes a list of those
// that are its rows, in order; then every warp adds the rows that are its own, AT_ONCE of them under way together.
template <class T> struct AddRows {
  using W = Wide<T>;
  static constexpr int THREADS = 256, WARPS = THREADS / WARP, LANES = lanes_of<T>(), AT_ONCE = 8, RESIDENT = 2;
  static constexpr int ROWS = 32, IDS = 32, TILE = THREADS * IDS; // ids of a thread, of a tile
  struct Shared {
    W sum[ROWS][LANES][WARP];
    int32_t list[TILE]; // place in the tile times ROWS, plus row
    int8_t row[THREADS][IDS + 4]; // of the tile's ids; no two lanes meet in a bank
    int32_t count[THREADS], count_of_warp[WARPS];
    int32_t touched[ROWS];
  };
  W *dtable;
  int accumulate;
  const T *dy;
  const int32_t *ids;
  int64_t count, rows, columns, strips;
  bool wide; // all rows begin on boundaries

  // An id's row of the block's, or -1.
  SIMT int8_t row_of(int64_t first, int64_t i) const {
    int64_t row = i < count ? ids[i] - first : -1;
    return row >= 0 && row < ROWS ? (int8_t)row : (int8_t)-1;
  }

  // The list of a tile's ids that are in the block's rows; returns how many.
  SIMT int find(const Block<THREADS> &block, Shared &shared, int64_t first, int64_t tile) const {
    block.each([&](int thread) {
      for (int i = thread; i < TILE; i += THREADS) shared.row[i / IDS][i % IDS] = row_of(first, tile + i);
    });
    block.each([&](int thread) {
      int n = 0;
      for (int i = 0; i < IDS; i++) n += shared.row[thread][i] >= 0;
      shared.count[thread] = n;
    });
    block.each([&](int thread) {
      if (thread >= WARPS) return;
      int n = 0;
      for (int i = 0; i < WARP; i++) n += shared.count[thread * WARP + i];
      shared.count_of_warp[thread] = n;
    });
    block.each([&](int thread) {
      int at = 0;
      if (shared.count[thread] == 0) return;
      for (int w = 0; w < thread / WARP; w++) at += shared.count_of_warp[w];
      for (int t = thread / WARP * WARP; t < thread; t++) at += shared.count[t];
      for (int i = 0; i < IDS; i++) {
        int row = shared.row[thread][i];
        if (row >= 0) shared.list[at++] = (thread * IDS + i) * ROWS + row;
      }
    });
    int all = 0;
    for (int w = 0; w < WARPS; w++) all += shared.count_of_warp[w];
    return all;
  }

  template <class E> SIMT Lanes<E, LANES> part(const E *row, int64_t c) const {
    if (wide && c < columns) return load<LANES>(row + c, true);
    Lanes<E, LANES> v{};
SIMT_UNROLL
    for (int k = 0; k < LANES; k++)
      if (c + k < columns) v.at[k] = row[c + k];
    return v;
  }

  SIMT void add(const Warp &warp, Shared &shared, int64_t tile, int n, int64_t first_column) const {
    warp.each([&](int lane) {
      int64_t c = first_column + lane * LANES;
      for (int i = 0; i < n;) {
        int found[AT_ONCE];
        Lanes<T, LANES> v[AT_ONCE];
SIMT_UNROLL
        for (int j = 0; j < AT_ONCE; j++) {
          while (i < n && shared.list[i] % WARPS != warp.index) i++;
          found[j] = i < n ? shared.list[i++] : -1;
          if (found[j] >= 0) v[j] = part(dy + (tile + found[j] / ROWS) * columns, c);
        }
SIMT_UNROLL
        for (int j = 0; j < AT_ONCE; j++) {
          if (found[j] < 0) continue;
          int row = found[j] % ROWS;
          if (lane == 0) shared.touched[row] = 1;
SIMT_UNROLL
          for (int k = 0; k < LANES; k++) shared.sum[row][k][lane] += (W)v[j].at[k];
        }
      }
    });
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t first = block.index / strips * ROWS, first_column = block.index % strips * WARP * LANES;
    block.each([&](int thread) {
      for (int i = thread; i < ROWS * LANES * WARP; i += THREADS) shared.sum[i / (LANES * WARP)][i / WARP % LANES][i % WARP] = 0;
      if (thread < ROWS) shared.touched[thread] = 0;
    });
    for (int64_t tile = 0; tile < count; tile += TILE) {
      int n = find(block, shared, first, tile);
      block.warps([&](const Warp &warp) { add(warp, shared, tile, n, first_column); });
    }
    block.warps([&](const Warp &warp) {
      for (int row = warp.index; row < ROWS; row += WARPS) {
        if ((accumulate && !shared.touched[row]) || first + row >= rows) continue;
        warp.each([&](int lane) {
          int64_t c = first_column + lane * LANES;
          W *to = dtable + (first + row) * columns;
          Lanes<W, LANES> v{};
          if (accumulate) v = part(to, c);
SIMT_UNROLL
          for (int k = 0; k < LANES; k++) v.at[k] += shared.sum[row][k][lane];
          if (wide && c < columns) store(to + c, v, true);
          for (int k = 0; !wide && k < LANES; k++)
            if (c + k < columns) to[c + k] = v.at[k];
        });
      }
    });
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
mb_status Kernels<T>::embedding_backward(void *dtable, int accumulate, const void *dy, const int32_t *ids, int64_t count, int64_t rows,
                                         int64_t columns) {
  bool wide = on_boundary(dtable) && on_boundary(dy) && columns % lanes_of<T>() == 0;
  int64_t strips = ceil_div(columns, WARP * lanes_of<T>());
  return launch(AddRows<T>{(Wide<T> *)dtable, accumulate, (const T *)dy, ids, count, rows, columns, strips, wide},
                ceil_div(rows, AddRows<T>::ROWS) * strips, "embedding_backward");
}

MBK_SLOT(embedding);
MBK_SLOT(embedding_backward);

} // namespace mbk
