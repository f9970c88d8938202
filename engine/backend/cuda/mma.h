// SPDX-License-Identifier: MIT
//
// mma.h: products of small bf16 matrices in tensor cores, by whole warps: mma.sync.m16n8k16 with float32 sums, and ldmatrix to
// load what it takes from shared memory (PTX ISA, "Matrix fragments for mma.m16n8k16"). On the host the same fragments, held
// by the same lanes, are loaded and multiplied in plain C++, so that kernels written with them run there step by step.
//
// A fragment spreads a matrix over the 32 lanes. With g = lane / 4 and t = lane % 4, two neighbouring bf16 in a register:
//   A (16, 16)   register 0: row g,  columns 2t, 2t + 1      1: row g + 8      2: row g, columns + 8      3: row g + 8, columns + 8
//   B (16, 8)    register 0: rows 2t, 2t + 1, column g       1: rows + 8       so four registers hold B for 16 columns
//   C (16, 8)    float 0, 1: row g,  columns 2t, 2t + 1      2, 3: row g + 8
// So C of two neighbouring products (16, 8), rounded to bf16, is A of the next product: as_a.
#ifndef MBK_CUDA_MMA_H
#define MBK_CUDA_MMA_H
#include "backend/cuda/packs.h"

namespace mbk {

// Four 8 x 8 matrices of bf16, or half of one of float.
struct Bits4 {
  uint32_t at[4];
};
struct Sums4 {
  float at[4];
};

SIMT uint32_t pack_pair(float low, float high) {
#ifdef __CUDA_ARCH__
  __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &both, sizeof bits);
  return bits;
#else
  return (uint32_t)bf16(low).bits | (uint32_t)bf16(high).bits << 16;
#endif
}

// A 16 x 16 piece of shared memory, rows `stride` elements apart, each on a 16-byte boundary, as four matrices of 8 x 8: in
// the order of rows (0, 0), (0, 8), (8, 0), (8, 8) or of columns (0, 0), (8, 0), (0, 8), (8, 8); each as it is or transposed.
template <bool BY_ROWS, bool TRANSPOSED> SIMT void load_matrices(PerLane<Bits4> &out, const bf16 *from, int stride) {
#ifdef __CUDACC__
#ifdef __CUDA_ARCH__
  int lane = (int)threadIdx.x % WARP, matrix = lane / 8;
  int row = (BY_ROWS ? matrix / 2 : matrix % 2) * 8 + lane % 8, column = (BY_ROWS ? matrix % 2 : matrix / 2) * 8;
  uint32_t address = (uint32_t)__cvta_generic_to_shared(from + row * stride + column);
  uint32_t(&x)[4] = out.value.at;
  if (TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(address));
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(address));
#endif
#else
  if (!on_boundary(from) || stride % 8 != 0) __builtin_trap(); // as the GPU would
  for (int lane = 0; lane < WARP; lane++)
    for (int matrix = 0; matrix < 4; matrix++) {
      const bf16 *m = from + (BY_ROWS ? matrix / 2 : matrix % 2) * 8 * stride + (BY_ROWS ? matrix % 2 : matrix / 2) * 8;
      int g = lane / 4, t = lane % 4 * 2;
      bf16 low = TRANSPOSED ? m[t * stride + g] : m[g * stride + t], high = TRANSPOSED ? m[(t + 1) * stride + g] : m[g * stride + t + 1];
      out[lane].at[matrix] = (uint32_t)low.bits | (uint32_t)high.bits << 16;
    }
#endif
}

// A (16, 16) from memory whose rows are A's rows.
SIMT void load_a(PerLane<Bits4> &a, const bf16 *from, int stride) { load_matrices<false, false>(a, from, stride); }
// B (16, 16) from memory whose rows are B's columns, or B's rows.
SIMT void load_b_columns(PerLane<Bits4> &b, const bf16 *from, int stride) { load_matrices<true, false>(b, from, stride); }
SIMT void load_b_rows(PerLane<Bits4> &b, const bf16 *from, int stride) { load_matrices<false, true>(b, from, stride); }

// c += a b for columns 0-7 (half 0) or 8-15 (half 1) of b.
template <int HALF> SIMT void multiply_add(PerLane<Sums4> &c, const PerLane<Bits4> &a, const PerLane<Bits4> &b) {
#ifdef __CUDACC__
#ifdef __CUDA_ARCH__
  float(&x)[4] = c.value.at;
  const uint32_t(&y)[4] = a.value.at, (&z)[4] = b.value.at;
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(x[0]), "+f"(x[1]), "+f"(x[2]), "+f"(x[3])
      : "r"(y[0]), "r"(y[1]), "r"(y[2]), "r"(y[3]), "r"(z[2 * HALF]), "r"(z[2 * HALF + 1]));
#endif
#else
  float left[16][16], right[16][8];
  auto value = [](uint32_t bits, int k) {
    bf16 x;
    x.bits = (uint16_t)(bits >> 16 * k);
    return (float)x;
  };
  for (int lane = 0; lane < WARP; lane++)
    for (int k = 0; k < 2; k++) {
      int g = lane / 4, t = lane % 4 * 2 + k;
      for (int r = 0; r < 4; r++) left[g + r % 2 * 8][t + r / 2 * 8] = value(a[lane].at[r], k);
      for (int r = 0; r < 2; r++) right[t + r * 8][g] = value(b[lane].at[2 * HALF + r], k);
    }
  for (int lane = 0; lane < WARP; lane++)
    for (int e = 0; e < 4; e++) {
      float sum = 0;
      for (int k = 0; k < 16; k++) sum += left[lane / 4 + e / 2 * 8][k] * right[k][lane % 4 * 2 + e % 2];
      c[lane].at[e] += sum;
    }
#endif
}

// Two neighbouring C (16, 8), rounded, as A (16, 16).
SIMT void as_a(const Warp &warp, PerLane<Bits4> &a, const PerLane<Sums4> &first, const PerLane<Sums4> &second) {
  warp.each([&](int lane) {
    const float(&x)[4] = first[lane].at, (&y)[4] = second[lane].at;
    a[lane] = {{pack_pair(x[0], x[1]), pack_pair(x[2], x[3]), pack_pair(y[0], y[1]), pack_pair(y[2], y[3])}};
  });
}

// Where element e of a lane's C lies.
SIMT_BOTH constexpr int c_row(int lane, int e) { return lane / 4 + e / 2 * 8; }
SIMT_BOTH constexpr int c_column(int lane, int e) { return lane % 4 * 2 + e % 2; }

// ----- copies into shared memory that are under way while the block computes ---------------------------------------

// 16 bytes, or zeros if not `exists`; there after copies_arrive() of the same thread and a barrier.
SIMT void copy_16(bf16 *to, const bf16 *from, bool exists) {
#ifdef __CUDA_ARCH__
  uint32_t address = (uint32_t)__cvta_generic_to_shared(to), bytes = exists ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
#else
  if (exists) store(to, load<8>(from, true), true);
  else store(to, Lanes<bf16, 8>{}, true);
#endif
}
SIMT void copies_arrive() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

} // namespace mbk
#endif
