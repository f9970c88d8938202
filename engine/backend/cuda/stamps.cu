// SPDX-License-Identifier: MIT
//
// stamps.cu: what a profile needs of the device: moments in the stream, which are events of a pool, the number of launches, and
// what the device is. On the stand-in work is done when a call returns, so a stamp is the clock.
#include <cstdio>
#include <vector>

#include "backend/cuda/memory.h"

#ifndef __CUDACC__
#include <ctime>
#endif

namespace mbk {

int64_t launches;
int64_t launches_made() { return launches; }

#ifdef __CUDACC__

namespace {
std::vector<cudaEvent_t> events;
std::vector<int64_t> unused; // numbers of events that nobody holds
} // namespace

// Events of a stream that is being captured belong to the graph and have no time.
mb_status stamp(int64_t *stamp) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  *stamp = -1;
  MBK_CUDA(cudaStreamIsCapturing(stream(), &capture));
  if (capture != cudaStreamCaptureStatusNone) return MB_OK;
  if (unused.empty()) {
    cudaEvent_t event;
    MBK_CUDA(cudaEventCreate(&event));
    unused.push_back((int64_t)events.size());
    events.push_back(event);
  }
  MBK_CUDA(cudaEventRecord(events[(size_t)unused.back()], stream()));
  *stamp = unused.back();
  unused.pop_back();
  return MB_OK;
}

mb_status stamp_seconds(double *seconds, int64_t from, int64_t to) {
  float milliseconds = 0;
  MBK_CUDA(cudaEventElapsedTime(&milliseconds, events[(size_t)from], events[(size_t)to]));
  *seconds = 1e-3 * (double)milliseconds;
  return MB_OK;
}

void release_stamp(int64_t stamp) {
  if (stamp >= 0) unused.push_back(stamp);
}

static mb_status attribute(int *value, cudaDeviceAttr which) {
  MBK_CUDA(cudaDeviceGetAttribute(value, which, 0));
  return MB_OK;
}

mb_status device_facts(mb_device_facts *facts) {
  int major = 0, minor = 0, processors = 0, clock = 0, memory_clock = 0, bus = 0, cache = 0;
  size_t unused = 0, all = 0;
  cudaDeviceProp properties;
  MBK_CUDA(cudaGetDeviceProperties(&properties, 0));
  MB_TRY(attribute(&major, cudaDevAttrComputeCapabilityMajor));
  MB_TRY(attribute(&minor, cudaDevAttrComputeCapabilityMinor));
  MB_TRY(attribute(&processors, cudaDevAttrMultiProcessorCount));
  MB_TRY(attribute(&clock, cudaDevAttrClockRate)); // kHz, as the next one
  MB_TRY(attribute(&memory_clock, cudaDevAttrMemoryClockRate));
  MB_TRY(attribute(&bus, cudaDevAttrGlobalMemoryBusWidth));
  MB_TRY(attribute(&cache, cudaDevAttrL2CacheSize));
  MBK_CUDA(cudaMemGetInfo(&unused, &all));
  snprintf(facts->name, sizeof facts->name, "%.*s", (int)sizeof facts->name - 1, properties.name);
  facts->capability = 10 * major + minor, facts->multiprocessors = processors;
  facts->clock = 1e3 * clock, facts->memory_clock = 1e3 * memory_clock, facts->memory_bus = bus;
  facts->bytes = (int64_t)all, facts->cache = cache;
  return MB_OK;
}

#else

mb_status stamp(int64_t *stamp) {
  timespec now;
  settle();
  clock_gettime(CLOCK_MONOTONIC, &now);
  *stamp = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
  return MB_OK;
}

mb_status stamp_seconds(double *seconds, int64_t from, int64_t to) {
  *seconds = 1e-9 * (double)(to - from);
  return MB_OK;
}

void release_stamp(int64_t) {}

mb_status device_facts(mb_device_facts *facts) {
  snprintf(facts->name, sizeof facts->name, "the host, block by block");
  return MB_OK;
}

#endif

} // namespace mbk
