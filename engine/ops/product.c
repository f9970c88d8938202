// SPDX-License-Identifier: MIT
//
// product.c: strided products as few gemm calls. Leading dimensions that all operands walk as one are merged;
// then one of them becomes the batch, one that is summed over may join the contraction (k), and the rest are
// looped over.
#include "ops/product.h"

#include <string.h>

// ----- operands -----------------------------------------------------------------------------------------

// Can memory be read as rows of `columns` neighbours? A size of 1 has no stride to speak of.
static int has_rows(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride) {
  return (column_stride == 1 || columns == 1) && (row_stride >= columns || rows == 1);
}

mb_status mbi_operand_make(mbi_operand *out, mb_tensor *t, int transpose, int n_lead, const int64_t *lead) {
  memset(out, 0, sizeof *out);
  int ndim = t->shape.ndim, own_lead = ndim > 2 ? ndim - 2 : 0;
  int64_t columns = t->shape.size[ndim - 1], column_stride = t->stride[ndim - 1];
  int64_t rows = ndim > 1 ? t->shape.size[ndim - 2] : 1, row_stride = ndim > 1 ? t->stride[ndim - 2] : columns;
  int swapped = 0;
  if (has_rows(rows, columns, row_stride, column_stride)) {
    mb_tensor_retain(t);
    out->owner = t;
  } else if (has_rows(columns, rows, column_stride, row_stride)) {
    mb_tensor_retain(t);
    out->owner = t;
    row_stride = column_stride;
    swapped = 1;
  } else {
    MB_TRY(mbi_dense(&out->owner, t));
    row_stride = columns;
  }
  out->data = mbi_data(out->owner);
  int64_t memory_rows = swapped ? columns : rows, memory_columns = swapped ? rows : columns;
  out->row_stride = memory_rows == 1 && row_stride < memory_columns ? memory_columns : row_stride;
  out->transposed = swapped ^ (transpose != 0);
  out->rows = transpose ? columns : rows;
  out->columns = transpose ? rows : columns;
  for (int d = 0; d < n_lead; d++) {
    int own = d - (n_lead - own_lead);
    out->lead[d] = own >= 0 && (t->shape.size[own] == lead[d]) && lead[d] > 1 ? out->owner->stride[own] : 0;
  }
  return MB_OK;
}

void mbi_operand_free(mbi_operand *operand) {
  mb_tensor_release(operand->owner);
  operand->owner = NULL;
}

mbi_operand mbi_operand_swapped(mbi_operand operand) {
  int64_t rows = operand.rows;
  operand.rows = operand.columns;
  operand.columns = rows;
  operand.transposed = !operand.transposed;
  return operand;
}

// ----- products -----------------------------------------------------------------------------------------

enum { C, A, B, OPERANDS };

// Leading dimensions without those of size 1, neighbours merged that all operands walk as one.
typedef struct leading {
  int n;
  int64_t size[MB_MAX_DIMS], stride[OPERANDS][MB_MAX_DIMS];
} leading;

static leading merge(const mbi_operand *const *x, int n_lead, const int64_t *lead) {
  leading l = {.n = 0};
  for (int d = 0; d < n_lead; d++) {
    if (lead[d] == 1) continue;
    int joins = l.n > 0;
    for (int i = 0; i < OPERANDS && joins; i++) joins = l.stride[i][l.n - 1] == x[i]->lead[d] * lead[d];
    if (!joins) l.size[l.n++] = 1;
    l.size[l.n - 1] *= lead[d];
    for (int i = 0; i < OPERANDS; i++) l.stride[i][l.n - 1] = x[i]->lead[d];
  }
  return l;
}

static void take_out(leading *l, int d) {
  l->n--;
  for (int e = d; e < l->n; e++) {
    l->size[e] = l->size[e + 1];
    for (int i = 0; i < OPERANDS; i++) l->stride[i][e] = l->stride[i][e + 1];
  }
}

// sum_i A_i B_i is one product with a longer k, if the rows that k counts go on from member to member.
static void fold_into_contraction(mbi_gemm *g, leading *l) {
  if (!g->transpose_a || g->transpose_b) return;
  for (int d = l->n - 1; d >= 0; d--) {
    if (g->k == 1 && l->stride[A][d] >= g->m && l->stride[B][d] >= g->n) g->lda = l->stride[A][d], g->ldb = l->stride[B][d];
    if (l->stride[C][d] == 0 && l->stride[A][d] == g->k * g->lda && l->stride[B][d] == g->k * g->ldb) {
      g->k *= l->size[d];
      take_out(l, d);
    }
  }
}

// The longest dimension that C walks becomes the batch of every call.
static void choose_batch(mbi_gemm *g, leading *l) {
  int best = -1;
  for (int d = 0; d < l->n; d++)
    if (l->stride[C][d] != 0 && (best < 0 || l->size[d] > l->size[best])) best = d;
  if (best < 0) return;
  g->batch = l->size[best];
  g->stride_c = l->stride[C][best], g->stride_a = l->stride[A][best], g->stride_b = l->stride[B][best];
  take_out(l, best);
}

// What a product does beside multiplying; nothing, if all is 0.
typedef struct extra {
  int gelu;
  char *aux;
  void *sums;
  int *has_sums;
} extra;

static mb_status multiply(const mbi_operand *c, const mbi_operand *a, const mbi_operand *b, const void *bias, int accumulate, extra with,
                          int n_lead, const int64_t *lead) {
  mbi_assert(c->rows == a->rows && c->columns == b->columns && a->columns == b->rows && !c->transposed && !(bias && accumulate));
  leading l = merge((const mbi_operand *const[]){c, a, b}, n_lead, lead);
  mbi_gemm g = {.transpose_a = a->transposed, .transpose_b = b->transposed, .m = c->rows, .n = c->columns, .k = a->columns, .alpha = 1, .may_round = 1,
                .lda = a->row_stride, .ldb = b->row_stride, .ldc = c->row_stride, .batch = 1, .bias = bias,
                .c_is_wide = c->owner->dtype != a->owner->dtype, .gelu = with.gelu};
  fold_into_contraction(&g, &l);
  choose_batch(&g, &l);
  int64_t element = (int64_t)mbi_dtype_size(a->owner->dtype), element_c = (int64_t)mbi_dtype_size(c->owner->dtype), calls = 1;
  for (int d = 0; d < l.n; d++) calls *= l.size[d];
  if (calls == 1 && g.batch == 1 && !accumulate) g.sums = with.sums, g.has_sums = with.has_sums;
  for (int64_t call = 0; call < calls; call++) {
    int64_t offset[OPERANDS] = {0}, rest = call;
    int is_first = 1; // the first product that reaches this part of C
    for (int d = l.n - 1; d >= 0; d--) {
      int64_t at = rest % l.size[d];
      rest /= l.size[d];
      if (at > 0 && l.stride[C][d] == 0) is_first = 0;
      for (int i = 0; i < OPERANDS; i++) offset[i] += at * l.stride[i][d];
    }
    g.c = c->data + offset[C] * element_c;
    g.aux = with.gelu ? with.aux + offset[C] * element_c : NULL;
    g.a = a->data + offset[A] * element;
    g.b = b->data + offset[B] * element;
    g.beta = accumulate || !is_first ? 1 : 0;
    MB_TRY(mbi_kernels_of(a->owner)->gemm(&g));
  }
  return MB_OK;
}

mb_status mbi_multiply(const mbi_operand *c, const mbi_operand *a, const mbi_operand *b, const void *bias, int accumulate, int n_lead,
                       const int64_t *lead) {
  return multiply(c, a, b, bias, accumulate, (extra){0}, n_lead, lead);
}

mb_status mbi_multiply_sums(const mbi_operand *c, const mbi_operand *a, const mbi_operand *b, int accumulate, void *sums, int *has_sums,
                            int n_lead, const int64_t *lead) {
  *has_sums = 0;
  return multiply(c, a, b, NULL, accumulate, (extra){.sums = sums, .has_sums = has_sums}, n_lead, lead);
}

mb_status mbi_multiply_gelu(const mbi_operand *c, const mbi_operand *a, const mbi_operand *b, const void *bias, int gelu, mb_tensor *aux,
                            int n_lead, const int64_t *lead) {
  mbi_assert(c->row_stride == c->columns || c->rows == 1);
  return multiply(c, a, b, bias, 0, (extra){.gelu = gelu, .aux = mbi_data(aux)}, n_lead, lead);
}
