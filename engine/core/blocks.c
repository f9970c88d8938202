// SPDX-License-Identifier: MIT
//
// blocks.c: the caching allocator, the same for every device.
//
// Classes. Up to 1 MiB capacities are 64 B times (4 + j) / 4 * 2^i, j = 0..3; above, 32 to a doubling, so that a large
// block wastes a thirty-second of itself at most. A request is served from its own class, or, above 1 MiB, from the next
// classes up to a quarter larger: sizes that change from call to call then do not fill the cache with blocks that nobody
// asks for again.
//
// Addresses. A class hands out its lowest address first, from a binary heap. What a sequence of requests gets then
// depends on which blocks are free, not on the order in which they were given back: the same blocks are free at the start
// of every training step, so every step gets the same addresses.
//
// Invariants, checked by the C tests:
//   bytes_live   = sum of capacity over blocks in use
//   bytes_cached = sum of capacity over free blocks, bytes_graphs over those that a pool has
// A request that would pass the limit, or that the device refuses, first gives cached blocks back, the largest first.
#include "core/blocks.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/poison.h"

// Sizes have at most 2^62 bytes (mbi_shape_make).
enum { UNIT = 64, SMALL_CLASSES = 52, LARGE_FROM = 1 << 20, PER_DOUBLING = 32, DOUBLINGS = 43 };
enum { CLASS_COUNT = SMALL_CLASSES + PER_DOUBLING * DOUBLINGS, NEAR_CLASSES = PER_DOUBLING / 4, FIRST_HEAP = 8, DEVICES = 2 };

typedef struct heap {
  char **blocks; // the lowest address at 0; children of i at 2 i + 1 and 2 i + 2
  int64_t count, capacity;
} heap;

struct mbi_pool {
  mb_device device;
  int refs;      // graphs; 0: blocks that come back go to the cache
  int64_t live;  // blocks in use
  heap blocks[CLASS_COUNT];
};

static heap cache[DEVICES][CLASS_COUNT];
static mbi_pool *owner; // of the blocks that are taken now, or NULL
static mb_device_memory books[DEVICES];
static int64_t allocations, fail_at; // fail_at: value of allocations at which a request fails, 0 = never

// ----- classes ------------------------------------------------------------------------------------------

static int class_of(size_t bytes, size_t *capacity) {
  if (bytes <= LARGE_FROM) {
    size_t units = (bytes + UNIT - 1) / UNIT;
    int shift = 0;
    while ((units + ((size_t)1 << shift) - 1) >> shift > 8) shift++;
    size_t quarter = (units + ((size_t)1 << shift) - 1) >> shift; // 1..8
    *capacity = (quarter << shift) * UNIT;
    return shift == 0 ? (int)quarter - 1 : 8 + (shift - 1) * 4 + (int)quarter - 5;
  }
  int shift = 15; // 32 << 15 is 1 MiB
  while ((bytes + ((size_t)1 << shift) - 1) >> shift >= 2 * PER_DOUBLING) shift++;
  size_t part = (bytes + ((size_t)1 << shift) - 1) >> shift; // 32..63
  *capacity = part << shift;
  return SMALL_CLASSES + (shift - 15) * PER_DOUBLING + (int)part - PER_DOUBLING;
}

static size_t capacity_of(int class) {
  if (class < 8) return (size_t)(class + 1) * UNIT;
  if (class < SMALL_CLASSES) return (size_t)((class - 8) % 4 + 5) * UNIT << ((class - 8) / 4 + 1);
  return (size_t)((class - SMALL_CLASSES) % PER_DOUBLING + PER_DOUBLING) << ((class - SMALL_CLASSES) / PER_DOUBLING + 15);
}

size_t mbi_block_capacity(size_t bytes) {
  size_t capacity;
  class_of(bytes, &capacity);
  return capacity;
}

// ----- heaps --------------------------------------------------------------------------------------------

// 0 when there is no memory for the list itself.
static int push(heap *h, char *block) {
  if (h->count == h->capacity) {
    int64_t capacity = h->capacity ? 2 * h->capacity : FIRST_HEAP;
    char **more = realloc(h->blocks, (size_t)capacity * sizeof *more);
    if (!more) return 0;
    h->blocks = more;
    h->capacity = capacity;
  }
  int64_t i = h->count++;
  for (; i > 0 && h->blocks[(i - 1) / 2] > block; i = (i - 1) / 2) h->blocks[i] = h->blocks[(i - 1) / 2];
  h->blocks[i] = block;
  return 1;
}

static char *pop(heap *h) {
  char *lowest = h->blocks[0], *last = h->blocks[--h->count];
  int64_t i = 0;
  for (;;) {
    int64_t child = 2 * i + 1;
    if (child + 1 < h->count && h->blocks[child + 1] < h->blocks[child]) child++;
    if (child >= h->count || h->blocks[child] > last) break;
    h->blocks[i] = h->blocks[child];
    i = child;
  }
  h->blocks[i] = last;
  return lowest;
}

// ----- the device ---------------------------------------------------------------------------------------

static int64_t held(mb_device device) {
  return books[device].bytes_live + books[device].bytes_cached + books[device].bytes_scratch + books[device].bytes_graphs;
}

// What nobody else can have: a graph's free blocks are written at its next launch.
static int64_t in_use(mb_device device) {
  return books[device].bytes_live + books[device].bytes_scratch + books[device].bytes_graphs;
}

static void note_peak(mb_device device) {
  int64_t used = in_use(device);
  if (used > books[device].bytes_peak) books[device].bytes_peak = used;
}

// Gives back cached blocks, the largest first, until `bytes` are given back or none is left.
static void give_back(mb_device device, int64_t bytes) {
  for (int class = CLASS_COUNT - 1; class >= 0 && bytes > 0 && books[device].bytes_cached > 0; class--) {
    heap *h = &cache[device][class];
    size_t capacity = capacity_of(class);
    for (; h->count > 0 && bytes > 0; bytes -= (int64_t)capacity) {
      char *block = pop(h);
      if (device == MB_CPU) mbi_unpoison(block, capacity);
      mbi_device_of(device)->release(block, capacity);
      books[device].bytes_cached -= (int64_t)capacity;
    }
  }
}

// MOONBOW_MEMORY_LIMIT: digits, and K, M, G or nothing.
static mb_status read_limit(int64_t *out) {
  static int64_t limit = -1;
  if (limit < 0) {
    const char *text = getenv("MOONBOW_MEMORY_LIMIT");
    if (text && *text) {
      char *end;
      double number = strtod(text, &end);
      int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
      double bytes = number * (double)((int64_t)1 << shift);
      if (end == text || end[shift > 0] || !(bytes >= 1 && bytes < 4e18))
        MB_FAIL(MB_ERR_ARG, "MOONBOW_MEMORY_LIMIT is '%s', a number of bytes was expected, such as 500M, 1.5G or 65536", text);
      limit = (int64_t)bytes;
    } else {
      limit = 0;
    }
  }
  *out = limit;
  return MB_OK;
}

// Memory from the device itself.
static mb_status obtain(void **data, int *is_zero, mb_device device, size_t bytes) {
  const mbi_device *memory = mbi_device_of(device);
  int64_t limit = 0;
  if (!memory) return MB_ERR_DEVICE;
  MB_TRY(read_limit(&limit));
  books[device].bytes_limit = limit;
  if (limit && held(device) + (int64_t)bytes > limit) {
    give_back(device, held(device) + (int64_t)bytes - limit);
    if (held(device) + (int64_t)bytes > limit) MB_FAIL(MB_ERR_NOMEM, "over the limit");
  }
  books[device].requests++;
  mb_status status = memory->allocate(data, is_zero, bytes);
  if (status != MB_ERR_NOMEM || books[device].bytes_cached == 0) return status;
  give_back(device, INT64_MAX);
  books[device].requests++;
  return memory->allocate(data, is_zero, bytes);
}

const char *mbi_block_refusal(mb_device device) {
  static char text[256];
  const mb_device_memory *b = &books[device];
  int used = snprintf(text, sizeof text, "%lld in use, %lld cached, %lld of work memory", (long long)b->bytes_live,
                      (long long)b->bytes_cached, (long long)b->bytes_scratch);
  if (b->bytes_graphs) used += snprintf(text + used, sizeof text - (size_t)used, ", %lld kept for graphs", (long long)b->bytes_graphs);
  used += snprintf(text + used, sizeof text - (size_t)used, "; ");
  int64_t free_bytes = 0, total = 0;
  const mbi_device *memory = mbi_device_of(device);
  if (b->bytes_limit)
    snprintf(text + used, sizeof text - (size_t)used, "the limit is %lld (MOONBOW_MEMORY_LIMIT)", (long long)b->bytes_limit);
  else if (memory && memory->room(&free_bytes, &total) == MB_OK)
    snprintf(text + used, sizeof text - (size_t)used, "%lld of %lld free", (long long)free_bytes, (long long)total);
  else
    snprintf(text + used, sizeof text - (size_t)used, "the system has no more");
  return text;
}

// ----- blocks of tensors ----------------------------------------------------------------------------------

// A free block of this class or of one little larger, which `bytes` counted; NULL if there is none.
static void *free_block(heap *heaps, int64_t *bytes, int class, size_t *capacity) {
  int last = class < SMALL_CLASSES ? class : class + NEAR_CLASSES < CLASS_COUNT ? class + NEAR_CLASSES : CLASS_COUNT - 1;
  for (; class <= last; class++) {
    if (heaps[class].count == 0) continue;
    *capacity = capacity_of(class);
    *bytes -= (int64_t)*capacity;
    return pop(&heaps[class]);
  }
  return NULL;
}

mb_status mbi_block_take(void **data, int *is_zero, size_t *capacity, mbi_pool **pool, mb_device device, size_t bytes) {
  int class = class_of(bytes, capacity);
  *is_zero = 0;
  *data = NULL;
  *pool = owner && owner->device == device ? owner : NULL;
  if (*pool) *data = free_block((*pool)->blocks, &books[device].bytes_graphs, class, capacity);
  if (!*data) *data = free_block(cache[device], &books[device].bytes_cached, class, capacity);
  if (*data && device == MB_CPU) mbi_unpoison(*data, *capacity);
  if (!*data) MB_TRY(obtain(data, is_zero, device, *capacity));
  if (*pool) (*pool)->live++;
  books[device].bytes_live += (int64_t)*capacity;
  note_peak(device);
  return MB_OK;
}

// A block that nobody uses goes to the cache, or to the device where the cache has no room for its address.
static void shelve(mb_device device, void *data, size_t capacity) {
  size_t same;
  if (push(&cache[device][class_of(capacity, &same)], data)) {
    if (device == MB_CPU) mbi_poison(data, capacity);
    books[device].bytes_cached += (int64_t)capacity;
  } else {
    if (device == MB_CPU) mbi_unpoison(data, capacity);
    mbi_device_of(device)->release(data, capacity);
  }
}

void mbi_block_give(mb_device device, void *data, size_t capacity, mbi_pool *pool) {
  size_t same;
  books[device].bytes_live -= (int64_t)capacity;
  if (pool) pool->live--;
  if (pool && pool->refs > 0 && push(&pool->blocks[class_of(capacity, &same)], data)) books[device].bytes_graphs += (int64_t)capacity;
  else shelve(device, data, capacity);
  if (pool && pool->refs == 0 && pool->live == 0) free(pool);
}

// ----- pools ------------------------------------------------------------------------------------------------

mb_status mbi_pool_new(mbi_pool **out, mb_device device) {
  *out = calloc(1, sizeof **out);
  if (!*out) MB_FAIL(MB_ERR_NOMEM, "out of memory on cpu: %zu bytes for the blocks of a graph", sizeof **out);
  (*out)->device = device;
  (*out)->refs = 1;
  return MB_OK;
}

void mbi_pool_retain(mbi_pool *pool) { pool->refs++; }

void mbi_pool_release(mbi_pool *pool) {
  if (!pool || --pool->refs > 0) return;
  for (int class = 0; class < CLASS_COUNT; class++) {
    heap *h = &pool->blocks[class];
    while (h->count > 0) {
      books[pool->device].bytes_graphs -= (int64_t)capacity_of(class);
      shelve(pool->device, pop(h), capacity_of(class));
    }
    free(h->blocks);
    *h = (heap){0};
  }
  if (pool->live == 0) free(pool);
}

void mbi_blocks_belong_to(mbi_pool *pool) { owner = pool; }

// ----- work memory ------------------------------------------------------------------------------------------

mb_status mbi_block_take_work(void **data, mb_device device, size_t bytes) {
  int is_zero;
  *data = NULL;
  MB_TRY(obtain(data, &is_zero, device, bytes));
  books[device].bytes_scratch += (int64_t)bytes;
  note_peak(device);
  return MB_OK;
}

void mbi_block_give_work(mb_device device, void *data, size_t bytes) {
  mbi_device_of(device)->release(data, bytes);
  books[device].bytes_scratch -= (int64_t)bytes;
}

// ----- books --------------------------------------------------------------------------------------------------

void mbi_blocks_empty(void) {
  for (int device = 0; device < DEVICES; device++) {
    give_back((mb_device)device, INT64_MAX);
    for (int class = 0; class < CLASS_COUNT; class++) {
      heap *h = &cache[device][class];
      free(h->blocks);
      *h = (heap){0};
    }
  }
}

int64_t mbi_blocks_cached(void) { return books[MB_CPU].bytes_cached + books[MB_CUDA].bytes_cached; }

int mbi_device_was_used(mb_device device) { return books[device].requests > 0; }

void mbi_blocks_reset_peak(void) {
  for (int device = 0; device < DEVICES; device++) books[device].bytes_peak = in_use((mb_device)device);
}

int mbi_fails_on_purpose(void) {
  allocations++;
  return fail_at != 0 && allocations == fail_at;
}

int64_t mbi_allocation_count(void) { return allocations; }

void mb_debug_fail_allocation(int64_t n) { fail_at = n > 0 ? allocations + n : 0; }

mb_status mb_memory_of(mb_device_memory *out, mb_device device) {
  MB_TRY(mb_device_check(device));
  mb_device_memory *b = &books[device];
  MB_TRY(read_limit(&b->bytes_limit));
  MB_TRY(mbi_device_of(device)->room(&b->bytes_free, &b->bytes_total));
  b->bytes_free += b->bytes_cached;
  int64_t within_limit = b->bytes_limit - b->bytes_live - b->bytes_scratch;
  if (b->bytes_limit && within_limit < b->bytes_free) b->bytes_free = within_limit > 0 ? within_limit : 0;
  *out = *b;
  return MB_OK;
}
