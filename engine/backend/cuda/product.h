// SPDX-License-Identifier: MIT
//
// product.h: one matrix product by a library, cuBLASLt or in the stand-in CBLAS, whose algorithm is chosen once (choices.h).
#ifndef MBK_CUDA_PRODUCT_H
#define MBK_CUDA_PRODUCT_H
#include <functional>
#include <string>

#include "backend/cuda/choices.h"

namespace mbk {

enum class Type { F32, F64, BF16, F16 };

// How products and attention of this process are computed, as choices.h says: the text of a run.
mb_status product_choices(const char **text);
// Opens the library, with which the machine gets its name.
mb_status open_products();

// Strides and sizes fit the library's; `rounds`: factors of float32 may be rounded to TF32. With has_none, a failure because the
// library has no algorithm for the product sets it.
mb_status library_product(const mbi_gemm *g, Type type, bool rounds, bool *has_none);

// A product with its `gelu`: by the library in one kernel where that was timed faster than `apart`, else so (epilogue_choice.cu).
mb_status product_with_gelu(const mbi_gemm *g, Type type, const std::function<mb_status()> &apart);
// A product with its `sums`: by the library in one kernel where that was timed faster than `product` and `sums`, else by `product`, and
// the sums are the caller's to make.
mb_status product_with_sums(const mbi_gemm *g, Type type, const std::function<mb_status()> &product,
                            const std::function<mb_status()> &sums);
std::string epilogue_notes(); // which it was, a line a shape

// What a choice for the product is kept by; whether one is worth its time; whether the user lets anything be timed.
Product product_of(const mbi_gemm *g, Type type, bool rounds);
bool is_large(const mbi_gemm *g);
bool may_time();

} // namespace mbk
#endif
