// SPDX-License-Identifier: MIT
//
// storage.h: blocks of memory and who holds them. A storage is shared by all views of a tensor and
// freed when its last holder lets go. Freed blocks go to a cache of size classes, so that the addresses
// of one training step come back in the next.
#ifndef MBI_STORAGE_H
#define MBI_STORAGE_H
#include "backend/backend.h"

typedef struct mbi_storage {
  int refs;
  int pins;          // saved tensors of the tape that still need these values
  uint64_t version;  // goes up with each change in place
  const char *pinned_by; // name of the last op that pinned it
  const char *label; // what it is for, or NULL; for the report, lives as long as the library
  void *data;
  size_t bytes;      // as asked
  size_t capacity;   // of the block, >= bytes
  struct mbi_pool *pool; // that the block belongs to, or NULL
  int began_as_zero; // the block came from the system filled with zeros
  mb_device device;
  struct mbi_storage *previous, *next; // list of all storages, for the report
  int ndim;          // shape and dtype of the tensor it was made for, for the report
  int64_t size[MB_MAX_DIMS];
  mb_dtype dtype;
} mbi_storage;

mb_status mbi_storage_new(mbi_storage **out, mb_device device, mb_dtype dtype, const mbi_shape *shape);
void mbi_storage_retain(mbi_storage *storage);
void mbi_storage_release(mbi_storage *storage);

// Memory of operations, which keep it from call to call; counted, but not as tensors. Within the limit, and cached blocks
// give way to it.
mb_status mbi_work_take(void **data, mb_device device, size_t bytes);
void mbi_work_give(mb_device device, void *data, size_t bytes);

// Zeroed memory for headers, nodes and programs; counted by mb_debug_fail_allocation like the rest.
mb_status mbi_calloc(void **out, const char *who, size_t count, size_t size);
void mbi_free(void *pointer);
// live_tensors of mb_memory_stats; kept here, beside the other counters.
void mbi_count_tensor(int change);
#endif
