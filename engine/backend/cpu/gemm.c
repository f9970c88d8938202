// SPDX-License-Identifier: MIT
//
// gemm.c: the one seam for matrix products on the CPU. It checks a product, simplifies it and hands it to a
// library by a fixed rule, so that runs stay bit-identical: f32 of SMALL multiplications or more goes to oneDNN
// where it is built in and has fast code for the product, everything else to OpenBLAS.
// MOONBOW_BLAS=onednn|openblas overrides; the size of a product still counts with onednn.
//
// Measured on one Zen 4 core, oneDNN 2.6.3 against OpenBLAS 0.3.21 (GFLOP/s), for the products of a GPT-2 124M
// step over 256 tokens: forward (NT) 105-112 against 93-102, input gradients (NN) 96-115 against 97-102, weight
// gradients (TN) 99-115 against 102-108; 13 columns (a sketch of 8 + 5) 93-113 against 48-67. Below SMALL the
// call itself counts: 16 x 16 x 16 takes 0.37 us against 0.09, 32 x 32 x 32 0.9 against 0.6.
#include "backend/cpu/gemm.h"
#include "backend/cpu/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 1 << 16 };

typedef struct choice {
  int use_onednn;
  char text[160]; // for mb_build_info
} choice;

static const choice *chosen(void) {
  static choice c;
  if (c.text[0]) return &c;
  const char *wish = getenv("MOONBOW_BLAS"), *onednn = mbi_onednn_version(), *complaint = "";
  int wants_openblas = wish && strcmp(wish, "openblas") == 0, wants_onednn = wish && strcmp(wish, "onednn") == 0;
  c.use_onednn = onednn && !wants_openblas;
  if (wants_onednn && !onednn) complaint = ": MOONBOW_BLAS asks for oneDNN, which is not built in";
  else if (wish && *wish && !wants_onednn && !wants_openblas) complaint = ": MOONBOW_BLAS is neither onednn nor openblas and was ignored";
  if (c.use_onednn) snprintf(c.text, sizeof c.text, "%s for f32 and %s for f64%s", onednn, mbi_openblas_version(), complaint);
  else snprintf(c.text, sizeof c.text, "%s%s", mbi_openblas_version(), complaint);
  return &c;
}

const char *mbi_gemm_library(void) { return chosen()->text; }

// A single row's stride is never walked, and views leave any number there; libraries want it to fit.
static int64_t row_stride(int64_t stride, int64_t rows, int64_t columns) { return rows == 1 && stride < columns ? columns : stride; }

// The same product, said in the way libraries like best.
static mb_status prepare(mbi_gemm *g) {
  int64_t a_rows = g->transpose_a ? g->k : g->m, a_columns = g->transpose_a ? g->m : g->k;
  int64_t b_rows = g->transpose_b ? g->n : g->k, b_columns = g->transpose_b ? g->k : g->n;
  g->lda = row_stride(g->lda, a_rows, a_columns);
  g->ldb = row_stride(g->ldb, b_rows, b_columns);
  g->ldc = row_stride(g->ldc, g->m, g->n);
  if (g->lda < a_columns || g->ldb < b_columns || g->ldc < g->n)
    MB_FAIL(MB_ERR_INTERNAL, "matrix product %lld x %lld x %lld: row strides %lld, %lld, %lld overlap", (long long)g->m, (long long)g->n,
            (long long)g->k, (long long)g->lda, (long long)g->ldb, (long long)g->ldc);
  // One B for all and rows of A and C that go on from member to member: one tall product.
  if (g->batch > 1 && g->stride_b == 0 && !g->transpose_a) {
    if (g->m == 1 && g->stride_a >= g->k && g->stride_c >= g->n) g->lda = g->stride_a, g->ldc = g->stride_c;
    if (g->stride_a == g->m * g->lda && g->stride_c == g->m * g->ldc) {
      g->m *= g->batch;
      g->batch = 1;
    }
  }
  if (g->m > INT32_MAX || g->n > INT32_MAX || g->k > INT32_MAX || g->lda > INT32_MAX || g->ldb > INT32_MAX || g->ldc > INT32_MAX)
    MB_FAIL(MB_ERR_SHAPE, "matrix product %lld x %lld x %lld: a size or stride exceeds 2^31 - 1", (long long)g->m, (long long)g->n,
            (long long)g->k);
  return MB_OK;
}

// C = D, for libraries that add to C in place.
static void copy_from(const mbi_gemm *g, size_t element) {
  const char *from = g->from;
  char *to = g->c;
  for (int64_t i = 0; from && g->beta != 0 && i < g->batch; i++)
    for (int64_t r = 0; r < g->m; r++) {
      size_t at = (size_t)(i * g->stride_c + r * g->ldc) * element;
      memcpy(to + at, from + at, (size_t)g->n * element);
    }
}

mb_status mbi_cpu_gemm_f32(const mbi_gemm *product) {
  mbi_gemm g = *product;
  copy_from(product, sizeof(float));
  MB_TRY(prepare(&g));
  int done = 0;
  if (chosen()->use_onednn && (double)g.batch * (double)g.m * (double)g.n * (double)g.k >= SMALL) MB_TRY(mbi_onednn_f32(&done, &g));
  if (!done) mbi_openblas_f32(&g);
  return MB_OK;
}

mb_status mbi_cpu_gemm_f64(const mbi_gemm *product) {
  mbi_gemm g = *product;
  copy_from(product, sizeof(double));
  MB_TRY(prepare(&g));
  mbi_openblas_f64(&g);
  return MB_OK;
}
