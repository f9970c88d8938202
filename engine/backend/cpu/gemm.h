// SPDX-License-Identifier: MIT
//
// gemm.h: the parts behind the gemm kernel. gemm.c checks and simplifies a product and chooses the library;
// onednn.c and openblas.c compute it. All run their own threads: call them outside parallel regions.
#ifndef MBI_CPU_GEMM_H
#define MBI_CPU_GEMM_H
#include "backend/backend.h"

mb_status mbi_cpu_gemm_f32(const mbi_gemm *g);
mb_status mbi_cpu_gemm_f64(const mbi_gemm *g);

void mbi_openblas_f32(const mbi_gemm *g);
void mbi_openblas_f64(const mbi_gemm *g);
const char *mbi_openblas_version(void); // "OpenBLAS 0.3.21 (Haswell)"

// *done = 0 if oneDNN has no fast code for this product; nothing was written then.
mb_status mbi_onednn_f32(int *done, const mbi_gemm *g);
const char *mbi_onednn_version(void); // "oneDNN 2.6.3", NULL if not built in
#endif
