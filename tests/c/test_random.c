// SPDX-License-Identifier: MIT
//
// test_random.c: the generator against its published test vectors, and the fills against the words they are
// made of, element by element, at lengths around the sizes in which the kernels work.
#include "check.h"
#include "core/rng.h"

static void known_answers(void) {
  // Random123's kat_vectors, philox4x32 with 10 rounds.
  static const uint32_t expected[3][4] = {
    {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
    {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
  };
  uint32_t words[4];
  mbi_philox(words, 0, 0, 0, 0);
  CHECK(memcmp(words, expected[0], sizeof words) == 0);
  // The upper halves of step and stream are folded into the second counter word: equal ones cancel.
  mbi_philox(words, UINT64_MAX, 0xffffffff, 0xffffffff, UINT64_MAX);
  CHECK(memcmp(words, expected[1], sizeof words) == 0);
  mbi_philox(words, 0x299f31d0a4093822, 0x13198a2e, 0x03707344, 0x85a308d3243f6a88);
  CHECK(memcmp(words, expected[2], sizeof words) == 0);
}

static double unit(uint32_t word) { return (word >> 8) / 16777216.0; }

// Number i of a normal fill, in double precision, from the words of its block.
static double normal(const uint32_t *words, int64_t i) {
  const uint32_t *pair = words + i / 2 * 2;
  double radius = sqrt(-2 * log(unit(pair[0]) + 1 / 16777216.0)), angle = 2 * 3.14159265358979323846 * unit(pair[1]);
  return i % 2 ? radius * sin(angle) : radius * cos(angle);
}

static double value(mb_tensor *t, int64_t i) {
  void *data;
  CHECK_OK(mb_tensor_data(&data, t));
  return mb_tensor_dtype(t) == MB_F64 ? ((double *)data)[i] : (double)((float *)data)[i];
}

static void fills_match_their_words(mb_dtype dtype, int64_t n) {
  uint32_t *words = malloc((size_t)(n + 3) / 4 * 4 * sizeof *words);
  CHECK(words != NULL);
  mb_tensor *t;
  mb_rng_set(99, 7, 3);
  CHECK_OK(mb_randn(&t, dtype, 1, &n, MB_CPU));
  mb_rng_words(words, (n + 3) / 4 * 4, 99, 7, 3);
  for (int64_t i = 0; i < n; i++) CHECK_NEAR(value(t, i), normal(words, i), 4e-6);
  CHECK_OK(mb_uniform_(t, -3.0, 1.0));
  mb_rng_words(words, n, 99, 7, 4); // each call takes the next stream
  for (int64_t i = 0; i < n; i++) CHECK_NEAR(value(t, i), -3.0 + 4.0 * unit(words[i]), 1e-6);
  mb_tensor_release(t);
  free(words);
}

static void moments(void) {
  int64_t n = 1000003;
  mb_tensor *t;
  mb_rng_seed(5);
  CHECK_OK(mb_randn(&t, MB_F32, 1, &n, MB_CPU));
  double sum = 0, squares = 0, fourth = 0, largest = 0;
  for (int64_t i = 0; i < n; i++) {
    double x = value(t, i);
    sum += x, squares += x * x, fourth += x * x * x * x;
    largest = fmax(largest, fabs(x));
  }
  // Six standard errors: 1, sqrt 2 and sqrt 96 over sqrt n.
  CHECK_NEAR(sum / (double)n, 0, 6e-3);
  CHECK_NEAR(squares / (double)n, 1, 6 * 1.42e-3);
  CHECK_NEAR(fourth / (double)n, 3, 6 * 9.8e-3);
  CHECK(largest > 4 && largest < 6);
  mb_tensor_release(t);
}

int main(void) {
  known_answers();
  static const int64_t lengths[] = {1, 2, 3, 4, 5, 63, 64, 255, 256, 257, 511, 513, 70001};
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    fills_match_their_words(MB_F32, lengths[i]);
    fills_match_their_words(MB_F64, lengths[i]);
  }
  moments();
  return check_end();
}
