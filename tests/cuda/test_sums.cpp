// SPDX-License-Identifier: MIT
//
// test_sums.cpp: products of bf16 into float32 that may make the sums of their first factor's rows, as a gradient of weights makes
// that of the bias: both against sums in float64; who makes them, by what was chosen, timed, refused, wrong or captured; products
// that are not asked for.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "backend/cuda/capture.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/product.h"
#include "say.h"

using namespace mbk;

constexpr float UNTOUCHED = -77;

// C (m, n) = A^T B of A (k, m), or A B of A (m, k), and B (k, n).
template <class T, class C = float> struct Case {
  mbi_gemm g{};
  std::vector<T> a, b;
  std::vector<C> c;
  std::vector<Wide<T>> sums;
  int has_sums = -1;
  Case(int64_t m, int64_t n, int64_t k, bool transposed = true) : sums((size_t)m, (Wide<T>)UNTOUCHED) {
    Numbers numbers((uint64_t)(m + 3 * n + 7 * k));
    for (int64_t i = 0; i < m * k; i++) a.push_back((T)(float)(numbers.next() + 0.25));
    for (int64_t i = 0; i < k * n; i++) b.push_back((T)(float)numbers.next());
    c.resize((size_t)(m * n));
    g.transpose_a = transposed, g.m = m, g.n = n, g.k = k, g.alpha = 1, g.lda = transposed ? m : k, g.ldb = g.ldc = n, g.batch = 1;
    g.c_is_wide = sizeof(C) > sizeof(T);
  }
  int64_t run() { // a copy has arrays of its own
    g.a = a.data(), g.b = b.data(), g.c = c.data(), g.sums = sums.data(), g.has_sums = &has_sums;
    has_sums = 0;
    int64_t before = launches;
    CHECK(Kernels<T>::gemm(&g) == MB_OK && synchronize() == MB_OK, "a product fails");
    return launches - before;
  }
  double factor(int64_t i, int64_t q) const { return (double)(Wide<T>)a[(size_t)(g.transpose_a ? q * g.m + i : i * g.k + q)]; }
  // The product, and the sums, or that nobody has written them. In units of 1 + the sum of sizes.
  void check(int has, double unit) const {
    CHECK(has_sums == has, "sums are %s", has_sums ? "made" : "not made");
    for (int64_t i = 0; i < g.m; i++) {
      double sum = 0, size = 1;
      for (int64_t q = 0; q < g.k; q++) sum += factor(i, q), size += std::fabs(factor(i, q));
      double is = (double)sums[(size_t)i];
      if (has) CHECK(std::fabs(is - sum) < unit * size, "sum %lld is %g, not %g", (long long)i, is, sum);
      for (int64_t j = 0; j < g.n; j += 5) {
        double product = 0;
        for (int64_t q = 0; q < g.k; q++) product += factor(i, q) * (double)(Wide<T>)b[(size_t)(q * g.n + j)];
        double gap = std::fabs((double)(Wide<C>)c[(size_t)(i * g.n + j)] - product);
        CHECK(gap < (sizeof(C) == sizeof(bf16) ? 1.0 / 128 : unit) * size, "(%lld, %lld) is off by %g", (long long)i, (long long)j, gap);
      }
    }
  }
};
using Half = Case<bf16>;
constexpr double SINGLE = 1e-6;

static bool has(const std::string &text, const char *part) { return text.find(part) != std::string::npos; }
template <class T> static bool same(const std::vector<T> &x, const std::vector<T> &y) {
  return memcmp(x.data(), y.data(), x.size() * sizeof(T)) == 0;
}

static void test_timed() {
  choices_of_machine("timed");
  for (bool transposed : {true, false}) {
    Half made(72, 64, 301, transposed), again = made;
    if (!transposed) made = again = Half(72, 64, 304, false);
    made.run();
    made.check(1, SINGLE);
    CHECK(again.run() == 1, "what was chosen is one launch");
    CHECK(same(again.c, made.c) && same(again.sums, made.sums), "and repeats its bits");
  }
  CHECK(has(choices_text(), "\nsums 72 64 301 "), "the choice is one of a run's: %s", choices_text().c_str());
  CHECK(has(epilogue_notes(), "product 72 x 64 x 301 with sums of rows: one kernel of cublasLt, 0.001 ms; two kernels 0.002 ms\n"), "%s",
        epilogue_notes().c_str());
  Half many(16, 8, 8192);
  CHECK(many.run() > 1 && many.run() == 1, "the product alone");
  many.check(0, SINGLE);
  CHECK(has(epilogue_notes(), "product 16 x 8 x 8192 with sums of rows: two kernels, 0.002 ms; cublasLt in one 0.003 ms\n"), "%s",
        epilogue_notes().c_str());
}

// A run that brings other choices, and one that a capture begins.
static void test_brought() {
  choices_of_machine("asked");
  Half made(72, 64, 301), plain = made;
  made.run(); // aims at its arrays
  Choice own{};
  own.algorithm[0] = 1;
  std::string key = "sums " + key_of(product_of(&made.g, Type::BF16, false));
  choices_of_machine("brought");
  use_choice(key, own);
  std::string text = choices_text();
  choices_of_machine("brought");
  CHECK(set_choices(text.c_str()) == MB_OK, "a run's choices are taken");
  CHECK(plain.run() == 1, "the product alone");
  plain.check(0, SINGLE);
  CHECK(plain.sums[0] == UNTOUCHED, "nobody made sums");
}

static void test_capture() {
  choices_of_machine("captured");
  Half made(72, 64, 301), later = made;
  const uint64_t key[3] = {0, 0, 0};
  mbi_captured *captured = nullptr;
  CHECK(begin_capture(nullptr, key) == MB_OK, "a capture begins");
  made.g.a = made.a.data(), made.g.b = made.b.data(), made.g.c = made.c.data(), made.g.sums = made.sums.data();
  made.g.has_sums = &made.has_sums;
  CHECK(Kernels<bf16>::gemm(&made.g) == MB_OK && made.has_sums == 0, "nothing is timed in a capture");
  CHECK(end_capture(&captured, 1) == MB_OK && replay(captured) == MB_OK, "a capture ends");
  made.check(0, SINGLE);
  captured_free(captured);
  CHECK(later.run() == 1 && later.has_sums == 0 && same(later.c, made.c), "and the run goes on as it began");
  CHECK(has(epilogue_notes(), "two kernels: not timed\n"), "%s", epilogue_notes().c_str());
}

static mb_status say_nothing(mb_status status, const char *, ...) { return status; }

// The library's product fails when it is timed, or later; or sums what nobody can compare.
static void test_refused() {
  choices_of_machine("refused");
  Half made(72, 64, 301), later(72, 64, 304), endless(72, 64, 310);
  fail = say_nothing;
  setenv("MOONBOW_CUDA_FAULT", "launch:2:cublasLtMatmul", 1); // the first is the product alone
  made.run();
  made.check(0, SINGLE);
  CHECK(has(epilogue_notes(), "x 301 with sums of rows: two kernels: cublasLt does not run it\n"), "%s", epilogue_notes().c_str());
  setenv("MOONBOW_CUDA_FAULT", "", 1);
  later.run();
  later.check(1, SINGLE);
  setenv("MOONBOW_CUDA_FAULT", "launch:1:cublasLtMatmul", 1);
  later.run();
  later.check(0, SINGLE);
  setenv("MOONBOW_CUDA_FAULT", "", 1);
  CHECK(has(epilogue_notes(), "x 304 with sums of rows: two kernels: cublasLt was chosen, but does not run it\n"), "%s",
        epilogue_notes().c_str());
  endless.a[5] = (bf16)INFINITY;
  endless.run();
  CHECK(endless.has_sums == 0 && has(epilogue_notes(), "x 310 with sums of rows: two kernels: cublasLt sums otherwise\n"), "%s",
        epilogue_notes().c_str());
  fail = say;
}

// What the library cannot do, or is too small to ask for: the product alone.
static void test_others() {
  choices_of_machine("others");
  Half odd(72, 63, 301), small(8, 8, 16), apart(72, 64, 301);
  apart.sums.resize(80);
  Case<bf16, bf16> narrow(72, 64, 301);
  Case<float> single(72, 64, 301);
  Case<double, double> twice(72, 64, 301);
  odd.run(), small.run(), narrow.run(), single.run(), twice.run();
  odd.check(0, SINGLE), small.check(0, SINGLE), narrow.check(0, SINGLE), single.check(0, SINGLE), twice.check(0, 1e-14);
  apart.run();
  apart.g.sums = apart.sums.data() + 1, apart.has_sums = 0; // not on 16 bytes
  CHECK(Kernels<bf16>::gemm(&apart.g) == MB_OK && apart.has_sums == 0, "sums that lie anywhere are asked for");
  std::string text = choices_text();
  CHECK(!has(text, "sums 72 63 301 ") && !has(text, "sums 8 8 16 "), "products are asked for that do not fit: %s", text.c_str());
}

// In a process of its own, with MOONBOW_TUNE=0.
static int untimed() {
  choices_of_machine("untimed");
  Half made(72, 64, 301);
  CHECK(made.run() == 1 && made.has_sums == 0 && choices_text().empty(), "what may not be timed is a product alone");
  return finish();
}

int main(int count, char **arguments) {
  begin();
  setenv("MOONBOW_CACHE", "", 1);
  Half first(72, 64, 301);
  first.run(); // opens the library, which names the machine
  if (count > 1) return untimed();
  test_timed();
  test_brought();
  test_capture();
  test_refused();
  test_others();
  CHECK(system(("MOONBOW_TUNE=0 " + std::string(arguments[0]) + " untimed").c_str()) == 0, "the process that may not time fails");
  return finish();
}
