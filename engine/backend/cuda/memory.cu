// SPDX-License-Identifier: MIT
//
// memory.cu: the device's memory and the stream. Blocks come from the device's stream-ordered pool, which keeps what is
// freed, or by cudaMalloc where a driver has no pools; the engine's cache (core/blocks.c) lies above it, so that a step in its steady state does not come here at all.
// Everything runs in one stream: memory is free for the next operation as soon as the last one that uses it is queued.
#include "backend/cuda/capture.h"
#include "backend/cuda/memory.h"

#include "backend/cuda/together.h"

#include <cstdlib>
#include <cstring>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace mbk {
namespace {

struct Slot {
  void *data;
  size_t bytes;
};
Slot slots[SCRATCH_SLOTS];

int64_t times_waited;

void empty(Slot *s) {
  if (s->data) give_later(s->data, s->bytes);
  *s = Slot{};
}

} // namespace

int64_t waits() { return times_waited; }
void count_wait() { times_waited++; }

mb_status scratch(void **out, int slot, size_t bytes) {
  Slot &s = slots[slot];
  if (s.bytes < bytes) {
    empty(&s);
    MB_TRY(engine->take(&s.data, bytes));
    s.bytes = bytes;
  }
  *out = s.data;
  return MB_OK;
}

static Slot counters;
static mb_status zero_at_once(void *data, size_t bytes); // in a capture too, and not again by the graph

// Graphs that live know it, and go on using it.
static void free_scratch() {
  for (Slot &slot : slots)
    if (!graphs_live()) empty(&slot);
  if (!graphs_live()) empty(&counters);
}

mb_status arrivals(unsigned **out, int64_t count) {
  constexpr size_t LEAST = 1 << 18;
  size_t bytes = (size_t)count * sizeof **out;
  if (counters.bytes < bytes || !counters.data) {
    bytes = bytes > LEAST ? bytes : LEAST;
    empty(&counters);
    MB_TRY(engine->take(&counters.data, bytes));
    counters.bytes = bytes;
    mb_status status = zero_at_once(counters.data, bytes);
    if (status != MB_OK) empty(&counters);
    MB_TRY(status);
  }
  *out = static_cast<unsigned *>(counters.data);
  return MB_OK;
}

#ifdef __CUDACC__

namespace {
// What the largest block of any kernel takes: small.cu's Jacobi method on 96 x 96 numbers of float64, and some.
constexpr int MOST_SHARED = 152 * 1024;

cudaStream_t the_stream, the_side; // the side: for what a capture needs at once
cudaMemPool_t the_pool; // or NULL
} // namespace

cudaStream_t stream() { return the_stream; }

mb_status open_device() {
  int count = 0, major = 0, minor = 0, pools = 0, shared = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    cudaGetLastError();
    return fail(MB_ERR_DEVICE, "device cuda is not available: %s", error != cudaSuccess ? cudaGetErrorString(error) : "no device found");
  }
  MBK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  MBK_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0));
  if (major < 8)
    return fail(MB_ERR_DEVICE, "device cuda is not available: it has compute capability %d.%d, at least 8.0 is needed", major, minor);
  MBK_CUDA(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  if (shared < MOST_SHARED)
    return fail(MB_ERR_DEVICE, "device cuda is not available: its blocks share %d bytes of memory, %d are needed (compute capability 8.0, 9.0, "
                "10.0 have them; 8.6, 8.9 and 12.0 do not)", shared, MOST_SHARED);
  MBK_CUDA(cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, 0));
  MBK_CUDA(cudaSetDevice(0));
  uint64_t keep_all = UINT64_MAX;
  if (pools) {
    MBK_CUDA(cudaDeviceGetDefaultMemPool(&the_pool, 0));
    MBK_CUDA(cudaMemPoolSetAttribute(the_pool, cudaMemPoolAttrReleaseThreshold, &keep_all));
  }
  MBK_CUDA(cudaStreamCreateWithFlags(&the_stream, cudaStreamNonBlocking));
  MBK_CUDA(cudaStreamCreateWithFlags(&the_side, cudaStreamNonBlocking));
  return MB_OK;
}

mb_status allocate(void **out, int *is_zero, size_t bytes) {
  *is_zero = 0;
  if (!the_pool) {
    MBK_CUDA(cudaMalloc(out, bytes));
    return MB_OK;
  }
  MBK_CUDA(cudaMallocAsync(out, bytes, is_capturing() ? the_side : the_stream));
  if (is_capturing()) MBK_CUDA(cudaStreamSynchronize(the_side));
  return MB_OK;
}

// A device that is lost takes nothing back, and needs not.
void release(void *data, size_t bytes) {
  if (is_capturing()) return release_later(data, bytes);
  cudaError_t error = the_pool ? cudaFreeAsync(data, the_stream) : cudaFree(data);
  if (error != cudaSuccess) cudaGetLastError();
}

// What the pool has reserved and not given out counts as free.
mb_status room(int64_t *free_bytes, int64_t *total_bytes) {
  size_t unused = 0, all = 0;
  uint64_t reserved = 0, used = 0;
  MBK_CUDA(cudaMemGetInfo(&unused, &all));
  if (the_pool) {
    MBK_CUDA(cudaMemPoolGetAttribute(the_pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
    MBK_CUDA(cudaMemPoolGetAttribute(the_pool, cudaMemPoolAttrUsedMemCurrent, &used));
  }
  *free_bytes = (int64_t)(unused + (reserved - used));
  *total_bytes = (int64_t)all;
  return MB_OK;
}

void trim() {
  if (is_capturing()) return;
  free_scratch();
  cudaStreamSynchronize(the_stream);
  if (the_pool) cudaMemPoolTrimTo(the_pool, 0);
  cudaGetLastError();
}

mb_status zero(void *data, size_t bytes) {
  MBK_CUDA(cudaMemsetAsync(data, 0, bytes, the_stream));
  return MB_OK;
}

static mb_status zero_at_once(void *data, size_t bytes) {
  if (!is_capturing()) return zero(data, bytes);
  MBK_CUDA(cudaMemsetAsync(data, 0, bytes, the_side));
  MBK_CUDA(cudaStreamSynchronize(the_side));
  return MB_OK;
}

mb_status synchronize() {
  MB_TRY(refuse_capture("waiting for the device"));
  count_wait();
  MBK_CUDA(cudaStreamSynchronize(the_stream));
  return MB_OK;
}

mb_status place(void *device, const void *host, size_t bytes) {
  if (!is_capturing()) return to_device(device, host, bytes);
  MBK_CUDA(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, the_side));
  MBK_CUDA(cudaStreamSynchronize(the_side));
  return MB_OK;
}

mb_status pinned(void **out, size_t bytes) {
  MBK_CUDA(cudaHostAlloc(out, bytes, cudaHostAllocDefault));
  return MB_OK;
}

mb_status queue_copy(void *to, const void *from, size_t bytes, Way way) {
  MBK_CUDA(cudaMemcpyAsync(to, from, bytes, way == Way::IN ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, the_stream));
  return MB_OK;
}

mb_status make_mark(Mark *out) {
  MBK_CUDA(cudaEventCreateWithFlags(out, cudaEventDisableTiming));
  return MB_OK;
}

mb_status mark(Mark m) {
  MBK_CUDA(cudaEventRecord(m, the_stream));
  return MB_OK;
}

mb_status wait(Mark m) {
  MBK_CUDA(cudaEventSynchronize(m));
  return MB_OK;
}

#else

namespace {

struct Copy {
  void *to;
  const void *from;
  size_t bytes;
};
std::vector<Copy> queue;

constexpr size_t ALIGNMENT = 256;
constexpr int64_t DRY_ROOM = (int64_t)141 << 30;

// Addresses without memory behind them until they are touched.
mb_status reserve(void **out, size_t bytes) {
  *out = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (*out != MAP_FAILED) return MB_OK;
  *out = nullptr;
  return fail(MB_ERR_NOMEM, "out of memory: %zu bytes of addresses", bytes);
}

} // namespace

void make_up(void *host, double value, size_t bytes) {
  float narrow = (float)value;
  if (bytes % sizeof value) {
    for (size_t i = 0; i + sizeof narrow <= bytes; i += sizeof narrow) memcpy((char *)host + i, &narrow, sizeof narrow);
    return;
  }
  for (size_t i = 0; i < bytes; i += sizeof value) memcpy((char *)host + i, &value, sizeof value);
}

bool is_dry() {
  static const char *const wish = getenv("MOONBOW_CUDA_DRY");
  return wish && strcmp(wish, "1") == 0;
}

void settle() {
  for (const Copy &copy : queue) memcpy(copy.to, copy.from, copy.bytes);
  queue.clear();
}

mb_status open_device() { return MB_OK; }

mb_status allocate(void **out, int *is_zero, size_t bytes) {
  *is_zero = 0;
  MB_TRY(launched("cudaMallocAsync"));
  if (is_dry()) return reserve(out, bytes);
  *out = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
  if (!*out) return fail(MB_ERR_NOMEM, "out of memory: %zu bytes", bytes);
  memset(*out, 0xff, bytes); // NaN: what is read before it is written shows
  return MB_OK;
}

void release(void *data, size_t bytes) {
  if (is_capturing()) return release_later(data, bytes);
  settle();
  if (is_dry()) munmap(data, bytes);
  else free(data);
}

mb_status room(int64_t *free_bytes, int64_t *total_bytes) {
  if (is_dry()) {
    *free_bytes = *total_bytes = DRY_ROOM;
    return MB_OK;
  }
  *free_bytes = (int64_t)sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE);
  *total_bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
  return MB_OK;
}

void trim() {
  if (!is_capturing()) free_scratch();
}

mb_status zero(void *data, size_t bytes) {
  MB_TRY(launched("cudaMemsetAsync"));
  return perform([=] {
    memset(data, 0, bytes);
    return MB_OK;
  });
}

static mb_status zero_at_once(void *data, size_t bytes) {
  if (!is_capturing()) return zero(data, bytes);
  if (!is_dry()) memset(data, 0, bytes);
  return MB_OK;
}

mb_status place(void *device, const void *host, size_t bytes) {
  if (!is_capturing()) return to_device(device, host, bytes);
  memcpy(device, host, bytes);
  return MB_OK;
}

mb_status synchronize() {
  MB_TRY(refuse_capture("waiting for the device"));
  count_wait();
  return launched("cudaStreamSynchronize");
}

mb_status pinned(void **out, size_t bytes) {
  *out = malloc(bytes);
  return *out ? MB_OK : fail(MB_ERR_NOMEM, "out of memory: %zu bytes", bytes);
}

mb_status queue_copy(void *to, const void *from, size_t bytes, Way way) {
  MB_TRY(launched("cudaMemcpyAsync"));
  if (!is_dry()) queue.push_back(Copy{to, from, bytes});
  else if (way == Way::OUT) make_up(to, 1.0, bytes);
  return MB_OK;
}

mb_status make_mark(Mark *out) {
  *out = 0;
  return MB_OK;
}
mb_status mark(Mark) { return MB_OK; }
mb_status wait(Mark) { return launched("cudaEventSynchronize"); }

#endif

} // namespace mbk
