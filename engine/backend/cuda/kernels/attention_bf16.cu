// SPDX-License-Identifier: MIT
//
// attention_bf16.cu: causal attention of bf16 heads in tensor cores (mma.h), as attention.cu defines it; sums and softmax are
// float32 (Dao 2023, FlashAttention-2). A block of 4 warps owns 64 rows, 16 a warp, and goes over tiles of the other side; the
// next tile is copied into a second buffer while the block computes. What a product leaves in a warp's registers is what
// the next one takes: probabilities and their gradients never lie in memory.
//   forward     owns queries: S = q k^T, P = exp(scale S - running maximum), o += P v
//   dq          owns queries: S, dP = dO v^T, dS = P (dP - delta), dq += dS k
//   dk, dv      owns keys:    S^T = k q^T, dv += P^T dO, dP^T = v dO^T, dk += dS^T q
// Every sum has one owner and a fixed order: bits repeat. P is made with exp2, its factor log2(e) within the scale.
//
// Count for B = 64, H = 12, T = 1024, D = 64: a product of half a (T, T) matrix with D columns is 51.5 GFLOP. Forward 2 of
// them, backward 7 (S and dP are made in both of its kernels): 0.103 and 0.361 TFLOP, 0.104 and 0.365 ms at 989 TFLOP/s. Memory:
// 0.40 and 0.81 GB at least, 0.08 and 0.17 ms at 4.8 TB/s. 0.40e9 exponentials forward, twice as many backward, are 0.11 and
// 0.22 ms at 16 a clock of each of 132 multiprocessors. So products bound it; mma.sync reaches about two thirds of what
// wgmma can. None of this was measured.
#include <initializer_list>

#include "backend/cuda/attention.h"
#include "backend/cuda/mma.h"

namespace mbk {
namespace {

constexpr int OWNED = 64, WARPS = 4, BLOCK_THREADS = WARPS * WARP;
constexpr float LOG2_E = 1.44269504088896340736f, LN_2 = 0.69314718055994530942f;

SIMT float exp2_of(float x) { return exp2f(x); }

// A line of a tile is 16 bytes longer than a row, so that eight of them begin in different banks.
template <int D> struct Sizes {
  static constexpr int LINE = D + 8;
  // A tile of the side that is not owned, as large as registers allow: keys in the forward and for dq, queries for dk, dv.
  static constexpr int KEYS = D > 128 ? 32 : 64, KEYS_BACKWARD = D > 64 ? 32 : 64, QUERIES = D > 64 ? 32 : 64;
};

// Rows [first, first + ROWS) of a head into a tile, zeros beyond its end and its width; `aligned`: rows begin on boundaries and
// are whole packs.
template <int D, int ROWS>
SIMT void copy_rows(bf16 (&to)[ROWS][Sizes<D>::LINE], const Head<const bf16> &from, int64_t first, const mbi_attention &a, bool aligned, int thread) {
  constexpr int PACKS = D / 8;
  for (int i = thread; i < ROWS * PACKS; i += BLOCK_THREADS) {
    int row = i / PACKS, d = i % PACKS * 8;
    bool exists = first + row < a.time && d < a.width;
    const bf16 *source = from.data + (exists ? (first + row) * from.time + d : 0);
    if (aligned) {
      copy_16(&to[row][d], source, exists);
      continue;
    }
    for (int k = 0; k < 8; k++) to[row][d + k] = exists && d + k < a.width ? source[k] : bf16(0.0f);
  }
}

// A warp's 16 rows of sums, in D / 8 fragments, through its own rows of a tile.
template <int D> SIMT void stage(const Warp &warp, bf16 (*lines)[Sizes<D>::LINE], const PerLane<Sums4> (&x)[D / 8]) {
  warp.each([&](int lane) {
SIMT_UNROLL
    for (int j = 0; j < D / 8; j++)
SIMT_UNROLL
      for (int e = 0; e < 4; e += 2) {
        uint32_t both = pack_pair(x[j][lane].at[e], x[j][lane].at[e + 1]);
        memcpy(&lines[warp.index * 16 + c_row(lane, e)][j * 8 + c_column(lane, e)], &both, sizeof both);
      }
  });
}
template <int D>
SIMT void write_rows(const Head<bf16> &to, const bf16 (&from)[OWNED][Sizes<D>::LINE], int64_t first, const mbi_attention &a, bool aligned, int thread) {
  constexpr int PACKS = D / 8;
  for (int i = thread; i < OWNED * PACKS; i += BLOCK_THREADS) {
    int row = i / PACKS, d = i % PACKS * 8;
    if (first + row >= a.time || d >= a.width) continue;
    bf16 *target = to.data + (first + row) * to.time + d;
    if (aligned) store(target, load<8>(&from[row][d], true), true);
    else
      for (int k = 0; k < 8 && d + k < a.width; k++) target[k] = from[row][d + k];
  }
}

template <int N> SIMT void clear(const Warp &warp, PerLane<Sums4> (&x)[N]) {
  warp.each([&](int lane) {
SIMT_UNROLL
    for (int j = 0; j < N; j++) x[j][lane] = {};
  });
}

// out (16, N) = a b^T: 16 rows of a tile with N rows of another, over D columns.
template <int D, int N>
SIMT void rows_by_rows(const Warp &warp, PerLane<Sums4> (&out)[N / 8], const bf16 (*a)[Sizes<D>::LINE], const bf16 (*b)[Sizes<D>::LINE]) {
  clear(warp, out);
SIMT_UNROLL
  for (int step = 0; step < D / 16; step++) {
    PerLane<Bits4> left, right;
    load_a(left, &a[0][step * 16], Sizes<D>::LINE);
SIMT_UNROLL
    for (int n = 0; n < N / 16; n++) {
      load_b_columns(right, &b[n * 16][step * 16], Sizes<D>::LINE);
      multiply_add<0>(out[2 * n], left, right);
      multiply_add<1>(out[2 * n + 1], left, right);
    }
  }
}

// out (16, D) += x (16, N) b (N, D), x rounded to bf16.
template <int D, int N>
SIMT void sums_by_rows(const Warp &warp, PerLane<Sums4> (&out)[D / 8], const PerLane<Sums4> (&x)[N / 8], const bf16 (*b)[Sizes<D>::LINE]) {
SIMT_UNROLL
  for (int n = 0; n < N / 16; n++) {
    PerLane<Bits4> left, right;
    as_a(warp, left, x[2 * n], x[2 * n + 1]);
SIMT_UNROLL
    for (int step = 0; step < D / 16; step++) {
      load_b_rows(right, &b[n * 16][step * 16], Sizes<D>::LINE);
      multiply_add<0>(out[2 * step], left, right);
      multiply_add<1>(out[2 * step + 1], left, right);
    }
  }
}

// Blocks of a launch and what each owns: rows [first, first + OWNED) of a head.
SIMT_BOTH int64_t blocks_of(const mbi_attention &a) { return a.batch * a.heads * ceil_div(a.time, OWNED); }
struct Owner {
  int64_t head, first;
};
// Tiles of a head with the most work come first: late queries, early keys.
SIMT_BOTH Owner owner_of(const mbi_attention &a, int64_t block, bool owns_queries) {
  int64_t tiles = ceil_div(a.time, OWNED), tile = block % tiles;
  return {block / tiles, (owns_queries ? tiles - 1 - tile : tile) * OWNED};
}

// ----- forward --------------------------------------------------------------------------------------------------

template <int D> struct Forward {
  static constexpr int THREADS = BLOCK_THREADS, KEYS = Sizes<D>::KEYS, LINE = Sizes<D>::LINE;
  struct Shared {
    alignas(16) bf16 q[OWNED][LINE], k[2][KEYS][LINE], v[2][KEYS][LINE];
  };
  // A lane's share of 16 queries, rows c_row(lane, 0) and c_row(lane, 2); sums are of the lane's own columns.
  struct State {
    PerLane<Sums4> out[D / 8];
    PerLane<float> most[2], sum[2];
  };
  mbi_attention a;
  mbi_heads out, q, k, v;
  float *lse; // (B, H, T) or NULL
  bool aligned;

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    Owner owner = owner_of(a, block.index, true);
    Head<const bf16> keys = head_of<const bf16>(k, a.heads, owner.head), values = head_of<const bf16>(v, a.heads, owner.head);
    PerWarp<State, WARPS> state;
    auto fetch = [&](int64_t key, int thread) {
      int buffer = (int)(key / KEYS % 2);
      copy_rows<D>(shared.k[buffer], keys, key, a, aligned, thread);
      copy_rows<D>(shared.v[buffer], values, key, a, aligned, thread);
    };
    block.warps([&](const Warp &warp) {
      State &mine = state[warp.index];
      clear(warp, mine.out);
      warp.each([&](int lane) {
        for (int r = 0; r < 2; r++) mine.most[r][lane] = -INFINITY, mine.sum[r][lane] = 0;
        int thread = warp.index * WARP + lane;
        copy_rows<D>(shared.q, head_of<const bf16>(q, a.heads, owner.head), owner.first, a, aligned, thread);
        fetch(0, thread);
        copies_arrive();
      });
    });
    for (int64_t key = 0; key < owner.first + OWNED; key += KEYS)
      block.warps([&](const Warp &warp) {
        warp.each([&](int lane) {
          if (key + KEYS < owner.first + OWNED) fetch(key + KEYS, warp.index * WARP + lane);
        });
        int64_t row = owner.first + warp.index * 16;
        if (key < row + 16) tile(warp, state[warp.index], shared, key, row);
        copies_arrive();
      });
    finish(block, shared, state, owner);
  }

  SIMT void tile(const Warp &warp, State &mine, Shared &shared, int64_t key, int64_t row) const {
    int buffer = (int)(key / KEYS % 2);
    PerLane<Sums4> s[KEYS / 8];
    rows_by_rows<D, KEYS>(warp, s, shared.q + warp.index * 16, shared.k[buffer]);
    PerLane<float> most[2];
    float scale = (float)a.scale * LOG2_E;
    warp.each([&](int lane) {
      most[0][lane] = mine.most[0][lane], most[1][lane] = mine.most[1][lane];
SIMT_UNROLL
      for (int j = 0; j < KEYS / 8; j++)
SIMT_UNROLL
        for (int e = 0; e < 4; e++) {
          float &x = s[j][lane].at[e], &top = most[e / 2][lane];
          x = key + j * 8 + c_column(lane, e) <= row + c_row(lane, e) ? scale * x : -INFINITY;
          top = x > top ? x : top;
        }
    });
    combine_quads(most[0], Most());
    combine_quads(most[1], Most());
    warp.each([&](int lane) {
SIMT_UNROLL
      for (int r = 0; r < 2; r++) {
        float factor = exp2_of(mine.most[r][lane] - most[r][lane]), sum = 0;
        mine.most[r][lane] = most[r][lane];
SIMT_UNROLL
        for (int j = 0; j < KEYS / 8; j++)
SIMT_UNROLL
          for (int e = 2 * r; e < 2 * r + 2; e++) sum += s[j][lane].at[e] = exp2_of(s[j][lane].at[e] - most[r][lane]);
        mine.sum[r][lane] = mine.sum[r][lane] * factor + sum;
SIMT_UNROLL
        for (int j = 0; j < D / 8; j++)
SIMT_UNROLL
          for (int e = 2 * r; e < 2 * r + 2; e++) mine.out[j][lane].at[e] *= factor;
      }
    });
    sums_by_rows<D, KEYS>(warp, mine.out, s, shared.v[buffer]);
  }

  SIMT void finish(const Block<THREADS> &block, Shared &shared, PerWarp<State, WARPS> &state, const Owner &owner) const {
    block.warps([&](const Warp &warp) {
      State &mine = state[warp.index];
      combine_quads(mine.sum[0], Add());
      combine_quads(mine.sum[1], Add());
      warp.each([&](int lane) {
SIMT_UNROLL
        for (int r = 0; r < 2; r++) {
          float factor = 1 / mine.sum[r][lane];
SIMT_UNROLL
          for (int j = 0; j < D / 8; j++)
SIMT_UNROLL
            for (int e = 2 * r; e < 2 * r + 2; e++) mine.out[j][lane].at[e] *= factor;
          int64_t row = owner.first + warp.index * 16 + c_row(lane, 2 * r);
          if (lse && lane % 4 == 0 && row < a.time) lse[owner.head * a.time + row] = LN_2 * mine.most[r][lane] + log_of(mine.sum[r][lane]);
        }
      });
      stage<D>(warp, shared.q, mine.out);
    });
    block.each([&](int thread) { write_rows<D>(head_of<bf16>(out, a.heads, owner.head), shared.q, owner.first, a, aligned, thread); });
  }
};

// ----- backward -------------------------------------------------------------------------------------------------

struct Given {
  mbi_attention a;
  mbi_attention_gradients g;
  mbi_heads q, k, v;
  const float *lse, *delta;
  bool aligned;
};

template <int D> struct QueryGradient {
  static constexpr int THREADS = BLOCK_THREADS, KEYS = Sizes<D>::KEYS_BACKWARD, LINE = Sizes<D>::LINE;
  struct Shared {
    alignas(16) bf16 q[OWNED][LINE], dout[OWNED][LINE], k[2][KEYS][LINE], v[2][KEYS][LINE];
  };
  struct State {
    PerLane<Sums4> dq[D / 8];
    PerLane<float> lse[2], delta[2]; // of rows c_row(lane, 0) and c_row(lane, 2); lse times log2(e)
  };
  Given in;

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    const mbi_attention &a = in.a;
    Owner owner = owner_of(a, block.index, true);
    Head<const bf16> keys = head_of<const bf16>(in.k, a.heads, owner.head), values = head_of<const bf16>(in.v, a.heads, owner.head);
    PerWarp<State, WARPS> state;
    auto fetch = [&](int64_t key, int thread) {
      int buffer = (int)(key / KEYS % 2);
      copy_rows<D>(shared.k[buffer], keys, key, a, in.aligned, thread);
      copy_rows<D>(shared.v[buffer], values, key, a, in.aligned, thread);
    };
    block.warps([&](const Warp &warp) {
      State &mine = state[warp.index];
      clear(warp, mine.dq);
      warp.each([&](int lane) {
        int thread = warp.index * WARP + lane;
        copy_rows<D>(shared.q, head_of<const bf16>(in.q, a.heads, owner.head), owner.first, a, in.aligned, thread);
        copy_rows<D>(shared.dout, head_of<const bf16>(in.g.dout, a.heads, owner.head), owner.first, a, in.aligned, thread);
        fetch(0, thread);
SIMT_UNROLL
        for (int r = 0; r < 2; r++) {
          int64_t row = owner.first + warp.index * 16 + c_row(lane, 2 * r), at = owner.head * a.time + (row < a.time ? row : 0);
          mine.lse[r][lane] = row < a.time ? LOG2_E * in.lse[at] : INFINITY; // no probability beyond the end
          mine.delta[r][lane] = row < a.time ? in.delta[at] : 0.0f;
        }
        copies_arrive();
      });
    });
    for (int64_t key = 0; key < owner.first + OWNED; key += KEYS)
      block.warps([&](const Warp &warp) {
        warp.each([&](int lane) {
          if (key + KEYS < owner.first + OWNED) fetch(key + KEYS, warp.index * WARP + lane);
        });
        int64_t row = owner.first + warp.index * 16;
        if (key < row + 16) tile(warp, state[warp.index], shared, key, row);
        copies_arrive();
      });
    block.warps([&](const Warp &warp) {
      State &mine = state[warp.index];
      warp.each([&](int lane) {
SIMT_UNROLL
        for (int j = 0; j < D / 8; j++)
SIMT_UNROLL
          for (int e = 0; e < 4; e++) mine.dq[j][lane].at[e] *= (float)a.scale;
      });
      stage<D>(warp, shared.q, mine.dq);
    });
    block.each([&](int thread) { write_rows<D>(head_of<bf16>(in.g.dq, a.heads, owner.head), shared.q, owner.first, a, in.aligned, thread); });
  }

  SIMT void tile(const Warp &warp, State &mine, Shared &shared, int64_t key, int64_t row) const {
    int buffer = (int)(key / KEYS % 2);
    PerLane<Sums4> s[KEYS / 8], ds[KEYS / 8];
    rows_by_rows<D, KEYS>(warp, s, shared.q + warp.index * 16, shared.k[buffer]);
    rows_by_rows<D, KEYS>(warp, ds, shared.dout + warp.index * 16, shared.v[buffer]);
    float scale = (float)in.a.scale * LOG2_E;
    warp.each([&](int lane) {
SIMT_UNROLL
      for (int j = 0; j < KEYS / 8; j++)
SIMT_UNROLL
        for (int e = 0; e < 4; e++) {
          bool is_seen = key + j * 8 + c_column(lane, e) <= row + c_row(lane, e);
          float p = is_seen ? exp2_of(scale * s[j][lane].at[e] - mine.lse[e / 2][lane]) : 0.0f;
          ds[j][lane].at[e] = p * (ds[j][lane].at[e] - mine.delta[e / 2][lane]);
        }
    });
    sums_by_rows<D, KEYS>(warp, mine.dq, ds, shared.k[buffer]);
  }
};

// Heads wider than 128 have no registers for both sums: dk and dv are made one after the other.
template <int D, bool HAS_DK, bool HAS_DV> struct KeyGradient {
  static constexpr int THREADS = BLOCK_THREADS, QUERIES = Sizes<D>::QUERIES, LINE = Sizes<D>::LINE;
  struct Shared {
    alignas(16) bf16 k[OWNED][LINE], v[OWNED][LINE], q[2][QUERIES][LINE], dout[2][QUERIES][LINE];
    float lse[2][QUERIES], delta[2][QUERIES];
  };
  struct State {
    PerLane<Sums4> dk[HAS_DK ? D / 8 : 1], dv[HAS_DV ? D / 8 : 1];
  };
  Given in;

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    const mbi_attention &a = in.a;
    Owner owner = owner_of(a, block.index, false);
    Head<const bf16> queries = head_of<const bf16>(in.q, a.heads, owner.head), gradients = head_of<const bf16>(in.g.dout, a.heads, owner.head);
    PerWarp<State, WARPS> state;
    auto fetch = [&](int64_t query, int thread) {
      int buffer = (int)(query / QUERIES % 2);
      copy_rows<D>(shared.q[buffer], queries, query, a, in.aligned, thread);
      copy_rows<D>(shared.dout[buffer], gradients, query, a, in.aligned, thread);
      if (thread >= QUERIES) return;
      bool exists = query + thread < a.time;
      int64_t at = owner.head * a.time + (exists ? query + thread : 0);
      shared.lse[buffer][thread] = exists ? LOG2_E * in.lse[at] : INFINITY; // no probability beyond the end
      shared.delta[buffer][thread] = exists ? in.delta[at] : 0.0f;
    };
    block.warps([&](const Warp &warp) {
      State &mine = state[warp.index];
      clear(warp, mine.dk);
      clear(warp, mine.dv);
      warp.each([&](int lane) {
        int thread = warp.index * WARP + lane;
        copy_rows<D>(shared.k, head_of<const bf16>(in.k, a.heads, owner.head), owner.first, a, in.aligned, thread);
        copy_rows<D>(shared.v, head_of<const bf16>(in.v, a.heads, owner.head), owner.first, a, in.aligned, thread);
        fetch(owner.first, thread);
        copies_arrive();
      });
    });
    for (int64_t query = owner.first; query < a.time; query += QUERIES)
      block.warps([&](const Warp &warp) {
        warp.each([&](int lane) {
          if (query + QUERIES < a.time) fetch(query + QUERIES, warp.index * WARP + lane);
        });
        int64_t row = owner.first + warp.index * 16;
        if (row < query + QUERIES) tile(warp, state[warp.index], shared, query, row);
        copies_arrive();
      });
    finish(block, shared, state, owner);
  }

  // Rows are keys here, columns queries.
  SIMT void tile(const Warp &warp, State &mine, Shared &shared, int64_t query, int64_t row) const {
    int buffer = (int)(query / QUERIES % 2);
    PerLane<Sums4> p[QUERIES / 8], ds[QUERIES / 8];
    rows_by_rows<D, QUERIES>(warp, p, shared.k + warp.index * 16, shared.q[buffer]);
    float scale = (float)in.a.scale * LOG2_E;
    warp.each([&](int lane) {
SIMT_UNROLL
      for (int j = 0; j < QUERIES / 8; j++)
SIMT_UNROLL
        for (int e = 0; e < 4; e++) {
          int column = j * 8 + c_column(lane, e);
          bool is_seen = row + c_row(lane, e) <= query + column;
          p[j][lane].at[e] = is_seen ? exp2_of(scale * p[j][lane].at[e] - shared.lse[buffer][column]) : 0.0f;
        }
    });
    if constexpr (HAS_DV) sums_by_rows<D, QUERIES>(warp, mine.dv, p, shared.dout[buffer]);
    if constexpr (HAS_DK) {
      rows_by_rows<D, QUERIES>(warp, ds, shared.v + warp.index * 16, shared.dout[buffer]);
      warp.each([&](int lane) {
SIMT_UNROLL
        for (int j = 0; j < QUERIES / 8; j++)
SIMT_UNROLL
          for (int e = 0; e < 4; e++) ds[j][lane].at[e] = p[j][lane].at[e] * (ds[j][lane].at[e] - shared.delta[buffer][j * 8 + c_column(lane, e)]);
      });
      sums_by_rows<D, QUERIES>(warp, mine.dk, ds, shared.q[buffer]);
    }
  }

  SIMT void finish(const Block<THREADS> &block, Shared &shared, PerWarp<State, WARPS> &state, const Owner &owner) const {
    const mbi_attention &a = in.a;
    block.warps([&](const Warp &warp) {
      State &mine = state[warp.index];
      if constexpr (HAS_DK) {
        warp.each([&](int lane) {
SIMT_UNROLL
          for (int j = 0; j < D / 8; j++)
SIMT_UNROLL
            for (int e = 0; e < 4; e++) mine.dk[j][lane].at[e] *= (float)a.scale;
        });
        stage<D>(warp, shared.k, mine.dk);
      }
      if constexpr (HAS_DV) stage<D>(warp, shared.v, mine.dv);
    });
    block.each([&](int thread) {
      if (HAS_DK && in.g.dk.data) write_rows<D>(head_of<bf16>(in.g.dk, a.heads, owner.head), shared.k, owner.first, a, in.aligned, thread);
      if (HAS_DV && in.g.dv.data) write_rows<D>(head_of<bf16>(in.g.dv, a.heads, owner.head), shared.v, owner.first, a, in.aligned, thread);
    });
  }
};

// ----- choosing the width -----------------------------------------------------------------------------------------

// Whether every row of D elements begins on a boundary and is whole packs.
bool is_aligned(const mbi_attention *s, std::initializer_list<const mbi_heads *> all) {
  bool aligned = s->width % 8 == 0;
  for (const mbi_heads *x : all) aligned = aligned && on_boundary(x->data) && (x->batch | x->time | x->head) % 8 == 0;
  return aligned;
}

template <int D> mb_status forward(const mbi_attention *s, const mbi_heads *out, float *lse, const mbi_heads *q, const mbi_heads *k, const mbi_heads *v) {
  return launch(Forward<D>{*s, *out, *q, *k, *v, lse, is_aligned(s, {out, q, k, v})}, blocks_of(*s), "attention");
}

template <int D> mb_status backward(const Given &in) {
  const char *name = "attention_backward";
  int64_t blocks = blocks_of(in.a);
  if (in.g.dq.data) MB_TRY(launch(QueryGradient<D>{in}, blocks, name));
  if constexpr (D > 128) {
    if (in.g.dk.data) MB_TRY(launch(KeyGradient<D, true, false>{in}, blocks, name));
    return in.g.dv.data ? launch(KeyGradient<D, false, true>{in}, blocks, name) : MB_OK;
  } else {
    return in.g.dk.data || in.g.dv.data ? launch(KeyGradient<D, true, true>{in}, blocks, name) : MB_OK;
  }
}

} // namespace

mb_status own_attention_bf16(const mbi_attention *s, const mbi_heads *out, float *lse, const mbi_heads *q, const mbi_heads *k,
                             const mbi_heads *v) {
  if (s->width <= 32) return forward<32>(s, out, lse, q, k, v);
  if (s->width <= 64) return forward<64>(s, out, lse, q, k, v);
  return s->width <= 128 ? forward<128>(s, out, lse, q, k, v) : forward<256>(s, out, lse, q, k, v);
}

mb_status own_attention_backward_bf16(const mbi_attention *s, const mbi_attention_gradients *g, const float *lse, const mbi_heads *q,
                                      const mbi_heads *k, const mbi_heads *v) {
  int64_t rows = s->batch * s->heads * s->time;
  float *delta;
  MB_TRY(scratch_of(&delta, 0, rows));
  MB_TRY(launch_elements(Delta<bf16>{*s, g->dout, g->out, delta}, rows, "attention_backward"));
  Given in{*s, *g, *q, *k, *v, lse, delta, is_aligned(s, {&g->dout, &g->dq, &g->dk, &g->dv, q, k, v})};
  if (s->width <= 32) return backward<32>(in);
  if (s->width <= 64) return backward<64>(in);
  return s->width <= 128 ? backward<128>(in) : backward<256>(in);
}

} // namespace mbk
