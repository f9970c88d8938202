// SPDX-License-Identifier: MIT
//
// gemm.c: the gemm row of the kernel table. BLAS libraries choose their instruction set themselves, so all
// copies of this file lead to backend/cpu/gemm.c.
#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"

#if MBK_REAL == 64
mb_status MBK(gemm)(const mbi_gemm *g) { return mbi_cpu_gemm_f64(g); }
#else
mb_status MBK(gemm)(const mbi_gemm *g) { return mbi_cpu_gemm_f32(g); }
#endif
