// SPDX-License-Identifier: MIT
//
// attention.cu: causal attention, o = softmax(scale q k^T) v with keys up to the query's own position, without a (T, T)
// matrix (Dao et al. 2022, FlashAttention). A block owns TILE queries of one head and goes over the keys tile by tile,
// keeping a running maximum and sum of each query; the backward computes the probabilities again from lse:
//   P = exp(scale q k^T - lse),   dS = P (dO v^T - delta),   delta = sum_d dO O
//   dq = scale dS k      a block owns a tile of queries
//   dv = P^T dO, dk = scale dS^T q      a block owns a tile of keys; no atomics, so bits repeat
//
// Tiles lie in shared memory with one element of padding a row. Thread (i, j) of 16 x 16 computes the elements (i + 16 a,
// j + 16 b) of a product, so that a warp reads different banks. Heads are D = 32, 64, 128 or 256 wide; others are padded with
// zeros to the next. This file is the scalar one, of float32 and float64; bf16 goes through tensor cores, attention_bf16.cu.
#include <type_traits>

#include "backend/cuda/attention.h"

namespace mbk {
namespace {

constexpr int SIDE = 16;

template <class T, int D> struct Sizes {
  static constexpr int TILE = (sizeof(T) == 4 ? 64 : 32) / (D > 128 ? 2 : 1), ROWS = TILE / SIDE, WIDE = D / SIDE;
  using Wide = T[TILE][D + 1];
  using Square = T[TILE][TILE + 1];
};

// Rows [first, first + TILE) of a head into shared memory, zeros beyond its end.
template <class T, int D, class E> SIMT void load_tile(typename Sizes<T, D>::Wide &to, const Head<const E> &from, int64_t first, int64_t time, int width, int thread) {
  constexpr int TILE = Sizes<T, D>::TILE;
  for (int e = thread; e < TILE * D; e += SIDE * SIDE) {
    int row = e / D, d = e % D;
    to[row][d] = first + row < time && d < width ? (T)from.data[(first + row) * from.time + d] : T(0);
  }
}

// sum_d a[row][d] b[column][d] for a thread's elements.
template <class T, int D> SIMT void rows_by_rows(T (&out)[Sizes<T, D>::ROWS][Sizes<T, D>::ROWS], const typename Sizes<T, D>::Wide &a,
                                                 const typename Sizes<T, D>::Wide &b, int thread) {
  constexpr int ROWS = Sizes<T, D>::ROWS;
  int i = thread / SIDE, j = thread % SIDE;
  SIMT_UNROLL
  for (int r = 0; r < ROWS; r++)
    SIMT_UNROLL
    for (int c = 0; c < ROWS; c++) out[r][c] = 0;
  for (int d = 0; d < D; d++) {
    T x[ROWS], y[ROWS];
    SIMT_UNROLL
    for (int r = 0; r < ROWS; r++) x[r] = a[i + SIDE * r][d], y[r] = b[j + SIDE * r][d];
    SIMT_UNROLL
    for (int r = 0; r < ROWS; r++)
      SIMT_UNROLL
      for (int c = 0; c < ROWS; c++) out[r][c] += x[r] * y[c];
  }
}

// out += weights (rows, k) b (k, D), or weights^T when TRANSPOSED.
template <class T, int D, bool TRANSPOSED>
SIMT void square_by_rows(T (&out)[Sizes<T, D>::ROWS][Sizes<T, D>::WIDE], const typename Sizes<T, D>::Square &weights,
                         const typename Sizes<T, D>::Wide &b, int thread) {
  constexpr int ROWS = Sizes<T, D>::ROWS, WIDE = Sizes<T, D>::WIDE, TILE = Sizes<T, D>::TILE;
  int i = thread / SIDE, j = thread % SIDE;
  for (int k = 0; k < TILE; k++) {
    T x[ROWS];
    SIMT_UNROLL
    for (int r = 0; r < ROWS; r++) x[r] = TRANSPOSED ? weights[k][i + SIDE * r] : weights[i + SIDE * r][k];
    SIMT_UNROLL
    for (int c = 0; c < WIDE; c++) {
      T y = b[k][j + SIDE * c];
      SIMT_UNROLL
      for (int r = 0; r < ROWS; r++) out[r][c] += x[r] * y;
    }
  }
}

// Elements of a thread, from phase to phase.
template <class T, int D> struct Result {
  T at[Sizes<T, D>::ROWS][Sizes<T, D>::WIDE];
};
template <class T, int D> SIMT void clear(Result<T, D> &x) {
  SIMT_UNROLL
  for (int r = 0; r < Sizes<T, D>::ROWS; r++)
    SIMT_UNROLL
    for (int c = 0; c < Sizes<T, D>::WIDE; c++) x.at[r][c] = 0;
}

template <class T, int D, class E>
SIMT void write(E *data, int64_t stride, const Result<T, D> &x, T factor, int64_t first, int64_t time, int width, int thread) {
  int i = thread / SIDE, j = thread % SIDE;
  SIMT_UNROLL
  for (int r = 0; r < Sizes<T, D>::ROWS; r++)
    SIMT_UNROLL
    for (int c = 0; c < Sizes<T, D>::WIDE; c++) {
      int64_t row = first + i + SIDE * r;
      int d = j + SIDE * c;
      if (row < time && d < width) data[row * stride + d] = (E)(factor * x.at[r][c]);
    }
}

// ----- forward --------------------------------------------------------------------------------------------------

template <class E, int D> struct Forward {
  using T = Wide<E>;
  static constexpr int THREADS = SIDE * SIDE, TILE = Sizes<T, D>::TILE, ROWS = Sizes<T, D>::ROWS, WIDE = Sizes<T, D>::WIDE;
  struct Shared {
    typename Sizes<T, D>::Wide q, kv;
    typename Sizes<T, D>::Square s;
    T most[TILE], sum[TILE], factor[TILE];
  };
  mbi_attention a;
  mbi_heads out, q, k, v;
  T *lse; // (B, H, T) or NULL

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t tiles = ceil_div(a.time, TILE), head = block.index / tiles, tile = tiles - 1 - block.index % tiles; // long rows first
    int64_t first = tile * TILE;
    int width = (int)a.width;
    Head<const E> keys = head_of<const E>(k, a.heads, head), values = head_of<const E>(v, a.heads, head);
    Private<Result<T, D>, THREADS> result;
    block.each([&](int thread) {
      load_tile<T, D>(shared.q, head_of<const E>(q, a.heads, head), first, a.time, width, thread);
      clear<T, D>(result[thread]);
      if (thread < TILE) shared.most[thread] = T(-INFINITY), shared.sum[thread] = 0;
    });
    for (int64_t key = 0; key <= first; key += TILE) {
      block.each([&](int thread) { load_tile<T, D>(shared.kv, keys, key, a.time, width, thread); });
      block.each([&](int thread) { scores(shared, first, key, thread); });
      block.each([&](int thread) {
        if (thread < TILE) soften(shared, thread);
        load_tile<T, D>(shared.kv, values, key, a.time, width, thread);
      });
      block.each([&](int thread) {
        Result<T, D> &mine = result[thread];
        SIMT_UNROLL
        for (int r = 0; r < ROWS; r++)
          SIMT_UNROLL
          for (int c = 0; c < WIDE; c++) mine.at[r][c] *= shared.factor[thread / SIDE + SIDE * r];
        square_by_rows<T, D, false>(mine.at, shared.s, shared.kv, thread);
      });
    }
    E *to = head_of<E>(out, a.heads, head).data;
    block.each([&](int thread) {
      Result<T, D> &mine = result[thread];
      SIMT_UNROLL
      for (int r = 0; r < ROWS; r++)
        SIMT_UNROLL
        for (int c = 0; c < WIDE; c++) mine.at[r][c] /= shared.sum[thread / SIDE + SIDE * r];
      write<T, D>(to, out.time, mine, T(1), first, a.time, width, thread);
      if (lse && thread < TILE && first + thread < a.time) lse[head * a.time + first + thread] = shared.most[thread] + log_of(shared.sum[thread]);
    });
  }

  SIMT void scores(Shared &shared, int64_t first, int64_t key, int thread) const {
    T s[ROWS][ROWS];
    rows_by_rows<T, D>(s, shared.q, shared.kv, thread);
    int i = thread / SIDE, j = thread % SIDE;
    SIMT_UNROLL
    for (int r = 0; r < ROWS; r++)
      SIMT_UNROLL
      for (int c = 0; c < ROWS; c++)
        shared.s[i + SIDE * r][j + SIDE * c] = key + j + SIDE * c <= first + i + SIDE * r ? (T)a.scale * s[r][c] : T(-INFINITY);
  }

  // One query's scores become weights; the first key is never masked, so `most` is finite from the first tile on.
  SIMT void soften(Shared &shared, int row) const {
    T most = shared.most[row], sum = 0;
    for (int c = 0; c < TILE; c++) most = shared.s[row][c] > most ? shared.s[row][c] : most;
    for (int c = 0; c < TILE; c++) {
      T weight = exp_of(shared.s[row][c] - most);
      shared.s[row][c] = weight;
      sum += weight;
    }
    shared.factor[row] = exp_of(shared.most[row] - most);
    shared.sum[row] = shared.sum[row] * shared.factor[row] + sum;
    shared.most[row] = most;
  }
};

// ----- backward -------------------------------------------------------------------------------------------------

template <class T, int D> struct BackwardShared {
  typename Sizes<T, D>::Wide q, dout, k, v;
  typename Sizes<T, D>::Square s;
};

// What both kernels of the backward have in common.
template <class T, int D> struct Backward {
  static constexpr int THREADS = SIDE * SIDE, TILE = Sizes<T, D>::TILE, ROWS = Sizes<T, D>::ROWS;
  using Shared = BackwardShared<T, D>;
  mbi_attention a;
  mbi_attention_gradients g;
  mbi_heads q, k, v;
  const T *lse, *delta;

  // Elements (query, key) of P and dS.
  SIMT void weights(T (&p)[ROWS][ROWS], T (&ds)[ROWS][ROWS], const Shared &shared, int64_t head, int64_t first, int64_t key, int thread) const {
    rows_by_rows<T, D>(p, shared.q, shared.k, thread);
    rows_by_rows<T, D>(ds, shared.dout, shared.v, thread);
    int i = thread / SIDE, j = thread % SIDE;
    SIMT_UNROLL
    for (int r = 0; r < ROWS; r++) {
      int64_t query = first + i + SIDE * r, at = head * a.time + (query < a.time ? query : 0);
      T row_lse = lse[at], row_delta = delta[at];
      SIMT_UNROLL
      for (int c = 0; c < ROWS; c++) {
        bool is_seen = key + j + SIDE * c <= query && query < a.time;
        p[r][c] = is_seen ? exp_of((T)a.scale * p[r][c] - row_lse) : T(0);
        ds[r][c] = p[r][c] * (ds[r][c] - row_delta);
      }
    }
  }
  SIMT static void put(Shared &shared, const T (&x)[ROWS][ROWS], int thread) {
    SIMT_UNROLL
    for (int r = 0; r < ROWS; r++)
      SIMT_UNROLL
      for (int c = 0; c < ROWS; c++) shared.s[thread / SIDE + SIDE * r][thread % SIDE + SIDE * c] = x[r][c];
  }
};

template <class E, int D> struct QueryGradient : Backward<Wide<E>, D> {
  using T = Wide<E>;
  using Base = Backward<T, D>;
  using Base::a, Base::g, Base::q, Base::k, Base::v, Base::TILE, Base::ROWS, Base::THREADS;
  SIMT void run(const Block<Base::THREADS> &block, typename Base::Shared &shared) const {
    int64_t tiles = ceil_div(a.time, TILE), head = block.index / tiles, first = (tiles - 1 - block.index % tiles) * TILE;
    int width = (int)a.width;
    Private<Result<T, D>, Base::THREADS> dq;
    block.each([&](int thread) {
      load_tile<T, D>(shared.q, head_of<const E>(q, a.heads, head), first, a.time, width, thread);
      load_tile<T, D>(shared.dout, head_of<const E>(g.dout, a.heads, head), first, a.time, width, thread);
      clear<T, D>(dq[thread]);
    });
    for (int64_t key = 0; key <= first; key += TILE) {
      block.each([&](int thread) {
        load_tile<T, D>(shared.k, head_of<const E>(k, a.heads, head), key, a.time, width, thread);
        load_tile<T, D>(shared.v, head_of<const E>(v, a.heads, head), key, a.time, width, thread);
      });
      block.each([&](int thread) {
        T p[Base::ROWS][Base::ROWS], ds[Base::ROWS][Base::ROWS];
        this->weights(p, ds, shared, head, first, key, thread);
        Base::put(shared, ds, thread);
      });
      block.each([&](int thread) { square_by_rows<T, D, false>(dq[thread].at, shared.s, shared.k, thread); });
    }
    E *to = head_of<E>(g.dq, a.heads, head).data;
    block.each([&](int thread) { write<T, D>(to, g.dq.time, dq[thread], (T)a.scale, first, a.time, width, thread); });
  }
};

template <class E, int D> struct KeyGradient : Backward<Wide<E>, D> {
  using T = Wide<E>;
  using Base = Backward<T, D>;
  using Base::a, Base::g, Base::q, Base::k, Base::v, Base::TILE, Base::ROWS, Base::THREADS;
  struct Scores {
    T at[Base::ROWS][Base::ROWS];
  };
  SIMT void run(const Block<Base::THREADS> &block, typename Base::Shared &shared) const {
    int64_t tiles = ceil_div(a.time, TILE), head = block.index / tiles, key = block.index % tiles * TILE;
    int width = (int)a.width;
    Private<Result<T, D>, Base::THREADS> dk, dv;
    Private<Scores, Base::THREADS> ds;
    block.each([&](int thread) {
      load_tile<T, D>(shared.k, head_of<const E>(k, a.heads, head), key, a.time, width, thread);
      load_tile<T, D>(shared.v, head_of<const E>(v, a.heads, head), key, a.time, width, thread);
      clear<T, D>(dk[thread]), clear<T, D>(dv[thread]);
    });
    for (int64_t first = key; first < a.time; first += TILE) {
      block.each([&](int thread) {
        load_tile<T, D>(shared.q, head_of<const E>(q, a.heads, head), first, a.time, width, thread);
        load_tile<T, D>(shared.dout, head_of<const E>(g.dout, a.heads, head), first, a.time, width, thread);
      });
      block.each([&](int thread) {
        T p[Base::ROWS][Base::ROWS];
        this->weights(p, ds[thread].at, shared, head, first, key, thread);
        Base::put(shared, p, thread);
      });
      block.each([&](int thread) { square_by_rows<T, D, true>(dv[thread].at, shared.s, shared.dout, thread); });
      block.each([&](int thread) { Base::put(shared, ds[thread].at, thread); });
      block.each([&](int thread) { square_by_rows<T, D, true>(dk[thread].at, shared.s, shared.q, thread); });
    }
    block.each([&](int thread) {
      if (g.dk.data) write<T, D>(head_of<E>(g.dk, a.heads, head).data, g.dk.time, dk[thread], (T)a.scale, key, a.time, width, thread);
      if (g.dv.data) write<T, D>(head_of<E>(g.dv, a.heads, head).data, g.dv.time, dv[thread], T(1), key, a.time, width, thread);
    });
  }
};

// ----- choosing the width -----------------------------------------------------------------------------------------

template <class T, int D>
mb_status forward(const mbi_attention *s, const mbi_heads *out, void *lse, const mbi_heads *q, const mbi_heads *k, const mbi_heads *v) {
  int64_t tiles = ceil_div(s->time, Sizes<Wide<T>, D>::TILE);
  return launch(Forward<T, D>{*s, *out, *q, *k, *v, (Wide<T> *)lse}, s->batch * s->heads * tiles, "attention");
}

template <class T, int D>
mb_status backward(const mbi_attention *s, const mbi_attention_gradients *g, const void *lse, const mbi_heads *q, const mbi_heads *k,
                   const mbi_heads *v) {
  int64_t rows = s->batch * s->heads * s->time, blocks = s->batch * s->heads * ceil_div(s->time, Sizes<Wide<T>, D>::TILE);
  Wide<T> *delta;
  MB_TRY(scratch_of(&delta, 0, rows));
  MB_TRY(launch_elements(Delta<T>{*s, g->dout, g->out, delta}, rows, "attention_backward"));
  Backward<Wide<T>, D> common{*s, *g, *q, *k, *v, (const Wide<T> *)lse, delta};
  if (g->dq.data) MB_TRY(launch(QueryGradient<T, D>{common}, blocks, "attention_backward"));
  if (!g->dk.data && !g->dv.data) return MB_OK;
  return launch(KeyGradient<T, D>{common}, blocks, "attention_backward");
}

mb_status too_wide(int64_t width) {
  return fail(MB_ERR_SHAPE, "attention on cuda: heads of width %lld, at most 256 was expected", (long long)width);
}

} // namespace

template <class T>
mb_status Kernels<T>::attention(const mbi_attention *s, const mbi_heads *out, void *lse, const mbi_heads *q, const mbi_heads *k,
                                const mbi_heads *v) {
  if constexpr (std::is_same<T, bf16>::value) return s->width <= 256 ? attention_bf16(s, out, (float *)lse, q, k, v) : too_wide(s->width);
  else if (s->width <= 32) return forward<T, 32>(s, out, lse, q, k, v);
  else if (s->width <= 64) return forward<T, 64>(s, out, lse, q, k, v);
  else if (s->width <= 128) return forward<T, 128>(s, out, lse, q, k, v);
  else return s->width <= 256 ? forward<T, 256>(s, out, lse, q, k, v) : too_wide(s->width);
}

template <class T>
mb_status Kernels<T>::attention_backward(const mbi_attention *s, const mbi_attention_gradients *g, const void *lse, const mbi_heads *q,
                                         const mbi_heads *k, const mbi_heads *v) {
  if constexpr (std::is_same<T, bf16>::value)
    return s->width <= 256 ? attention_backward_bf16(s, g, (const float *)lse, q, k, v) : too_wide(s->width);
  else if (s->width <= 32) return backward<T, 32>(s, g, lse, q, k, v);
  else if (s->width <= 64) return backward<T, 64>(s, g, lse, q, k, v);
  else if (s->width <= 128) return backward<T, 128>(s, g, lse, q, k, v);
  else return s->width <= 256 ? backward<T, 256>(s, g, lse, q, k, v) : too_wide(s->width);
}

MBK_SLOT(attention);
MBK_SLOT(attention_backward);

} // namespace mbk
