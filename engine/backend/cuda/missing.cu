// SPDX-License-Identifier: MIT
//
// missing.cu: slots without a kernel.
#include "backend/cuda/host.h"

namespace mbk {
template <class T> mb_status Kernels<T>::reduce(enum mbi_reduce, void *, int32_t *, const mbi_view *, unsigned, double) { return fail(MB_ERR_DEVICE, "cuda: reduce has no kernel"); }
MBK_SLOT(reduce);
template <class T> mb_status Kernels<T>::reduce_pick_backward(void *, const void *, const int32_t *, const mbi_view *, unsigned, int) { return fail(MB_ERR_DEVICE, "cuda: reduce_pick_backward has no kernel"); }
MBK_SLOT(reduce_pick_backward);
template <class T> mb_status Kernels<T>::sum_squares(double *, const void *, int64_t) { return fail(MB_ERR_DEVICE, "cuda: sum_squares has no kernel"); }
MBK_SLOT(sum_squares);
template <class T> mb_status Kernels<T>::find_nonfinite(int64_t *, const void *, int64_t) { return fail(MB_ERR_DEVICE, "cuda: find_nonfinite has no kernel"); }
MBK_SLOT(find_nonfinite);
template <class T> mb_status Kernels<T>::random_normal(void *, int64_t, double, double, uint64_t, uint64_t, uint64_t) { return fail(MB_ERR_DEVICE, "cuda: random_normal has no kernel"); }
MBK_SLOT(random_normal);
template <class T> mb_status Kernels<T>::random_uniform(void *, int64_t, double, double, uint64_t, uint64_t, uint64_t) { return fail(MB_ERR_DEVICE, "cuda: random_uniform has no kernel"); }
MBK_SLOT(random_uniform);
template <class T> mb_status Kernels<T>::dropout(void *, const void *, int64_t, double, uint64_t, uint64_t, uint64_t) { return fail(MB_ERR_DEVICE, "cuda: dropout has no kernel"); }
MBK_SLOT(dropout);
template <class T> mb_status Kernels<T>::gemm(const mbi_gemm *) { return fail(MB_ERR_DEVICE, "cuda: gemm has no kernel"); }
MBK_SLOT(gemm);
template <class T> mb_status Kernels<T>::attention(const mbi_attention *, const mbi_heads *, void *, const mbi_heads *, const mbi_heads *, const mbi_heads *) { return fail(MB_ERR_DEVICE, "cuda: attention has no kernel"); }
MBK_SLOT(attention);
template <class T> mb_status Kernels<T>::attention_backward(const mbi_attention *, const mbi_attention_gradients *, const void *, const mbi_heads *, const mbi_heads *, const mbi_heads *) { return fail(MB_ERR_DEVICE, "cuda: attention_backward has no kernel"); }
MBK_SLOT(attention_backward);
template <class T> mb_status Kernels<T>::embedding(void *, const void *, const int32_t *, int64_t, int64_t) { return fail(MB_ERR_DEVICE, "cuda: embedding has no kernel"); }
MBK_SLOT(embedding);
template <class T> mb_status Kernels<T>::embedding_backward(void *, const void *, const int32_t *, int64_t, int64_t) { return fail(MB_ERR_DEVICE, "cuda: embedding_backward has no kernel"); }
MBK_SLOT(embedding_backward);
template <class T> mb_status Kernels<T>::layernorm(void *, void *, void *, const void *, const void *, const void *, int64_t, int64_t, double) { return fail(MB_ERR_DEVICE, "cuda: layernorm has no kernel"); }
MBK_SLOT(layernorm);
template <class T> mb_status Kernels<T>::layernorm_backward(void *, int, void *, int, void *, int, const void *, const void *, const void *, const void *, const void *, int64_t, int64_t) { return fail(MB_ERR_DEVICE, "cuda: layernorm_backward has no kernel"); }
MBK_SLOT(layernorm_backward);
template <class T> mb_status Kernels<T>::rmsnorm(void *, void *, const void *, const void *, int64_t, int64_t, double) { return fail(MB_ERR_DEVICE, "cuda: rmsnorm has no kernel"); }
MBK_SLOT(rmsnorm);
template <class T> mb_status Kernels<T>::rmsnorm_backward(void *, int, void *, int, const void *, const void *, const void *, const void *, int64_t, int64_t) { return fail(MB_ERR_DEVICE, "cuda: rmsnorm_backward has no kernel"); }
MBK_SLOT(rmsnorm_backward);
template <class T> mb_status Kernels<T>::rotary(void *, const mbi_view *, double, int64_t, int) { return fail(MB_ERR_DEVICE, "cuda: rotary has no kernel"); }
MBK_SLOT(rotary);
template <class T> mb_status Kernels<T>::softmax(void *, const void *, int64_t, int64_t, int64_t, int) { return fail(MB_ERR_DEVICE, "cuda: softmax has no kernel"); }
MBK_SLOT(softmax);
template <class T> mb_status Kernels<T>::softmax_backward(void *, int, const void *, const void *, int64_t, int64_t, int64_t, int) { return fail(MB_ERR_DEVICE, "cuda: softmax_backward has no kernel"); }
MBK_SLOT(softmax_backward);
template <class T> mb_status Kernels<T>::cross_entropy(void *, void *, const void *, const int32_t *, int64_t, int64_t, double, int64_t, int) { return fail(MB_ERR_DEVICE, "cuda: cross_entropy has no kernel"); }
MBK_SLOT(cross_entropy);
template <class T> mb_status Kernels<T>::cross_entropy_backward(void *, int, const void *, const void *, const void *, const int32_t *, int64_t, int64_t, double, int64_t) { return fail(MB_ERR_DEVICE, "cuda: cross_entropy_backward has no kernel"); }
MBK_SLOT(cross_entropy_backward);
template <class T> mb_status Kernels<T>::gather(void *, const mbi_view *, const int32_t *, const int64_t *, int) { return fail(MB_ERR_DEVICE, "cuda: gather has no kernel"); }
MBK_SLOT(gather);
template <class T> mb_status Kernels<T>::gather_backward(const mbi_view *, const void *, const int32_t *, const int64_t *, int) { return fail(MB_ERR_DEVICE, "cuda: gather_backward has no kernel"); }
MBK_SLOT(gather_backward);
template <class T> mb_status Kernels<T>::fuse(const mbi_fuse_run *) { return fail(MB_ERR_DEVICE, "cuda: fuse has no kernel"); }
MBK_SLOT(fuse);
template <class T> mb_status Kernels<T>::sketch_pass(const mbi_sketch *, int, int) { return fail(MB_ERR_DEVICE, "cuda: sketch_pass has no kernel"); }
MBK_SLOT(sketch_pass);
template <class T> mb_status Kernels<T>::sketch_basis(void *, const void *, double *, int64_t, int64_t, int64_t) { return fail(MB_ERR_DEVICE, "cuda: sketch_basis has no kernel"); }
MBK_SLOT(sketch_basis);
template <class T> mb_status Kernels<T>::sketch_ritz(const mbi_sketch *) { return fail(MB_ERR_DEVICE, "cuda: sketch_ritz has no kernel"); }
MBK_SLOT(sketch_ritz);
template <class T> mb_status Kernels<T>::sketch_update(const mbi_sketch *, const double *) { return fail(MB_ERR_DEVICE, "cuda: sketch_update has no kernel"); }
MBK_SLOT(sketch_update);
template <class T> mb_status Kernels<T>::gram_factor(const mbi_gram *) { return fail(MB_ERR_DEVICE, "cuda: gram_factor has no kernel"); }
MBK_SLOT(gram_factor);
template <class T> mb_status Kernels<T>::gram_vectors(const mbi_gram *, const int64_t *, void *const *) { return fail(MB_ERR_DEVICE, "cuda: gram_vectors has no kernel"); }
MBK_SLOT(gram_vectors);
template <class T> mb_status Kernels<T>::svd(void *, void *, void *, void *, int64_t, int64_t, int64_t) { return fail(MB_ERR_DEVICE, "cuda: svd has no kernel"); }
MBK_SLOT(svd);
}
