// SPDX-License-Identifier: MIT
//
// timing.h: how long work takes that is queued in the stream, so that one way of doing it can be chosen among several.
#ifndef MBK_CUDA_TIMING_H
#define MBK_CUDA_TIMING_H
#ifdef __CUDACC__
#include "backend/cuda/memory.h"

namespace mbk {

// The least of `runs` times in microseconds, after one that warms up; negative if the work, which says whether it ran, did not.
template <class F> double time_of_runs(int runs, const F &work) {
  double least = -1;
  cudaEvent_t begin = nullptr, end = nullptr;
  bool ready = cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess;
  for (int i = 0; ready && i <= runs; i++) {
    float milliseconds = -1;
    ready = cudaEventRecord(begin, stream()) == cudaSuccess && work() && cudaEventRecord(end, stream()) == cudaSuccess &&
            cudaEventSynchronize(end) == cudaSuccess && cudaEventElapsedTime(&milliseconds, begin, end) == cudaSuccess;
    if (ready && i > 0 && (least < 0 || milliseconds * 1e3 < least)) least = milliseconds * 1e3;
  }
  if (begin) cudaEventDestroy(begin);
  if (end) cudaEventDestroy(end);
  count_wait();
  return ready ? least : -1;
}

} // namespace mbk
#endif
#endif
