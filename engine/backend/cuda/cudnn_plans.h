// SPDX-License-Identifier: MIT
//
// cudnn_plans.h: plans of attention on disk. To make one takes the library some tenths of a second, as it compiles code for
// it; its own text of a plan has that code, and is a plan again within a hundredth. A file is of one machine (GPU, driver),
// version of the library, case and place among its candidates, all of which it says itself: what is another's, damaged or
// refused by the library is no plan, and one is made as if there were no file.
#ifndef MBK_CUDA_CUDNN_PLANS_H
#define MBK_CUDA_CUDNN_PLANS_H
#include "backend/cuda/cudnn_attention.h"

namespace mbk {
namespace cudnn {

// Is there a file, and does the library take it?
bool load_plan(AttentionPlan *out, const Library &library, const Target &target, const AttentionCase &c, int candidate);
void keep_plan(const Library &library, const AttentionPlan &plan, int candidate);
void drop_plan(const Library &library, const AttentionCase &c, int candidate);

} // namespace cudnn
} // namespace mbk
#endif
