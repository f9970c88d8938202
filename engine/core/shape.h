// SPDX-License-Identifier: MIT
//
// shape.h: sizes and strides, apart from any memory. A shape has 0 to MB_MAX_DIMS dimensions, each at
// least 1, and a product that fits int64; strides count elements.
#ifndef MBI_SHAPE_H
#define MBI_SHAPE_H
#include "core/status.h"

typedef struct mbi_shape {
  int ndim;
  int64_t size[MB_MAX_DIMS];
} mbi_shape;

enum { MBI_SHAPE_TEXT = 160 };
// "(4, 64, 768)"; returns `text`, which holds MBI_SHAPE_TEXT bytes.
const char *mbi_shape_text(char *text, int ndim, const int64_t *size);
// Checks rank, sizes >= 1 and overflow of the product; `who` begins the error text.
mb_status mbi_shape_make(mbi_shape *out, const char *who, int ndim, const int64_t *size);
int64_t mbi_shape_numel(const mbi_shape *shape);
int mbi_shape_equal(const mbi_shape *a, const mbi_shape *b);
void mbi_shape_contiguous_strides(const mbi_shape *shape, int64_t *stride);
// NumPy's rule: aligned at the last dimension, a size of 1 stretches.
mb_status mbi_shape_broadcast(mbi_shape *out, const char *who, const mbi_shape *a, const mbi_shape *b);
// Turns a dimension that may be negative into 0..ndim-1.
mb_status mbi_dim(int *out, const char *who, int dim, int ndim);

size_t mbi_dtype_size(mb_dtype dtype);
const char *mbi_dtype_name(mb_dtype dtype);
int mbi_dtype_is_float(mb_dtype dtype);
// The dtype of losses, and of what a backward needs of a row: float32 for bf16, else the same.
mb_dtype mbi_wide_dtype(mb_dtype dtype);
#endif
