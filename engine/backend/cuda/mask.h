// SPDX-License-Identifier: MIT
//
// mask.h: backend.h's mbi_mask as kernels read it: a block whose matrix is passed over returns at once.
#ifndef MBK_CUDA_MASK_H
#define MBK_CUDA_MASK_H
#include "backend/cuda/simt.h"

namespace mbk {

struct Mask {
  const int64_t *flags = nullptr;
  int64_t wanted = 0;
  Mask() = default;
  Mask(const mbi_mask &mask) : flags(mask.flags), wanted(mask.wanted) {}
  SIMT bool skips(int64_t i) const { return flags && (flags[i] & wanted) != wanted; }
};

} // namespace mbk
#endif
