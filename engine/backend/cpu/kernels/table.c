// SPDX-License-Identifier: MIT
//
// table.c: the kernels of this element type and instruction set, gathered.
#include "backend/cpu/cpu.h"

const mbi_kernels MBK(table) = {
#define MB_KERNEL(name, ...) .name = MBK(name),
#include "backend/kernels.def"
#undef MB_KERNEL
};
