// SPDX-License-Identifier: MIT
//
// thin_mma.h: thin.h's product of float32 in tensor cores, for more rows than memory alone would pay for. A number is three bf16,
// x = hi + mid + lo, together its 24 bits, and a product of two is the six of their products that are above 2^-24 of it:
// hi hi + (hi mid + mid hi) + (mid mid + hi lo + lo hi). Sums of a slice are float32, those of slices float64.
#ifndef MBK_CUDA_THIN_MMA_H
#define MBK_CUDA_THIN_MMA_H
#include "backend/cuda/mma.h"
#include "backend/cuda/thin.h"

namespace mbk {

constexpr int PLANES = 3;

// Element `at` of three planes that lie `step` apart.
SIMT void split(bf16 *at, int step, float x) {
SIMT_UNROLL
  for (int plane = 0; plane < PLANES; plane++) {
    bf16 part = bf16(x);
    at[plane * step] = part;
    x -= (float)part;
  }
}

// The same shares as Product<float, TRANSPOSED> makes, of a tile of 16 TILES rows and 128 columns.
template <bool TRANSPOSED, int TILES> struct TensorProduct {
  static constexpr int THREADS = 256, WARPS = THREADS / WARP, ROWS = 16 * TILES, COLUMNS = 128, DEPTH = 32, SLICE = 512;
  static constexpr int STEP_A = DEPTH + 8, STEP_B = TRANSPOSED ? DEPTH + 8 : COLUMNS + 8; // eight rows meet all banks
  static constexpr int SIZE_A = ROWS * STEP_A, SIZE_B = TRANSPOSED ? COLUMNS * STEP_B : DEPTH * STEP_B;
  static constexpr int OWN_A = ROWS * DEPTH / THREADS, OWN_B = COLUMNS * DEPTH / THREADS;
  struct Shared {
    alignas(16) bf16 a[PLANES * SIZE_A];
    alignas(16) bf16 b[PLANES * SIZE_B];
    int last;
  };
  struct Accumulators {
    PerLane<Sums4> of[TILES][2];
  };
  struct Ahead { // what a thread has read of the next DEPTH numbers
    float a[OWN_A], b[OWN_B];
  };
  float *out, *parts; // as Product's
  unsigned *arrived;
  const float *thin;
  void *const *g;
  const double *scale; // or NULL: 1
  Rows which;
  int64_t n, k, ldg, slices, row_tiles, strips;

  // Where a thread's number i of B lies.
  SIMT static int depth_of(int thread, int i) { return TRANSPOSED ? thread % DEPTH : thread / COLUMNS + i * (THREADS / COLUMNS); }
  SIMT static int column_of(int thread, int i) { return TRANSPOSED ? thread / DEPTH + i * (THREADS / DEPTH) : thread % COLUMNS; }

  SIMT void read(Ahead &ahead, const float *a, float factor, const float *b, int rows, int width, int depth, int thread) const {
SIMT_UNROLL
    for (int i = 0; i < OWN_B; i++) {
      int d = depth_of(thread, i), column = column_of(thread, i);
      ahead.b[i] = d < depth && column < width ? b[TRANSPOSED ? column * ldg + d : d * ldg + column] : 0.0f;
    }
SIMT_UNROLL
    for (int i = 0; i < OWN_A; i++) {
      int d = thread % DEPTH, row = thread / DEPTH + i * (THREADS / DEPTH);
      ahead.a[i] = d < depth && row < rows ? a[row * k + d] * factor : 0.0f;
    }
  }
  SIMT void put(Shared &shared, const Ahead &ahead, int thread) const {
SIMT_UNROLL
    for (int i = 0; i < OWN_B; i++) {
      int d = depth_of(thread, i), column = column_of(thread, i);
      split(shared.b + (TRANSPOSED ? column * STEP_B + d : d * STEP_B + column), SIZE_B, ahead.b[i]);
    }
SIMT_UNROLL
    for (int i = 0; i < OWN_A; i++) split(shared.a + (thread / DEPTH + i * (THREADS / DEPTH)) * STEP_A + thread % DEPTH, SIZE_A, ahead.a[i]);
  }

  // A warp has 16 columns; the smallest products come first.
  SIMT void multiply(const Shared &shared, Accumulators &c, const Warp &warp) const {
SIMT_UNROLL
    for (int d = 0; d < DEPTH; d += 16) {
      PerLane<Bits4> b[PLANES];
SIMT_UNROLL
      for (int plane = 0; plane < PLANES; plane++) {
        const bf16 *from = shared.b + plane * SIZE_B;
        if (TRANSPOSED) load_b_columns(b[plane], from + warp.index * 16 * STEP_B + d, STEP_B);
        else load_b_rows(b[plane], from + d * STEP_B + warp.index * 16, STEP_B);
      }
SIMT_UNROLL
      for (int tile = 0; tile < TILES; tile++) {
        PerLane<Bits4> a[PLANES];
SIMT_UNROLL
        for (int plane = 0; plane < PLANES; plane++) load_a(a[plane], shared.a + plane * SIZE_A + tile * 16 * STEP_A + d, STEP_A);
SIMT_UNROLL
        for (int sum = PLANES - 1; sum >= 0; sum--) // planes of a and b whose numbers make `sum`
SIMT_UNROLL
          for (int plane = 0; plane <= sum; plane++) {
            multiply_add<0>(c.of[tile][0], a[plane], b[sum - plane]);
            multiply_add<1>(c.of[tile][1], a[plane], b[sum - plane]);
          }
      }
    }
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t row = block.index % row_tiles * ROWS, part = block.index / row_tiles, column = part % strips * COLUMNS;
    int64_t slice = part / strips % slices, matrix = part / (strips * slices), q = which.q, have = which.of(matrix) - row;
    if (have <= 0) return;
    int64_t first = k * slice / slices, last = k * (slice + 1) / slices;
    const float *a = thin + (matrix * q + row) * k + first;
    const float *b = (const float *)g[matrix] + (TRANSPOSED ? column * ldg + first : first * ldg + column);
    float factor = scale ? (float)scale[matrix] : 1.0f;
    int length = (int)(last - first), rows = have < ROWS ? (int)have : ROWS;
    int width = n - column < COLUMNS ? (int)(n - column) : COLUMNS;
    PerWarp<Accumulators, WARPS> sums;
    Private<Ahead, THREADS> ahead;
    block.warps([&](const Warp &warp) {
      warp.each([&](int lane) {
SIMT_UNROLL
        for (int tile = 0; tile < TILES; tile++) sums[warp.index].of[tile][0][lane] = sums[warp.index].of[tile][1][lane] = Sums4{{0, 0, 0, 0}};
      });
    });
    block.each([&](int thread) { read(ahead[thread], a, factor, b, rows, width, length, thread); });
    for (int start = 0; start < length; start += DEPTH) {
      block.each([&](int thread) { put(shared, ahead[thread], thread); });
      int next = start + DEPTH;
      block.warps([&](const Warp &warp) {
        warp.each([&](int lane) {
          int thread = warp.index * WARP + lane;
          if (next < length) read(ahead[thread], a + next, factor, b + (TRANSPOSED ? next : next * ldg), rows, width, length - next, thread);
        });
        multiply(shared, sums[warp.index], warp);
      });
    }
    block.warps([&](const Warp &warp) {
      warp.each([&](int lane) {
        float *to = parts + ((matrix * slices + slice) * q + row) * n + column;
SIMT_UNROLL
        for (int tile = 0; tile < TILES; tile++)
SIMT_UNROLL
          for (int half = 0; half < 2; half++)
SIMT_UNROLL
            for (int e = 0; e < 4; e++) {
              int r = tile * 16 + c_row(lane, e), c = warp.index * 16 + half * 8 + c_column(lane, e);
              if (r < rows && c < width) to[r * n + c] = sums[warp.index].of[tile][half][lane].at[e];
            }
      });
    });
    if (slices == 1 || !is_last(block, arrived + (matrix * strips + part % strips) * row_tiles + row / ROWS, (unsigned)slices, &shared.last))
      return;
    block.each([&](int thread) {
      const float *from = parts + (matrix * slices * q + row) * n + column;
      for (int e = thread; e < rows * COLUMNS; e += THREADS) {
        int r = e / COLUMNS, c = e % COLUMNS;
        if (c >= width) continue;
        double sum = 0;
        for (int64_t s = 0; s < slices; s++) sum += (double)from[(s * q + r) * n + c];
        out[(matrix * q + row + r) * n + column + c] = (float)sum;
      }
    });
  }
};

// multiply<float, TRANSPOSED> for q > 16.
template <bool TRANSPOSED> mb_status multiply_tensor(const Thin<float> *all, int64_t groups, int slot, const char *name) {
  if (all->which.q <= 48) return multiply_by<TensorProduct<TRANSPOSED, 3>, float, TRANSPOSED>(all, groups, slot, name);
  return multiply_by<TensorProduct<TRANSPOSED, 5>, float, TRANSPOSED>(all, groups, slot, name);
}

} // namespace mbk
#endif
