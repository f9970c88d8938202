// SPDX-License-Identifier: MIT
//
// seed.h: random numbers of the C tests. The seed is printed; MB_SEED repeats a run.
#ifndef MB_SEED_H
#define MB_SEED_H
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t seed_state;

static inline void seed_start(void) {
  const char *text = getenv("MB_SEED");
  seed_state = text ? strtoull(text, NULL, 10) : 20240607;
  printf("MB_SEED=%" PRIu64 "\n", seed_state);
}
// splitmix64 (Steele, Lea, Flood 2014)
static inline uint64_t seed_next(void) {
  uint64_t z = seed_state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}
static inline double seed_between(double low, double high) { return low + (high - low) * (double)(seed_next() >> 11) * 0x1p-53; }
#endif
