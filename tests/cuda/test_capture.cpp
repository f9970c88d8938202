// SPDX-License-Identifier: MIT
//
// test_capture.cpp: what captures leave of the device's work memory, on the host: counters that are zero whether a graph that
// was to use them is run or not, and scratch that a graph knows, which stays for as long as the graph.
#include <cstring>
#include <set>

#include "backend/cuda/memory.h"
#include "backend/cuda/together.h"
#include "say.h"

using namespace mbk;

static std::set<void *> taken;
static mb_status take_dirty(void **out, size_t bytes) {
  mb_status status = take(out, bytes);
  if (status == MB_OK) memset(*out, 0xff, bytes), taken.insert(*out);
  return status;
}
static void give_back(void *data, size_t bytes) {
  CHECK(taken.erase(data) == 1, "%p is given back, which is not taken", data);
  give(data, bytes);
}

static mbi_captured *captured(int is_wanted, void (*work)()) {
  static const uint64_t table[3] = {1, 2, 3};
  mbi_captured *graph;
  CHECK(begin_capture(table, table) == MB_OK, "begins");
  work();
  CHECK(end_capture(&graph, is_wanted) == MB_OK && !graph == !is_wanted, "ends");
  return graph;
}

static void counts(int64_t count) {
  unsigned *counters;
  CHECK(arrivals(&counters, count) == MB_OK, "%lld counters", (long long)count);
  for (int64_t i = 0; i < count; i++) CHECK(counters[i] == 0, "counter %lld of %lld is %u", (long long)i, (long long)count, counters[i]);
}

int main() {
  static const mbi_plugin_host host = {MBI_PLUGIN_ABI, say, say_in, take_dirty, give_back};
  engine = &host, fail = say;

  // The first counters, and more of them, in captures: those of one that was given up, and of graphs that nobody has run.
  captured(0, [] { counts(10); });
  mbi_captured *first = captured(1, [] { counts(10); });
  mbi_captured *second = captured(1, [] { counts(1 << 17); });
  mbi_captured *third = captured(1, [] { counts(1 << 17); });
  counts(1 << 17);
  CHECK(taken.size() == 2, "%zu blocks: a graph knows the old counters", taken.size());

  static void *before, *after;
  mbi_captured *fourth = captured(1, [] { CHECK(scratch(&before, 3, 100) == MB_OK, "scratch"); });
  CHECK(scratch(&after, 3, 1000) == MB_OK && before != after, "it grows");
  CHECK(taken.count(before) == 1, "a graph knows what it was");
  for (mbi_captured *graph : {third, first, second}) captured_free(graph);
  CHECK(taken.count(before) == 1 && taken.size() == 4, "%zu blocks while a graph lives", taken.size());
  captured_free(fourth);
  CHECK(taken.count(before) == 0 && taken.size() == 2, "%zu blocks without a graph", taken.size());
  trim();
  CHECK(taken.empty(), "%zu blocks", taken.size());
  return finish();
}
