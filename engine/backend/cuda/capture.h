// SPDX-License-Identifier: MIT
//
// capture.h: work that is noted instead of done: on the GPU a graph of the runtime, on the stand-in a list of functions. All
// that is queued in the stream can be noted; what has the host wait, or reads its memory, is refused.
#ifndef MBK_CUDA_CAPTURE_H
#define MBK_CUDA_CAPTURE_H
#ifndef __CUDACC__
#include <functional>
#endif

#include "backend/cuda/host.h"

namespace mbk {

bool is_capturing();
// MB_OK, or in a capture a failure: "WHAT cannot be part of a graph". `what` begins like a sentence's middle.
mb_status refuse_capture(const char *what);

mb_status begin_capture(const uint64_t *table, const uint64_t key[3]);
mb_status end_capture(mbi_captured **out, int is_wanted);
mb_status replay(mbi_captured *captured);
void captured_free(mbi_captured *captured);

bool graphs_live(); // or one is being captured
// Gives memory of the device that graphs may know back to the engine, at the latest when the last of them is gone.
void give_later(void *data, size_t bytes);
// Releases memory when the capture under way has ended.
void release_later(void *data, size_t bytes);

#ifndef __CUDACC__
void note(std::function<mb_status()> work);
// Does the work, or notes it; in a dry run neither. What it uses is kept by value.
template <class F> mb_status perform(const F &work) {
  if (is_dry()) return MB_OK;
  if (!is_capturing()) return work();
  note(work);
  return MB_OK;
}
#endif

} // namespace mbk
#endif
