// SPDX-License-Identifier: MIT
//
// test_copy.c: copies between views of any two layouts, for every element size, against loops that index
// element by element: permutations (tiles and their borders), slices with gaps, expanded sources, sizes of
// one; the memory between the elements of a destination stays as it was.
#include "backend/backend.h"
#include "check.h"

enum { ROOM = 1 << 21 };
static unsigned char source[ROOM], got[ROOM], want[ROOM];

typedef struct layout {
  int order[4];  // dimension order[i] is the i-th from the slowest
  int gap[4];    // stride factor of each dimension's step
  int is_wide;   // dimensions 0 and 2 are stretched (stride 0)
} layout;

static mbi_view view_of(void *data, const int64_t *size, const layout *l) {
  mbi_view v = {.data = data, .ndim = 4};
  int64_t step = 1;
  for (int i = 3; i >= 0; i--) {
    int d = l->order[i];
    v.size[d] = size[d];
    v.stride[d] = step * l->gap[d];
    if (l->is_wide && d % 2 == 0) v.stride[d] = 0;
    else step = v.stride[d] * size[d];
  }
  return v;
}

static int64_t extent(const mbi_view *v) {
  int64_t last = 0;
  for (int d = 0; d < 4; d++) last += (v->size[d] - 1) * v->stride[d];
  return last + 1;
}

static void check_pair(const int64_t *size, const layout *to, const layout *from, size_t element) {
  mbi_view dst = view_of(got, size, to), src = view_of(source, size, from);
  size_t bytes = (size_t)extent(&dst) * element;
  CHECK(bytes <= ROOM && (size_t)extent(&src) * element <= ROOM);
  memset(got, 0xA5, bytes);
  memset(want, 0xA5, bytes);
  for (int64_t i = 0; i < size[0] * size[1] * size[2] * size[3]; i++) {
    int64_t rest = i, a = 0, b = 0;
    for (int d = 3; d >= 0; d--) {
      a += rest % size[d] * dst.stride[d], b += rest % size[d] * src.stride[d];
      rest /= size[d];
    }
    memcpy(want + (size_t)a * element, source + (size_t)b * element, element);
  }
  CHECK_OK(mbi_cpu_device()->copy_view(&dst, &src, element));
  CHECK(memcmp(got, want, bytes) == 0);
}

int main(void) {
  static const int64_t sizes[][4] = {{1, 1, 1, 1}, {2, 3, 4, 5}, {1, 33, 1, 17}, {3, 16, 16, 2}, {1, 40, 64, 1},
                                     {2, 1, 31, 35}, {1, 1, 200, 130}, {5, 1, 1, 1}, {1, 16, 1, 257}, {4, 18, 2, 48}};
  static const layout layouts[] = {
    {{0, 1, 2, 3}, {1, 1, 1, 1}, 0}, {{0, 1, 3, 2}, {1, 1, 1, 1}, 0}, {{3, 2, 1, 0}, {1, 1, 1, 1}, 0}, {{2, 0, 3, 1}, {1, 1, 1, 1}, 0},
    {{0, 2, 1, 3}, {1, 1, 1, 1}, 0}, {{0, 1, 2, 3}, {1, 1, 1, 3}, 0}, {{1, 3, 0, 2}, {2, 1, 1, 1}, 0}, {{0, 3, 2, 1}, {1, 1, 2, 1}, 0},
    {{0, 1, 2, 3}, {1, 1, 1, 1}, 1}, {{3, 1, 2, 0}, {1, 1, 1, 1}, 1},
  };
  enum { LAYOUTS = sizeof layouts / sizeof layouts[0] };
  static uint32_t words[ROOM / 4];
  mb_rng_words(words, ROOM / 4, 6, 0, 0);
  memcpy(source, words, ROOM);
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
    for (int to = 0; to < LAYOUTS; to++)
      for (int from = 0; from < LAYOUTS; from++)
        for (size_t element = 1; element <= 8; element *= 2)
          if (!layouts[to].is_wide) check_pair(sizes[s], &layouts[to], &layouts[from], element);
  return check_end();
}
