// SPDX-License-Identifier: MIT
//
// memory.h: memory of the device and the one stream that all work is queued in. Each function exists for the GPU and for
// the stand-in, whose copies are queued too and made when somebody waits for them or the next operation begins: a buffer
// that is used again too early shows.
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
mb_status mail_new(mbi_mail **out, size_t bytes);
void mail_free(mbi_mail *mail);
mb_status mail_send(mbi_mail *mail, const void *device);
mb_status mail_open(const void **data, mbi_mail *mail);
int64_t waits(); // how many times the host has waited, in to_host and synchronize
void count_wait();
mb_status room(int64_t *free_bytes, int64_t *total_bytes);
void trim();

// Memory of the host that copies need not wait for.
mb_status pinned(void **out, size_t bytes);
enum class Way { IN, OUT };
// Queues a copy between pinned memory and the device.
mb_status queue_copy(void *to, const void *from, size_t bytes, Way way);

// What stays as it is for as long as the memory: in a capture it is copied at once, and not again by the graph.
mb_status place(void *device, const void *host, size_t bytes);

// A place in the queue: what was queued before mark() is done when wait() returns.
#ifdef __CUDACC__
using Mark = cudaEvent_t;
#else
using Mark = int;
void settle(); // makes the copies that are queued
#endif
mb_status make_mark(Mark *out);
mb_status mark(Mark m);
mb_status wait(Mark m);
// Times in the stream, for a profile (stamps.cu); what the device is.
mb_status stamp(int64_t *stamp);
mb_status stamp_seconds(double *seconds, int64_t from, int64_t to);
void release_stamp(int64_t stamp);
int64_t launches_made();
mb_status device_facts(mb_device_facts *facts);
// kernels/gemm.cu: whether products of float32 may round their factors.
void allow_tf32(int allowed);

} // namespace mbk
#endif
