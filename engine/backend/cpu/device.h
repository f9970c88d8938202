// SPDX-License-Identifier: MIT
//
// device.h: what the CPU backend says of itself, and its copies.
#ifndef MBK_CPU_DEVICE_H
#define MBK_CPU_DEVICE_H
#include "backend/backend.h"

const char *mbi_cpu_level(void); // "base", "v3" or "v4"
const char *mbi_gemm_library(void); // "oneDNN 2.6.3" or "OpenBLAS 0.3.21"

mb_status mbi_cpu_copy(void *to, const void *from, size_t bytes);
mb_status mbi_cpu_copy_view(const mbi_view *dst, const mbi_view *src, size_t element);
#endif
