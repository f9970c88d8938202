// SPDX-License-Identifier: MIT
//
// test_gelu.cpp: products of bf16 that go through GELU, or are multiplied by its slope, by the library and by two kernels:
// both against formulas in float64; which one is taken, by what was chosen, timed, refused or captured; shapes that are not asked for.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "backend/cuda/capture.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/product.h"
#include "say.h"

using namespace mbk;

static double slope_of(double x) {
  double t = std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}
static double gelu_of(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

// A product (m, k) (n, k)^T in `batch` members that lie `gap` elements apart, and its arrays.
template <class T> struct Case {
  mbi_gemm g{};
  std::vector<T> a, b, bias, c, aux, given; // given: aux before
  bool has_bias;
  int shift; // of aux
  Case(int gelu, int64_t m, int64_t n, int64_t k, bool biased, int64_t batch = 1, int64_t gap = 0, int shifted = 0)
      : has_bias(biased), shift(shifted) {
    Numbers numbers((uint64_t)(m + 3 * n + 7 * k + gelu));
    auto fill = [&](std::vector<T> *x, int64_t count) {
      for (int64_t i = 0; i < count; i++) x->push_back(T(2 * numbers.next()));
    };
    fill(&a, batch * m * k), fill(&b, n * k), fill(&bias, n), fill(&c, batch * (m * n + gap)), fill(&aux, batch * (m * n + gap) + shift);
    given = aux;
    g.transpose_b = 1, g.m = m, g.n = n, g.k = k, g.alpha = 0.25, g.lda = g.ldb = k, g.ldc = n, g.batch = batch;
    g.stride_a = m * k, g.stride_c = m * n + gap, g.gelu = gelu;
  }
  int64_t run() { // a copy has arrays of its own
    g.a = a.data(), g.b = b.data(), g.c = c.data(), g.aux = aux.data() + shift, g.bias = has_bias ? bias.data() : nullptr;
    int64_t before = launches;
    CHECK(Kernels<T>::gemm(&g) == MB_OK, "a product fails");
    return launches - before;
  }
  // Against formulas, in units of one's rounding.
  void check(double unit) const {
    double worst = 0;
    for (int64_t i = 0; i < g.batch; i++)
      for (int64_t r = 0; r < g.m; r++)
        for (int64_t j = 0; j < g.n; j++) {
          double p = 0;
          for (int64_t q = 0; q < g.k; q++) p += (double)(Wide<T>)a[(i * g.m + r) * g.k + q] * (double)(Wide<T>)b[j * g.k + q];
          p = 0.25 * p + (g.bias ? (double)(Wide<T>)bias[j] : 0);
          int64_t at = i * g.stride_c + r * g.n + j;
          double x = (double)(Wide<T>)given[at + shift], want = g.gelu == MBI_GELU_OF ? gelu_of(p) : p * slope_of(x);
          worst = std::fmax(worst, std::fabs((double)(Wide<T>)c[at] - want) / (unit * (1 + std::fabs(p))));
          double kept = g.gelu == MBI_GELU_OF ? std::fabs((double)(Wide<T>)aux[at + shift] - p) / (unit * (1 + std::fabs(p))) : 0;
          worst = std::fmax(worst, kept);
          if (g.gelu == MBI_GELU_SLOPE) CHECK((double)(Wide<T>)aux[at + shift] == x, "aux was written");
        }
    CHECK(worst < 4, "%d, %lld x %lld x %lld: %g", g.gelu, (long long)g.m, (long long)g.n, (long long)g.k, worst);
  }
};
using Half = Case<bf16>;
constexpr double HALF = 1.0 / 256, SINGLE = 1e-6;

static bool has(const std::string &text, const char *part) { return text.find(part) != std::string::npos; }
static bool same(const std::vector<bf16> &x, const std::vector<bf16> &y) { return memcmp(x.data(), y.data(), x.size() * sizeof(bf16)) == 0; }

// The same by product and kernel, whatever is chosen.
static Half by_two(int gelu, bool has_bias) {
  Half one(gelu, 64, 72, 40, has_bias);
  if (gelu == MBI_GELU_OF) one.aux.swap(one.c);
  one.g.gelu = 0;
  CHECK(one.run() == 1, "a plain product is one launch");
  if (gelu == MBI_GELU_OF) one.aux.swap(one.c);
  mbi_view to{one.c.data(), 1, {64 * 72}, {1}}, from{one.aux.data(), 1, {64 * 72}, {1}};
  void *c = one.c.data(), *aux = one.aux.data();
  mb_status status = gelu == MBI_GELU_OF ? Kernels<bf16>::unary(MBI_GELU_TANH, &to, &from, 0, 0)
                                         : Kernels<bf16>::unary_backward(MBI_GELU_TANH, c, c, aux, aux, 64 * 72, 0);
  CHECK(status == MB_OK, "a kernel fails");
  return one;
}

static void test_timed() {
  choices_of_machine("timed");
  for (int gelu : {MBI_GELU_OF, MBI_GELU_SLOPE})
    for (bool has_bias : {false, true}) {
      if (gelu == MBI_GELU_SLOPE && has_bias) continue;
      Half made(gelu, 64, 72, 40, has_bias), again = made;
      made.run();
      made.check(HALF);
      CHECK(again.run() == 1, "what was chosen is one launch");
      CHECK(same(again.c, made.c) && same(again.aux, made.aux), "and repeats its bits");
    }
  CHECK(has(choices_text(), "\ngelu 64 72 40 "), "the choice is one of a run's: %s", choices_text().c_str());
  CHECK(has(epilogue_notes(), "product 64 x 72 x 40 with gelu: one kernel of cublasLt, 0.001 ms; two kernels 0.002 ms\n") &&
        has(epilogue_notes(), "product 64 x 72 x 40 with gelu's slope: one"), "%s", epilogue_notes().c_str());
}

// A run that brings other choices, and one that a capture begins.
static void test_brought() {
  std::vector<std::string> keys;
  std::vector<Choice> choices;
  choices_of_machine("asked");
  for (int gelu : {MBI_GELU_OF, MBI_GELU_SLOPE}) {
    Half first(gelu, 64, 72, 40, gelu == MBI_GELU_OF);
    first.run(); // aims at its arrays
    Choice own{};
    own.algorithm[0] = 1;
    keys.push_back("gelu " + key_of(product_of(&first.g, Type::BF16, false))), choices.push_back(own);
  }
  choices_of_machine("brought");
  for (size_t i = 0; i < keys.size(); i++) use_choice(keys[i], choices[i]);
  std::string text = choices_text();
  choices_of_machine("brought");
  CHECK(set_choices(text.c_str()) == MB_OK, "a run's choices are taken");
  for (int gelu : {MBI_GELU_OF, MBI_GELU_SLOPE}) {
    Half made(gelu, 64, 72, 40, gelu == MBI_GELU_OF), two = by_two(gelu, gelu == MBI_GELU_OF);
    CHECK(made.run() == 2, "two launches were chosen");
    made.check(HALF);
    CHECK(same(made.c, two.c) && same(made.aux, two.aux), "the bits are those of product and kernel");
  }
}

static void test_capture() {
  choices_of_machine("captured");
  Half made(MBI_GELU_OF, 64, 72, 40, true), later(MBI_GELU_OF, 64, 72, 40, true);
  const uint64_t key[3] = {0, 0, 0};
  mbi_captured *captured = nullptr;
  CHECK(begin_capture(nullptr, key) == MB_OK, "a capture begins");
  CHECK(made.run() == 2, "nothing is timed in a capture");
  CHECK(end_capture(&captured, 1) == MB_OK && replay(captured) == MB_OK, "a capture ends");
  made.check(HALF);
  captured_free(captured);
  CHECK(later.run() == 2 && same(later.c, made.c), "and the run goes on as it began");
  CHECK(has(epilogue_notes(), "two kernels: not timed\n"), "%s", epilogue_notes().c_str());
}

static mb_status say_nothing(mb_status status, const char *, ...) { return status; }

// The library's product fails when it is timed, or later.
static void test_refused() {
  choices_of_machine("refused");
  Half made(MBI_GELU_OF, 64, 72, 40, true), other(MBI_GELU_SLOPE, 64, 72, 40, false), two = by_two(MBI_GELU_OF, true);
  fail = say_nothing;
  setenv("MOONBOW_CUDA_FAULT", "launch:2:cublasLtMatmul", 1); // the first is the one of two kernels
  CHECK(made.run() > 0 && same(made.c, two.c), "two kernels stand in");
  CHECK(has(epilogue_notes(), "two kernels: cublasLt does not run it\n"), "%s", epilogue_notes().c_str());
  setenv("MOONBOW_CUDA_FAULT", "", 1);
  other.run();
  CHECK(has(epilogue_notes(), "slope: one kernel"), "%s", epilogue_notes().c_str());
  memcpy(other.aux.data(), other.given.data(), other.aux.size() * sizeof(bf16));
  setenv("MOONBOW_CUDA_FAULT", "launch:1:cublasLtMatmul", 1);
  other.run();
  other.check(HALF);
  setenv("MOONBOW_CUDA_FAULT", "", 1);
  CHECK(has(epilogue_notes(), "slope: two kernels: cublasLt was chosen, but does not run it\n"), "%s", epilogue_notes().c_str());
  fail = say;
}

// What the library cannot do, or is too small to ask for.
static void test_others() {
  choices_of_machine("others");
  for (int gelu : {MBI_GELU_OF, MBI_GELU_SLOPE}) {
    Half odd(gelu, 64, 71, 40, false), apart(gelu, 64, 72, 40, false, 1, 0, 1), small(gelu, 3, 8, 5, false), thin(gelu, 1, 8, 9, false);
    for (Half *made : {&odd, &apart, &small, &thin}) {
      CHECK(made->run() == 2, "two launches");
      made->check(HALF);
    }
    Half rows(gelu, 16, 72, 40, false, 4), members(gelu, 16, 72, 40, false, 4, 24);
    rows.run(), rows.check(HALF);
    CHECK(members.run() == 5, "a launch for all products and one a member");
    members.check(HALF);
    Case<float> single(gelu, 64, 72, 40, gelu == MBI_GELU_OF);
    Case<double> twice(gelu, 33, 65, 70, gelu == MBI_GELU_OF);
    CHECK(single.run() == 2 && twice.run() == 2, "float32 and float64 are two launches");
    single.check(SINGLE), twice.check(1e-14);
  }
  std::string text = choices_text();
  CHECK(!has(text, "gelu 64 71 40 ") && !has(text, "gelu 3 8 5 "), "shapes are asked for that do not fit: %s", text.c_str());
  CHECK(has(text, "gelu 64 72 40 "), "rows of one product are asked for: %s", text.c_str());
}

// In a process of its own, with MOONBOW_TUNE=0.
static int untimed() {
  choices_of_machine("untimed");
  Half made(MBI_GELU_OF, 64, 72, 40, true), two = by_two(MBI_GELU_OF, true);
  CHECK(made.run() == 2 && same(made.c, two.c) && choices_text().empty(), "what may not be timed is two kernels");
  return finish();
}

int main(int count, char **arguments) {
  begin();
  setenv("MOONBOW_CACHE", "", 1);
  Half first(MBI_GELU_OF, 64, 72, 40, false);
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
