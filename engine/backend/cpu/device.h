// SPDX-License-Identifier: MIT
//
// device.h: what the CPU backend says of itself.
#ifndef MBK_CPU_DEVICE_H
#define MBK_CPU_DEVICE_H
const char *mbi_cpu_level(void); // "base", "v3" or "v4"
const char *mbi_gemm_library(void); // "oneDNN 2.6.3" or "OpenBLAS 0.3.21"
#endif
