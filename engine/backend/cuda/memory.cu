// SPDX-License-Identifier: MIT
//
// memory.cu: the device's memory, the stream, and what CUDA's statuses mean. Blocks come from the device's stream-ordered
// pool, which keeps what is freed: giving a block back and asking again costs no synchronisation. Everything runs in one
// stream, so that memory is free for the next operation as soon as the last one that uses it is queued.
#include "backend/cuda/memory.h"

#include <cstring>

namespace mbk {
namespace {

struct Slot {
  void *data;
  size_t bytes;
};
Slot slots[SCRATCH_SLOTS];

int64_t times_waited;

} // namespace

int64_t waits() { return times_waited; }

mb_status scratch(void **out, int slot, size_t bytes) {
  Slot &s = slots[slot];
  if (s.bytes < bytes) {
    if (s.data) release(s.data, s.bytes);
    s = Slot{};
    int is_zero;
    mb_status status = allocate(&s.data, &is_zero, bytes);
    if (status != MB_OK) return status;
    s.bytes = bytes;
  }
  *out = s.data;
  return MB_OK;
}

void free_scratch() {
  for (Slot &s : slots) {
    if (s.data) release(s.data, s.bytes);
    s = Slot{};
  }
}

#ifdef __CUDACC__

namespace {
cudaStream_t the_stream;
}

cudaStream_t stream() { return the_stream; }

// After some errors every later call of the process fails too.
static bool is_sticky(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable: return true;
    default: return false;
  }
}

mb_status check_cuda(cudaError_t error, const char *call, const char *file, int line) {
  if (error == cudaSuccess) return MB_OK;
  cudaGetLastError(); // an error that is not sticky is over when it has been read
  const char *name = strrchr(file, '/');
  mb_status status = error == cudaErrorMemoryAllocation ? MB_ERR_NOMEM : MB_ERR_DEVICE;
  return fail(status, "cuda: %s%s (%s), at %s:%d in %.80s", cudaGetErrorString(error),
              is_sticky(error) ? "; the device cannot be used by this process any more: restart from the last checkpoint" : "",
              cudaGetErrorName(error), name ? name + 1 : file, line, call);
}

mb_status launched(const char *kernel) {
  cudaError_t error = cudaPeekAtLastError();
  return error == cudaSuccess ? MB_OK : check_cuda(cudaGetLastError(), kernel, __FILE__, __LINE__);
}

mb_status open_device() {
  int count = 0, major = 0, minor = 0, pools = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    cudaGetLastError();
    return fail(MB_ERR_DEVICE, "device cuda is not available: %s", error != cudaSuccess ? cudaGetErrorString(error) : "no device found");
  }
  MBK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  MBK_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0));
  if (major < 8)
    return fail(MB_ERR_DEVICE, "device cuda is not available: it has compute capability %d.%d, at least 8.0 is needed", major, minor);
  MBK_CUDA(cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, 0));
  if (!pools) return fail(MB_ERR_DEVICE, "device cuda is not available: its driver has no memory pools");
  MBK_CUDA(cudaSetDevice(0));
  cudaMemPool_t pool;
  uint64_t keep_all = UINT64_MAX;
  MBK_CUDA(cudaDeviceGetDefaultMemPool(&pool, 0));
  MBK_CUDA(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep_all));
  MBK_CUDA(cudaStreamCreateWithFlags(&the_stream, cudaStreamNonBlocking));
  return MB_OK;
}

mb_status allocate(void **out, int *is_zero, size_t bytes) {
  *is_zero = 0;
  cudaError_t error = cudaMallocAsync(out, bytes, the_stream);
  if (error == cudaSuccess) return MB_OK;
  size_t free_bytes = 0, all = 0;
  cudaGetLastError();
  cudaMemGetInfo(&free_bytes, &all);
  if (error == cudaErrorMemoryAllocation)
    return fail(MB_ERR_NOMEM, "out of memory on the device: %zu bytes asked for, %zu of %zu free", bytes, free_bytes, all);
  return check_cuda(error, "cudaMallocAsync", __FILE__, __LINE__);
}

void release(void *data, size_t) { cudaFreeAsync(data, the_stream); }

mb_status to_device(void *device, const void *host, size_t bytes) {
  MBK_CUDA(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, the_stream));
  return MB_OK;
}

mb_status to_host(void *host, const void *device, size_t bytes) {
  times_waited++;
  MBK_CUDA(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, the_stream));
  MBK_CUDA(cudaStreamSynchronize(the_stream));
  return MB_OK;
}

mb_status zero(void *data, size_t bytes) {
  MBK_CUDA(cudaMemsetAsync(data, 0, bytes, the_stream));
  return MB_OK;
}

mb_status synchronize() {
  times_waited++;
  MBK_CUDA(cudaStreamSynchronize(the_stream));
  return MB_OK;
}

#else

mb_status open_device() { return MB_OK; }

mb_status synchronize() {
  times_waited++;
  return MB_OK;
}

mb_status allocate(void **out, int *is_zero, size_t bytes) {
  *is_zero = 0;
  *out = __builtin_malloc(bytes);
  if (!*out) return fail(MB_ERR_NOMEM, "out of memory: %zu bytes", bytes);
  memset(*out, 0xff, bytes); // NaN: what is read before it is written shows
  return MB_OK;
}

void release(void *data, size_t) { __builtin_free(data); }

mb_status to_device(void *device, const void *host, size_t bytes) {
  memcpy(device, host, bytes);
  return MB_OK;
}

mb_status to_host(void *host, const void *device, size_t bytes) {
  times_waited++;
  memcpy(host, device, bytes);
  return MB_OK;
}

mb_status zero(void *data, size_t bytes) {
  memset(data, 0, bytes);
  return MB_OK;
}

#endif

} // namespace mbk
