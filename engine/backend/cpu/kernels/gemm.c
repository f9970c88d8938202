// SPDX-License-Identifier: MIT
//
// gemm.c: the gemm row of the kernel table. BLAS libraries choose their instruction set themselves, so all
// copies of this file lead to backend/cpu/gemm.c. GELU is a pass over the product.
#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"

static mb_status product(const mbi_gemm *g) {
#if MBK_REAL == 64
  return mbi_cpu_gemm_f64(g);
#else
  return mbi_cpu_gemm_f32(g);
#endif
}

mb_status MBK(gemm)(const mbi_gemm *g) {
  if (!g->gelu) return product(g);
  mbi_gemm plain = *g;
  plain.gelu = 0, plain.aux = NULL;
  if (g->gelu == MBI_GELU_OF) plain.c = g->aux;
  MB_TRY(product(&plain));
  int are_neighbours = g->batch == 1 || g->stride_c == g->m * g->n;
  int64_t count = g->m * g->n * (are_neighbours ? g->batch : 1), members = are_neighbours ? 1 : g->batch;
  for (int64_t i = 0; i < members; i++) {
    real *c = (real *)g->c + i * g->stride_c, *aux = (real *)g->aux + i * g->stride_c;
    mbi_view to = {.data = c, .ndim = 1, .size = {count}, .stride = {1}}, from = {.data = aux, .ndim = 1, .size = {count}, .stride = {1}};
    MB_TRY(g->gelu == MBI_GELU_OF ? MBK(unary)(MBI_GELU_TANH, &to, &from, 0, 0)
                                  : MBK(unary_backward)(MBI_GELU_TANH, c, c, aux, aux, count, 0));
  }
  return MB_OK;
}
