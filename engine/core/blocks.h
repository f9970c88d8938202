// SPDX-License-Identifier: MIT
//
// blocks.h: memory of a device in blocks. Tensors take theirs from a cache, so that in the steady state of a training
// step the device's driver is not asked at all; operations hold work memory from one call to the next. The books are
// kept here, for each device: what is in use, the limit of MOONBOW_MEMORY_LIMIT, how often the device itself was asked.
#ifndef MBI_BLOCKS_H
#define MBI_BLOCKS_H
#include "backend/backend.h"

// A block of at least `bytes`; its capacity is what mbi_block_give wants to know. *is_zero says whether it is known to
// hold zeros. MB_ERR_NOMEM leaves the reason for mbi_block_refusal.
mb_status mbi_block_take(void **data, int *is_zero, size_t *capacity, mb_device device, size_t bytes);
void mbi_block_give(mb_device device, void *data, size_t capacity);
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
