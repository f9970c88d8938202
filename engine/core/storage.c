// SPDX-License-Identifier: MIT
//
// storage.c: the caching allocator.
//
// Classes: capacities are 64 B times (4 + j) / 4 * 2^i, j = 0..3, so that at most a quarter of a block is
// wasted. Each class keeps a last-in first-out list of free blocks. Invariants, checked by the C tests:
//   bytes_live   = sum of capacity over storages that exist
//   bytes_cached = sum of capacity over free blocks
// A request that would pass the budget, or that the device refuses, first empties the cache.
#include "core/storage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/poison.h"

// A shape has at most 2^62 bytes (mbi_shape_make), which is class 219.
enum { CLASS_COUNT = 220, REPORT_LINES = 8, REPORT_CAPACITY = 2048 };

typedef struct free_block {
  void *data;
  struct free_block *next;
} free_block;

static free_block *cache[2][CLASS_COUNT]; // per device
static mbi_storage *all_storages;
static mb_memory_stats stats;
static int64_t fail_at; // value of stats.allocations at which a request fails, 0 = never

static int class_of(size_t bytes, size_t *capacity) {
  size_t units = (bytes + 63) / 64;
  int shift = 0;
  while ((units + ((size_t)1 << shift) - 1) >> shift > 8) shift++;
  size_t quarter = (units + ((size_t)1 << shift) - 1) >> shift; // 1..8
  *capacity = (quarter << shift) * 64;
  return shift == 0 ? (int)quarter - 1 : 8 + (shift - 1) * 4 + (int)quarter - 5;
}

static int fails_on_purpose(void) {
  stats.allocations++;
  return fail_at != 0 && stats.allocations == fail_at;
}

static void empty_cache(mb_device device) {
  for (int i = 0; i < CLASS_COUNT; i++)
    while (cache[device][i]) {
      free_block *block = cache[device][i];
      cache[device][i] = block->next;
      // Classes are monotonic: the capacity is found again from the index.
      size_t quarter = i < 8 ? (size_t)i + 1 : (size_t)((i - 8) % 4 + 5), shift = i < 8 ? 0 : (size_t)((i - 8) / 4 + 1);
      size_t capacity = (quarter << shift) * 64;
      if (device == MB_CPU) mbi_unpoison(block->data, capacity);
      mbi_device_of(device)->release(block->data, capacity);
      stats.bytes_cached -= (int64_t)capacity;
      free(block);
    }
}

static mb_status out_of_memory(size_t bytes, const mbi_shape *shape, mb_dtype dtype, const char *why) {
  char text[MBI_SHAPE_TEXT];
  MB_FAIL(MB_ERR_NOMEM, "out of memory: %lld bytes asked for %s of shape %s, %lld in use, %lld cached; %s",
          (long long)bytes, mbi_dtype_name(dtype), mbi_shape_text(text, shape->ndim, shape->size),
          (long long)stats.bytes_live, (long long)stats.bytes_cached, why);
}

static mb_status take_block(void **data, int *is_zero, mb_device device, size_t bytes, size_t *capacity) {
  const mbi_device *memory = mbi_device_of(device);
  if (!memory) return MB_ERR_DEVICE;
  int class = class_of(bytes, capacity);
  free_block *block = cache[device][class];
  if (block) {
    cache[device][class] = block->next;
    stats.bytes_cached -= (int64_t)*capacity;
    *data = block->data;
    *is_zero = 0;
    free(block);
    if (device == MB_CPU) mbi_unpoison(*data, *capacity);
    return MB_OK;
  }
  if (memory->allocate(data, is_zero, *capacity) == MB_OK) return MB_OK;
  empty_cache(device);
  return memory->allocate(data, is_zero, *capacity);
}

mb_status mbi_storage_new(mbi_storage **out, mb_device device, mb_dtype dtype, const mbi_shape *shape) {
  *out = NULL;
  size_t bytes = (size_t)mbi_shape_numel(shape) * mbi_dtype_size(dtype), capacity;
  if (fails_on_purpose()) return out_of_memory(bytes, shape, dtype, "a failure was asked for");
  class_of(bytes, &capacity);
  if (stats.bytes_budget && stats.bytes_live + (int64_t)capacity > stats.bytes_budget) {
    char why[80];
    snprintf(why, sizeof why, "the budget is %lld bytes", (long long)stats.bytes_budget);
    return out_of_memory(bytes, shape, dtype, why);
  }
  if (stats.bytes_budget && stats.bytes_live + stats.bytes_cached + (int64_t)capacity > stats.bytes_budget)
    empty_cache(device);
  mbi_storage *storage = calloc(1, sizeof *storage);
  if (!storage) return out_of_memory(sizeof *storage, shape, dtype, "the system has no more");
  mb_status status = take_block(&storage->data, &storage->began_as_zero, device, bytes, &storage->capacity);
  if (status != MB_OK) {
    free(storage);
    return status == MB_ERR_NOMEM ? out_of_memory(bytes, shape, dtype, "the system has no more") : status;
  }
  if (device == MB_CPU) mbi_poison((char *)storage->data + bytes, storage->capacity - bytes);
  storage->refs = 1;
  storage->bytes = bytes;
  storage->device = device;
  storage->dtype = dtype;
  storage->ndim = shape->ndim;
  memcpy(storage->size, shape->size, sizeof storage->size);
  storage->next = all_storages;
  if (all_storages) all_storages->previous = storage;
  all_storages = storage;
  stats.bytes_live += (int64_t)storage->capacity;
  stats.bytes_allocated += (int64_t)storage->capacity;
  if (stats.bytes_live > stats.bytes_peak) stats.bytes_peak = stats.bytes_live;
  *out = storage;
  return MB_OK;
}

void mbi_storage_retain(mbi_storage *storage) { storage->refs++; }

void mbi_storage_release(mbi_storage *storage) {
  mbi_assert(storage->refs > 0);
  if (--storage->refs > 0) return;
  if (storage->previous) storage->previous->next = storage->next;
  else all_storages = storage->next;
  if (storage->next) storage->next->previous = storage->previous;
  stats.bytes_live -= (int64_t)storage->capacity;
  size_t capacity;
  int class = class_of(storage->bytes, &capacity);
  free_block *block = malloc(sizeof *block);
  if (block) {
    if (storage->device == MB_CPU) mbi_poison(storage->data, capacity);
    *block = (free_block){storage->data, cache[storage->device][class]};
    cache[storage->device][class] = block;
    stats.bytes_cached += (int64_t)capacity;
  } else {
    if (storage->device == MB_CPU) mbi_unpoison(storage->data, capacity);
    mbi_device_of(storage->device)->release(storage->data, capacity);
  }
  free(storage);
}

mb_status mbi_calloc(void **out, const char *who, size_t count, size_t size) {
  *out = fails_on_purpose() ? NULL : calloc(count ? count : 1, size);
  if (!*out) MB_FAIL(MB_ERR_NOMEM, "%s: out of memory: %zu bytes asked for the engine's own records", who, count * size);
  return MB_OK;
}

void mbi_free(void *pointer) { free(pointer); }
void mbi_count_tensor(int change) { stats.live_tensors += change; }

static struct {
  void *data;
  size_t bytes;
} scratch[MBI_SCRATCH_SLOTS];

static void free_scratch(int slot) {
  if (scratch[slot].data) {
    mbi_unpoison(scratch[slot].data, scratch[slot].bytes);
    mbi_cpu_device()->release(scratch[slot].data, scratch[slot].bytes);
  }
  scratch[slot].data = NULL;
  scratch[slot].bytes = 0;
}

mb_status mbi_scratch(void **out, int slot, size_t bytes) {
  mbi_assert(slot >= 0 && slot < MBI_SCRATCH_SLOTS);
  if (scratch[slot].bytes < bytes) {
    int is_zero;
    free_scratch(slot);
    if (fails_on_purpose() || mbi_cpu_device()->allocate(&scratch[slot].data, &is_zero, bytes) != MB_OK)
      MB_FAIL(MB_ERR_NOMEM, "out of memory: %zu bytes asked for scratch space", bytes);
    scratch[slot].bytes = bytes;
  }
  mbi_unpoison(scratch[slot].data, bytes);
  mbi_poison((char *)scratch[slot].data + bytes, scratch[slot].bytes - bytes);
  *out = scratch[slot].data;
  return MB_OK;
}

// ----- public -------------------------------------------------------------------------------------

void mb_memory(mb_memory_stats *out) { *out = stats; }
void mb_memory_reset_peak(void) { stats.bytes_peak = stats.bytes_live; }
void mb_memory_set_budget(int64_t bytes) { stats.bytes_budget = bytes > 0 ? bytes : 0; }
void mb_memory_trim(void) {
  empty_cache(MB_CPU);
  empty_cache(MB_CUDA);
  for (int i = 0; i < MBI_SCRATCH_SLOTS; i++) free_scratch(i);
}

// A host may unload the library: what is cached goes back to the system then.
__attribute__((destructor)) static void at_unload(void) { mb_memory_trim(); }

void mb_debug_fail_allocation(int64_t n) { fail_at = n > 0 ? stats.allocations + n : 0; }

static int larger_first(const void *a, const void *b) {
  const mbi_storage *x = *(mbi_storage *const *)a, *y = *(mbi_storage *const *)b;
  return (x->capacity < y->capacity) - (x->capacity > y->capacity);
}

const char *mb_memory_report(void) {
  static char text[REPORT_CAPACITY];
  mbi_storage *largest[REPORT_LINES + 1];
  int count = 0;
  for (mbi_storage *s = all_storages; s; s = s->next) {
    largest[count++] = s;
    qsort(largest, (size_t)count, sizeof *largest, larger_first);
    if (count > REPORT_LINES) count = REPORT_LINES;
  }
  size_t used = 0;
  text[0] = 0;
  for (int i = 0; i < count && used < sizeof text - 200; i++) {
    char shape[MBI_SHAPE_TEXT];
    used += (size_t)snprintf(text + used, sizeof text - used, "%10.1f MiB  %s %s\n", (double)largest[i]->capacity / 1048576.0,
                             mbi_dtype_name(largest[i]->dtype), mbi_shape_text(shape, largest[i]->ndim, largest[i]->size));
  }
  return text;
}
