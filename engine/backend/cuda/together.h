// SPDX-License-Identifier: MIT
//
// together.h: launches of one kernel with different arguments, such as those of groups of matrices of different shapes, as one
// launch; and a count of blocks that have arrived, by which the last one goes on with what all of them have left.
#ifndef MBK_CUDA_TOGETHER_H
#define MBK_CUDA_TOGETHER_H
#include <vector>

#include "backend/cuda/simt.h"

namespace mbk {

template <class K, int MOST> struct Together {
  static constexpr int THREADS = K::THREADS;
  using Shared = typename K::Shared;
  K of[MOST];
  int64_t end[MOST];
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int at = 0;
    int64_t begin = 0;
    while (block.index >= end[at]) begin = end[at++];
    of[at].run(Block<THREADS>{block.index - begin, end[at] - begin}, shared);
  }
};

// add() as often as needed, then go(), before which nothing is launched: what is added may need what others do first.
template <class K> class Launches {
  static constexpr int ROOM = 3500 / (sizeof(K) + sizeof(int64_t)), MOST = ROOM < 16 ? ROOM : 16; // 4 KB of arguments
  static_assert(MOST > 0, "the arguments fit");
  Together<K, MOST> all{};
  std::vector<Together<K, MOST>> full; // before those
  const char *name;
  int count = 0;

public:
  explicit Launches(const char *of) : name(of) {}
  mb_status add(const K &kernel, int64_t blocks) {
    if (count == MOST) full.push_back(all), count = 0;
    all.of[count] = kernel;
    all.end[count] = (count > 0 ? all.end[count - 1] : 0) + blocks;
    count++;
    return MB_OK;
  }
  mb_status go() {
    int have = count;
    std::vector<Together<K, MOST>> first;
    first.swap(full);
    count = 0;
    for (const auto &some : first) MB_TRY(launch(some, some.end[MOST - 1], name));
    return have > 0 ? launch(all, all.end[have - 1], name) : MB_OK;
  }
};

// The same for elements.
template <class F> class ElementLaunches {
  Launches<ElementKernel<F>> all;

public:
  explicit ElementLaunches(const char *of) : all(of) {}
  mb_status add(const F &f, int64_t n) { return all.add(ElementKernel<F>{f, n}, element_blocks(n)); }
  mb_status go() { return all.go(); }
};

// ----- the last block ---------------------------------------------------------------------------------------------

// Counters of arrivals, all 0, as they are again when a kernel that uses them has run; for launches one after another.
mb_status arrivals(unsigned **out, int64_t count);

// Whether this block is the last of `expected` to come here, in which case it sees what the others have written. Counters are
// theirs alone. `last` is in shared memory.
template <int THREADS> SIMT bool is_last(const Block<THREADS> &block, unsigned *counter, unsigned expected, int *last) {
  block.each([&](int thread) {
#ifdef __CUDA_ARCH__
    __threadfence();
#endif
    (void)thread;
  });
  block.each([&](int thread) {
    if (thread > 0) return;
#ifdef __CUDA_ARCH__
    *last = atomicAdd(counter, 1u) + 1 == expected;
    if (*last) *counter = 0;
    __threadfence();
#elif !defined(__CUDACC__)
    *last = __atomic_add_fetch(counter, 1u, __ATOMIC_ACQ_REL) == expected;
    if (*last) *counter = 0;
#else
    (void)counter, (void)expected;
#endif
  });
  return *last != 0;
}

} // namespace mbk
#endif
