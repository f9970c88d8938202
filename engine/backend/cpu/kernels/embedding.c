// SPDX-License-Identifier: MIT
//
// embedding.c: out[i] = table[ids[i]], and the sum of rows back into the table. The backward shares out
// columns, not rows: each thread walks all ids in order over its own columns, so that equal ids never
// meet, and every element is added up in the order of the ids whatever the number of threads.
#include <string.h>

#include "backend/cpu/cpu.h"

mb_status MBK(embedding)(void *out, const void *table, const int32_t *ids, int64_t count, int64_t columns) {
  real *y = out;
  const real *t = table;
#pragma omp parallel for schedule(static) if (count * columns >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < count; i++) memcpy(y + i * columns, t + ids[i] * columns, (size_t)columns * sizeof(real));
  return MB_OK;
}

static void clear_rows(real *table, int64_t rows, int64_t columns, int64_t first, int64_t end) {
  for (int64_t r = 0; r < rows; r++) memset(table + r * columns + first, 0, (size_t)(end - first) * sizeof(real));
}

static void add_rows(real *table, const real *dy, const int32_t *ids, int64_t count, int64_t columns, int64_t first, int64_t end) {
  for (int64_t i = 0; i < count; i++) {
    real *restrict to = table + ids[i] * columns;
    const real *restrict from = dy + i * columns;
    for (int64_t c = first; c < end; c++) to[c] += from[c];
  }
}

mb_status MBK(embedding_backward)(void *dtable, int accumulate, const void *dy, const int32_t *ids, int64_t count, int64_t rows,
                                  int64_t columns) {
#pragma omp parallel if ((accumulate ? count : count + rows) * columns >= MBK_PARALLEL_FROM)
  {
    // Shares end at multiples of 16 elements: threads write to different cache lines.
    int64_t groups = (columns + 15) / 16, threads = omp_get_num_threads(), me = omp_get_thread_num();
    int64_t first = groups * me / threads * 16, end = groups * (me + 1) / threads * 16;
    if (end > columns) end = columns;
    if (first < end && !accumulate) clear_rows(dtable, rows, columns, first, end);
    if (first < end) add_rows(dtable, dy, ids, count, columns, first, end);
  }
  return MB_OK;
}
