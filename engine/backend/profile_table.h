// SPDX-License-Identifier: MIT
//
// profile_table.h: a table of kernels that note their cost and their time around those of WHERE's table of DTYPE. Included by
// profile.c once for each table, with NAMED(slot) as the names of its functions and TABLE as that of the table.
#define MB_KERNEL(name, ...)                                                                                 \
  static mb_status NAMED(name)(__VA_ARGS__) {                                                                \
    call noted_;\
    begin(&noted_, WHERE, DTYPE, #name);                                                                          \
    mbi_cost_##name(&noted_.cost, MBI_ARGUMENTS_##name);                                                          \
    start(&noted_);                                                                                               \
    return finish(&noted_, devices[WHERE].real->kernels[DTYPE]->name(MBI_ARGUMENTS_##name));                      \
  }
#include "backend/kernels.def"
#undef MB_KERNEL

static const mbi_kernels TABLE = {
#define MB_KERNEL(name, ...) .name = NAMED(name),
#include "backend/kernels.def"
#undef MB_KERNEL
};
#undef WHERE
#undef DTYPE
#undef NAMED
#undef TABLE
