// SPDX-License-Identifier: MIT
//
// gelu_choice.cu: whether the GELU of a bf16 product, or its slope as a factor, is made by cuBLASLt in the product's own kernel,
// where the numbers are still in registers, or by a kernel of this folder that goes over them afterwards. The former moves less
// memory, but not every version and machine has a fast kernel for it, and its last bits are others: GELU is of the sums before
// they are rounded. Of each shape both are timed when it is first asked for, and the choice is kept with those of products
// (choices.h). MOONBOW_TUNE=0 takes the kernel of this folder, and so does a shape that a capture asks for first.
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

// The library wants aux in whole packs.
bool is_fit(const mbi_gemm *g, Type type, const Product &key) {
  bool is_packed = g->batch == 1 && (g->n | g->ldc) % 8 == 0 && key.alignment == 16;
  return type == Type::BF16 && is_packed && is_large(g) && capability() >= LEAST_CAPABILITY;
}

struct Known {
  Product key;
  Choice choice;
  const char *why; // it is the own kernel's, if not by time
};
std::vector<Known> &all_known = *new std::vector<Known>;
int64_t generation;

// In microseconds, negative if it did not run. The stand-in's are made up: the library is faster.
template <class F> double time_of(Who who, const F &work) {
#ifdef __CUDACC__
  (void)who;
  return time_of_runs(RUNS, work);
#else
  return work() ? who == LIBRARY ? 1.0 : 2.0 : -1;
#endif
}

mb_status compare(Known *known, const std::string &key, const mbi_gemm *g, Type type, const std::function<mb_status()> &apart) {
  mb_status status = MB_OK;
  double own = time_of(OWN, [&] { return (status = apart()) == MB_OK; });
  if (status != MB_OK) return status;
  double library = time_of(LIBRARY, [&] { return library_product(g, type, false, nullptr) == MB_OK; });
  MB_TRY(usable());
  bool is_library = library > 0 && own > 0 && library < MARGIN * own;
  known->choice.algorithm[WHO] = is_library ? LIBRARY : OWN;
  if (library <= 0 || own <= 0) { // the next process may try again
    known->why = library <= 0 ? "cublasLt does not run it" : "not timed";
    use_choice(key, known->choice);
    return MB_OK;
  }
  known->choice.microseconds = is_library ? library : own;
  known->choice.algorithm[OTHER_NANOSECONDS] = (uint64_t)((is_library ? own : library) * 1e3);
  keep_choice(key, known->choice);
  return MB_OK;
}

mb_status choose(Known *known, const mbi_gemm *g, Type type, const std::function<mb_status()> &apart) {
  const std::string key = "gelu " + key_of(known->key);
  if (find_choice(&known->choice, key, may_time())) return MB_OK;
  if (may_time() && !is_capturing()) return compare(known, key, g, type, apart);
  known->why = "not timed";
  known->choice.algorithm[WHO] = OWN;
  if (may_time()) use_choice(key, known->choice);
  return MB_OK;
}

} // namespace

mb_status product_with_gelu(const mbi_gemm *g, Type type, const std::function<mb_status()> &apart) {
  Known made{product_of(g, type, false), {}, nullptr}, *known = nullptr;
  if (!is_fit(g, type, made.key)) return apart();
  MB_TRY(open_products());
  if (generation != choices_generation()) all_known.clear(), generation = choices_generation();
  for (Known &one : all_known)
    if (memcmp(&one.key, &made.key, sizeof made.key) == 0) known = &one;
  if (!known) {
    MB_TRY(choose(&made, g, type, apart));
    all_known.push_back(made);
    known = &all_known.back();
  }
  if (known->choice.algorithm[WHO] != LIBRARY) return apart();
  if (library_product(g, type, false, nullptr) == MB_OK) return MB_OK;
  MB_TRY(usable());
  known->why = "cublasLt was chosen, but does not run it", known->choice.algorithm[WHO] = OWN, known->choice.microseconds = 0;
  return apart();
}

std::string gelu_notes() {
  std::string all;
  for (const Known &known : all_known) {
    const Choice &choice = known.choice;
    bool is_library = choice.algorithm[WHO] == LIBRARY;
    char text[256];
    snprintf(text, sizeof text, "product %lld x %lld x %lld with gelu%s: %s", (long long)known.key.m, (long long)known.key.n,
             (long long)known.key.k, known.key.gelu == MBI_GELU_OF ? "" : "'s slope", is_library ? "one kernel of cublasLt" : "two kernels");
    all += text;
    snprintf(text, sizeof text, ", %.3f ms; %s %.3f ms", choice.microseconds * 1e-3, is_library ? "two kernels" : "cublasLt in one",
             (double)choice.algorithm[OTHER_NANOSECONDS] * 1e-6);
    if (choice.microseconds > 0) all += text;
    all += known.why ? std::string(": ") + known.why + "\n" : "\n";
  }
  return all;
}

} // namespace mbk
