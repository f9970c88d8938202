// SPDX-License-Identifier: MIT
//
// fuse_source.h: a fused program as CUDA source. Every array is a variable, loaded when it is first read and stored at the
// end when it was written; a step is one statement. A thread takes LANES neighbouring elements, so that loads and stores
// are 16 bytes wide; a stretch of the arrays that does not begin and end on such a boundary uses the same statements one
// element at a time.
//
//   void fused(const long long *ends, const long long *begins, const long long *stops, int ranges, int is_aligned,
//              T *p0, ..., T u0, ...)
//
// Threads are numbered through all ranges: ends[r] is the number of the first thread after range r = [begins[r], stops[r]).
#ifndef MBK_CUDA_FUSE_SOURCE_H
#define MBK_CUDA_FUSE_SOURCE_H
#include <string>
#include <vector>

#include "backend/cuda/host.h"

namespace mbk {

constexpr int FUSE_THREADS = 256;

class FuseSource {
 public:
  FuseSource(const mbi_fuse_run *run, bool is_double) : run(run), type(is_double ? "double" : "float"), lanes(is_double ? 2 : 4) {
    loads.assign((size_t)run->n_arrays, false);
    stores.assign((size_t)run->n_arrays, false);
    for (int s = 0; s < run->n_steps; s++) add(run->steps[s]);
  }

  std::string text() const {
    std::string out = helpers() + "extern \"C\" __global__ void __launch_bounds__(" + std::to_string(FUSE_THREADS) +
                      ") fused(const long long *ends, const long long *begins, const long long *stops, int ranges, int is_aligned";
    for (int i = 0; i < run->n_arrays; i++) out += ", T *p" + std::to_string(i);
    for (int i = 0; i < run->n_uniforms; i++) out += ", T u" + std::to_string(i);
    out += ") {\n"
           "  long long group = (long long)blockIdx.x * blockDim.x + threadIdx.x;\n"
           "  int low = 0, high = ranges;\n"
           "  while (low < high) { int middle = (low + high) / 2; if (ends[middle] <= group) low = middle + 1; else high = middle; }\n"
           "  if (low == ranges) return;\n"
           "  long long first = begins[low] / LANES * LANES + (group - (low ? ends[low - 1] : 0)) * LANES;\n"
           "  if (is_aligned && first >= begins[low] && first + LANES <= stops[low]) {\n" +
           body("LANES", true) + "  } else {\n    for (int lane = 0; lane < LANES; lane++) {\n      long long at = first + lane;\n"
           "      if (at < begins[low] || at >= stops[low]) continue;\n" +
           body("1", false) + "    }\n  }\n}\n";
    return out;
  }

 private:
  const mbi_fuse_run *run;
  std::string type;
  int lanes;
  std::vector<bool> loads, stores; // arrays
  std::string statements;

  std::string helpers() const {
    return "typedef " + type + " T;\n"
           "enum { LANES = " + std::to_string(lanes) + " };\n"
           "struct __align__(16) Pack { T at[LANES]; };\n"
           "__device__ __forceinline__ T f_sigmoid(T x) { T e = exp(x < 0 ? x : -x); return (x < 0 ? e : T(1)) / (T(1) + e); }\n";
  }

  bool is_uniform(int operand) const { return operand >= run->n_arrays && operand < run->n_arrays + run->n_uniforms; }

  std::string name(int operand) const {
    if (operand < run->n_arrays) return "a" + std::to_string(operand) + "[k]";
    if (is_uniform(operand)) return "u" + std::to_string(operand - run->n_arrays);
    return "t" + std::to_string(operand - run->n_arrays - run->n_uniforms) + "[k]";
  }

  std::string read(int operand) {
    if (operand < run->n_arrays && !stores[(size_t)operand]) loads[(size_t)operand] = true;
    return name(operand);
  }

  static int inputs_of(int code) {
    if (code == MBI_FUSE_AXPBY || code == MBI_FUSE_AXMBY) return 4;
    if (code == MB_FUSE_WHERE || code == MBI_FUSE_MADD || code == MBI_FUSE_MSUB || code == MBI_FUSE_NMADD) return 3;
    return code <= MB_FUSE_EQ ? 2 : 1;
  }

  void add(const mbi_fuse_step &s) {
    std::string in[4];
    for (int i = 0; i < inputs_of(s.code); i++) in[i] = read(s.in[i]);
    statements += name(s.out) + " = " + formula(s.code, in) + ";\n";
    if (s.out < run->n_arrays) stores[(size_t)s.out] = true;
  }

  static std::string formula(int code, const std::string (&x)[4]) {
    switch (code) { /* ORDER FUSE */
      case MB_FUSE_ADD: return x[0] + " + " + x[1];
      case MB_FUSE_SUB: return x[0] + " - " + x[1];
      case MB_FUSE_MUL: return x[0] + " * " + x[1];
      case MB_FUSE_DIV: return x[0] + " / " + x[1];
      case MB_FUSE_MIN: return x[0] + " <= " + x[1] + " || " + x[0] + " != " + x[0] + " ? " + x[0] + " : " + x[1];
      case MB_FUSE_MAX: return x[0] + " >= " + x[1] + " || " + x[0] + " != " + x[0] + " ? " + x[0] + " : " + x[1];
      case MB_FUSE_POW: return "pow(" + x[0] + ", " + x[1] + ")";
      case MB_FUSE_LT: return "T(" + x[0] + " < " + x[1] + ")";
      case MB_FUSE_LE: return "T(" + x[0] + " <= " + x[1] + ")";
      case MB_FUSE_EQ: return "T(" + x[0] + " == " + x[1] + ")";
      case MB_FUSE_NEG: return "-" + x[0];
      case MB_FUSE_ABS: return "abs(" + x[0] + ")";
      case MB_FUSE_SIGN: return x[0] + " > 0 ? T(1) : " + x[0] + " < 0 ? T(-1) : " + x[0];
      case MB_FUSE_SQRT: return "sqrt(" + x[0] + ")";
      case MB_FUSE_RSQRT: return "1 / sqrt(" + x[0] + ")";
      case MB_FUSE_RECIPROCAL: return "1 / " + x[0];
      case MB_FUSE_SQUARE: return x[0] + " * " + x[0];
      case MB_FUSE_EXP: return "exp(" + x[0] + ")";
      case MB_FUSE_LOG: return "log(" + x[0] + ")";
      case MB_FUSE_TANH: return "tanh(" + x[0] + ")";
      case MB_FUSE_SIGMOID: return "f_sigmoid(" + x[0] + ")";
      case MB_FUSE_WHERE: return x[0] + " != 0 ? " + x[1] + " : " + x[2];
      case MBI_FUSE_MADD: return x[0] + " * " + x[1] + " + " + x[2];
      case MBI_FUSE_MSUB: return x[0] + " * " + x[1] + " - " + x[2];
      case MBI_FUSE_NMADD: return x[2] + " - " + x[0] + " * " + x[1];
      case MBI_FUSE_AXPBY: return x[0] + " * " + x[1] + " + " + x[2] + " * " + x[3];
      case MBI_FUSE_AXMBY: return x[0] + " * " + x[1] + " - " + x[2] + " * " + x[3];
      default: return x[0]; // MOVE, FILL
    }
  }

  // Loads, statements and stores for `count` elements; wide loads go through Pack, narrow ones from element `at`.
  std::string body(const std::string &count, bool wide) const {
    std::string out;
    for (int i = 0; i < run->n_arrays; i++) {
      std::string n = std::to_string(i);
      out += "    T a" + n + "[" + count + "];\n";
      if (!loads[(size_t)i]) continue;
      out += wide ? "    *(Pack *)a" + n + " = *(const Pack *)(p" + n + " + first);\n" : "    a" + n + "[0] = p" + n + "[at];\n";
    }
    for (int i = 0; i < run->n_temps; i++) out += "    T t" + std::to_string(i) + "[" + count + "];\n";
    out += "#pragma unroll\n    for (int k = 0; k < " + count + "; k++) {\n" + statements + "    }\n";
    for (int i = 0; i < run->n_arrays; i++) {
      std::string n = std::to_string(i);
      if (stores[(size_t)i]) out += wide ? "    *(Pack *)(p" + n + " + first) = *(const Pack *)a" + n + ";\n" : "    p" + n + "[at] = a" + n + "[0];\n";
    }
    return out;
  }
};

} // namespace mbk
#endif
