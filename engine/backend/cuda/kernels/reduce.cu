// SPDX-License-Identifier: MIT
//
// reduce.cu: sums and extremes over any set of dimensions. Dimensions are split into kept and reduced ones; an output is
// made from `elements` elements, cut into chunks so that there are blocks enough for the device. A chunk is worked on
//   by a block      where elements lie side by side, or there are few outputs
//   by a thread     where outputs do, 256 neighbouring ones to a block
//   by packs        where outputs do, and rows of them are whole packs: sums alone (columns.h)
// Partial results of chunks are combined by a second launch, those of packs by the first one, in their order: bits depend on the shape
// alone. Sums are kept in float64.
#include "backend/cuda/columns.h"
#include "backend/cuda/math.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/views.h"

namespace mbk {
namespace {

constexpr int THREADS = 256;
constexpr int64_t ENOUGH_BLOCKS = 1024, LEAST_CHUNK = 2048;

struct Dims {
  int n;
  int64_t size[MB_MAX_DIMS], stride[MB_MAX_DIMS];
  void add(int64_t count, int64_t step) {
    if (n > 0 && stride[n - 1] == step * count) size[n - 1] *= count, stride[n - 1] = step;
    else size[n] = count, stride[n++] = step;
  }
  SIMT_BOTH int64_t offset(int64_t i) const {
    int64_t at = 0;
    for (int d = n - 1; d > 0; d--) {
      at += i % size[d] * stride[d];
      i /= size[d];
    }
    return n > 0 ? at + i * stride[0] : 0;
  }
};

struct Plan {
  Dims kept, reduced;
  int64_t outputs, elements, chunks, chunk;
  bool by_thread;
};

Plan make_plan(const mbi_view *x, unsigned dims) {
  Plan p{};
  p.outputs = p.elements = 1;
  for (int d = 0; d < x->ndim; d++) {
    if (x->size[d] == 1) continue;
    bool is_reduced = dims >> d & 1;
    (is_reduced ? p.reduced : p.kept).add(x->size[d], x->stride[d]);
    (is_reduced ? p.elements : p.outputs) *= x->size[d];
  }
  bool dense_rows = p.reduced.n > 0 && p.reduced.stride[p.reduced.n - 1] == 1;
  p.by_thread = p.outputs >= THREADS && (!dense_rows || p.elements < 32);
  int64_t blocks = p.by_thread ? ceil_div(p.outputs, THREADS) : p.outputs;
  int64_t least = p.by_thread ? 64 : LEAST_CHUNK, wanted = ceil_div(ENOUGH_BLOCKS, blocks), most = ceil_div(p.elements, least);
  p.chunks = wanted < most ? wanted : most;
  p.chunk = ceil_div(p.elements, p.chunks);
  p.chunks = ceil_div(p.elements, p.chunk);
  return p;
}

// How results of type Value are made: Of(x, place) is that of one element.
template <class T> struct SumOf {
  using Value = double;
  SIMT static Value none() { return 0; }
  SIMT Value of(T x, int64_t) const { return (double)(Wide<T>)x; }
  SIMT Value operator()(Value a, Value b) const { return a + b; }
};

// The largest of sign * x; a NaN is more extreme than any number, of equals the first counts.
template <class T> struct Extreme {
  T value;
  int64_t place;
};
#ifdef __CUDACC__
template <class T> SIMT Extreme<T> exchange(Extreme<T> x, int step) {
  return {__shfl_xor_sync(0xffffffffu, x.value, step), (int64_t)__shfl_xor_sync(0xffffffffu, (long long)x.place, step)};
}
#endif
template <class T> struct ExtremeOf {
  using Value = Extreme<Wide<T>>;
  Wide<T> sign;
  SIMT static Value none() { return {0, INT64_MAX}; }
  SIMT Value of(T x, int64_t place) const { return {sign * (Wide<T>)x, place}; }
  SIMT Value operator()(Value a, Value b) const {
    if (a.place == INT64_MAX || b.place == INT64_MAX) return a.place == INT64_MAX ? b : a;
    bool nan_a = a.value != a.value, nan_b = b.value != b.value;
    if (nan_a != nan_b) return nan_a ? a : b;
    if (nan_a || a.value == b.value) return a.place < b.place ? a : b;
    return a.value > b.value ? a : b;
  }
};

// Partial results (chunks, outputs).
template <class T, class Op> struct ByBlock {
  static constexpr int THREADS = mbk::THREADS;
  struct Shared {
    ReduceRoom<typename Op::Value> room;
  };
  Plan p;
  Op op;
  const T *x;
  typename Op::Value *partial;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t output = block.index / p.chunks, chunk = block.index % p.chunks;
    int64_t first = chunk * p.chunk, last = first + p.chunk < p.elements ? first + p.chunk : p.elements;
    const T *from = x + p.kept.offset(output);
    Private<typename Op::Value, THREADS> mine;
    block.each([&](int thread) {
      typename Op::Value value = Op::none();
      for (int64_t e = first + thread; e < last; e += THREADS) value = op(value, op.of(from[p.reduced.offset(e)], e));
      mine[thread] = value;
    });
    typename Op::Value all = block.combine(mine, op, shared.room);
    block.each([&](int thread) {
      if (thread == 0) partial[chunk * p.outputs + output] = all;
    });
  }
};

template <class T, class Op> struct ByThread {
  Plan p;
  Op op;
  const T *x;
  typename Op::Value *partial;
  SIMT void operator()(int64_t i) const {
    int64_t chunk = i / p.outputs, output = i % p.outputs;
    int64_t first = chunk * p.chunk, last = first + p.chunk < p.elements ? first + p.chunk : p.elements;
    const T *from = x + p.kept.offset(output);
    typename Op::Value value = Op::none();
    for (int64_t e = first; e < last; e++) value = op(value, op.of(from[p.reduced.offset(e)], e));
    partial[i] = value;
  }
};

template <class T, class Op> mb_status partials(typename Op::Value **partial, const Plan &p, Op op, const T *x) {
  MB_TRY(scratch_of(partial, 0, p.chunks * p.outputs));
  if (p.by_thread) return launch_elements(ByThread<T, Op>{p, op, x, *partial}, p.chunks * p.outputs, "reduce");
  return launch(ByBlock<T, Op>{p, op, x, *partial}, p.chunks * p.outputs, "reduce");
}

template <class O> struct FinishSum {
  const double *partial;
  int64_t chunks, outputs;
  double alpha;
  O *out;
  int accumulate;
  SIMT void operator()(int64_t i) const {
    double sum = 0;
    for (int64_t c = 0; c < chunks; c++) sum += partial[c * outputs + i];
    put(out + i, accumulate, alpha * sum);
  }
};

template <class T> struct FinishExtreme {
  const Extreme<Wide<T>> *partial;
  int64_t chunks, outputs;
  ExtremeOf<T> op;
  T *out;
  int32_t *index;
  SIMT void operator()(int64_t i) const {
    Extreme<Wide<T>> best = partial[i];
    for (int64_t c = 1; c < chunks; c++) best = op(best, partial[c * outputs + i]);
    if (out) out[i] = (T)(op.sign * best.value);
    if (index) index[i] = (int32_t)best.place;
  }
};

template <class T> struct Pick {
  Dims kept, reduced;
  T *dx;
  const T *dy;
  const int32_t *index;
  SIMT void operator()(int64_t i) const {
    T &to = dx[kept.offset(i) + reduced.offset(index[i])];
    to = (T)((Wide<T>)to + (Wide<T>)dy[i]);
  }
};

// ----- what is not finite ---------------------------------------------------------------------------------------

// Minus the place of the first element that is not finite, so that the largest wins; INT64_MIN if there is none.
template <class T> struct FirstBad {
  static constexpr int THREADS = mbk::THREADS;
  struct Shared {
    ReduceRoom<int64_t> room;
  };
  const T *x;
  int64_t count;
  int64_t *partial; // (blocks)
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    Private<int64_t, THREADS> mine;
    int64_t first = count * block.index / block.count, last = count * (block.index + 1) / block.count;
    block.each([&](int thread) {
      mine[thread] = INT64_MIN;
      for (int64_t i = first + thread; i < last; i += THREADS)
        if (mine[thread] == INT64_MIN && (Wide<T>)x[i] * 0 != 0) mine[thread] = -i;
    });
    int64_t most = block.most(mine, shared.room);
    block.each([&](int thread) {
      if (thread == 0) partial[block.index] = most;
    });
  }
};

constexpr int64_t MOST_PARTS = 1024, PART = 16384;
int64_t parts_of(int64_t count) { return count < MOST_PARTS * PART ? ceil_div(count, PART) : MOST_PARTS; }

template <class O, class T> mb_status sum(O *out, int accumulate, const T *x, const Plan &p, double alpha, const char *name) {
  bool are_columns = p.kept.n == 1 && p.kept.stride[0] == 1 && p.reduced.n == 1;
  if (are_columns && has_columns(x, p.elements, p.outputs, p.reduced.stride[0]))
    return sum_columns(out, accumulate, x, p.elements, p.outputs, p.reduced.stride[0], alpha, name);
  double *partial;
  MB_TRY(partials(&partial, p, SumOf<T>{}, x));
  return launch_elements(FinishSum<O>{partial, p.chunks, p.outputs, alpha, out, accumulate}, p.outputs, name);
}

} // namespace

template <class T>
mb_status Kernels<T>::reduce(enum mbi_reduce f, void *out, int32_t *index, const mbi_view *x, unsigned dims, double alpha) {
  Plan p = make_plan(x, dims);
  if (f == MBI_REDUCE_SUM) return sum((T *)out, 0, (const T *)x->data, p, alpha, "reduce");
  Extreme<Wide<T>> *partial;
  ExtremeOf<T> op{f == MBI_REDUCE_MAX ? Wide<T>(1) : Wide<T>(-1)};
  MB_TRY(partials(&partial, p, op, (const T *)x->data));
  return launch_elements(FinishExtreme<T>{partial, p.chunks, p.outputs, op, (T *)out, index}, p.outputs, "reduce");
}

template <class T> mb_status Kernels<T>::sum_over(void *out, int accumulate, const mbi_view *x, unsigned dims) {
  return sum((Wide<T> *)out, accumulate, (const T *)x->data, make_plan(x, dims), 1, "sum_over");
}

template <class T>
mb_status Kernels<T>::reduce_pick_backward(void *dx, const void *dy, const int32_t *index, const mbi_view *x_sizes, unsigned dims,
                                           int accumulate) {
  mbi_view dense = *x_sizes;
  int64_t count = 1;
  for (int d = dense.ndim - 1; d >= 0; d--) {
    dense.stride[d] = count;
    count *= dense.size[d];
  }
  Plan p = make_plan(&dense, dims);
  if (!accumulate) MB_TRY(zero(dx, (size_t)count * sizeof(T)));
  return launch_elements(Pick<T>{p.kept, p.reduced, (T *)dx, (const T *)dy, index}, p.outputs, "reduce_pick_backward");
}

template <class T> mb_status Kernels<T>::find_nonfinite(int64_t *index, const void *x, int64_t count) {
  int64_t parts[MOST_PARTS], *partial, blocks = parts_of(count);
  MB_TRY(scratch_of(&partial, 0, blocks));
  MB_TRY(launch(FirstBad<T>{(const T *)x, count, partial}, blocks, "find_nonfinite"));
  MB_TRY(to_host(parts, partial, (size_t)blocks * sizeof *parts));
  *index = -1;
  for (int64_t b = 0; b < blocks && *index < 0; b++)
    if (parts[b] != INT64_MIN) *index = -parts[b];
  return MB_OK;
}

MBK_SLOT(reduce);
MBK_SLOT(sum_over);
MBK_SLOT(reduce_pick_backward);
MBK_SLOT(find_nonfinite);

} // namespace mbk
