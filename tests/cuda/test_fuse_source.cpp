// SPDX-License-Identifier: MIT
//
// test_fuse_source.cpp: the CUDA source of a pass over elements, made for the machine's own compiler by a few definitions, and run
// thread by thread: every part gets its own numbers, from the arguments, in a graph, and from the table of several sets; nothing
// outside of the parts is touched. Where NVRTC is there, the same texts are compiled for GPUs.
#include "backend/cuda/fuse_source.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstring>

#include "backend/cuda/nvrtc.h"
#include "say.h"

using namespace mbk;

static const char BEFORE[] = R"(#include <cmath>
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(n)
#define __align__(n) alignas(n)
using namespace std;
static struct { unsigned x; } blockIdx, threadIdx;
)";
static const char ALL_THREADS[] = R"(
extern "C" void run(long long blocks, const Part *parts, const long long *ends, int n_parts, int is_aligned, const unsigned long long *cells,
                    const double *guard, T *w, T *g, T u0, T u1) {
  for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
    for (threadIdx.x = 0; threadIdx.x < THREADS; threadIdx.x++) CALL;
}
)";
template <class T> using Run = void (*)(long long, const void *, const int64_t *, int, int, const uint64_t *, const double *, T *, T *, T, T);

static std::string folder;
static int built;

// The kernel of a source, or NULL without a compiler.
template <class T> static Run<T> build(const std::string &source, bool has_sets) {
  std::string name = folder + "/" + std::to_string(built++), text = BEFORE + source + ALL_THREADS;
  std::string call = std::string("fused(parts, ends, nullptr, n_parts, is_aligned, nullptr, 1, 2, 3, cells, guard, w, g") + (has_sets ? ")" : ", u0, u1)");
  text.replace(text.find("CALL"), 4, call);
  FILE *file = fopen((name + ".cpp").c_str(), "w");
  fputs(text.c_str(), file);
  fclose(file);
  std::string command = "c++ -std=c++17 -O1 -ffp-contract=off -fno-math-errno -w -shared -fPIC -o " + name + ".so " + name + ".cpp";
  CHECK(system(command.c_str()) == 0, "%s", command.c_str());
  void *library = dlopen((name + ".so").c_str(), RTLD_NOW);
  CHECK(library, "%s", dlerror());
  return (Run<T>)dlsym(library, "run");
}

// Without gaps, in no order of sets, from one element to many blocks; a gap before the last one.
static std::vector<mbi_fuse_part> parts_of(int n_sets) {
  std::vector<mbi_fuse_part> parts;
  int64_t at = 1;
  for (int64_t size : {1, 3, 5, 1, 4, 1023, 1024, 1025, 7, 5000, 2, 4096}) {
    int64_t i = (int64_t)parts.size();
    parts.push_back({at, 1, size, i, 0, i, (i * 7 + 2) % n_sets});
    at += size + (size == 2 ? 9 : 0);
  }
  return parts;
}

// w = w u0 - u1 g.
template <class T> static void check(int n_sets, bool in_graph, int is_aligned) {
  const mbi_fuse_step steps[] = {{MB_FUSE_MUL, 2, 4, {0, 2, 0, 0}}, {MBI_FUSE_NMADD, 2, 0, {1, 3, 4, 0}}};
  const uint8_t spreads[] = {MBI_SPREAD_ELEMENTS, MBI_SPREAD_ELEMENTS};
  std::vector<mbi_fuse_part> parts = parts_of(n_sets);
  mbi_fuse_run run{};
  run.steps = steps, run.n_steps = 2, run.n_arrays = 2, run.n_uniforms = 2, run.n_temps = 1, run.spreads = spreads;
  run.parts = parts.data(), run.n_parts = (int64_t)parts.size(), run.n_sets = n_sets;
  constexpr int LANES = 16 / sizeof(T);
  std::string source = FuseSource(&run, sizeof(T) == 8, FUSE_ELEMENTS).text();
  CHECK(check_source(source) == MB_OK, "NVRTC takes no such source");
  Run<T> call = build<T>(source, n_sets > 1);
  if (!call) return;

  Numbers draw(1);
  int64_t n = parts.back().begin + parts.back().columns + 8;
  T *w, *g;
  CHECK(take((void **)&w, (size_t)n * sizeof(T)) == MB_OK && take((void **)&g, (size_t)n * sizeof(T)) == MB_OK, "no memory");
  std::vector<T> numbers((size_t)(2 * n_sets));
  std::vector<uint64_t> cells((size_t)(3 + 2 * n_sets));
  for (size_t i = 0; i < numbers.size(); i++) numbers[i] = (T)draw.next(), memcpy(&cells[3 + i], &numbers[i], sizeof(T));
  for (int64_t i = 0; i < n; i++) w[i] = (T)draw.next(), g[i] = (T)draw.next();
  std::vector<T> wanted(w, w + n);
  for (const mbi_fuse_part &p : parts)
    for (int64_t e = p.begin; e < p.begin + p.columns; e++) {
      T product = w[e] * numbers[(size_t)(2 * p.set)], step = g[e] * numbers[(size_t)(2 * p.set + 1)];
      wanted[(size_t)e] = product - step;
    }
  FuseTables t = fuse_tables(&run, FUSE_ELEMENTS, LANES);
  bool has_table = in_graph || n_sets > 1;
  auto all = [&](const double *guard) {
    call(t.count, t.host.data(), t.host.data() + t.ends(), (int)parts.size(), is_aligned, has_table ? cells.data() : nullptr, guard, w, g,
         has_table ? T(77) : numbers[0], has_table ? T(78) : numbers[1]);
  };
  const double open = 0, refused = 1;
  std::vector<T> before(w, w + n);
  all(&refused);
  CHECK(memcmp(w, before.data(), (size_t)n * sizeof(T)) == 0, "a guarded run has stored something");
  all(in_graph ? &open : nullptr);
  for (int64_t i = 0; i < n; i++)
    CHECK(memcmp(&w[i], &wanted[(size_t)i], sizeof(T)) == 0, "element %lld of %d sets: %.9g, not %.9g", (long long)i, n_sets, (double)w[i],
          (double)wanted[(size_t)i]);
  free(w), free(g);
}

// No block has elements of two parts, and all parts have blocks.
static void test_blocks() {
  std::vector<mbi_fuse_part> parts = parts_of(3);
  mbi_fuse_run run{};
  run.parts = parts.data(), run.n_parts = (int64_t)parts.size(), run.n_sets = 3;
  FuseTables t = fuse_tables(&run, FUSE_ELEMENTS, 4);
  int64_t before = 0;
  for (int64_t i = 0; i < run.n_parts; i++) {
    int64_t blocks = t.host[(size_t)(t.ends() + i)] - before, elements = parts[(size_t)i].begin % 4 + parts[(size_t)i].columns;
    CHECK(blocks == ceil_div(elements, 4 * FUSE_THREADS), "part %lld has %lld blocks", (long long)i, (long long)blocks);
    before += blocks;
  }
  CHECK(t.count == before, "%lld blocks, not %lld", (long long)t.count, (long long)before);
}

int main() {
  begin();
  setenv("MOONBOW_CACHE", "", 1);
  test_blocks();
  char made[] = "/tmp/test_fuse_source_XXXXXX";
  CHECK(mkdtemp(made), "no folder");
  folder = made;
  if (system("c++ --version >/dev/null 2>&1") != 0) {
    printf("no compiler here: no source was run\n");
    return finish();
  }
  for (int is_aligned = 0; is_aligned < 2; is_aligned++)
    for (int n_sets : {1, 2, 5}) {
      check<float>(n_sets, false, is_aligned);
      check<double>(n_sets, false, is_aligned);
    }
  check<float>(1, true, 1);
  check<double>(1, true, 1);
  // Two kinds of numbers in two dtypes, for two architectures; the count of sets is in no text.
  CHECK(programs_compiled() == 0 || programs_compiled() == 8, "%lld programs were compiled", (long long)programs_compiled());
  CHECK(system(("rm -r " + folder).c_str()) == 0, "the folder stays");
  return finish();
}
