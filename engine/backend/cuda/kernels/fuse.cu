// SPDX-License-Identifier: MIT
//
// fuse.cu: runs fused programs, one launch each. The program's source (fuse_source.h) is compiled by NVRTC when it is first
// run, for the device at hand, and kept by its text: the same program over other buffers, numbers and ranges compiles nothing.
// Ranges lie on the device, and travel there only when they are others than last time.
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/cuda/fuse_source.h"
#include "backend/cuda/math.h"
#include "backend/cuda/nvrtc.h"

namespace mbk {
namespace {

// Ranges as the kernel takes them.
struct Ranges {
  std::vector<int64_t> host; // ends, begins, stops
  int64_t threads;
};

Ranges ranges_of(const mbi_fuse_run *run, int64_t lanes) {
  Ranges r{std::vector<int64_t>((size_t)(3 * run->n_ranges)), 0};
  for (int64_t i = 0; i < run->n_ranges; i++) {
    r.threads += ceil_div(run->end[i], lanes) - run->begin[i] / lanes;
    r.host[(size_t)i] = r.threads;
    r.host[(size_t)(run->n_ranges + i)] = run->begin[i];
    r.host[(size_t)(2 * run->n_ranges + i)] = run->end[i];
  }
  return r;
}

bool is_aligned(const mbi_fuse_run *run) {
  uintptr_t all = 0;
  for (int i = 0; i < run->n_arrays; i++) all |= (uintptr_t)run->arrays[i];
  return all % 16 == 0;
}

#ifdef __CUDACC__

constexpr int RANGES_SLOT = 6;

// The ranges on the device. A slot of its own keeps them from one run to the next.
mb_status place_ranges(int64_t **out, const Ranges &r) {
  static std::vector<int64_t> there;
  static void *where;
  MB_TRY(scratch_of(out, RANGES_SLOT, (int64_t)r.host.size()));
  if (where == *out && there == r.host) return MB_OK;
  MB_TRY(to_device(*out, r.host.data(), r.host.size() * sizeof(int64_t)));
  there = r.host, where = *out;
  return MB_OK;
}

template <class T> mb_status run_program(const mbi_fuse_run *run) {
  static std::unordered_map<std::string, Module> compiled;
  std::string text = FuseSource(run, sizeof(T) == sizeof(double)).text();
  auto found = compiled.find(text);
  if (found == compiled.end()) {
    Module module;
    MB_TRY(compile_for_device(&module, text, "fused"));
    found = compiled.emplace(std::move(text), module).first;
  }
  Ranges ranges = ranges_of(run, 16 / (int64_t)sizeof(T));
  int64_t *ends;
  MB_TRY(place_ranges(&ends, ranges));
  int64_t *begins = ends + run->n_ranges, *stops = begins + run->n_ranges;
  int count = (int)run->n_ranges, aligned = is_aligned(run);
  std::vector<T> uniforms((size_t)run->n_uniforms);
  std::vector<void *> arguments = {&ends, &begins, &stops, &count, &aligned};
  for (int i = 0; i < run->n_arrays; i++) arguments.push_back((void *)&run->arrays[i]);
  for (int i = 0; i < run->n_uniforms; i++) uniforms[(size_t)i] = (T)run->uniforms[i], arguments.push_back(&uniforms[(size_t)i]);
  return launch_module(found->second, ceil_div(ranges.threads, FUSE_THREADS), FUSE_THREADS, arguments.data(), "fused program");
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
    case MB_FUSE_WHERE: return a != 0 ? b : c;
    case MBI_FUSE_MADD: return a * b + c;
    case MBI_FUSE_MSUB: return a * b - c;
    case MBI_FUSE_NMADD: return c - a * b;
    case MBI_FUSE_AXPBY: return a * b + c * d;
    case MBI_FUSE_AXMBY: return a * b - c * d;
    default: return a;
  }
}

// The host has no NVRTC kernels to run: the steps are interpreted, and the source is compiled for its errors only.
template <class T> mb_status run_program(const mbi_fuse_run *run) {
  MB_TRY(check_source(FuseSource(run, sizeof(T) == sizeof(double)).text()));
  Ranges ranges = ranges_of(run, 16 / (int64_t)sizeof(T));
  int n_fixed = run->n_arrays + run->n_uniforms;
  std::vector<T> values((size_t)(n_fixed + run->n_temps));
  for (int i = 0; i < run->n_uniforms; i++) values[(size_t)(run->n_arrays + i)] = (T)run->uniforms[i];
  for (int64_t r = 0; r < run->n_ranges; r++)
    for (int64_t e = ranges.host[(size_t)(run->n_ranges + r)]; e < ranges.host[(size_t)(2 * run->n_ranges + r)]; e++) {
      for (int i = 0; i < run->n_arrays; i++) values[(size_t)i] = ((const T *)run->arrays[i])[e];
      for (int s = 0; s < run->n_steps; s++) {
        const mbi_fuse_step &step = run->steps[s];
        T x[4];
        for (int i = 0; i < 4; i++) x[i] = values[step.in[i] < values.size() ? step.in[i] : 0];
        values[step.out] = apply<T>(step.code, x[0], x[1], x[2], x[3]);
        if (step.out < run->n_arrays) ((T *)run->arrays[step.out])[e] = values[step.out];
      }
    }
  (void)is_aligned;
  return MB_OK;
}

#endif

} // namespace

template <class T> mb_status Kernels<T>::fuse(const mbi_fuse_run *run) { return run_program<T>(run); }
template <> mb_status Kernels<bf16>::fuse(const mbi_fuse_run *) {
  return fail(MB_ERR_DTYPE, "fused programs on cuda: f32 or f64 was expected, not bf16");
}

MBK_SLOT(fuse);

} // namespace mbk
