// SPDX-License-Identifier: MIT
//
// capture.cu: graphs of the device's work (core/capture.h has the engine's side).
//
// The capture mode is relaxed: one stream is captured, and what a call needs at once meanwhile, memory for the graph, a
// compiled kernel, a table that does not change, is made beside it. What must not happen to the captured stream itself is
// refused by the functions that would do it, with the reason in words.
#include "backend/cuda/capture.h"

#include <vector>

#include "backend/cuda/memory.h"
#include "backend/cuda/normal.h"

struct mbi_captured {
#ifdef __CUDACC__
  cudaGraphExec_t graph;
#else
  std::vector<std::function<mb_status()>> work;
#endif
};

namespace mbk {
namespace {

struct Held {
  void *data;
  size_t bytes;
};

bool capturing;
int64_t live; // graphs
const uint64_t *the_table;
uint64_t the_key[3];
std::vector<Held> kept, to_release;
#ifndef __CUDACC__
std::vector<std::function<mb_status()>> noted;
#endif

// Streams that one capture can use: far more than any has calls.
constexpr uint64_t MOST_STREAMS = (uint64_t)1 << 40;

void settle_memory() {
  std::vector<Held> now;
  now.swap(to_release);
  for (const Held &held : now) release(held.data, held.bytes);
  if (graphs_live()) return;
  now.clear();
  now.swap(kept);
  for (const Held &held : now) engine->give(held.data, held.bytes);
}

} // namespace

bool is_capturing() { return capturing; }
bool graphs_live() { return capturing || live > 0; }

mb_status refuse_capture(const char *what) {
  if (!capturing) return MB_OK;
  return fail(MB_ERR_STATE, "%s cannot be part of a graph", what);
}

void give_later(void *data, size_t bytes) {
  if (graphs_live()) kept.push_back({data, bytes});
  else engine->give(data, bytes);
}

void release_later(void *data, size_t bytes) { to_release.push_back({data, bytes}); }

mb_status stream_of(Stream *out, uint64_t seed, uint64_t step, uint64_t stream) {
  *out = Stream{seed, step, stream, nullptr};
  if (!capturing) return MB_OK;
  if (seed != the_key[0] || step != the_key[1] || stream - the_key[2] >= MOST_STREAMS)
    return fail(MB_ERR_STATE, "random numbers of another seed or step than the generator's cannot be part of a graph");
  *out = Stream{0, 0, stream - the_key[2], the_table};
  return MB_OK;
}

#ifdef __CUDACC__

static mb_status begin() {
  // Nothing of before is under way: what is made beside the capture needs not wait for it.
  MBK_CUDA(cudaStreamSynchronize(stream()));
  MBK_CUDA(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed));
  return MB_OK;
}

// The stream leaves its capture whatever became of it.
static mb_status end(mbi_captured *captured, int is_wanted) {
  cudaGraph_t graph = nullptr;
  const char *call = "cudaStreamEndCapture";
  cudaError_t error = cudaStreamEndCapture(stream(), &graph);
  if (is_wanted && error == cudaSuccess) call = "cudaGraphInstantiate", error = cudaGraphInstantiate(&captured->graph, graph, 0);
  if (graph) cudaGraphDestroy(graph);
  if (error == cudaSuccess) return MB_OK;
  Answer answer = answer_of(error);
  return is_wanted ? report(answer, call, __FILE__, __LINE__) : MB_OK;
}

mb_status replay(mbi_captured *captured) {
  MBK_CUDA(cudaGraphLaunch(captured->graph, stream()));
  return MB_OK;
}

static void destroy(mbi_captured *captured) {
  if (cudaGraphExecDestroy(captured->graph) != cudaSuccess) cudaGetLastError();
}

#else

void note(std::function<mb_status()> work) { noted.push_back(std::move(work)); }

static mb_status begin() {
  MB_TRY(launched("cudaStreamBeginCapture"));
  noted.clear();
  return MB_OK;
}

static mb_status end(mbi_captured *captured, int is_wanted) {
  captured->work.swap(noted);
  noted.clear();
  return is_wanted ? launched("cudaStreamEndCapture") : MB_OK;
}

mb_status replay(mbi_captured *captured) {
  MB_TRY(launched("cudaGraphLaunch"));
  for (const auto &work : captured->work) MB_TRY(work());
  return MB_OK;
}

static void destroy(mbi_captured *) {}

#endif

mb_status begin_capture(const uint64_t *table, const uint64_t key[3]) {
  MB_TRY(begin());
  count_wait();
  capturing = true;
  the_table = table;
  for (int i = 0; i < 3; i++) the_key[i] = key[i];
  return MB_OK;
}

mb_status end_capture(mbi_captured **out, int is_wanted) {
  *out = nullptr;
  mbi_captured *captured = new mbi_captured{};
  mb_status status = end(captured, is_wanted);
  capturing = false;
  if (status == MB_OK && is_wanted) *out = captured, live++;
  else delete captured;
  settle_memory();
  return status;
}

void captured_free(mbi_captured *captured) {
  destroy(captured);
  delete captured;
  live--;
  settle_memory();
}

} // namespace mbk
