// SPDX-License-Identifier: MIT
//
// attention_cached.cu: one query at a time over kept keys and values, o = softmax(scale q k^T) v, for generation. A block
// owns a (batch, head, query) and goes over the keys in tiles with a running maximum and sum, as attention.cu does: first
// every thread makes the score of one key, then the threads share the columns of the values, in PARTS groups that each take
// a share of the tile's keys. Heads are at most 256 wide.
#include "backend/cuda/math.h"

namespace mbk {
namespace {

constexpr int TILE = 256, MOST_WIDTH = 256;

template <class T> struct Cached {
  using W = Wide<T>;
  static constexpr int THREADS = TILE;
  struct Shared {
    ReduceRoom<W> room;
    W query[MOST_WIDTH], weight[TILE], part[TILE];
  };
  mbi_attention a;
  mbi_heads out, q, k, v;
  int64_t first;

  static SIMT int64_t head_at(const mbi_heads &x, int64_t batch, int64_t head) { return batch * x.batch + head * x.head; }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t t = block.index % a.time, head = block.index / a.time % a.heads, batch = block.index / a.time / a.heads, keys = first + t + 1;
    const T *query = (const T *)q.data + head_at(q, batch, head) + t * q.time;
    const T *key_rows = (const T *)k.data + head_at(k, batch, head), *value_rows = (const T *)v.data + head_at(v, batch, head);
    int width = (int)a.width, columns = (width + WARP - 1) / WARP * WARP, parts = THREADS / columns;
    Private<W, THREADS> mine, result;
    W most = W(-INFINITY), sum = 0;
    block.each([&](int thread) {
      if (thread < width) shared.query[thread] = (W)a.scale * (W)query[thread];
      result[thread] = 0;
    });
    for (int64_t start = 0; start < keys; start += TILE) {
      int count = (int)(keys - start < TILE ? keys - start : TILE);
      block.each([&](int thread) {
        W score = 0;
        const T *row = key_rows + (start + thread) * k.time;
        if (thread < count)
          for (int d = 0; d < width; d++) score += shared.query[d] * (W)row[d];
        mine[thread] = thread < count ? score : W(-INFINITY);
      });
      W tile_most = block.most(mine, shared.room), now = tile_most > most ? tile_most : most, factor = exp_of(most - now);
      block.each([&](int thread) {
        mine[thread] = thread < count ? exp_of(mine[thread] - now) : W(0);
        shared.weight[thread] = mine[thread];
      });
      sum = sum * factor + block.sum(mine, shared.room);
      most = now;
      block.each([&](int thread) {
        int part = thread / columns, d = thread % columns;
        if (part >= parts || d >= width) return;
        W add = 0;
        for (int key = part; key < count; key += parts) add += shared.weight[key] * (W)value_rows[(start + key) * v.time + d];
        result[thread] = result[thread] * factor + add;
      });
    }
    block.each([&](int thread) { shared.part[thread] = result[thread]; });
    block.each([&](int thread) {
      if (thread >= width) return;
      W all = 0;
      for (int part = 0; part < parts; part++) all += shared.part[part * columns + thread];
      ((T *)out.data + head_at(out, batch, head) + t * out.time)[thread] = (T)(all / sum);
    });
  }
};

} // namespace

template <class T>
mb_status Kernels<T>::attention_cached(const mbi_attention *s, const mbi_heads *out, const mbi_heads *q, const mbi_heads *k,
                                       const mbi_heads *v, int64_t first) {
  if (s->width > MOST_WIDTH)
    return fail(MB_ERR_SHAPE, "attention on cuda: heads of width %lld, at most %d was expected", (long long)s->width, MOST_WIDTH);
  return launch(Cached<T>{*s, *out, *q, *k, *v, first}, s->batch * s->heads * s->time, "attention_cached");
}

MBK_SLOT(attention_cached);

} // namespace mbk
