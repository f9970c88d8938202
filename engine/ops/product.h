// SPDX-License-Identifier: MIT
//
// product.h: matrix products of tensors, shared by matmul.c and linear.c: it turns strided views into the
// gemm kernel's row strides, transposes and batches, and copies only what has no unit stride.
#ifndef MBI_PRODUCT_H
#define MBI_PRODUCT_H
#include "core/tensor.h"

// A (..., rows, columns) tensor as the gemm kernel wants it.
typedef struct mbi_operand {
  mb_tensor *owner;            // retained: the tensor itself or a contiguous copy
  char *data;
  int transposed;              // memory holds (columns, rows)
  int64_t row_stride;          // of what memory holds
  int64_t rows, columns;
  int64_t lead[MB_MAX_DIMS];   // stride of each leading dimension, 0 where it is stretched
} mbi_operand;

// The last two dimensions of t as a matrix, swapped if `transpose`; leading dimensions stretched to n_lead
// sizes `lead`. One dimension is a single row. Free with mbi_operand_free, also after a failure.
mb_status mbi_operand_make(mbi_operand *out, mb_tensor *t, int transpose, int n_lead, const int64_t *lead);
void mbi_operand_free(mbi_operand *operand);
// How far apart rows of so many columns begin that products like: a multiple of 128 bytes if they are as long as that, else of 16.
static inline int64_t mbi_aligned_columns(int64_t columns, mb_dtype dtype) {
  int64_t element = (int64_t)mbi_dtype_size(dtype), unit = (columns * element >= 128 ? 128 : 16) / element;
  return (columns + unit - 1) / unit * unit;
}
mbi_operand mbi_operand_swapped(mbi_operand operand); // the transpose; owns nothing

// c = a b (+ bias along rows), or c += a b when accumulate. Where c is stretched over a leading dimension, the
// products along it are added up, in order. c is not transposed; all three are of one dtype, or c is float32 and the factors are bf16.
mb_status mbi_multiply(const mbi_operand *c, const mbi_operand *a, const mbi_operand *b, const void *bias, int accumulate, int n_lead,
                       const int64_t *lead);
// c = a b, and *has_sums = 1 if the backend has written the sums of a's rows, of the wide dtype, to `sums` (or NULL) on the way.
mb_status mbi_multiply_sums(const mbi_operand *c, const mbi_operand *a, const mbi_operand *b, int accumulate, void *sums, int *has_sums,
                            int n_lead, const int64_t *lead);
// c = a b (+ bias along rows) with `gelu` of mbi_gemm: c and aux are contiguous and of one shape, of which no dimension is stretched in c.
mb_status mbi_multiply_gelu(const mbi_operand *c, const mbi_operand *a, const mbi_operand *b, const void *bias, int gelu, mb_tensor *aux,
                            int n_lead, const int64_t *lead);
#endif
