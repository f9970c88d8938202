// SPDX-License-Identifier: MIT
//
// errors.cu: what statuses of CUDA and its libraries become: one line with the status' name and text, the file, the line and
// the call; calls.h puts the operation and its sizes before it. A sticky error (an illegal address, a failed assertion, ...)
// ends the device's life in this process: it is remembered, and all later calls fail at once with the advice to restart.
//
// The stand-in fails on request: MOONBOW_CUDA_FAULT=KIND:N[:NAME] makes the N-th call whose name contains NAME fail, where
// KIND is plain, memory or sticky. The count starts again when the variable changes.
#include "backend/cuda/memory.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace mbk {
namespace {

char lost[160]; // the first sticky error, "" while there is none

} // namespace

mb_status usable() {
  if (!*lost) return MB_OK;
  return fail(MB_ERR_DEVICE, "the device was lost to an earlier error, %s: this process must restart", lost);
}

mb_status report(const Answer &answer, const char *call, const char *file, int line) {
  const char *name = strrchr(file, '/');
  name = name ? name + 1 : file;
  if (answer.is_sticky && !*lost) snprintf(lost, sizeof lost, "%.60s at %.60s:%d", answer.name, name, line);
  return fail(answer.is_memory ? MB_ERR_NOMEM : MB_ERR_DEVICE, "%s (%s), at %s:%d in %.80s%s", answer.name, answer.text, name, line, call,
              answer.is_sticky ? ", or in work queued before it; the device is lost: this process must restart" : "");
}

#ifdef __CUDACC__

Answer answer_of(cudaError_t error) {
  Answer answer{cudaGetErrorName(error), cudaGetErrorString(error), error == cudaErrorMemoryAllocation, false};
  cudaGetLastError(); // an error that is not sticky is over when it has been read
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
    case cudaErrorExternalDevice:
    case cudaErrorECCUncorrectable: answer.is_sticky = true;
    default: return answer;
  }
}

mb_status launched(const char *what, const char *file, int line) {
  cudaError_t error = cudaPeekAtLastError();
  return error == cudaSuccess ? MB_OK : report(answer_of(error), what, file, line);
}

#else

namespace {

// Is this the call that MOONBOW_CUDA_FAULT is about?
bool is_wanted(Answer *answer, const char *what) {
  static char wish[64];
  static long at;
  const char *text = getenv("MOONBOW_CUDA_FAULT");
  if (!text || !*text) {
    wish[0] = 0;
    return false;
  }
  if (strncmp(text, wish, sizeof wish - 1) != 0) snprintf(wish, sizeof wish, "%s", text), at = 0;
  char kind[16], name[40] = "";
  long n;
  if (sscanf(wish, "%15[a-z]:%ld:%39s", kind, &n, name) < 2 || !strstr(what, name) || ++at != n) return false;
  bool is_sticky = strcmp(kind, "sticky") == 0, is_memory = strcmp(kind, "memory") == 0;
  *answer = is_sticky   ? Answer{"cudaErrorIllegalAddress", "an illegal memory access was encountered", false, true}
            : is_memory ? Answer{"cudaErrorMemoryAllocation", "out of memory", true, false}
                        : Answer{"cudaErrorLaunchOutOfResources", "too many resources requested for launch", false, false};
  return true;
}

} // namespace

mb_status launched(const char *what, const char *file, int line) {
  Answer answer;
  settle();
  return is_wanted(&answer, what) ? report(answer, what, file, line) : MB_OK;
}

#endif

} // namespace mbk
