// SPDX-License-Identifier: MIT
//
// nvrtc.h: kernels that are compiled at run time.
#ifndef MBK_CUDA_NVRTC_H
#define MBK_CUDA_NVRTC_H
#include <string>

#include "backend/cuda/host.h"

namespace mbk {

#ifdef __CUDACC__
struct Module {
  void *function;
};
// Compiles for the device in use, and loads the function `name`.
mb_status compile_for_device(Module *out, const std::string &source, const char *name);
// Arguments as addresses of the values.
mb_status launch_module(const Module &module, int64_t blocks, int threads, void **arguments, const char *name);
#else
// Compiles for sm_80 and sm_90, once for each source, where NVRTC is there, and keeps the code as compile_for_device does; MB_OK
// where it is not.
mb_status check_source(const std::string &source);
#endif

// How many programs this process has compiled: those that the cache on disk did not have.
int64_t programs_compiled();

} // namespace mbk
#endif
