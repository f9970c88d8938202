// SPDX-License-Identifier: MIT
//
// fuse_source.h: a pass of a fused program as CUDA source, one kernel for each shape of fuse_tables.h. Every array is a
// variable, loaded when it is first read and stored at the end when it was written; a step is one statement. Where a thread
// takes LANES neighbouring elements, loads and stores are 16 bytes wide; a stretch of the arrays that does not begin and
// end on such a boundary uses the same statements one element at a time.
//
//   void fused(const Part *parts, const long long *ends, const long long *bases, int n_parts, int is_aligned, double *partials,
//              unsigned long long seed, step, stream, const unsigned long long *cells, const double *guard, T *p0, ..., T u0, ..., T *q0, ...)
//
// In a graph, seed, step, stream and the numbers u are not those of the arguments but in cells, as they are when it is run.
// Where parts differ in their numbers (n_sets > 1) these are always in cells, a row for each set, and no arguments.
//
// Where there is a guard and it is not 0, nothing is done. Arrays p are the run's, q the results of reductions. Names in statements: a of an array of elements, s of one number
// for all or for the part, r of the row, c of the column; u numbers, t temps, w words of the random stream.
#ifndef MBK_CUDA_FUSE_SOURCE_H
#define MBK_CUDA_FUSE_SOURCE_H
#include <string>
#include <vector>

#include "backend/cuda/fuse_tables.h"

namespace mbk {

class FuseSource {
 public:
  FuseSource(const mbi_fuse_run *run, bool is_double, FuseShape shape)
      : run(run), shape(shape), type(is_double ? "double" : "float"), lanes(is_double ? 2 : 4) {
    loads.assign((size_t)run->n_arrays, false);
    stores.assign((size_t)run->n_arrays, false);
    for (int s = 0; s < run->n_steps; s++) add(run->steps[s]);
    for (int i = 0; i < run->n_reductions; i++)
      if (shape_of(run->reductions[i]) == shape) add(run->reductions[i], i);
  }

  static FuseShape shape_of(const mbi_fuse_reduction &r) {
    return r.spread == MBI_SPREAD_ROWS ? FUSE_ROWS_SHAPE : r.spread == MBI_SPREAD_COLUMNS ? FUSE_COLUMNS : FUSE_PARTS;
  }

  std::string text() const {
    std::string out = helpers() + "extern \"C\" __global__ void __launch_bounds__(THREADS) fused(const Part *parts, const long long *ends, "
                      "const long long *bases, int n_parts, int is_aligned, double *partials, unsigned long long seed, "
                      "unsigned long long step, unsigned long long stream, const unsigned long long *cells, const double *guard";
    for (int i = 0; i < run->n_arrays; i++) out += ", T *p" + std::to_string(i);
    for (int i = 0; i < run->n_uniforms && !has_sets(); i++) out += ", T u" + std::to_string(i);
    for (int i = 0; i < run->n_reductions; i++) out += ", T *q" + std::to_string(i);
    out += ") {\n  const double held = guard ? *guard : 0;\n  if (cells) {\n    seed = cells[0], step = cells[1], stream = cells[2];\n";
    for (int i = 0; i < run->n_uniforms && !has_sets(); i++)
      out += "    u" + std::to_string(i) + " = *(const T *)(cells + " + std::to_string(3 + i) + ");\n";
    out += "  }\n  long long number = blockIdx.x;\n"
           "  int low = 0, high = n_parts;\n"
           "  while (low < high) { int middle = (low + high) / 2; if (ends[middle] <= number) low = middle + 1; else high = middle; }\n"
           "  if (low == n_parts || held != 0) return;\n"
           "  if (low) number -= ends[low - 1];\n"
           "  const Part part = parts[low];\n"
           "  const long long stop = part.begin + part.rows * part.columns;\n";
    for (int i = 0; i < run->n_uniforms && has_sets(); i++)
      out += "  const T u" + std::to_string(i) + " = *(const T *)(cells + 3 + part.set * " + std::to_string(run->n_uniforms) + " + " +
             std::to_string(i) + ");\n";
    for (int i = 0; i < run->n_arrays; i++) {
      std::string n = std::to_string(i);
      if (run->spreads[i] == MBI_SPREAD_ONE) out += "  const T s" + n + " = p" + n + "[0];\n";
      if (run->spreads[i] == MBI_SPREAD_PARTS) out += "  const T s" + n + " = p" + n + "[part.index];\n";
    }
    for (const Sum &sum : sums) out += "  double all" + sum.n + " = first_of<" + sum.kind + ">();\n";
    return out + walk() + "}\n";
  }

 private:
  struct Sum {
    std::string n, kind, operand; // number of the reduction, its mb_fuse_reduce, what is reduced
  };
  const mbi_fuse_run *run;
  FuseShape shape;
  std::string type;
  int lanes;
  std::vector<bool> loads, stores; // arrays
  std::vector<int> randoms;        // calls
  std::vector<Sum> sums;
  std::string statements;

  std::string helpers() const {
    return "typedef " + type + " T;\n"
           "enum { LANES = " + std::to_string(lanes) + ", THREADS = " + std::to_string(FUSE_THREADS) + ", ROUNDS = " +
           std::to_string(FUSE_ROUNDS) + ", ROWS = " + std::to_string(FUSE_ROWS) + " };\n" + R"cuda(
struct Part { long long begin, rows, columns, row, column, index, set; };
struct __align__(16) Pack { T at[LANES]; };
__device__ __forceinline__ T f_sigmoid(T x) { T e = exp(x < 0 ? x : -x); return (x < 0 ? e : T(1)) / (T(1) + e); }
)cuda" + (sums.empty() ? "" : R"cuda(enum { SUM, MEAN, NORM, GREATEST, LEAST };
template <int KIND> __device__ __forceinline__ double first_of() {
  return KIND == GREATEST ? -1.0 / 0.0 : KIND == LEAST ? 1.0 / 0.0 : 0.0;
}
template <int KIND> __device__ __forceinline__ double join(double all, double x) {
  if (KIND == GREATEST) return x > all || x != x ? x : all;
  if (KIND == LEAST) return x < all || x != x ? x : all;
  return all + x;
}
template <int KIND> __device__ __forceinline__ double take(double all, T x) {
  return join<KIND>(all, KIND == NORM ? (double)x * (double)x : (double)x);
}
template <int KIND> __device__ __forceinline__ T finish(double all, long long count) {
  return (T)(KIND == MEAN ? all / (double)count : KIND == NORM ? sqrt(all) : all);
}
template <int KIND> __device__ __forceinline__ double of_block(double x) {
  __shared__ double room[THREADS / 32];
  for (int step = 16; step > 0; step /= 2) x = join<KIND>(x, __shfl_xor_sync(0xffffffffu, x, step));
  __syncthreads();
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
  __syncthreads();
  double all = room[0];
  for (int warp = 1; warp < THREADS / 32; warp++) all = join<KIND>(all, room[warp]);
  return all;
}
)cuda") + (randoms.empty() ? "" : R"cuda(struct Words { unsigned at[4]; };
__device__ __forceinline__ Words philox(unsigned long long seed, unsigned long long step, unsigned long long stream, unsigned long long block) {
  unsigned c0 = (unsigned)block, c1 = (unsigned)(block >> 32) ^ (unsigned)(step >> 32) ^ (unsigned)(stream >> 32);
  unsigned c2 = (unsigned)step, c3 = (unsigned)stream, k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; round++) {
    unsigned long long m0 = 0xD2511F53ull * c0, m1 = 0xCD9E8D57ull * c2;
    c0 = (unsigned)(m1 >> 32) ^ c1 ^ k0;
    c1 = (unsigned)m1;
    c2 = (unsigned)(m0 >> 32) ^ c3 ^ k1;
    c3 = (unsigned)m0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  Words out = {{c0, c1, c2, c3}};
  return out;
}
__device__ __forceinline__ unsigned word_of(const Words &w, int i) {
  return i & 2 ? (i & 1 ? w.at[3] : w.at[2]) : (i & 1 ? w.at[1] : w.at[0]);
}
__device__ __forceinline__ float unit(unsigned word) { return (float)(int)(word >> 8) * 5.9604644775390625e-8f; }
__device__ __forceinline__ T f_uniform(const Words &w, int i) { return (T)unit(word_of(w, i)); }
__device__ __forceinline__ T f_normal(const Words &w, int i) {
  float radius = sqrtf(-2.0f * logf(((float)(int)(word_of(w, i & 2) >> 8) + 1.0f) * 5.9604644775390625e-8f));
  float turn = 6.28318530717958648f * unit(word_of(w, i | 1));
  return (T)(radius * (i & 1 ? sinf(turn) : cosf(turn)));
}
)cuda");
  }

  bool has_sets() const { return run->n_sets > 1; }

  bool is_uniform(int operand) const { return operand >= run->n_arrays && operand < run->n_arrays + run->n_uniforms; }

  std::string name(int operand) const {
    static const char *const of_spread[] = {"s", "s", "r", "c", "a"};
    if (operand < run->n_arrays) {
      std::string array = of_spread[run->spreads[operand]] + std::to_string(operand);
      return run->spreads[operand] == MBI_SPREAD_ELEMENTS ? array + "[k]" : array;
    }
    if (is_uniform(operand)) return "u" + std::to_string(operand - run->n_arrays);
    return "t" + std::to_string(operand - run->n_arrays - run->n_uniforms) + "[k]";
  }

  std::string read(int operand) {
    if (operand < run->n_arrays && !stores[(size_t)operand]) loads[(size_t)operand] = true;
    return name(operand);
  }

  static int inputs_of(int code) {
    if (code == MBI_FUSE_UNIFORM || code == MBI_FUSE_NORMAL) return 0;
    if (code == MBI_FUSE_AXPBY || code == MBI_FUSE_AXMBY) return 4;
    if (code == MB_FUSE_WHERE || code == MBI_FUSE_MADD || code == MBI_FUSE_MSUB || code == MBI_FUSE_NMADD) return 3;
    return code <= MB_FUSE_EQ ? 2 : 1;
  }

  void add(const mbi_fuse_step &s) {
    std::string in[4];
    for (int i = 0; i < inputs_of(s.code); i++) in[i] = read(s.in[i]);
    if (s.code == MBI_FUSE_UNIFORM || s.code == MBI_FUSE_NORMAL) {
      bool is_new = true;
      for (int call : randoms) is_new = is_new && call != s.in[0];
      if (is_new) randoms.push_back(s.in[0]);
      statements += name(s.out) + (s.code == MBI_FUSE_NORMAL ? " = f_normal(w" : " = f_uniform(w") + std::to_string(s.in[0]) +
                    ", (int)((first + k) & 3));\n";
    } else {
      statements += name(s.out) + " = " + formula(s.code, in) + ";\n";
    }
    if (s.out < run->n_arrays) stores[(size_t)s.out] = true;
  }

  void add(const mbi_fuse_reduction &r, int i) {
    Sum sum{std::to_string(i), std::to_string(r.reduce), read(r.operand)};
    statements += "all" + sum.n + " = take<" + sum.kind + ">(all" + sum.n + ", " + sum.operand + ");\n";
    sums.push_back(sum);
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
      case MB_FUSE_NORMAL_CDF: return "T(0.5) * erfc(" + x[0] + " * T(-0.70710678118654752440))";
      case MB_FUSE_WHERE: return x[0] + " != 0 ? " + x[1] + " : " + x[2];
      case MBI_FUSE_MADD: return x[0] + " * " + x[1] + " + " + x[2];
      case MBI_FUSE_MSUB: return x[0] + " * " + x[1] + " - " + x[2];
      case MBI_FUSE_NMADD: return x[2] + " - " + x[0] + " * " + x[1];
      case MBI_FUSE_AXPBY: return x[0] + " * " + x[1] + " + " + x[2] + " * " + x[3];
      case MBI_FUSE_AXMBY: return x[0] + " * " + x[1] + " - " + x[2] + " * " + x[3];
      default: return x[0]; // MOVE, FILL
    }
  }

  bool has(int spread) const {
    for (int i = 0; i < run->n_arrays; i++)
      if (run->spreads[i] == spread) return true;
    return false;
  }

  // Loads, statements and stores for `count` elements from `first`. Rows and columns of single elements may be known.
  std::string body(bool wide, bool knows_row) const {
    std::string out, count = wide ? "LANES" : "1";
    for (int i = 0; i < run->n_arrays; i++) {
      std::string n = std::to_string(i);
      if (run->spreads[i] != MBI_SPREAD_ELEMENTS) continue;
      out += (wide ? "    __align__(16) T a" : "    T a") + n + "[" + count + "];\n";
      if (!loads[(size_t)i]) continue;
      out += wide ? "    *(Pack *)a" + n + " = *(const Pack *)(p" + n + " + first);\n" : "    a" + n + "[0] = p" + n + "[first];\n";
    }
    for (int i = 0; i < run->n_temps; i++) out += "    T t" + std::to_string(i) + "[" + count + "];\n";
    for (int call : randoms) {
      std::string n = std::to_string(call);
      out += "    const Words w" + n + " = philox(seed, step, stream + (" + n + "ull << 32), first / 4);\n";
    }
    out += "#pragma unroll\n    for (int k = 0; k < " + count + "; k++) {\n" + places(knows_row) + statements + "    }\n";
    for (int i = 0; i < run->n_arrays; i++) {
      std::string n = std::to_string(i);
      if (stores[(size_t)i])
        out += wide ? "    *(Pack *)(p" + n + " + first) = *(const Pack *)a" + n + ";\n" : "    p" + n + "[first] = a" + n + "[0];\n";
    }
    return out;
  }

  // Numbers of the row and the column of element first + k.
  std::string places(bool knows_row) const {
    std::string out;
    if (!has(MBI_SPREAD_ROWS) && !has(MBI_SPREAD_COLUMNS)) return out;
    if (!knows_row)
      out += "const long long offset = first + k - part.begin, row = offset / part.columns, column = offset - row * part.columns;\n";
    for (int i = 0; i < run->n_arrays; i++) {
      std::string n = std::to_string(i);
      if (run->spreads[i] == MBI_SPREAD_ROWS) out += "const T r" + n + " = p" + n + "[part.row + row];\n";
      if (run->spreads[i] == MBI_SPREAD_COLUMNS) out += "const T c" + n + " = p" + n + "[part.column + column];\n";
    }
    return out;
  }

  // LANES elements from `start`, of which some may lie outside of the part.
  std::string group() const {
    return "  if (is_aligned && start >= part.begin && start + LANES <= stop) {\n    const long long first = start;\n" + body(true, false) +
           "  } else {\n    for (int lane = 0; lane < LANES; lane++) {\n      const long long first = start + lane;\n"
           "      if (first < part.begin || first >= stop) continue;\n" + body(false, false) + "    }\n  }\n";
  }

  std::string walk() const {
    std::string out;
    switch (shape) {
      case FUSE_ELEMENTS: return "  const long long start = part.begin / LANES * LANES + (number * THREADS + threadIdx.x) * LANES;\n" + group();
      case FUSE_PARTS:
        out = "  for (int round = 0; round < ROUNDS; round++) {\n"
              "  const long long start = part.begin / LANES * LANES + ((number * ROUNDS + round) * THREADS + threadIdx.x) * LANES;\n"
              "  if (start >= stop) break;\n" + group() + "  }\n";
        for (size_t i = 0; i < sums.size(); i++)
          out += "  all" + sums[i].n + " = of_block<" + sums[i].kind + ">(all" + sums[i].n + ");\n  if (threadIdx.x == 0) partials[(long long)blockIdx.x * " +
                 std::to_string(sums.size()) + " + " + std::to_string(i) + "] = all" + sums[i].n + ";\n";
        return out;
      case FUSE_ROWS_SHAPE:
        out = "  const long long row = number;\n  for (long long column = threadIdx.x; column < part.columns; column += THREADS) {\n"
              "    const long long first = part.begin + row * part.columns + column;\n" + body(false, true) + "  }\n";
        for (const Sum &sum : sums)
          out += "  all" + sum.n + " = of_block<" + sum.kind + ">(all" + sum.n + ");\n  if (threadIdx.x == 0) q" + sum.n +
                 "[part.row + row] = finish<" + sum.kind + ">(all" + sum.n + ", part.columns);\n";
        return out;
      default:
        out = "  const long long strips = (part.columns + THREADS - 1) / THREADS, piece = number / strips;\n"
              "  const long long column = (number - piece * strips) * THREADS + threadIdx.x, last = (piece + 1) * ROWS < part.rows ? (piece + 1) * ROWS : part.rows;\n"
              "  if (column >= part.columns) return;\n  for (long long row = piece * ROWS; row < last; row++) {\n"
              "    const long long first = part.begin + row * part.columns + column;\n" + body(false, true) + "  }\n";
        for (size_t i = 0; i < sums.size(); i++)
          out += "  partials[(bases[low] + piece * part.columns + column) * " + std::to_string(sums.size()) + " + " + std::to_string(i) + "] = all" +
                 sums[i].n + ";\n";
        return out;
    }
  }
};

} // namespace mbk
#endif
