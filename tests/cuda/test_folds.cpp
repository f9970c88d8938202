// SPDX-License-Identifier: MIT
//
// test_folds.cpp: lines of sums added up by the last blocks of the launch that makes them, beside a launch of its own and a loop:
// the same bits for every number of shares, and counters that are 0 again; and the sums down columns that are made of it.
#include <cmath>
#include <cstring>
#include <vector>

#include "backend/cuda/columns.h"
#include "backend/cuda/memory.h"
#include "say.h"

using namespace mbk;

// A block copies its share of a tile of columns from `from`.
template <class O, class W, int N> struct Copies {
  static constexpr int THREADS = 64, WIDTH = 40;
  struct Shared {
    int last;
  };
  LastFold<O, W> fold;
  const W *from;
  int64_t tiles;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    int64_t share = block.index / tiles, tile = block.index % tiles, first = tile * WIDTH, all = fold.to.all;
    int64_t end = first + WIDTH < all ? first + WIDTH : all;
    block.each([&](int thread) {
      for (int64_t c = first + thread; c < end; c += THREADS) fold.lines[share * fold.stride + c] = from[share * fold.stride + c];
    });
    fold.template run<N>(block, &shared.last, tile, share, first, end);
  }
};

template <class O, class W>
static O sum_of(const std::vector<W> &lines, int64_t shares, int64_t stride, int64_t c, double alpha, O before, int accumulate) {
  W sum = 0;
  for (int64_t group = 0; group < 32; group++) {
    W part = 0;
    for (int64_t s = group; s < shares; s += 32) part += lines[(size_t)(s * stride + c)];
    sum += part;
  }
  O rounded = (O)(alpha * (double)sum);
  return accumulate ? (O)((Wide<O>)before + (Wide<O>)rounded) : rounded;
}

template <class O> static bool same(O a, O b) { return memcmp(&a, &b, sizeof a) == 0; }

template <class O, class W, int N> static void test_fold(const char *types) {
  Numbers numbers(1);
  for (int64_t shares : {1, 2, 31, 32, 33, 64, 65, 257, 512, 1056})
    for (int64_t columns : {4, 36, 84}) {
      int64_t all = 2 * columns, tiles = ceil_div(all, 40);
      std::vector<W> from((size_t)(shares * all));
      for (W &x : from) x = (W)numbers.next();
      int accumulate = shares % 2 == 0;
      std::vector<O> weight((size_t)columns, (O)0.5f), bias((size_t)columns, (O)0.25f), weight_too = weight, bias_too = bias;
      Gradients<O> to{weight.data(), bias.data(), accumulate, !accumulate, columns, all, 0.7}, apart = to;
      apart.out = weight_too.data(), apart.second = bias_too.data();
      LastFold<O, W> fold;
      CHECK(make_fold(&fold, to, shares, all, tiles) == MB_OK, "%s", types);
      int64_t before = launches;
      CHECK(launch(Copies<O, W, N>{fold, from.data(), tiles}, shares * tiles, "copies") == MB_OK && launches == before + 1, "%s", types);
      CHECK(fold_lines(apart, from.data(), shares, all, "fold") == MB_OK && synchronize() == MB_OK, "%s", types);
      for (int64_t c = 0; c < all; c++) {
        bool first = c < columns;
        O is = first ? weight[(size_t)c] : bias[(size_t)(c - columns)];
        O is_apart = first ? weight_too[(size_t)c] : bias_too[(size_t)(c - columns)];
        O should = sum_of<O, W>(from, shares, all, c, 0.7, first ? (O)0.5f : (O)0.25f, first ? accumulate : !accumulate);
        CHECK(same(is, should) && same(is_apart, should), "%s, %lld shares, column %lld of %lld: %g and %g, not %g", types,
              (long long)shares, (long long)c, (long long)all, (double)is, (double)is_apart, (double)should);
      }
      for (int64_t i = 0; i < tiles * (FOLD_GROUPS + 1); i++) CHECK(fold.arrived[i] == 0, "%s: counter %lld is left", types, (long long)i);
    }
}

// Of two outputs one may not be wanted.
static void test_one_of_two() {
  std::vector<float> lines = {1, 2, 3, 4, 10, 20, 30, 40}, weight = {0, 0}, bias = {7, 8};
  CHECK(fold_lines(two_gradients(weight.data(), 0, (float *)nullptr, 0, 2), lines.data(), 2, 4, "fold") == MB_OK, "no bias");
  CHECK(fold_lines(two_gradients((float *)nullptr, 0, bias.data(), 1, 2), lines.data(), 2, 4, "fold") == MB_OK, "no weight");
  CHECK(synchronize() == MB_OK && weight[0] == 11 && weight[1] == 22, "%g %g", (double)weight[0], (double)weight[1]);
  CHECK(bias[0] == 40 && bias[1] == 52, "%g %g", (double)bias[0], (double)bias[1]);
}

// Whole numbers, whose sums are exact in any order; what lies between rows is NaN.
template <class T> static void test_columns(const char *type) {
  using W = Wide<T>;
  Numbers numbers(2);
  for (int64_t rows : {64, 65, 300, 2049, 9000})
    for (int64_t columns : {8, 256, 264, 768, 1032}) {
      int64_t stride = columns + (rows % 2 ? 8 : 0), n = rows * stride;
      void *memory;
      if (rows * columns > 3000000 || take(&memory, (size_t)n * sizeof(T)) != MB_OK) continue;
      T *x = (T *)memory;
      std::vector<double> sum((size_t)columns);
      for (int64_t i = 0; i < n; i++) {
        double value = std::floor(4 * numbers.next());
        x[i] = i % stride < columns ? (T)(float)value : (T)NAN;
        if (i % stride < columns) sum[(size_t)(i % stride)] += value;
      }
      std::vector<W> out((size_t)columns, (W)3);
      for (int accumulate = 0; accumulate < 2; accumulate++) {
        int64_t before = launches;
        CHECK(sum_columns(out.data(), accumulate, x, rows, columns, stride, 0.5, "sum") == MB_OK && synchronize() == MB_OK, "%s", type);
        CHECK(launches == before + 1, "%s: %lld launches", type, (long long)(launches - before));
        for (int64_t c = 0; c < columns; c++)
          CHECK((double)out[(size_t)c] == (accumulate + 1) * 0.5 * sum[(size_t)c], "%s, %lld rows, column %lld of %lld: %g, not %g", type,
                (long long)rows, (long long)c, (long long)columns, (double)out[(size_t)c], (accumulate + 1) * 0.5 * sum[(size_t)c]);
      }
      give(memory, 0);
    }
}

int main() {
  begin();
  test_fold<float, double, 1>("float from double");
  test_fold<float, float, 4>("float from float");
  test_fold<double, double, 2>("double from double");
  test_fold<bf16, double, 1>("bf16 from double");
  test_one_of_two();
  test_columns<float>("float");
  test_columns<double>("double");
  test_columns<bf16>("bf16");
  return finish();
}
