// SPDX-License-Identifier: MIT
//
// storage.c: what tensors lie in: blocks (blocks.c) with a count of their holders, the budget of bytes in tensors, and the
// list of all storages, from which reports name the largest.
#include "core/storage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/blocks.h"
#include "core/poison.h"

enum { REPORT_LINES = 8, NAMED_TENSORS = 5, LINE_CAPACITY = 300 };

static mbi_storage *all_storages;
static mb_memory_stats stats; // but bytes_cached and allocations, which blocks.c counts

// ----- reports --------------------------------------------------------------------------------------------

static int larger_first(const void *a, const void *b) {
  const mbi_storage *x = *(mbi_storage *const *)a, *y = *(mbi_storage *const *)b;
  return (x->capacity < y->capacity) - (x->capacity > y->capacity);
}

// The largest storages, at most `most`; of one device, or of all with device -1.
static int find_largest(mbi_storage **largest, int most, int device) {
  int count = 0;
  for (mbi_storage *s = all_storages; s; s = s->next) {
    if (device >= 0 && (int)s->device != device) continue;
    if (count == most && larger_first(&s, &largest[most - 1]) >= 0) continue;
    if (count < most) count++;
    largest[count - 1] = s;
    qsort(largest, (size_t)count, sizeof *largest, larger_first);
  }
  return count;
}

// "f32 (700, 1000) weights"; returns `text`, which holds LINE_CAPACITY bytes.
static const char *describe(char *text, const mbi_storage *s) {
  char shape[MBI_SHAPE_TEXT];
  const char *what = s->label ? s->label : s->pins > 0 ? s->pinned_by : "";
  snprintf(text, LINE_CAPACITY, "%s %s%s%.60s", mbi_dtype_name(s->dtype), mbi_shape_text(shape, s->ndim, s->size),
           s->label ? " " : s->pins > 0 ? " kept for the backward of " : "", what);
  return text;
}

static double mebibytes(const mbi_storage *s) { return (double)s->capacity / 1048576.0; }

const char *mb_memory_report(void) {
  static char text[REPORT_LINES * LINE_CAPACITY];
  char line[LINE_CAPACITY];
  mbi_storage *largest[REPORT_LINES];
  int count = find_largest(largest, REPORT_LINES, -1);
  size_t used = 0;
  text[0] = 0;
  for (int i = 0; i < count; i++)
    used += (size_t)snprintf(text + used, sizeof text - used, "%10.1f MiB  %s\n", mebibytes(largest[i]), describe(line, largest[i]));
  return text;
}

static const char *device_name(mb_device device) { return device == MB_CPU ? "cpu" : "cuda"; }

// Fails with "out of memory on cuda: 64 bytes asked for WHAT, WHY; largest tensors: ...": what lives now, for while the
// failure goes up, much of it is let go.
static mb_status out_of_memory(mb_device device, size_t bytes, const char *what, const char *why) {
  char text[NAMED_TENSORS * LINE_CAPACITY] = "", line[LINE_CAPACITY];
  mbi_storage *largest[NAMED_TENSORS];
  int count = find_largest(largest, NAMED_TENSORS, (int)device);
  size_t used = 0;
  for (int i = 0; i < count; i++)
    used += (size_t)snprintf(text + used, sizeof text - used, "%s%.1f MiB %s", i == 0 ? "; largest tensors: " : ", ",
                             mebibytes(largest[i]), describe(line, largest[i]));
  MB_FAIL(MB_ERR_NOMEM, "out of memory on %s: %zu bytes asked for %s, %s%s", device_name(device), bytes, what, why, text);
}

static mb_status no_room_for_tensor(mb_device device, size_t bytes, const mbi_shape *shape, mb_dtype dtype, const char *why) {
  char text[MBI_SHAPE_TEXT], what[MBI_SHAPE_TEXT + 40];
  snprintf(what, sizeof what, "%s of shape %s", mbi_dtype_name(dtype), mbi_shape_text(text, shape->ndim, shape->size));
  return out_of_memory(device, bytes, what, why);
}

// ----- storages -------------------------------------------------------------------------------------------

// The budget counts tensors of all devices.
static mb_status check_budget(mb_device device, mb_dtype dtype, const mbi_shape *shape, size_t bytes) {
  char why[120];
  if (!stats.bytes_budget) return MB_OK;
  int64_t capacity = (int64_t)mbi_block_capacity(bytes);
  if (stats.bytes_live + capacity > stats.bytes_budget) {
    snprintf(why, sizeof why, "%lld in use; the budget is %lld bytes", (long long)stats.bytes_live, (long long)stats.bytes_budget);
    return no_room_for_tensor(device, bytes, shape, dtype, why);
  }
  if (stats.bytes_live + mbi_blocks_cached() + capacity > stats.bytes_budget) mbi_blocks_empty();
  return MB_OK;
}

mb_status mbi_storage_new(mbi_storage **out, mb_device device, mb_dtype dtype, const mbi_shape *shape) {
  *out = NULL;
  size_t bytes = (size_t)mbi_shape_numel(shape) * mbi_dtype_size(dtype);
  if (mbi_fails_on_purpose()) return no_room_for_tensor(device, bytes, shape, dtype, "a failure was asked for");
  MB_TRY(check_budget(device, dtype, shape, bytes));
  mbi_storage *storage = calloc(1, sizeof *storage);
  if (!storage) return no_room_for_tensor(MB_CPU, sizeof *storage, shape, dtype, "the system has no more");
  mb_status status = mbi_block_take(&storage->data, &storage->began_as_zero, &storage->capacity, &storage->pool, device, bytes);
  if (status != MB_OK) {
    free(storage);
    return status == MB_ERR_NOMEM ? no_room_for_tensor(device, bytes, shape, dtype, mbi_block_refusal(device)) : status;
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
  mbi_block_give(storage->device, storage->data, storage->capacity, storage->pool);
  free(storage);
}

mb_status mbi_calloc(void **out, const char *who, size_t count, size_t size) {
  *out = mbi_fails_on_purpose() ? NULL : calloc(count ? count : 1, size);
  if (*out) return MB_OK;
  char what[100];
  snprintf(what, sizeof what, "the engine's own records in %.60s", who);
  return out_of_memory(MB_CPU, count * size, what, "the system has no more");
}

mb_status mbi_work_take(void **data, mb_device device, size_t bytes) {
  *data = NULL;
  if (mbi_fails_on_purpose()) return out_of_memory(device, bytes, "work memory", "a failure was asked for");
  mb_status status = mbi_block_take_work(data, device, bytes);
  return status == MB_ERR_NOMEM ? out_of_memory(device, bytes, "work memory", mbi_block_refusal(device)) : status;
}

void mbi_work_give(mb_device device, void *data, size_t bytes) { mbi_block_give_work(device, data, bytes); }

void mbi_free(void *pointer) { free(pointer); }
void mbi_count_tensor(int change) { stats.live_tensors += change; }

static struct {
  void *data;
  size_t bytes;
} scratch[MBI_SCRATCH_SLOTS];

static void free_scratch(int slot) {
  if (scratch[slot].data) {
    mbi_unpoison(scratch[slot].data, scratch[slot].bytes);
    mbi_work_give(MB_CPU, scratch[slot].data, scratch[slot].bytes);
  }
  scratch[slot].data = NULL;
  scratch[slot].bytes = 0;
}

mb_status mbi_scratch(void **out, int slot, size_t bytes) {
  mbi_assert(slot >= 0 && slot < MBI_SCRATCH_SLOTS);
  if (scratch[slot].bytes < bytes) {
    free_scratch(slot);
    MB_TRY(mbi_work_take(&scratch[slot].data, MB_CPU, bytes));
    scratch[slot].bytes = bytes;
  }
  mbi_unpoison(scratch[slot].data, bytes);
  mbi_poison((char *)scratch[slot].data + bytes, scratch[slot].bytes - bytes);
  *out = scratch[slot].data;
  return MB_OK;
}

// ----- public -------------------------------------------------------------------------------------

void mb_memory(mb_memory_stats *out) {
  *out = stats;
  out->bytes_cached = mbi_blocks_cached();
  out->allocations = mbi_allocation_count();
}
void mb_memory_reset_peak(void) {
  stats.bytes_peak = stats.bytes_live;
  mbi_blocks_reset_peak();
}
void mb_memory_set_budget(int64_t bytes) { stats.bytes_budget = bytes > 0 ? bytes : 0; }
void mb_memory_trim(void) {
  mbi_blocks_empty();
  for (int i = 0; i < MBI_SCRATCH_SLOTS; i++) free_scratch(i);
  if (mbi_device_was_used(MB_CUDA)) mbi_device_of(MB_CUDA)->trim();
}

// A host may unload the library: what is cached goes back to the system then.
__attribute__((destructor)) static void at_unload(void) { mb_memory_trim(); }
