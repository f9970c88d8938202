// SPDX-License-Identifier: MIT
//
// gather.c: reading and adding at places given by an index. Work is cut into fibres: all positions that
// differ only in dimension `dim` and in the last dimension. Two elements can meet in one place only if they
// are of one fibre, and a fibre is one thread's work, in order: sums come out the same with any threads.
#include "backend/cpu/cpu.h"

typedef struct fibres {
  int ndim;                                            // dimensions other than `dim` and the last
  int64_t size[MB_MAX_DIMS], x_stride[MB_MAX_DIMS], index_stride[MB_MAX_DIMS];
  int64_t count, rows, length;                         // fibres; within one, `rows` rows along dim of `length`
  int64_t x_step, row_step;                            // in x along the last dimension, in index along `dim`
  int64_t pick;                                        // in x along `dim`
} fibres;

static fibres make_fibres(const mbi_view *x, const int64_t *sizes, int dim) {
  int last = x->ndim - 1;
  fibres f = {.count = 1, .rows = dim == last ? 1 : sizes[dim], .length = sizes[last], .pick = x->stride[dim]};
  f.x_step = dim == last ? 0 : x->stride[last];
  int64_t step = sizes[last];
  for (int d = last - 1; d >= 0; d--) {
    if (d == dim) {
      f.row_step = step;
    } else {
      f.size[f.ndim] = sizes[d];
      f.x_stride[f.ndim] = x->stride[d];
      f.index_stride[f.ndim++] = step;
      f.count *= sizes[d];
    }
    step *= sizes[d];
  }
  return f;
}

static void find_fibre(const fibres *f, int64_t i, int64_t *in_x, int64_t *in_index) {
  *in_x = *in_index = 0;
  for (int d = 0; d < f->ndim; d++) {
    *in_x += i % f->size[d] * f->x_stride[d];
    *in_index += i % f->size[d] * f->index_stride[d];
    i /= f->size[d];
  }
}

mb_status MBK(gather)(void *out, const mbi_view *x, const int32_t *index, const int64_t *sizes, int dim) {
  fibres f = make_fibres(x, sizes, dim);
#pragma omp parallel for schedule(static) if (f.count * f.rows * f.length >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < f.count; i++) {
    int64_t in_x, in_index;
    find_fibre(&f, i, &in_x, &in_index);
    const real *from = (const real *)x->data + in_x;
    for (int64_t r = 0; r < f.rows; r++, in_index += f.row_step)
      for (int64_t e = 0; e < f.length; e++)
        ((real *)out)[in_index + e] = from[index[in_index + e] * f.pick + e * f.x_step];
  }
  return MB_OK;
}

mb_status MBK(gather_backward)(const mbi_view *dx, const void *dy, const int32_t *index, const int64_t *sizes, int dim) {
  fibres f = make_fibres(dx, sizes, dim);
#pragma omp parallel for schedule(static) if (f.count * f.rows * f.length >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < f.count; i++) {
    int64_t in_x, in_index;
    find_fibre(&f, i, &in_x, &in_index);
    real *to = (real *)dx->data + in_x;
    for (int64_t r = 0; r < f.rows; r++, in_index += f.row_step)
      for (int64_t e = 0; e < f.length; e++)
        to[index[in_index + e] * f.pick + e * f.x_step] += ((const real *)dy)[in_index + e];
  }
  return MB_OK;
}
