// SPDX-License-Identifier: MIT
//
// rng.h: Philox4x32-10, a counter-based generator (Salmon, Moraes, Dror, Shaw, "Parallel random numbers:
// as easy as 1, 2, 3", SC 2011). Word 4 i + j of stream s at step t is output j of the block with
// counter (i low, i high, t, s) under the key `seed`: any element can be computed alone, on any device.
#ifndef MBI_RNG_H
#define MBI_RNG_H
#include <stdint.h>

#ifdef __CUDACC__
#define MBI_EVERYWHERE __host__ __device__
#else
#define MBI_EVERYWHERE
#endif
MBI_EVERYWHERE static inline void mbi_philox(uint32_t out[4], uint64_t seed, uint64_t step, uint64_t stream, uint64_t block) {
  uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32) ^ (uint32_t)(step >> 32) ^ (uint32_t)(stream >> 32);
  uint32_t c2 = (uint32_t)step, c3 = (uint32_t)stream;
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#ifndef __CUDACC__
#pragma GCC unroll 10 // lets loops over blocks become vector code
#endif
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)p1;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

// The stream for the next random call; advances the generator.
typedef struct mbi_rng_key {
  uint64_t seed, step, stream;
} mbi_rng_key;
mbi_rng_key mbi_rng_next(void);
// For a call that failed after all: `key`, the last one taken, is the next one again, so that the call can
// be repeated as if it had not been.
void mbi_rng_give_back(mbi_rng_key key);
#endif
