// SPDX-License-Identifier: MIT
//
// epilogue_choice.cu: what cuBLASLt can do beside a bf16 product in the product's own kernel, where the numbers are still in registers,
// and kernels of this folder do apart: the product's GELU, or GELU's slope as a factor; and, with a result in float32, the sums of the
// rows of its first factor, which in a gradient of weights are the gradient of the bias. One kernel moves less memory, but not every
// version and machine has it, or has it fast, and its last bits are others: GELU is of the sums before they are rounded, and sums of
// rows are made in float32. Of each shape both are timed when it is first asked for, and the choice is kept with those of products
// (choices.h). The library's sums are looked at then: they must be right, and the same twice. MOONBOW_TUNE=0 takes the kernels of this
// folder, and so does a shape that a capture asks for first.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "backend/cuda/capture.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/product.h"
#include "backend/cuda/timing.h"

namespace mbk {
namespace {

// What a choice says, in the words of Choice::algorithm.
enum Word { WHO, OTHER_NANOSECONDS };
enum Who { OWN = 1, LIBRARY = 2 };
constexpr double MARGIN = 0.97; // of the time of product and own kernel
constexpr int LEAST_CAPABILITY = 90;

#ifdef __CUDACC__
constexpr int RUNS = 3;
int capability() {
  static int known;
  int major = 0, minor = 0;
  if (!known && cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess &&
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0) == cudaSuccess)
    known = 10 * major + minor;
  return known;
}
#else
int capability() { return LEAST_CAPABILITY; }
#endif

// A product and the two ways.
struct Work {
  const mbi_gemm *g;
  Type type;
  const std::function<mb_status()> &apart; // by kernels of this folder
};

// The library wants aux in whole packs, and gives sums the type of the result.
bool is_fit(const mbi_gemm *g, Type type, const Product &key) {
  bool is_packed = g->batch == 1 && (g->n | g->ldc) % 8 == 0 && key.alignment == 16;
  bool fits_sums = !g->sums || (g->c_is_wide && g->alpha == 1 && g->beta == 0 && !g->bias && !g->gelu);
  return type == Type::BF16 && is_packed && fits_sums && is_large(g) && capability() >= LEAST_CAPABILITY;
}

struct Known {
  Product key;
  Choice choice;
  const char *why; // it is the own kernel's, if not by time
};
std::vector<Known> &all_known = *new std::vector<Known>;
int64_t generation;

// In microseconds, negative if it did not run. The stand-in's are made up: the library is faster, but at sums of many rows.
template <class F> double time_of(Who who, const Product &key, const F &work) {
#ifdef __CUDACC__
  (void)who, (void)key;
  return time_of_runs(RUNS, work);
#else
  constexpr int64_t MANY_ROWS = 8192;
  double library = key.sums && key.k >= MANY_ROWS ? 3.0 : 1.0;
  return !work() ? -1 : who == LIBRARY ? library : 2.0;
#endif
}

// The sums, on the host; none if there are none to make.
mb_status sums_of(std::vector<float> *out, const mbi_gemm *g) {
  out->resize(g->sums ? (size_t)g->m : 0);
  return g->sums ? to_host((void *)out->data(), g->sums, out->size() * sizeof(float)) : MB_OK;
}

// Up to what float32 makes of a long sum.
bool are_near(const std::vector<float> &is, const std::vector<float> &should) {
  constexpr float NEAR = 1e-2f;
  float most = 0, gap = 0;
  for (size_t i = 0; i < is.size(); i++) {
    float difference = std::fabs(is[i] - should[i]);
    if (!(difference < INFINITY)) return false;
    most = std::fmax(most, std::fabs(should[i])), gap = std::fmax(gap, difference);
  }
  return gap <= NEAR * most;
}

// Why the library's sums, which are there, cannot be taken; or NULL.
mb_status objection(const char **why, const Work &work, const std::vector<float> &right) {
  std::vector<float> sums, again;
  *why = nullptr;
  if (!work.g->sums) return MB_OK;
  MB_TRY(sums_of(&sums, work.g));
  MB_TRY(library_product(work.g, work.type, false, nullptr));
  MB_TRY(sums_of(&again, work.g));
  bool repeats = memcmp(sums.data(), again.data(), sums.size() * sizeof(float)) == 0;
  *why = !are_near(sums, right) ? "cublasLt sums otherwise" : !repeats ? "cublasLt's bits do not repeat" : nullptr;
  return MB_OK;
}

mb_status compare(Known *known, const std::string &key, const Work &work) {
  mb_status status = MB_OK;
  std::vector<float> right;
  double own = time_of(OWN, known->key, [&] { return (status = work.apart()) == MB_OK; });
  if (status != MB_OK) return status;
  MB_TRY(sums_of(&right, work.g));
  double library = time_of(LIBRARY, known->key, [&] { return library_product(work.g, work.type, false, nullptr) == MB_OK; });
  MB_TRY(usable());
  known->why = library <= 0 ? "cublasLt does not run it" : own <= 0 ? "not timed" : nullptr;
  if (library > 0 && own > 0) MB_TRY(objection(&known->why, work, right));
  bool is_library = !known->why && library < MARGIN * own;
  known->choice.algorithm[WHO] = is_library ? LIBRARY : OWN;
  if (known->why) { // the next process may try again
    use_choice(key, known->choice);
    return MB_OK;
  }
  known->choice.microseconds = is_library ? library : own;
  known->choice.algorithm[OTHER_NANOSECONDS] = (uint64_t)((is_library ? own : library) * 1e3);
  keep_choice(key, known->choice);
  return MB_OK;
}

mb_status choose(Known *known, const Work &work) {
  const std::string key = (work.g->sums ? "sums " : "gelu ") + key_of(known->key);
  if (find_choice(&known->choice, key, may_time())) return MB_OK;
  if (may_time() && !is_capturing()) return compare(known, key, work);
  known->why = "not timed";
  known->choice.algorithm[WHO] = OWN;
  if (may_time()) use_choice(key, known->choice);
  return MB_OK;
}

// *is_made: the library has made all of it, in the way that is chosen.
mb_status by_library(bool *is_made, const Work &work) {
  Known made{product_of(work.g, work.type, false), {}, nullptr}, *known = nullptr;
  *is_made = false;
  if (!is_fit(work.g, work.type, made.key)) return MB_OK;
  MB_TRY(open_products());
  if (generation != choices_generation()) all_known.clear(), generation = choices_generation();
  for (Known &one : all_known)
    if (memcmp(&one.key, &made.key, sizeof made.key) == 0) known = &one;
  if (!known) {
    MB_TRY(choose(&made, work));
    all_known.push_back(made);
    known = &all_known.back();
  }
  if (known->choice.algorithm[WHO] != LIBRARY) return MB_OK;
  if (library_product(work.g, work.type, false, nullptr) == MB_OK) {
    *is_made = true;
    return MB_OK;
  }
  MB_TRY(usable());
  known->why = "cublasLt was chosen, but does not run it", known->choice.algorithm[WHO] = OWN, known->choice.microseconds = 0;
  return MB_OK;
}

} // namespace

mb_status product_with_gelu(const mbi_gemm *g, Type type, const std::function<mb_status()> &apart) {
  bool is_made;
  MB_TRY(by_library(&is_made, Work{g, type, apart}));
  return is_made ? MB_OK : apart();
}

mb_status product_with_sums(const mbi_gemm *g, Type type, const std::function<mb_status()> &product,
                            const std::function<mb_status()> &sums) {
  bool is_made;
  std::function<mb_status()> apart = [&] {
    mb_status status = product();
    return status == MB_OK ? sums() : status;
  };
  MB_TRY(by_library(&is_made, Work{g, type, apart}));
  *g->has_sums = is_made;
  return is_made ? MB_OK : product();
}

std::string epilogue_notes() {
  std::string all;
  for (const Known &known : all_known) {
    const Choice &choice = known.choice;
    bool is_library = choice.algorithm[WHO] == LIBRARY;
    char text[256];
    const char *what = known.key.sums ? "sums of rows" : known.key.gelu == MBI_GELU_OF ? "gelu" : "gelu's slope";
    snprintf(text, sizeof text, "product %lld x %lld x %lld with %s: %s", (long long)known.key.m, (long long)known.key.n,
             (long long)known.key.k, what, is_library ? "one kernel of cublasLt" : "two kernels");
    all += text;
    snprintf(text, sizeof text, ", %.3f ms; %s %.3f ms", choice.microseconds * 1e-3, is_library ? "two kernels" : "cublasLt in one",
             (double)choice.algorithm[OTHER_NANOSECONDS] * 1e-6);
    if (choice.microseconds > 0) all += text;
    all += known.why ? std::string(": ") + known.why + "\n" : "\n";
  }
  return all;
}

} // namespace mbk
