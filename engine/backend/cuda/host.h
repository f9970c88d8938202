// SPDX-License-Identifier: MIT
//
// host.h: what kernels of this folder need on the host side: failing, the stream, scratch memory, checks of CUDA's
// statuses, and the table of slots as a class. Compiled without nvcc, the same files make a library whose "device" is
// the host's memory and whose launches run on its cores: the tests' stand-in for a GPU.
#ifndef MBK_CUDA_HOST_H
#define MBK_CUDA_HOST_H
#include <cstddef>
#include <cstdint>

extern "C" {
#include "backend/plugin.h"
}

#ifdef __CUDACC__
#include <cuda_runtime.h>
#endif

#include "backend/cuda/bf16.h"

namespace mbk {

// The engine's mbi_fail, given when the plugin was opened.
extern mb_status (*fail)(mb_status status, const char *format, ...);

// Memory of the calling operation on the device, as mbi_scratch has it on the host: slots are separate, contents
// undefined, kept for the next call.
constexpr int SCRATCH_SLOTS = 8;
mb_status scratch(void **out, int slot, size_t bytes);
void free_scratch();
template <class T> mb_status scratch_of(T **out, int slot, int64_t count) {
  void *memory;
  mb_status status = scratch(&memory, slot, (size_t)count * sizeof(T));
  *out = static_cast<T *>(memory);
  return status;
}

// Both wait for nothing but what the stream still has to do before them.
mb_status to_device(void *device, const void *host, size_t bytes);
mb_status to_host(void *host, const void *device, size_t bytes); // and waits until it is there

#ifdef __CUDACC__
cudaStream_t stream();
// MB_OK, or the failure that a status of the runtime means, with file, line and what was called.
mb_status check_cuda(cudaError_t error, const char *call, const char *file, int line);
// After a launch: whether it was accepted.
mb_status launched(const char *kernel);
#define MBK_CUDA(call)                                                                                  \
  do {                                                                                                  \
    mb_status mbk_status_ = mbk::check_cuda((call), #call, __FILE__, __LINE__);                         \
    if (mbk_status_ != MB_OK) return mbk_status_;                                                       \
  } while (0)
#endif

// The slots of kernels.def for elements of type T; each file defines some, and MBK_SLOT makes them for every T.
template <class T> struct Kernels {
#define MB_KERNEL(name, ...) static mb_status name(__VA_ARGS__);
#include "backend/kernels.def"
#undef MB_KERNEL
};
#define MBK_SLOT(name)                                                                                  \
  extern const void *const made_##name[] = {(const void *)&Kernels<float>::name, (const void *)&Kernels<double>::name, \
                                            (const void *)&Kernels<bf16>::name}

} // namespace mbk
#endif
