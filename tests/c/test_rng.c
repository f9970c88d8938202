// SPDX-License-Identifier: MIT
//
// test_rng.c: Philox4x32-10 against the known answers that come with the authors' Random123 library
// (kat_vectors), the bookkeeping of (seed, step, stream), and the distributions made from the words.
#include "check.h"
#include "core/rng.h"

// Counter words c0..c3 are block low, block high, step, stream; key words are the seed's low and high half.
static void known_answers(void) {
  static const struct {
    uint32_t counter[4], key[2], answer[4];
  } rows[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    uint32_t out[4];
    uint64_t seed = rows[i].key[0] | (uint64_t)rows[i].key[1] << 32, block = rows[i].counter[0] | (uint64_t)rows[i].counter[1] << 32;
    mbi_philox(out, seed, rows[i].counter[2], rows[i].counter[3], block);
    for (int j = 0; j < 4; j++) CHECK_EQ(out[j], rows[i].answer[j]);
  }
}

static void words_are_the_blocks_in_order(void) {
  uint32_t all[10], few[3], block[4];
  mb_rng_words(all, 10, 7, 8, 9);
  mb_rng_words(few, 3, 7, 8, 9);
  for (uint64_t b = 0; b < 3; b++) {
    mbi_philox(block, 7, 8, 9, b);
    for (uint64_t j = 0; j < 4 && 4 * b + j < 10; j++) CHECK_EQ(all[4 * b + j], block[j]);
  }
  for (int i = 0; i < 3; i++) CHECK_EQ(few[i], all[i]);
}

static void streams(void) {
  uint64_t seed, step, stream;
  mb_rng_seed(5);
  mb_rng_get(&seed, &step, &stream);
  CHECK(seed == 5 && step == 0 && stream == 0);
  mb_tensor *a, *b, *c;
  int64_t n = 1000;
  CHECK_OK(mb_randn(&a, MB_F64, 1, &n, MB_CPU));
  mb_rng_get(&seed, &step, &stream);
  CHECK(stream == 1);
  CHECK_OK(mb_randn(&b, MB_F64, 1, &n, MB_CPU));
  mb_rng_set(5, 0, 0);
  CHECK_OK(mb_randn(&c, MB_F64, 1, &n, MB_CPU));
  void *x, *y, *z;
  CHECK_OK(mb_tensor_data(&x, a));
  CHECK_OK(mb_tensor_data(&y, b));
  CHECK_OK(mb_tensor_data(&z, c));
  CHECK(memcmp(x, z, 8000) == 0);
  CHECK(memcmp(x, y, 8000) != 0);
  mb_rng_set_step(3);
  mb_rng_get(&seed, &step, &stream);
  CHECK(seed == 5 && step == 3 && stream == 0);
  CHECK_OK(mb_randn_(b, 0, 1));
  CHECK(memcmp(x, y, 8000) != 0);
  mb_tensor_release(a), mb_tensor_release(b), mb_tensor_release(c);
}

static void a_failed_call_takes_no_stream(void) {
  uint64_t seed, step, stream;
  mb_tensor *t;
  int64_t none = 0, one = 1;
  mb_rng_seed(1);
  CHECK(mb_randn(&t, MB_F32, 1, &none, MB_CPU) != MB_OK);
  CHECK(mb_uniform(&t, MB_U8, 1, &one, MB_CPU, 0, 1) != MB_OK);
  mb_rng_get(&seed, &step, &stream);
  CHECK(stream == 0);
}

// Mean, variance and fourth moment of 200,000 numbers, within five standard errors.
static void distributions(void) {
  enum { N = 200000 };
  static double x[N];
  int64_t n = N;
  mb_tensor *t;
  mb_rng_seed(11);
  for (int dtype = MB_F32; dtype <= MB_F64; dtype++) {
    mb_tensor *wide;
    CHECK_OK(mb_randn(&t, (mb_dtype)dtype, 1, &n, MB_CPU));
    CHECK_OK(mb_cast(&wide, t, MB_F64));
    CHECK_OK(mb_tensor_to_host(x, wide));
    double m1 = 0, m2 = 0, m4 = 0;
    for (int i = 0; i < N; i++) m1 += x[i] / N, m2 += x[i] * x[i] / N, m4 += pow(x[i], 4) / N;
    CHECK_NEAR(m1, 0, 5 / sqrt(N));
    CHECK_NEAR(m2, 1, 5 * sqrt(2.0 / N));
    CHECK_NEAR(m4, 3, 5 * sqrt(96.0 / N));
    mb_tensor_release(t), mb_tensor_release(wide);
    CHECK_OK(mb_uniform(&t, (mb_dtype)dtype, 1, &n, MB_CPU, -2, 6));
    CHECK_OK(mb_cast(&wide, t, MB_F64));
    CHECK_OK(mb_tensor_to_host(x, wide));
    m1 = 0, m2 = 0;
    for (int i = 0; i < N; i++) {
      CHECK(x[i] >= -2 && x[i] < 6);
      m1 += x[i] / N, m2 += (x[i] - 2) * (x[i] - 2) / N;
    }
    CHECK_NEAR(m1, 2, 5 * sqrt(64.0 / 12 / N));
    CHECK_NEAR(m2, 64.0 / 12, 0.05);
    mb_tensor_release(t), mb_tensor_release(wide);
  }
}

// Element i depends on i alone: not on the shape, the strides or the number of threads.
static void fills_do_not_depend_on_layout(void) {
  mb_tensor *flat, *square, *turned;
  double a[600], b[600];
  int64_t n = 600, threads = mb_threads();
  mb_rng_seed(3);
  CHECK_OK(mb_randn(&flat, MB_F64, 1, &n, MB_CPU));
  CHECK_OK(mb_empty(&square, MB_F64, 2, (int64_t[]){20, 30}, MB_CPU));
  CHECK_OK(mb_transpose(&turned, square, 0, 1));
  mb_rng_seed(3);
  CHECK_OK(mb_threads_set(1));
  CHECK_OK(mb_randn_(turned, 0, 1));
  CHECK_OK(mb_threads_set((int)threads));
  CHECK_OK(mb_tensor_to_host(a, flat));
  CHECK_OK(mb_tensor_to_host(b, turned));
  CHECK(memcmp(a, b, sizeof a) == 0);
  mb_rng_seed(3);
  CHECK_OK(mb_uniform_(flat, 0, 1));
  mb_rng_seed(3);
  CHECK_OK(mb_uniform_(turned, 0, 1));
  CHECK_OK(mb_tensor_to_host(a, flat));
  CHECK_OK(mb_tensor_to_host(b, turned));
  CHECK(memcmp(a, b, sizeof a) == 0);
  mb_tensor_release(flat), mb_tensor_release(square), mb_tensor_release(turned);
}

int main(void) {
  known_answers();
  words_are_the_blocks_in_order();
  streams();
  a_failed_call_takes_no_stream();
  distributions();
  fills_do_not_depend_on_layout();
  return check_end();
}
