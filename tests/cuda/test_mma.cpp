// SPDX-License-Identifier: MIT
//
// test_mma.cpp: the fragments of mma.h against plain products: loading each operand from either side of it, multiplying,
// handing one product's result to the next, copies and exchanges within a warp.
#include <cmath>

#include "backend/cuda/mma.h"
#include "say.h"

using namespace mbk;

static const Warp WARP_0{0};
constexpr int STRIDE = 24;

// a (16, 16) times b (16, 16) where `rows` holds b and `columns` its transpose.
static void test_product() {
  Numbers numbers(1);
  alignas(16) bf16 a[16][STRIDE], rows[16][STRIDE], columns[16][STRIDE];
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 16; j++) {
      a[i][j] = bf16(numbers.next());
      rows[i][j] = columns[j][i] = bf16(numbers.next());
    }
  for (int by_rows = 0; by_rows < 2; by_rows++) {
    PerLane<Bits4> left, right;
    PerLane<Sums4> c[2];
    load_a(left, &a[0][0], STRIDE);
    if (by_rows) load_b_rows(right, &rows[0][0], STRIDE);
    else load_b_columns(right, &columns[0][0], STRIDE);
    WARP_0.each([&](int lane) { c[0][lane] = c[1][lane] = {{1, 1, 1, 1}}; });
    multiply_add<0>(c[0], left, right);
    multiply_add<1>(c[1], left, right);
    for (int half = 0; half < 2; half++)
      for (int lane = 0; lane < WARP; lane++)
        for (int e = 0; e < 4; e++) {
          int i = c_row(lane, e), j = half * 8 + c_column(lane, e);
          double sum = 1;
          for (int k = 0; k < 16; k++) sum += (double)(float)a[i][k] * (double)(float)rows[k][j];
          CHECK(fabs((double)c[half][lane].at[e] - sum) < 1e-5, "(%d, %d) is %g and not %g", i, j, (double)c[half][lane].at[e], sum);
        }
  }
}

// The registers of A as the PTX manual lists them, and C as A.
static void test_layout() {
  alignas(16) bf16 a[16][STRIDE];
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 16; j++) a[i][j] = bf16((float)(i * 16 + j));
  PerLane<Bits4> loaded, handed;
  PerLane<Sums4> c[2];
  load_a(loaded, &a[0][0], STRIDE);
  for (int half = 0; half < 2; half++)
    WARP_0.each([&](int lane) {
      for (int e = 0; e < 4; e++) c[half][lane].at[e] = (float)(c_row(lane, e) * 16 + half * 8 + c_column(lane, e));
    });
  as_a(WARP_0, handed, c[0], c[1]);
  for (int lane = 0; lane < WARP; lane++)
    for (int r = 0; r < 4; r++) {
      int row = lane / 4 + r % 2 * 8, column = lane % 4 * 2 + r / 2 * 8;
      uint32_t should = pack_pair((float)(row * 16 + column), (float)(row * 16 + column + 1));
      CHECK(loaded[lane].at[r] == should, "register %d of lane %d", r, lane);
      CHECK(handed[lane].at[r] == should, "register %d of lane %d, from C", r, lane);
    }
}

static void test_quads() {
  PerLane<float> sum, most;
  for (int lane = 0; lane < WARP; lane++) sum[lane] = most[lane] = (float)(lane * lane % 11);
  PerLane<float> before = sum;
  combine_quads(sum, Add());
  combine_quads(most, Most());
  for (int lane = 0; lane < WARP; lane++) {
    float all = 0, top = 0;
    for (int k = lane / 4 * 4; k < lane / 4 * 4 + 4; k++) all += before[k], top = before[k] > top ? before[k] : top;
    CHECK(sum[lane] == all && most[lane] == top, "lane %d", lane);
  }
}

static void test_copies() {
  alignas(16) bf16 from[8], to[8];
  for (int i = 0; i < 8; i++) from[i] = bf16((float)i), to[i] = bf16(-1.0f);
  copy_16(to, from, true);
  for (int i = 0; i < 8; i++) CHECK((float)to[i] == (float)i, "element %d", i);
  copy_16(to, from, false);
  for (int i = 0; i < 8; i++) CHECK((float)to[i] == 0, "element %d", i);
  copies_arrive();
}

int main() {
  begin();
  test_product();
  test_layout();
  test_quads();
  test_copies();
  return finish();
}
