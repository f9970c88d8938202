// SPDX-License-Identifier: MIT
//
// test_bias.cpp: products with a bias, against formulas in float64: by the library in one launch, and in two where the bias lies on
// no boundary of 16 bytes, as that of a layer does behind those of others, or where a side is 1.
#include <cmath>
#include <vector>

#include "backend/cuda/memory.h"
#include "backend/cuda/product.h"
#include "say.h"

using namespace mbk;

// C (m, n) = A (m, k) B (n, k)^T + bias (n), which begins `shift` elements behind a boundary. How many launches it was.
template <class T> static int64_t product(int64_t m, int64_t n, int64_t k, int64_t shift, double unit) {
  Numbers numbers((uint64_t)(m + 3 * n + 7 * k + shift));
  void *memory;
  if (take(&memory, (size_t)(n + shift) * sizeof(T)) != MB_OK) return -1;
  T *bias = (T *)memory + shift;
  std::vector<T> a, b, c((size_t)(m * n));
  for (int64_t i = 0; i < m * k; i++) a.push_back((T)(float)numbers.next());
  for (int64_t i = 0; i < n * k; i++) b.push_back((T)(float)numbers.next());
  for (int64_t i = 0; i < n; i++) bias[i] = (T)(float)numbers.next();
  mbi_gemm g{};
  g.transpose_b = 1, g.m = m, g.n = n, g.k = k, g.alpha = 1, g.lda = g.ldb = k, g.ldc = n, g.batch = 1;
  g.a = a.data(), g.b = b.data(), g.c = c.data(), g.bias = bias;
  int64_t before = launches;
  CHECK(Kernels<T>::gemm(&g) == MB_OK && synchronize() == MB_OK, "a product fails");
  for (int64_t i = 0; i < m * n; i++) {
    double sum = (double)(Wide<T>)bias[i % n];
    for (int64_t q = 0; q < k; q++) sum += (double)(Wide<T>)a[(size_t)(i / n * k + q)] * (double)(Wide<T>)b[(size_t)(i % n * k + q)];
    double is = (double)(Wide<T>)c[(size_t)i];
    CHECK(std::fabs(is - sum) < unit * (1 + (double)k), "(%lld, %lld) is %g, not %g", (long long)(i / n), (long long)(i % n), is, sum);
  }
  give(memory, 0);
  return launches - before;
}

template <class T> static void test(const char *type, double unit) {
  constexpr int64_t PACK = 16 / (int64_t)sizeof(T);
  for (int64_t shift = 0; shift <= 2 * PACK; shift++) {
    int64_t is = product<T>(17, 24, 9, shift, unit), should = shift % PACK ? 2 : 1;
    CHECK(is == should, "%s, a bias %lld elements behind a boundary: %lld launches", type, (long long)shift, (long long)is);
  }
  CHECK((product<T>(1, 24, 9, 0, unit) == 2 && product<T>(17, 1, 9, 0, unit) == 2), "%s: sides of 1", type);
}

int main() {
  begin();
  setenv("MOONBOW_CACHE", "", 1);
  test<float>("float", 1e-6);
  test<double>("double", 1e-14);
  test<bf16>("bf16", 1.0 / 128);
  return finish();
}
