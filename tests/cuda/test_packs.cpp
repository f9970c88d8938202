// SPDX-License-Identifier: MIT
//
// test_packs.cpp: the index functions of kernels that read and write 16 bytes at a time, on the host: which element belongs
// to which part, for every start and small size, and for sizes that no memory here holds; and the launches themselves.
#include <vector>

#include "backend/cuda/packs.h"
#include "say.h"

using namespace mbk;

// A pointer that is never followed.
template <class T> static const T *at_address(uint64_t bytes) { return (const T *)(uintptr_t)bytes; }

// Every element in one part, packs only on boundaries of all arrays.
template <int LANES, class A, class B> static void covers(const Stretch<LANES> &s, int64_t n, const A *a, const B *b) {
  std::vector<int> seen((size_t)n);
  CHECK(s.count == n && s.head >= 0 && s.packs >= 0 && s.head + s.packs * LANES <= n, "n %lld", (long long)n);
  for (int64_t i = 0; i < s.parts(); i++) {
    int64_t first = s.first(i), last = first + (i < s.packs ? LANES : 1);
    CHECK(first >= 0 && last <= n, "part %lld of %lld elements", (long long)i, (long long)n);
    for (int64_t e = first; e < last && e < n; e++) seen[(size_t)e]++;
    if (i < s.packs) CHECK(on_boundary(a + first) && on_boundary(b + first), "part %lld begins at %lld", (long long)i, (long long)first);
  }
  for (int64_t e = 0; e < n; e++) CHECK(seen[(size_t)e] == 1, "element %lld of %lld is in %d parts", (long long)e, (long long)n, seen[(size_t)e]);
}

template <class A, class B> static void test_stretch(const char *types) {
  int with_packs = 0;
  for (int64_t n = 1; n <= 40; n++)
    for (uint64_t x = 0; x < 16; x += sizeof(A))
      for (uint64_t y = 0; y < 16; y += sizeof(B)) {
        const A *a = at_address<A>(4096 + x);
        const B *b = at_address<B>(8192 + y);
        auto s = make_stretch(n, a, b);
        covers(s, n, a, b);
        // Where both come to a boundary at the same element and LANES are left there are packs.
        int64_t meets = -1;
        for (int64_t e = 0; e < n && meets < 0; e++)
          if (on_boundary(a + e) && on_boundary(b + e)) meets = e;
        int64_t lanes = lanes_of<A, B>();
        CHECK(s.packs == (meets < 0 ? 0 : (n - meets) / lanes), "%s, n %lld, starts %d and %d: %lld packs", types, (long long)n, (int)x, (int)y,
              (long long)s.packs);
        with_packs += s.packs > 0;
      }
  CHECK(with_packs > 0, "%s: no start has packs", types);
}

// Sizes beyond 2^31 elements: the ends of each kind of part, and the blocks of a launch.
template <class T> static void test_large() {
  constexpr int LANES = lanes_of<T>();
  for (int64_t n : {(int64_t)1 << 31, ((int64_t)1 << 31) + 7, ((int64_t)1 << 33) + 5, ((int64_t)1 << 40) - 3}) {
    auto s = make_stretch(n, at_address<T>(4096 + sizeof(T)));
    CHECK(s.head == LANES - 1, "head %lld", (long long)s.head);
    CHECK(s.first(0) == s.head && s.first(s.packs - 1) == s.head + (s.packs - 1) * LANES, "packs of %lld", (long long)n);
    CHECK(s.first(s.packs) == 0, "the first single element of %lld", (long long)n);
    CHECK(s.parts() == s.packs + s.head + (n - s.head) % LANES, "parts of %lld", (long long)n);
    CHECK(s.first(s.parts() - 1) == ((n - s.head) % LANES ? n - 1 : s.head - 1), "the last part of %lld", (long long)n);
    int64_t blocks = element_blocks(n);
    CHECK(blocks >= 1 && blocks <= MOST_BLOCKS, "%lld blocks", (long long)blocks);
  }
  CHECK(element_blocks(1) == 1 && element_blocks(256) == 1 && element_blocks(257) == 2, "small launches");
}

template <class T, int N> static void test_rows() {
  for (int64_t n = 1; n <= 300; n++) {
    std::vector<int> seen((size_t)n);
    for (int thread = 0; thread < 32; thread++)
      row_parts<N, 32>(thread, n, [&](auto lanes, int64_t first) {
        for (int k = 0; k < decltype(lanes)::value; k++) seen[(size_t)(first + k)]++;
        CHECK(decltype(lanes)::value == 1 || first % N == 0, "a part begins at %lld", (long long)first);
      });
    for (int64_t e = 0; e < n; e++) CHECK(seen[(size_t)e] == 1, "element %lld of a row of %lld", (long long)e, (long long)n);
  }
}

template <class To, class From> struct Twice {
  To *to;
  const From *from;
  template <int N> SIMT void many(int64_t first, bool wide) const {
    Lanes<From, N> x = load<N>(from + first, wide);
    Lanes<To, N> y;
    for (int k = 0; k < N; k++) y.at[k] = (To)(2 * (Wide<From>)x.at[k]);
    store(to + first, y, wide);
  }
};

// Elements beside those of the launch stay as they were.
template <class To, class From> static void test_launch(const char *types) {
  constexpr int MOST = 70;
  alignas(16) From from[MOST];
  alignas(16) To to[MOST];
  for (int i = 0; i < MOST; i++) from[i] = (From)(float)i;
  for (int n = 1; n <= 40; n++)
    for (int a = 0; a < 16; a++)
      for (int b = 0; b < 16; b++) {
        for (int i = 0; i < MOST; i++) to[i] = (To)-1.0f;
        mb_status status = launch_packs(Twice<To, From>{to + a, from + b}, n, "twice", to + a, from + b);
        CHECK(status == MB_OK, "%s: the launch failed", types);
        for (int i = 0; i < MOST; i++) {
          float is = (float)to[i], should = i >= a && i < a + n ? 2.0f * (float)(i - a + b) : -1.0f;
          CHECK(is == should, "%s, %d elements from %d to %d: element %d is %g", types, n, b, a, i, (double)is);
        }
      }
}

int main() {
  begin();
  test_stretch<float, float>("float, float");
  test_stretch<double, double>("double, double");
  test_stretch<bf16, bf16>("bf16, bf16");
  test_stretch<float, bf16>("float, bf16");
  test_stretch<bf16, float>("bf16, float");
  test_stretch<double, bf16>("double, bf16");
  test_stretch<uint8_t, int32_t>("uint8, int32");
  test_large<float>();
  test_large<double>();
  test_large<bf16>();
  test_rows<float, 4>();
  test_rows<double, 2>();
  test_rows<bf16, 8>();
  test_launch<float, float>("float, float");
  test_launch<double, double>("double, double");
  test_launch<bf16, bf16>("bf16, bf16");
  test_launch<bf16, float>("float to bf16");
  test_launch<float, bf16>("bf16 to float");
  test_launch<double, float>("float to double");
  return finish();
}
