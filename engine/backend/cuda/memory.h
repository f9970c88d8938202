// SPDX-License-Identifier: MIT
//
// memory.h: memory of the device and the one stream that all work is queued in.
#ifndef MBK_CUDA_MEMORY_H
#define MBK_CUDA_MEMORY_H
#include "backend/cuda/host.h"

namespace mbk {

// Chooses the device and makes the stream; a failure says why there is none.
mb_status open_device();
mb_status allocate(void **out, int *is_zero, size_t bytes);
void release(void *data, size_t bytes);
mb_status zero(void *data, size_t bytes);
mb_status synchronize();
int64_t waits(); // how many times the host has waited, in to_host and synchronize

} // namespace mbk
#endif
