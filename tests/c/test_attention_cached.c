// SPDX-License-Identifier: MIT
//
// test_attention_cached.c: attention over kept keys and values, filled in chunks of all sizes, against the attention over the
// whole sequence at once (which test_attention.c holds against its definition), what the cache holds, and wrong calls.
// ctest repeats it with every instruction set.
#include "check.h"
#include "seed.h"

typedef struct sizes {
  int64_t b, t, h, d, room;
} sizes;

enum { MOST = 400000 };
static double drawn[MOST], expected[MOST], found[MOST];
static float singles[MOST];

// t's numbers as doubles.
static void read_into(double *to, mb_tensor *t) {
  CHECK(mb_tensor_numel(t) <= MOST);
  int single = mb_tensor_dtype(t) == MB_F32;
  CHECK_OK(mb_tensor_to_host(single ? (void *)singles : (void *)to, t));
  for (int64_t i = 0; single && i < mb_tensor_numel(t); i++) to[i] = (double)singles[i];
}

static mb_tensor *random_qkv(mb_dtype dtype, sizes s, double spread) {
  int64_t n = s.b * s.t * 3 * s.h * s.d;
  CHECK(n <= MOST);
  for (int64_t i = 0; i < n; i++) drawn[i] = seed_between(-spread, spread), singles[i] = (float)drawn[i];
  mb_tensor *t;
  CHECK_OK(mb_from_host(&t, dtype, 3, (int64_t[]){s.b, s.t, 3 * s.h * s.d}, MB_CPU, dtype == MB_F32 ? (void *)singles : (void *)drawn));
  return t;
}

static mb_tensor *new_cache(mb_dtype dtype, sizes s) {
  mb_tensor *cache; // NaN: what is read before it is written shows
  CHECK_OK(mb_full(&cache, dtype, 5, (int64_t[]){2, s.b, s.h, s.room, s.d}, MB_CPU, (double)NAN));
  return cache;
}

// The cache's key and value of every position are the input's.
static void holds_keys_and_values(mb_tensor *cache, sizes s, mb_tensor *qkv) {
  static double x[MOST];
  read_into(x, qkv);
  read_into(found, cache);
  int64_t c = s.h * s.d;
  for (int64_t part = 0; part < 2; part++)
    for (int64_t b = 0; b < s.b; b++)
      for (int64_t h = 0; h < s.h; h++)
        for (int64_t t = 0; t < s.t; t++)
          for (int64_t d = 0; d < s.d; d++)
            CHECK_NEAR(found[(((part * s.b + b) * s.h + h) * s.room + t) * s.d + d], x[(b * s.t + t) * 3 * c + (part + 1) * c + h * s.d + d], 0);
}

static void chunks_are_the_whole(mb_dtype dtype, sizes s, int64_t chunk, double scale, double tolerance) {
  mb_tensor *qkv = random_qkv(dtype, s, 2), *whole, *cache = new_cache(dtype, s), *part, *y;
  CHECK_OK(mb_attention_packed(&whole, qkv, s.h, scale));
  read_into(expected, whole);
  int64_t c = s.h * s.d;
  for (int64_t first = 0; first < s.t; first += chunk) {
    int64_t stop = first + chunk < s.t ? first + chunk : s.t;
    CHECK_OK(mb_slice(&part, qkv, 1, first, stop, 1)); // a view: rows of the batch lie apart
    CHECK_OK(mb_attention_cached(&y, part, cache, first, scale));
    CHECK_EQ(mb_tensor_shape(y)[1], stop - first);
    read_into(found, y);
    for (int64_t b = 0; b < s.b; b++)
      for (int64_t t = first; t < stop; t++)
        for (int64_t i = 0; i < c; i++)
          CHECK_NEAR(found[(b * (stop - first) + t - first) * c + i], expected[(b * s.t + t) * c + i], tolerance);
    mb_tensor_release(part), mb_tensor_release(y);
  }
  holds_keys_and_values(cache, s, qkv);
  mb_tensor_release(qkv), mb_tensor_release(whole), mb_tensor_release(cache);
}

static void all_sizes(void) {
  static const sizes cases[] = {{1, 1, 1, 1, 1}, {2, 5, 3, 4, 5}, {1, 9, 1, 7, 20}, {3, 70, 2, 16, 70}, {1, 300, 2, 64, 512}, {2, 33, 1, 80, 40}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int64_t chunk = 1; chunk <= cases[i].t; chunk = chunk * 2 + 1) {
      chunks_are_the_whole(MB_F64, cases[i], chunk, i % 2 ? 0.0 : 0.7, 1e-13);
      chunks_are_the_whole(MB_F32, cases[i], chunk, i % 2 ? 0.0 : 0.7, 1e-5);
    }
}

// Scores of hundreds: weights of one key and zeros, no overflow.
static void large_scores(void) {
  sizes s = {1, 40, 2, 16, 40};
  mb_tensor *qkv = random_qkv(MB_F32, s, 30), *whole, *cache = new_cache(MB_F32, s), *last, *y;
  CHECK_OK(mb_attention_packed(&whole, qkv, s.h, 1.0));
  read_into(expected, whole);
  CHECK_OK(mb_attention_cached(&y, qkv, cache, 0, 1.0));
  mb_tensor_release(y);
  CHECK_OK(mb_slice(&last, qkv, 1, 39, 40, 1));
  CHECK_OK(mb_attention_cached(&y, last, cache, 39, 1.0));
  read_into(found, y);
  for (int64_t i = 0; i < 32; i++) CHECK_NEAR(found[i], expected[39 * 32 + i], 2e-3);
  mb_tensor_release(qkv), mb_tensor_release(whole), mb_tensor_release(cache), mb_tensor_release(last), mb_tensor_release(y);
}

static void threads_change_nothing(void) {
  sizes s = {2, 200, 3, 32, 256};
  int threads = mb_threads();
  mb_tensor *qkv = random_qkv(MB_F32, s, 2), *cache = new_cache(MB_F32, s), *last, *y;
  CHECK_OK(mb_attention_cached(&y, qkv, cache, 0, 0));
  mb_tensor_release(y);
  CHECK_OK(mb_slice(&last, qkv, 1, 197, 200, 1));
  for (int n = 1; n <= 4; n++) {
    CHECK_OK(mb_threads_set(n));
    CHECK_OK(mb_attention_cached(&y, last, cache, 197, 0));
    read_into(n == 1 ? expected : found, y);
    for (int64_t i = 0; n > 1 && i < mb_tensor_numel(y); i++) CHECK_NEAR(found[i], expected[i], 0);
    mb_tensor_release(y);
  }
  CHECK_OK(mb_threads_set(threads));
  mb_tensor_release(qkv), mb_tensor_release(cache), mb_tensor_release(last);
}

static void wrong_calls_are_refused(void) {
  sizes s = {2, 3, 2, 4, 8};
  mb_tensor *qkv = random_qkv(MB_F32, s, 1), *cache = new_cache(MB_F32, s), *doubles = new_cache(MB_F64, s), *y, *turned;
  CHECK_FAILS(MB_ERR_ARG, "positions 6 to 8 were given, the cache (2, 2, 2, 8, 4) has room for 8", mb_attention_cached(&y, qkv, cache, 6, 0));
  CHECK(y == NULL);
  CHECK_FAILS(MB_ERR_ARG, "positions -1 to 1", mb_attention_cached(&y, qkv, cache, -1, 0));
  CHECK_FAILS(MB_ERR_ARG, "were given", mb_attention_cached(&y, qkv, cache, INT64_MAX, 0));
  CHECK_FAILS(MB_ERR_SHAPE, "qkv is (2, 3, 24), cache is (2, 3, 24)", mb_attention_cached(&y, qkv, qkv, 0, 0));
  CHECK_FAILS(MB_ERR_DTYPE, "mb_attention_cached", mb_attention_cached(&y, qkv, doubles, 0, 0));
  CHECK_FAILS(MB_ERR_ARG, "scale is nan", mb_attention_cached(&y, qkv, cache, 0, (double)NAN));
  CHECK_OK(mb_transpose(&turned, cache, 0, 1));
  CHECK_FAILS(MB_ERR_ARG, "is not contiguous", mb_attention_cached(&y, qkv, turned, 0, 0));
  CHECK_FAILS(MB_ERR_SHAPE, "were expected", mb_attention_cached(&y, cache, cache, 0, 0));
  mb_tensor *flat, *some, *three;
  CHECK_OK(mb_reshape(&flat, cache, 1, (int64_t[]){-1}));
  CHECK_OK(mb_slice(&some, flat, 0, 0, 144, 1));
  CHECK_OK(mb_reshape(&three, some, 3, (int64_t[]){2, 3, 24}));
  CHECK_FAILS(MB_ERR_ARG, "lies in the cache's own memory", mb_attention_cached(&y, three, cache, 0, 0));
  CHECK_OK(mb_set_requires_grad(qkv, 1));
  CHECK_FAILS(MB_ERR_STATE, "nothing is recorded here", mb_attention_cached(&y, qkv, cache, 0, 0));
  mb_grad_mode(0);
  CHECK_OK(mb_attention_cached(&y, qkv, cache, 0, 0));
  mb_grad_mode(1);
  mb_tensor_release(y), mb_tensor_release(three), mb_tensor_release(some), mb_tensor_release(flat), mb_tensor_release(turned);
  mb_tensor_release(qkv), mb_tensor_release(cache), mb_tensor_release(doubles);
}

int main(void) {
  seed_start();
  mb_memory_stats before, after;
  mb_memory(&before);
  all_sizes();
  large_scores();
  threads_change_nothing();
  wrong_calls_are_refused();
  mb_memory(&after);
  CHECK_EQ(after.live_tensors, before.live_tensors);
  return check_end();
}
