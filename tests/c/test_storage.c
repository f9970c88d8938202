// SPDX-License-Identifier: MIT
//
// test_storage.c: the caching allocator against a model of it kept here: byte counts, the cache of size
// classes, budget, trim, failures on purpose, addresses that come back.
#include "check.h"
#include "core/poison.h"
#include "core/storage.h"

enum { SLOTS = 64, REQUESTS = 4096 };

static mb_memory_stats now(void) {
  mb_memory_stats stats;
  mb_memory(&stats);
  return stats;
}

static mb_status bytes_new(mbi_storage **out, int64_t bytes) {
  mbi_shape shape = {.ndim = 1, .size = {bytes}};
  return mbi_storage_new(out, MB_CPU, MB_U8, &shape);
}

static mb_tensor *floats(int64_t n) {
  mb_tensor *t;
  CHECK_OK(mb_empty(&t, MB_F32, 1, &n, MB_CPU));
  return t;
}

static void blocks_fit_and_waste_little(void) {
  size_t last = 0;
  for (int64_t bytes = 1; bytes < (1 << 23); bytes += 1 + bytes / 97) {
    mbi_storage *s;
    int64_t live = now().bytes_live;
    CHECK_OK(bytes_new(&s, bytes));
    CHECK((uintptr_t)s->data % 64 == 0);
    CHECK(s->capacity >= (size_t)bytes && s->capacity >= last);
    // At most a quarter, or the rest of a line, is wasted; above 1 MiB a thirty-second.
    CHECK(bytes > 1 << 20 ? s->capacity * 32 <= (size_t)bytes * 33 : s->capacity * 4 <= (size_t)bytes * 5 + 4 * 64);
    CHECK_EQ(now().bytes_live, live + (int64_t)s->capacity);
    mbi_unpoison(s->data, s->capacity); // sanitizers refuse what is past `bytes`
    memset(s->data, 1, s->capacity);
    last = s->capacity;
    mbi_storage_release(s);
    mb_memory_trim(); // a new block every time
    CHECK_EQ(now().bytes_live, live);
  }
}

// Random requests and releases; `cached` is a list of the capacities that must lie in the cache.
static void counts_agree_with_a_model(void) {
  mb_memory_trim();
  mbi_storage *held[SLOTS] = {0};
  size_t cached[REQUESTS];
  int n_cached = 0;
  int64_t live = now().bytes_live, base = live, in_cache = 0;
  uint32_t words[4 * REQUESTS];
  mb_rng_words(words, 4 * REQUESTS, 20, 0, 0);
  for (int i = 0; i < REQUESTS; i++) {
    int slot = (int)(words[4 * i] % SLOTS);
    if (held[slot]) {
      live -= (int64_t)held[slot]->capacity;
      in_cache += (int64_t)held[slot]->capacity;
      cached[n_cached++] = held[slot]->capacity;
      mbi_storage_release(held[slot]);
      held[slot] = NULL;
    } else {
      CHECK_OK(bytes_new(&held[slot], 1 + (int64_t)(words[4 * i + 1] % (1u << (words[4 * i + 2] % 18)))));
      live += (int64_t)held[slot]->capacity;
      for (int k = n_cached - 1; k >= 0; k--)
        if (cached[k] == held[slot]->capacity) {
          in_cache -= (int64_t)cached[k];
          cached[k] = cached[--n_cached];
          break;
        }
    }
    CHECK_EQ(now().bytes_live, live);
    CHECK_EQ(now().bytes_cached, in_cache);
  }
  for (int i = 0; i < SLOTS; i++)
    if (held[i]) mbi_storage_release(held[i]);
  CHECK_EQ(now().bytes_live, base);
  mb_memory_trim();
  CHECK_EQ(now().bytes_cached, 0); // capacities found again from the class of each block
}

// A trim finds each block's size from its class alone: one block of every class up to 1 GiB, then none.
static void every_class_is_trimmed_whole(void) {
  mb_memory_trim();
  for (int64_t bytes = 64; bytes < (int64_t)1 << 30; bytes += bytes < 1 << 20 ? bytes / 4 : bytes / 32) {
    mbi_storage *s;
    CHECK_OK(bytes_new(&s, bytes));
    mbi_storage_release(s);
  }
  CHECK(now().bytes_cached > 0);
  mb_memory_trim();
  CHECK_EQ(now().bytes_cached, 0);
}

// Whatever the order in which a step gives its blocks back, the next one gets the same.
static void addresses_repeat(void) {
  void *first[8], *later;
  for (int step = 0; step < 5; step++) {
    mb_tensor *t[8];
    for (int i = 0; i < 8; i++) t[i] = floats(1000 + 777 * (i % 3));
    for (int i = 0; i < 8; i++) {
      CHECK_OK(mb_tensor_data(&later, t[i]));
      CHECK_EQ((int64_t)mb_tensor_address(t[i]), (int64_t)(uintptr_t)later);
      if (step == 1) first[i] = later;
      if (step > 1) CHECK(first[i] == later);
    }
    for (int i = 0; i < 8; i++) mb_tensor_release(t[(i * (2 * step + 1) + step) % 8]);
  }
}

static int64_t requests(void) {
  mb_device_memory memory;
  CHECK_OK(mb_memory_of(&memory, MB_CPU));
  return memory.requests;
}

// A request takes a free block of its own class, or of one up to a quarter larger, and no other.
static void near_sizes_share_blocks(void) {
  mb_memory_trim();
  mbi_storage *s;
  CHECK_OK(bytes_new(&s, 10 << 20));
  CHECK_EQ(s->capacity, 10 << 20);
  void *block = s->data;
  mbi_storage_release(s);
  int64_t before = requests();
  CHECK_OK(bytes_new(&s, (8 << 20) + 1));
  CHECK(s->data == block && s->capacity == 10 << 20);
  mbi_storage_release(s);
  CHECK_EQ(requests(), before);
  CHECK_OK(bytes_new(&s, 7 << 20));
  CHECK(s->capacity == 7 << 20);
  CHECK_EQ(requests(), before + 1);
  CHECK_EQ(now().bytes_cached, 10 << 20);
  mbi_storage_release(s);
  mb_memory_trim();
}

static void books_of_a_device(void) {
  mb_memory_trim();
  mb_memory_reset_peak();
  mb_device_memory before, with, after;
  void *work;
  CHECK_OK(mb_memory_of(&before, MB_CPU));
  CHECK_EQ(before.bytes_cached, 0);
  CHECK_EQ(before.bytes_scratch, 0);
  CHECK(before.bytes_total > 0 && before.bytes_free > 0 && before.bytes_free <= before.bytes_total);
  mb_tensor *t = floats(1 << 20);
  CHECK_OK(mbi_scratch(&work, 0, 1 << 20));
  CHECK_OK(mb_memory_of(&with, MB_CPU));
  CHECK_EQ(with.bytes_live, before.bytes_live + (4 << 20));
  CHECK_EQ(with.bytes_scratch, 1 << 20);
  CHECK_EQ(with.bytes_peak, before.bytes_peak + (5 << 20));
  mb_tensor_release(t);
  CHECK_OK(mb_memory_of(&after, MB_CPU));
  CHECK_EQ(after.bytes_cached, 4 << 20);
  CHECK_EQ(after.bytes_peak, with.bytes_peak);
  mb_memory_trim();
  CHECK_FAILS(MB_ERR_DEVICE, "device", mb_memory_of(&after, (mb_device)7));
}

static void views_share_one_block(void) {
  mb_tensor *t = floats(100), *row, *again;
  int64_t live = now().bytes_live;
  CHECK_OK(mb_slice(&row, t, 0, 10, 20, 1));
  CHECK_OK(mb_detach(&again, row));
  CHECK_EQ(now().bytes_live, live);
  mb_tensor_release(t);
  mb_tensor_release(row);
  CHECK_EQ(now().bytes_live, live);
  CHECK_OK(mb_fill_(again, 1.0));
  mb_tensor_retain(again);
  mb_tensor_release(again);
  mb_tensor_release(again);
  CHECK(now().bytes_live < live);
}

static void the_budget_holds(void) {
  mb_memory_trim();
  mb_tensor *big = floats(1 << 20), *other, *refused;
  int64_t live = now().bytes_live, n = 1 << 20;
  mb_memory_set_budget(live + (6 << 20));
  CHECK_EQ(now().bytes_budget, live + (6 << 20));
  other = floats(n); // 4 MiB more: fits
  CHECK_FAILS(MB_ERR_NOMEM, "the budget is", mb_empty(&refused, MB_F32, 1, &n, MB_CPU));
  CHECK(refused == NULL);
  CHECK(strstr(mb_last_error(), "4194304 bytes asked for f32 of shape (1048576)") != NULL);
  mb_tensor_release(other);
  CHECK(now().bytes_cached >= 4 << 20);
  n = 5 << 18; // 5 MiB: fits the budget only once the cache is emptied
  CHECK_OK(mb_empty(&other, MB_F32, 1, &n, MB_CPU));
  CHECK_EQ(now().bytes_cached, 0);
  mb_tensor_release(other);
  mb_memory_set_budget(0);
  n = 1 << 22;
  CHECK_OK(mb_empty(&other, MB_F32, 1, &n, MB_CPU));
  mb_tensor_release(other);
  mb_tensor_release(big);
}

static void impossible_requests_are_refused(void) {
  int64_t n = (int64_t)1 << 50;
  mb_tensor *t;
  CHECK_FAILS(MB_ERR_NOMEM, "1125899906842624 bytes asked for u8", mb_empty(&t, MB_U8, 1, &n, MB_CPU));
  CHECK(t == NULL);
  t = floats(10); // and life goes on
  mb_tensor_release(t);
}

static void the_nth_allocation_fails(void) {
  mb_tensor *t;
  int64_t n = 10;
  int64_t live = now().live_tensors, bytes = now().bytes_live;
  for (int k = 1; k <= 2; k++) { // a tensor takes two: header and storage
    mb_debug_fail_allocation(k);
    CHECK_FAILS(MB_ERR_NOMEM, "out of memory", mb_empty(&t, MB_F32, 1, &n, MB_CPU));
    CHECK(t == NULL);
    CHECK_EQ(now().live_tensors, live);
    CHECK_EQ(now().bytes_live, bytes);
    CHECK_OK(mb_empty(&t, MB_F32, 1, &n, MB_CPU)); // only the n-th fails
    mb_tensor_release(t);
  }
  mb_debug_fail_allocation(1);
  mb_debug_fail_allocation(0);
  int64_t before = now().allocations;
  CHECK_OK(mb_empty(&t, MB_F32, 1, &n, MB_CPU));
  CHECK_EQ(now().allocations, before + 2);
  mb_tensor_release(t);
}

static void peaks_and_reports(void) {
  mb_memory_reset_peak();
  int64_t start = now().bytes_peak;
  CHECK_EQ(start, now().bytes_live);
  mb_tensor *a = floats(1 << 18), *b = floats(3 << 18);
  const char *report = mb_memory_report();
  const char *larger = strstr(report, "3.0 MiB  f32 (786432)"), *smaller = strstr(report, "1.0 MiB  f32 (262144)");
  CHECK(larger && smaller && larger < smaller);
  mb_tensor_release(a);
  mb_tensor_release(b);
  CHECK_EQ(now().bytes_peak, start + (4 << 20));
  int64_t total = now().bytes_allocated;
  mb_tensor_release(floats(16));
  CHECK_EQ(now().bytes_allocated, total + 64);
}

static void ids_are_unique(void) {
  mb_tensor *a = floats(1), *b = floats(1);
  CHECK(mb_tensor_id(a) != mb_tensor_id(b));
  CHECK_EQ(mb_tensor_device(a), MB_CPU);
  CHECK_EQ(mb_tensor_dtype(a), MB_F32);
  mb_tensor_release(a);
  mb_tensor_release(b);
  mb_tensor_release(NULL);
}

int main(void) {
  int64_t before = now().live_tensors;
  blocks_fit_and_waste_little();
  counts_agree_with_a_model();
  every_class_is_trimmed_whole();
  addresses_repeat();
  near_sizes_share_blocks();
  books_of_a_device();
  views_share_one_block();
  the_budget_holds();
  impossible_requests_are_refused();
  the_nth_allocation_fails();
  peaks_and_reports();
  ids_are_unique();
  CHECK_EQ(now().live_tensors, before);
  return check_end();
}
