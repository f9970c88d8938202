// SPDX-License-Identifier: MIT
//
// sha256.c: SHA-256 as FIPS 180-4 section 6.2.2 writes it, and the same with the x86 SHA instructions
// where the processor has them (checkpoints are hashed whole: 1.5 GB for GPT-2 124M with AdamW). Both
// give the same digits; test_system.c compares them with the standard's examples.
#include "core/sha256.h"

#include <string.h>

#include "moonbow.h"
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

// First 32 bits of the fractional parts of the cube roots of the first 64 primes.
static const uint32_t K[64] = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
  0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
  0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
  0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
  0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
  0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

int mbi_sha256_portable;

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void compress_portable(uint32_t state[8], const unsigned char *data, size_t blocks) {
  for (; blocks > 0; blocks--, data += 64) {
    uint32_t w[64];
    for (int t = 0; t < 16; t++)
      w[t] = (uint32_t)data[4 * t] << 24 | (uint32_t)data[4 * t + 1] << 16 | (uint32_t)data[4 * t + 2] << 8 | data[4 * t + 3];
    for (int t = 16; t < 64; t++) {
      uint32_t s0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
      uint32_t s1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;
      w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (int t = 0; t < 64; t++) {
      uint32_t t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + K[t] + w[t];
      uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e, state[5] += f, state[6] += g, state[7] += h;
  }
}

#if defined(__x86_64__)
// Four rounds an instruction pair. The instructions want the state as (a, b, e, f) and (c, d, g, h), high
// word first, and the schedule in four registers of four words, of which the oldest is renewed each time.
__attribute__((target("sha,sse4.1,ssse3"))) static void compress_sha_ni(uint32_t state[8], const unsigned char *data, size_t blocks) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
  __m128i low = _mm_loadu_si128((const __m128i *)(const void *)state), high = _mm_loadu_si128((const __m128i *)(const void *)(state + 4));
  __m128i badc = _mm_shuffle_epi32(low, 0xB1), hgfe = _mm_shuffle_epi32(high, 0x1B);
  __m128i abef = _mm_alignr_epi8(badc, hgfe, 8), cdgh = _mm_blend_epi16(hgfe, badc, 0xF0);
  for (; blocks > 0; blocks--, data += 64) {
    __m128i abef_before = abef, cdgh_before = cdgh, w[4];
    for (int i = 0; i < 4; i++) w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(data + 16 * i)), big_endian);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) { // rounds 4 i .. 4 i + 3; w[i % 4] holds their words
      __m128i words = w[i % 4], wk = _mm_add_epi32(words, _mm_loadu_si128((const __m128i *)(const void *)(K + 4 * i)));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0E));
      if (i < 12) { // w[t] = w[t-16] + s0(w[t-15]) + w[t-7] + s1(w[t-2])
        __m128i next = _mm_sha256msg1_epu32(words, w[(i + 1) % 4]);
        next = _mm_add_epi32(next, _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4));
        w[i % 4] = _mm_sha256msg2_epu32(next, w[(i + 3) % 4]);
      }
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
  _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

static int has_sha_ni(void) {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA) && __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3");
}
#endif

static void compress(uint32_t state[8], const unsigned char *data, size_t blocks) {
#if defined(__x86_64__)
  static int fast = -1;
  if (fast < 0) fast = has_sha_ni();
  if (fast && !mbi_sha256_portable) {
    compress_sha_ni(state, data, blocks);
    return;
  }
#endif
  compress_portable(state, data, blocks);
}

void mbi_sha256_begin(mbi_sha256 *hash) {
  *hash = (mbi_sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void mbi_sha256_add(mbi_sha256 *hash, const void *data, size_t bytes) {
  const unsigned char *p = data;
  size_t held = hash->bytes % 64;
  hash->bytes += bytes;
  if (held > 0) {
    size_t part = bytes < 64 - held ? bytes : 64 - held;
    memcpy(hash->block + held, p, part);
    p += part, bytes -= part;
    if (held + part < 64) return;
    compress(hash->state, hash->block, 1);
  }
  compress(hash->state, p, bytes / 64);
  memcpy(hash->block, p + bytes / 64 * 64, bytes % 64);
}

void mbi_sha256_end(mbi_sha256 *hash, char hex[65]) {
  // 0x80, zeros, and the number of bits as a big-endian 64-bit number, to a multiple of 64 bytes.
  unsigned char padding[72] = {0x80};
  uint64_t bits = hash->bytes * 8;
  size_t zeros_end = (size_t)((119 - hash->bytes % 64) % 64 + 1);
  for (int i = 0; i < 8; i++) padding[zeros_end + (size_t)i] = (unsigned char)(bits >> (56 - 8 * i));
  mbi_sha256_add(hash, padding, zeros_end + 8);
  for (int i = 0; i < 64; i++) hex[i] = "0123456789abcdef"[hash->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
  hex[64] = '\0';
}

mb_status mb_sha256(char *hex, const void *data, int64_t bytes) {
  mbi_sha256 hash;
  mbi_sha256_begin(&hash);
  mbi_sha256_add(&hash, data, (size_t)bytes);
  mbi_sha256_end(&hash, hex);
  return MB_OK;
}
