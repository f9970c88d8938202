// SPDX-License-Identifier: MIT
//
// host.h: what kernels of this folder need on the host side: failing, the stream, scratch memory, copies, and the table of
// slots as a class. Compiled without nvcc, the same files make a library whose "device" is the host's memory and whose
// launches run on its cores: the tests' stand-in for a GPU.
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

// What the engine gave when the plugin was opened; fail is its mbi_fail.
extern const mbi_plugin_host *engine;
extern mb_status (*fail)(mb_status status, const char *format, ...);

// Memory of the calling operation on the device, as mbi_scratch has it on the host: slots are separate, contents
// undefined, kept for the next call.
constexpr int SCRATCH_SLOTS = 8;
mb_status scratch(void **out, int slot, size_t bytes);
template <class T> mb_status scratch_of(T **out, int slot, int64_t count) {
  void *memory;
  mb_status status = scratch(&memory, slot, (size_t)count * sizeof(T));
  *out = static_cast<T *>(memory);
  return status;
}

// Through a ring of pinned memory (staging.cu): to_device returns as soon as `host` may be used again, to_host when the
// bytes are there.
mb_status to_device(void *device, const void *host, size_t bytes);
mb_status to_host(void *host, const void *device, size_t bytes);

// ----- failures (errors.cu) ---------------------------------------------------------------------------------

// What a library answered: the name and the text of its status. After a sticky one no call of the process succeeds.
struct Answer {
  const char *name, *text;
  bool is_memory, is_sticky;
};
// Fails with MB_ERR_NOMEM or MB_ERR_DEVICE: "NAME (text), at file:line in call".
mb_status report(const Answer &answer, const char *call, const char *file, int line);
// MB_OK, or the failure of every call after a sticky answer.
mb_status usable();
// After a launch: whether it was accepted. On the stand-in, before what stands for a launch or a library's call:
// MOONBOW_CUDA_FAULT may want it to fail (errors.cu).
mb_status launched(const char *what, const char *file = __builtin_FILE(), int line = __builtin_LINE());
// Launches so far, a library's call counting as one (stamps.cu).
extern int64_t launches;
#ifndef __CUDACC__
// On the stand-in: MOONBOW_CUDA_DRY=1 goes through all calls and does none of their work, so that a step of any size shows what it
// would launch. Memory is only reserved. What is read back is made up: 1, the least integer for indices (none was found), -1 in mails.
bool is_dry();
// The same number again and again.
void make_up(void *host, double value, size_t bytes);
inline mb_status to_host(int64_t *host, const void *device, size_t bytes) {
  mb_status status = to_host((void *)host, device, bytes);
  for (size_t i = 0; is_dry() && i < bytes / sizeof *host; i++) host[i] = INT64_MIN;
  return status;
}
#endif

#ifdef __CUDACC__
cudaStream_t stream();
// What an error of the runtime means; it is taken from the runtime, so that the next call does not find it again.
Answer answer_of(cudaError_t error);
#define MBK_CUDA(call)                                                                                  \
  do {                                                                                                  \
    cudaError_t mbk_error_ = (call);                                                                    \
    if (mbk_error_ != cudaSuccess) return mbk::report(mbk::answer_of(mbk_error_), #call, __FILE__, __LINE__); \
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
