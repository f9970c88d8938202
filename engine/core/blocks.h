// SPDX-License-Identifier: MIT
//
// blocks.h: memory of a device in blocks. Tensors take theirs from a cache, so that in the steady state of a training
// step the device's driver is not asked at all; operations hold work memory from one call to the next. The books are
// kept here, for each device: what is in use, the limit of MOONBOW_MEMORY_LIMIT, how often the device itself was asked.
#ifndef MBI_BLOCKS_H
#define MBI_BLOCKS_H
#include "backend/backend.h"

// Blocks of one device that graphs of it write whenever they are run (core/capture.h): nobody else gets them.
typedef struct mbi_pool mbi_pool;
mb_status mbi_pool_new(mbi_pool **out, mb_device device);
void mbi_pool_retain(mbi_pool *pool);
void mbi_pool_release(mbi_pool *pool); // after the last one its blocks are as all others; those in use, when they come back
// From now on blocks of the pool's device come from it and belong to it, NULL for none.
void mbi_blocks_belong_to(mbi_pool *pool);

// A block of at least `bytes`; its capacity and its pool, or NULL, are what mbi_block_give wants to know. *is_zero says
// whether it is known to hold zeros. MB_ERR_NOMEM leaves the reason for mbi_block_refusal.
mb_status mbi_block_take(void **data, int *is_zero, size_t *capacity, mbi_pool **pool, mb_device device, size_t bytes);
void mbi_block_give(mb_device device, void *data, size_t capacity, mbi_pool *pool);
size_t mbi_block_capacity(size_t bytes); // of a new block

// Memory that is not cached, counted as bytes_scratch: see mbi_work_take in storage.h.
mb_status mbi_block_take_work(void **data, mb_device device, size_t bytes);
void mbi_block_give_work(mb_device device, void *data, size_t bytes);

// "123 in use, 45 of work memory; the limit is 1048576 (MOONBOW_MEMORY_LIMIT)": why the last request was refused.
const char *mbi_block_refusal(mb_device device);

// Gives cached blocks of all devices back.
void mbi_blocks_empty(void);
int64_t mbi_blocks_cached(void); // bytes, of all devices
void mbi_blocks_reset_peak(void);
int mbi_device_was_used(mb_device device);

// Counts a request; nonzero when it is the one that mb_debug_fail_allocation chose.
int mbi_fails_on_purpose(void);
int64_t mbi_allocation_count(void);
#endif
