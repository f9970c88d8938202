// SPDX-License-Identifier: MIT
//
// test_index.cpp: index arithmetic at sizes that no memory here holds: walks over views of more than 2^31 elements, the
// geometry of launches, and that launches which cannot be are refused.
#include <vector>

#include "backend/cuda/rows.h"
#include "backend/cuda/views.h"
#include "say.h"

using namespace mbk;

static mbi_view make_view(std::initializer_list<int64_t> size, std::initializer_list<int64_t> stride) {
  mbi_view v{};
  for (int64_t s : size) v.size[v.ndim++] = s;
  int d = 0;
  for (int64_t s : stride) v.stride[d++] = s;
  return v;
}

// A matrix (rows, columns), its transpose, and one line stretched over it.
static void test_walks() {
  const int64_t rows = 100003, columns = 70001, count = rows * columns; // 7.0e9
  mbi_view dense = make_view({rows, columns}, {columns, 1}), turned = make_view({rows, columns}, {1, rows});
  mbi_view line = make_view({rows, columns}, {0, 1});
  Walk<3> walk = make_walk<3>({&dense, &turned, &line});
  CHECK(walk.count == count && walk.ndim == 2, "%lld elements in %d dimensions", (long long)walk.count, walk.ndim);
  for (int64_t i : {(int64_t)0, columns - 1, columns, ((int64_t)1 << 31) - 1, (int64_t)1 << 31, ((int64_t)1 << 32) + 1, count - 1}) {
    int64_t at[3], r = i / columns, c = i % columns;
    walk.offsets(i, at);
    CHECK(at[0] == i && at[1] == r + c * rows && at[2] == c, "element %lld is at %lld, %lld, %lld", (long long)i, (long long)at[0],
          (long long)at[1], (long long)at[2]);
  }
  Walk<2> one = make_walk<2>({&dense, &dense});
  CHECK(is_dense(one) && one.count == count && one.ndim == 1, "neighbours are merged");
  CHECK(!is_dense(walk), "a transposed view is not dense");
  mbi_view single = make_view({1, 1, 1}, {5, 7, 9}), backwards = make_view({1, 4}, {0, 2});
  CHECK(is_dense(make_walk<2>({&single, &single})), "one element is dense");
  CHECK(!is_dense(make_walk<2>({&backwards, &backwards})), "every second element is not dense");
}

struct Never {
  SIMT void operator()(int64_t) const { abort(); }
};

static mb_status refused;
static char text[256];
static mb_status note(mb_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return refused = status;
}

static void test_launches() {
  for (int64_t n : {(int64_t)1, (int64_t)1 << 28, (int64_t)1 << 31, (int64_t)1 << 40}) {
    int64_t blocks = element_blocks(n);
    CHECK(blocks >= 1 && blocks <= 1 << 20 && (blocks == 1 << 20 || blocks * 256 >= n), "%lld elements: %lld blocks", (long long)n, (long long)blocks);
  }
  for (int64_t rows : {(int64_t)1, (int64_t)33, (int64_t)65536, (int64_t)1 << 33}) {
    int64_t shares = row_shares(rows);
    CHECK(shares >= 1 && shares <= 512 && shares <= rows, "%lld rows: %lld shares", (long long)rows, (long long)shares);
    CHECK(rows * shares / shares == rows, "the last share of %lld rows ends there", (long long)rows);
  }
  // Only the first dimension of a grid is used, and it ends at 2^31 - 1.
  mbk::fail = note;
  for (int64_t blocks : {(int64_t)0, MOST_BLOCKS + 1}) {
    refused = MB_OK;
    mb_status status = launch(ElementKernel<Never>{{}, 1}, blocks, "never");
    CHECK(status == MB_ERR_SHAPE && refused == MB_ERR_SHAPE, "%lld blocks are launched", (long long)blocks);
    CHECK(strstr(text, "never: ") && strstr(text, "blocks"), "the text is '%s'", text);
  }
  mbk::fail = say;
}

int main() {
  begin();
  test_walks();
  test_launches();
  return finish();
}
