// SPDX-License-Identifier: MIT
//
// simt.h: kernels as programs of blocks: one source that runs on the GPU and, block by block, on the host.
//
// A kernel is a struct: its fields are the arguments, THREADS the threads of a block, Shared what they share, and
// run(block, shared) what a block does. That is a sequence of phases:
//
//   block.each([&](int thread) { ... });     // all threads, then a barrier
//
// Within a phase no thread may read what another one writes. Between phases a thread keeps values in Private<T>, indexed
// by its number; block.sum and its like combine one value of each thread. So the order of threads within a phase does not
// matter, and the host runs them one after another: the tests execute every kernel written this way without a GPU, through
// the same launches. Compiled for the GPU nothing of this remains: each() is the code of its argument and __syncthreads().
//
// Work of whole warps, such as matrix products in tensor cores, is a phase of warps:
//
//   block.warps([&](const Warp &warp) { ... });
//
// There a lane keeps its values in PerLane<T>, warp.each([&](int lane) { ... }) is what every lane does, and functions of
// PerLane exchange values between lanes. What a warp keeps from phase to phase is in PerWarp<S>.
//
// Elementwise work needs no phases: launch_elements(f, n) calls f(i) for i < n.
#ifndef MBK_CUDA_SIMT_H
#define MBK_CUDA_SIMT_H
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "backend/cuda/capture.h"

#ifdef __CUDACC__
#define SIMT __device__ __forceinline__
#define SIMT_UNROLL _Pragma("unroll")
#define SIMT_UNROLL_8 _Pragma("unroll 8")
#define SIMT_BOTH __host__ __device__ __forceinline__
#else
#define SIMT inline __attribute__((always_inline))
#define SIMT_UNROLL
#define SIMT_UNROLL_8
#define SIMT_BOTH inline __attribute__((always_inline))
#endif

namespace mbk {

constexpr int WARP = 32;

// One value for each thread of a block, from phase to phase.
template <class T, int THREADS> struct Private {
#ifdef __CUDACC__
  T value;
  SIMT T &operator[](int) { return value; }
  SIMT const T &operator[](int) const { return value; }
#else
  T value[THREADS];
  T &operator[](int thread) { return value[thread]; }
  const T &operator[](int thread) const { return value[thread]; }
#endif
};

// One value for each lane of a warp, within a phase or in a PerWarp.
template <class T> struct PerLane {
#ifdef __CUDACC__
  T value;
  SIMT T &operator[](int) { return value; }
  SIMT const T &operator[](int) const { return value; }
#else
  T value[WARP];
  T &operator[](int lane) { return value[lane]; }
  const T &operator[](int lane) const { return value[lane]; }
#endif
};

// One value for each warp of a block, from phase to phase.
template <class S, int WARPS> struct PerWarp {
#ifdef __CUDACC__
  S value;
  SIMT S &operator[](int) { return value; }
#else
  S value[WARPS];
  S &operator[](int warp) { return value[warp]; }
#endif
};

struct Warp {
  int index; // within its block
  template <class F> SIMT void each(F f) const {
#ifdef __CUDACC__
    f((int)threadIdx.x % WARP);
#else
    for (int lane = 0; lane < WARP; lane++) f(lane);
#endif
  }
};

// Room that a block's reductions need in Shared.
template <class T> struct ReduceRoom {
  T of_warp[WARP];
};

struct Nothing {};

#ifdef __CUDACC__
// The value of the thread whose number differs in the bits of `step`; overloaded for structs that are combined.
template <class T> SIMT T exchange(T x, int step) { return __shfl_xor_sync(0xffffffffu, x, step); }
#endif

struct Add {
  template <class T> SIMT T operator()(T a, T b) const { return a + b; }
};
struct Most {
  template <class T> SIMT T operator()(T a, T b) const { return a > b ? a : b; }
};

template <int THREADS_> struct Block {
  static constexpr int THREADS = THREADS_;
  static_assert(THREADS % WARP == 0 && THREADS <= 1024, "whole warps");
  int64_t index, count; // of this block, of all

  template <class F> SIMT void each(F f) const {
#ifdef __CUDACC__
    f((int)threadIdx.x);
    __syncthreads();
#else
    for (int thread = 0; thread < THREADS; thread++) f(thread);
#endif
  }

  template <class F> SIMT void warps(F f) const {
#ifdef __CUDACC__
    f(Warp{(int)threadIdx.x / WARP});
    __syncthreads();
#else
    for (int warp = 0; warp < THREADS / WARP; warp++) f(Warp{warp});
#endif
  }

  // The values of all threads combined, the same for every thread; in a fixed order, so that bits repeat. Contains
  // barriers: all threads must come here. `room` may be used again after the call.
  template <class T, class Op> SIMT T combine(const Private<T, THREADS> &x, Op op, ReduceRoom<T> &room) const {
#ifdef __CUDACC__
    T value = x.value;
SIMT_UNROLL
    for (int step = WARP / 2; step > 0; step /= 2) value = op(value, exchange(value, step));
    if (threadIdx.x % WARP == 0) room.of_warp[threadIdx.x / WARP] = value;
    __syncthreads();
    T all = room.of_warp[0];
SIMT_UNROLL
    for (int warp = 1; warp < THREADS / WARP; warp++) all = op(all, room.of_warp[warp]);
    __syncthreads();
    return all;
#else
    (void)room;
    T all = x[0];
    for (int thread = 1; thread < THREADS; thread++) all = op(all, x[thread]);
    return all;
#endif
  }
  template <class T> SIMT T sum(const Private<T, THREADS> &x, ReduceRoom<T> &room) const { return combine(x, Add(), room); }
  template <class T> SIMT T most(const Private<T, THREADS> &x, ReduceRoom<T> &room) const { return combine(x, Most(), room); }
};

// Combines the values of every four neighbouring lanes, which then all have the result.
template <class T, class Op> SIMT void combine_quads(PerLane<T> &x, Op op) {
#ifdef __CUDACC__
  x.value = op(x.value, exchange(x.value, 1));
  x.value = op(x.value, exchange(x.value, 2));
#else
  for (int lane = 0; lane < WARP; lane += 4) {
    T all = op(op(x[lane], x[lane + 1]), op(x[lane + 2], x[lane + 3]));
    for (int k = 0; k < 4; k++) x[lane + k] = all;
  }
#endif
}

// Combines the values of all lanes, pair by pair; all have the result, to the bit where op(a, b) = op(b, a).
template <class T, class Op> SIMT void combine_lanes(PerLane<T> &x, Op op) {
SIMT_UNROLL
  for (int step = WARP / 2; step > 0; step /= 2) {
#ifdef __CUDACC__
    x.value = op(x.value, exchange(x.value, step));
#else
    PerLane<T> before = x;
    for (int lane = 0; lane < WARP; lane++) x[lane] = op(before[lane], before[lane ^ step]);
#endif
  }
}

// ----- launching ------------------------------------------------------------------------------------------

#ifdef __CUDACC__
// Blocks that should fit into a multiprocessor at once; K::RESIDENT where a kernel asks for several, and gets fewer registers.
template <class K, class = void> constexpr int resident_blocks = 1;
template <class K> constexpr int resident_blocks<K, std::void_t<decltype(K::RESIDENT)>> = K::RESIDENT;

template <class K> __global__ void __launch_bounds__(K::THREADS, resident_blocks<K>) run_kernel(const __grid_constant__ K kernel) {
  extern __shared__ __align__(16) unsigned char shared[];
  Block<K::THREADS> block{(int64_t)blockIdx.x, (int64_t)gridDim.x};
  kernel.run(block, *reinterpret_cast<typename K::Shared *>(shared));
}
#endif

#ifndef __CUDACC__
template <class K> mb_status run_blocks(const K &kernel, int64_t blocks) {
#pragma omp parallel
  {
    alignas(64) static thread_local unsigned char shared[sizeof(typename K::Shared)];
#pragma omp for schedule(static)
    for (int64_t index = 0; index < blocks; index++) {
      __builtin_memset(shared, 0xff, sizeof shared); // NaN: what is read before it is written shows
      kernel.run(Block<K::THREADS>{index, blocks}, *reinterpret_cast<typename K::Shared *>(shared));
    }
  }
  return MB_OK;
}
#endif

constexpr int64_t MOST_BLOCKS = 2147483647;

// Runs `blocks` blocks of a kernel in the order of the stream. A failure names the place of the call.
template <class K>
mb_status launch(const K &kernel, int64_t blocks, const char *name, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (blocks < 1 || blocks > MOST_BLOCKS)
    return fail(MB_ERR_SHAPE, "%s: %lld blocks are more than a launch can have", name, (long long)blocks);
#ifdef __CUDACC__
  constexpr size_t bytes = sizeof(typename K::Shared);
  if constexpr (bytes > 48 * 1024)
    MBK_CUDA(cudaFuncSetAttribute(run_kernel<K>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
  launches++;
  run_kernel<K><<<(unsigned)blocks, K::THREADS, bytes, stream()>>>(kernel);
  return launched(name, file, line);
#else
  MB_TRY(launched(name, file, line));
  launches++;
  return perform([kernel, blocks] { return run_blocks(kernel, blocks); });
#endif
}

template <class F> struct ElementKernel {
  static constexpr int THREADS = 256;
  using Shared = Nothing;
  F f;
  int64_t n;
  SIMT void run(const Block<THREADS> &block, Shared &) const {
    int64_t step = block.count * THREADS;
#ifdef __CUDACC__
    for (int64_t i = block.index * THREADS + threadIdx.x; i < n; i += step) f(i);
#else
    for (int thread = 0; thread < THREADS; thread++)
      for (int64_t i = block.index * THREADS + thread; i < n; i += step) f(i);
#endif
  }
};

SIMT_BOTH constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks for n threads that do not need each other; from `MANY` blocks on a thread takes several elements.
SIMT_BOTH constexpr int64_t element_blocks(int64_t n) {
  constexpr int64_t MANY = 1 << 20;
  int64_t blocks = ceil_div(n, 256);
  return blocks < MANY ? blocks : MANY;
}

// f(i) for every i < n, in no order.
template <class F>
mb_status launch_elements(const F &f, int64_t n, const char *name, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  static_assert(ElementKernel<F>::THREADS == 256, "as element_blocks counts");
  return launch(ElementKernel<F>{f, n}, element_blocks(n), name, file, line);
}

} // namespace mbk
#endif
