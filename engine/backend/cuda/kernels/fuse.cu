// SPDX-License-Identifier: MIT
//
// fuse.cu: runs passes of fused programs, one launch for each shape (fuse_tables.h), and one more where partial results are
// to be joined. The source of a pass (fuse_source.h) is compiled by NVRTC when it is first run, for the device at hand,
// and kept by its text: the same program over other buffers, numbers and parts compiles nothing. Tables of parts lie on
// the device, and travel there only when they are others than before. Numbers are arguments; where parts differ in them, they are
// rows of a table, which is sent before the launch: in a graph that of the graph, otherwise one like it.
#include <cmath>
#include <cstring>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/cuda/fuse_source.h"
#include "backend/cuda/math.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/nvrtc.h"
#include "core/rng.h"

namespace mbk {
namespace {

constexpr int PARTIALS_SLOT = 5, NUMBERS_SLOT = 0;

// ----- joining partial results --------------------------------------------------------------------------------------

SIMT double first_of(int reduce) { return reduce == MB_FUSE_GREATEST ? -INFINITY : reduce == MB_FUSE_LEAST ? INFINITY : 0; }
SIMT double join_of(int reduce, double all, double x) {
  if (reduce == MB_FUSE_GREATEST) return x > all || x != x ? x : all;
  if (reduce == MB_FUSE_LEAST) return x < all || x != x ? x : all;
  return all + x;
}
SIMT double finish_of(int reduce, double all, int64_t count) {
  return reduce == MB_FUSE_MEAN ? all / (double)count : reduce == MB_FUSE_NORM ? sqrt_of(all) : all;
}
struct JoinOf {
  int reduce;
  SIMT double operator()(double a, double b) const { return join_of(reduce, a, b); }
};

// One of the reductions of a launch: its number among them, and how many they are.
struct Joined {
  int reduce, i, n;
  const double *partials;
  const int64_t *tables;
  int64_t n_parts;
  SIMT const mbi_fuse_part *part(int64_t k) const { return (const mbi_fuse_part *)tables + k; }
  SIMT const int64_t *ends() const { return tables + FuseTables::WORDS * n_parts; }
};

// result[index] of a part from those of its units; one block a part.
template <class T> struct JoinUnits {
  static constexpr int THREADS = 256;
  struct Shared {
    ReduceRoom<double> room;
  };
  Joined j;
  T *result;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t from = block.index ? j.ends()[block.index - 1] : 0, to = j.ends()[block.index];
    Private<double, THREADS> mine;
    block.each([&](int thread) {
      double all = first_of(j.reduce);
      for (int64_t u = from + thread; u < to; u += THREADS) all = join_of(j.reduce, all, j.partials[u * j.n + j.i]);
      mine[thread] = all;
    });
    double all = block.combine(mine, JoinOf{j.reduce}, shared.room);
    block.each([&](int thread) {
      const mbi_fuse_part *p = j.part(block.index);
      if (thread == 0) result[p->index] = (T)finish_of(j.reduce, all, p->rows * p->columns);
    });
  }
};

// result[column] of a part from those of its pieces; one thread a column of all parts.
template <class T> struct JoinPieces {
  Joined j;
  T *result;
  SIMT void operator()(int64_t number) const {
    const int64_t *bases = j.ends() + j.n_parts, *columns = bases + j.n_parts;
    int64_t low = 0, high = j.n_parts;
    while (low < high) {
      int64_t middle = (low + high) / 2;
      if (columns[middle] <= number) low = middle + 1;
      else high = middle;
    }
    const mbi_fuse_part *p = j.part(low);
    int64_t column = number - (low ? columns[low - 1] : 0), pieces = ceil_div(p->rows, FUSE_ROWS);
    double all = first_of(j.reduce);
    for (int64_t piece = 0; piece < pieces; piece++)
      all = join_of(j.reduce, all, j.partials[(bases[low] + piece * p->columns + column) * j.n + j.i]);
    result[p->column + column] = (T)finish_of(j.reduce, all, p->rows);
  }
};

template <class T> mb_status join_partials(const mbi_fuse_run *run, FuseShape shape, const FuseTables &t, const int64_t *tables, const double *partials) {
  int n = 0, i = 0;
  for (int r = 0; r < run->n_reductions; r++) n += FuseSource::shape_of(run->reductions[r]) == shape;
  for (int r = 0; r < run->n_reductions; r++) {
    const mbi_fuse_reduction &reduction = run->reductions[r];
    if (FuseSource::shape_of(reduction) != shape) continue;
    Joined j{reduction.reduce, i++, n, partials, tables, t.n_parts};
    if (shape == FUSE_PARTS) MB_TRY(launch(JoinUnits<T>{j, (T *)reduction.result}, t.n_parts, "join_units"));
    if (shape == FUSE_COLUMNS)
      MB_TRY(launch_elements(JoinPieces<T>{j, (T *)reduction.result}, t.host[(size_t)(t.columns() + t.n_parts - 1)], "join_pieces"));
  }
  return MB_OK;
}

// ----- launches -----------------------------------------------------------------------------------------------------

// Tables on the device, kept from run to run: a step of training has a few of them.
mb_status place_tables(const int64_t **out, const FuseTables &t) {
  struct Placed {
    std::vector<int64_t> host;
    void *where;
  };
  static std::list<Placed> placed;
  constexpr size_t MOST = 64;
  for (auto it = placed.begin(); it != placed.end(); ++it)
    if (it->host == t.host) {
      *out = (const int64_t *)it->where;
      placed.splice(placed.begin(), placed, it);
      return MB_OK;
    }
  if (placed.size() == MOST) {
    give_later(placed.back().where, placed.back().host.size() * sizeof(int64_t));
    placed.pop_back();
  }
  void *where;
  size_t bytes = t.host.size() * sizeof(int64_t);
  MB_TRY(engine->take(&where, bytes));
  mb_status status = place(where, t.host.data(), bytes);
  if (status != MB_OK) {
    engine->give(where, bytes);
    return status;
  }
  placed.push_front({t.host, where});
  *out = (const int64_t *)where;
  return MB_OK;
}

// The table of numbers, key first, of a run that has several sets and is in no graph.
template <class T> mb_status place_numbers(mbi_fuse_run *run) {
  uint64_t *table;
  std::vector<uint64_t> host((size_t)(3 + run->n_sets * run->n_uniforms));
  host[0] = run->seed, host[1] = run->step, host[2] = run->stream;
  for (size_t i = 3; i < host.size(); i++) {
    T value = (T)run->uniforms[i - 3];
    memcpy(&host[i], &value, sizeof value);
  }
  MB_TRY(scratch_of(&table, NUMBERS_SLOT, (int64_t)host.size()));
  run->cells = table;
  return to_device(table, host.data(), host.size() * sizeof(uint64_t));
}

#ifdef __CUDACC__

bool is_aligned(const mbi_fuse_run *run) {
  uintptr_t all = 0;
  for (int i = 0; i < run->n_arrays; i++)
    if (run->spreads[i] == MBI_SPREAD_ELEMENTS) all |= (uintptr_t)run->arrays[i];
  return all % 16 == 0;
}

template <class T> mb_status run_shape(const mbi_fuse_run *run, FuseShape shape, const FuseTables &t, const int64_t *tables, double *partials) {
  static std::unordered_map<std::string, Module> compiled;
  std::string text = FuseSource(run, sizeof(T) == sizeof(double), shape).text();
  auto found = compiled.find(text);
  if (found == compiled.end()) {
    Module module;
    MB_TRY(compile_for_device(&module, text, "fused"));
    found = compiled.emplace(std::move(text), module).first;
  }
  const int64_t *ends = tables + t.ends(), *bases = tables + t.bases();
  int count = (int)run->n_parts, aligned = is_aligned(run);
  unsigned long long seed = run->seed, step = run->step, stream = run->stream;
  const uint64_t *cells = run->cells;
  const double *guard = run->guard;
  std::vector<T> uniforms((size_t)run->n_uniforms);
  std::vector<void *> arguments = {&tables, &ends, &bases, &count, &aligned, &partials, &seed, &step, &stream, &cells, &guard};
  for (int i = 0; i < run->n_arrays; i++) arguments.push_back((void *)&run->arrays[i]);
  for (int i = 0; i < run->n_uniforms && run->n_sets == 1; i++)
    uniforms[(size_t)i] = (T)run->uniforms[i], arguments.push_back(&uniforms[(size_t)i]);
  for (int i = 0; i < run->n_reductions; i++) arguments.push_back((void *)&run->reductions[i].result);
  return launch_module(found->second, t.count, FUSE_THREADS, arguments.data(), "fused program");
}

#else

template <class T> T apply(int code, T a, T b, T c, T d) {
  switch (code) { /* ORDER FUSE */
    case MB_FUSE_ADD: return a + b;
    case MB_FUSE_SUB: return a - b;
    case MB_FUSE_MUL: return a * b;
    case MB_FUSE_DIV: return a / b;
    case MB_FUSE_MIN: return a <= b || a != a ? a : b;
    case MB_FUSE_MAX: return a >= b || a != a ? a : b;
    case MB_FUSE_POW: return pow_of(a, b);
    case MB_FUSE_LT: return a < b;
    case MB_FUSE_LE: return a <= b;
    case MB_FUSE_EQ: return a == b;
    case MB_FUSE_NEG: return -a;
    case MB_FUSE_ABS: return abs_of(a);
    case MB_FUSE_SIGN: return a > 0 ? T(1) : a < 0 ? T(-1) : a;
    case MB_FUSE_SQRT: return sqrt_of(a);
    case MB_FUSE_RSQRT: return 1 / sqrt_of(a);
    case MB_FUSE_RECIPROCAL: return 1 / a;
    case MB_FUSE_SQUARE: return a * a;
    case MB_FUSE_EXP: return exp_of(a);
    case MB_FUSE_LOG: return log_of(a);
    case MB_FUSE_TANH: return tanh_of(a);
    case MB_FUSE_SIGMOID: return sigmoid_of(a);
    case MB_FUSE_NORMAL_CDF: return normal_cdf_of(a);
    case MB_FUSE_WHERE: return a != 0 ? b : c;
    case MBI_FUSE_MADD: return a * b + c;
    case MBI_FUSE_MSUB: return a * b - c;
    case MBI_FUSE_NMADD: return c - a * b;
    case MBI_FUSE_AXPBY: return a * b + c * d;
    case MBI_FUSE_AXMBY: return a * b - c * d;
    default: return a;
  }
}

template <class T> T random_of(const mbi_fuse_run *run, const mbi_fuse_step &s, int64_t e) {
  uint32_t word[4];
  mbi_philox(word, run->seed, run->step, run->stream + ((uint64_t)s.in[0] << 32), (uint64_t)(e / 4));
  auto unit = [](uint32_t w) { return (float)(int32_t)(w >> 8) * 5.9604644775390625e-8f; };
  if (s.code == MBI_FUSE_UNIFORM) return (T)unit(word[e & 3]);
  float radius = sqrtf(-2.0f * logf(((float)(int32_t)(word[e & 2] >> 8) + 1.0f) * 5.9604644775390625e-8f));
  float turn = 6.28318530717958648f * unit(word[e % 4 | 1]);
  return (T)(radius * (e & 1 ? sinf(turn) : cosf(turn)));
}

// The host has no NVRTC kernels to run: the steps are interpreted, element by element, and the source is compiled for its
// errors only. What is reduced goes where the kernel would put it.
template <class T> struct Interpreter {
  const mbi_fuse_run *run;
  FuseShape shape;
  std::vector<T> values;
  std::vector<const mbi_fuse_reduction *> reductions;

  Interpreter(const mbi_fuse_run *run, FuseShape shape) : run(run), shape(shape) {
    values.resize((size_t)(run->n_arrays + run->n_uniforms + run->n_temps));
    for (int i = 0; i < run->n_reductions; i++)
      if (FuseSource::shape_of(run->reductions[i]) == shape) reductions.push_back(&run->reductions[i]);
  }

  void take_numbers(const mbi_fuse_part &p) {
    for (int i = 0; i < run->n_uniforms; i++) values[(size_t)(run->n_arrays + i)] = (T)run->uniforms[p.set * run->n_uniforms + i];
  }

  void element(const mbi_fuse_part &p, int64_t row, int64_t column, double *all) {
    int64_t e = p.begin + row * p.columns + column;
    const int64_t at[] = {0, p.index, p.row + row, p.column + column, e};
    for (int i = 0; i < run->n_arrays; i++) values[(size_t)i] = ((const T *)run->arrays[i])[at[run->spreads[i]]];
    for (int s = 0; s < run->n_steps; s++) {
      const mbi_fuse_step &step = run->steps[s];
      T x[4];
      for (int i = 0; i < 4; i++) x[i] = values[step.in[i] < values.size() ? step.in[i] : 0];
      bool is_random = step.code == MBI_FUSE_UNIFORM || step.code == MBI_FUSE_NORMAL;
      values[step.out] = is_random ? random_of<T>(run, step, e) : apply<T>(step.code, x[0], x[1], x[2], x[3]);
      if (step.out < run->n_arrays) ((T *)run->arrays[step.out])[e] = values[step.out];
    }
    for (size_t i = 0; i < reductions.size(); i++) {
      double x = (double)values[reductions[i]->operand];
      all[i] = join_of(reductions[i]->reduce, all[i], reductions[i]->reduce == MB_FUSE_NORM ? x * x : x);
    }
  }

  // Where the results of an element are gathered.
  double *place(const FuseTables &t, int64_t k, int64_t row, int64_t column, int64_t unit, double *partials, double *of_row) const {
    if (shape == FUSE_ELEMENTS) return of_row;
    const mbi_fuse_part &p = run->parts[k];
    int64_t n = (int64_t)reductions.size(), first = t.host[(size_t)(t.bases() + k)];
    if (shape == FUSE_PARTS) return partials + (first + (p.begin % (16 / (int64_t)sizeof(T)) + row * p.columns + column) / unit) * n;
    if (shape == FUSE_COLUMNS) return partials + (first + row / FUSE_ROWS * p.columns + column) * n;
    return of_row;
  }

  void all(const FuseTables &t, double *partials) {
    int64_t unit = 16 / (int64_t)sizeof(T) * FUSE_THREADS * FUSE_ROUNDS, n = (int64_t)reductions.size();
    std::vector<double> of_row((size_t)n + 1);
    for (int64_t i = 0; i < t.partials * n; i++) partials[i] = first_of(reductions[(size_t)(i % n)]->reduce);
    for (int64_t k = 0; k < run->n_parts; k++) {
      const mbi_fuse_part &p = run->parts[k];
      take_numbers(p);
      for (int64_t row = 0; row < p.rows; row++) {
        for (int64_t i = 0; i < n; i++) of_row[(size_t)i] = first_of(reductions[(size_t)i]->reduce);
        for (int64_t column = 0; column < p.columns; column++)
          element(p, row, column, place(t, k, row, column, unit, partials, of_row.data()));
        for (int64_t i = 0; i < n && shape == FUSE_ROWS_SHAPE; i++)
          ((T *)reductions[(size_t)i]->result)[p.row + row] = (T)finish_of(reductions[(size_t)i]->reduce, of_row[(size_t)i], p.columns);
      }
    }
  }
};

// A run that is interpreted later: all that it points to on the host, copied.
struct KeptRun {
  mbi_fuse_run run;
  std::vector<mbi_fuse_step> steps;
  std::vector<mbi_fuse_reduction> reductions;
  std::vector<void *> arrays;
  std::vector<uint8_t> spreads;
  std::vector<double> uniforms;
  std::vector<mbi_fuse_part> parts;
  explicit KeptRun(const mbi_fuse_run *r)
      : run(*r), steps(r->steps, r->steps + r->n_steps), reductions(r->reductions, r->reductions + r->n_reductions),
        arrays(r->arrays, r->arrays + r->n_arrays), spreads(r->spreads, r->spreads + r->n_arrays),
        uniforms(r->uniforms, r->uniforms + r->n_sets * r->n_uniforms), parts(r->parts, r->parts + r->n_parts) {
    run.steps = steps.data(), run.reductions = reductions.data(), run.arrays = arrays.data(), run.spreads = spreads.data();
    run.uniforms = uniforms.data(), run.parts = parts.data();
  }
};

// What the kernel finds in its cells.
template <class T> void read_cells(KeptRun *kept) {
  const uint64_t *cells = kept->run.cells;
  if (!cells) return;
  kept->run.seed = cells[0], kept->run.step = cells[1], kept->run.stream = cells[2];
  for (size_t i = 0; i < kept->uniforms.size(); i++) {
    T value;
    memcpy(&value, &cells[3 + i], sizeof value);
    kept->uniforms[i] = (double)value;
  }
}

template <class T> mb_status run_shape(const mbi_fuse_run *run, FuseShape shape, const FuseTables &t, const int64_t *, double *partials) {
  MB_TRY(launched("cuLaunchKernel fused program"));
  launches++;
  MB_TRY(check_source(FuseSource(run, sizeof(T) == sizeof(double), shape).text()));
  auto kept = std::make_shared<KeptRun>(run);
  return perform([kept, shape, t, partials] {
    if (kept->run.guard && *kept->run.guard != 0) return MB_OK;
    read_cells<T>(kept.get());
    Interpreter<T>(&kept->run, shape).all(t, partials);
    return MB_OK;
  });
}

#endif

template <class T> mb_status run_program(const mbi_fuse_run *given) {
  mbi_fuse_run copy = *given, *run = &copy;
  if (run->n_sets > 1 && !run->cells) MB_TRY(place_numbers<T>(run));
  bool wanted[] = {run->n_reductions == 0, false, false, false};
  for (int i = 0; i < run->n_reductions; i++) wanted[FuseSource::shape_of(run->reductions[i])] = true;
  for (FuseShape shape : {FUSE_ELEMENTS, FUSE_PARTS, FUSE_ROWS_SHAPE, FUSE_COLUMNS}) {
    if (!wanted[shape]) continue;
    FuseTables t = fuse_tables(run, shape, 16 / (int64_t)sizeof(T));
    const int64_t *tables;
    double *partials;
    MB_TRY(place_tables(&tables, t));
    MB_TRY(scratch_of(&partials, PARTIALS_SLOT, t.partials * run->n_reductions + 1));
    MB_TRY(run_shape<T>(run, shape, t, tables, partials));
    MB_TRY(join_partials<T>(run, shape, t, tables, partials));
  }
  return MB_OK;
}

} // namespace

template <class T> mb_status Kernels<T>::fuse(const mbi_fuse_run *run) { return run_program<T>(run); }
template <> mb_status Kernels<bf16>::fuse(const mbi_fuse_run *) {
  return fail(MB_ERR_DTYPE, "fused programs on cuda: f32 or f64 was expected, not bf16");
}

MBK_SLOT(fuse);

} // namespace mbk
