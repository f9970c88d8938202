// SPDX-License-Identifier: MIT
//
// missing.cu: slots without a kernel.
#include "backend/cuda/host.h"

namespace mbk {
template <class T> mb_status Kernels<T>::gemm_symmetric(const mbi_gemm *) { return fail(MB_ERR_DEVICE, "cuda: gemm_symmetric has no kernel"); }
MBK_SLOT(gemm_symmetric);
template <class T> mb_status Kernels<T>::normalize(void *, double *, int64_t, const void *, int64_t, int64_t, double, double) { return fail(MB_ERR_DEVICE, "cuda: normalize has no kernel"); }
MBK_SLOT(normalize);
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
template <class T> mb_status Kernels<T>::qr(void *, void *, void *, int64_t, int64_t, int64_t) { return fail(MB_ERR_DEVICE, "cuda: qr has no kernel"); }
MBK_SLOT(qr);
template <class T> mb_status Kernels<T>::eigh(void *, void *, void *, int64_t, int64_t) { return fail(MB_ERR_DEVICE, "cuda: eigh has no kernel"); }
MBK_SLOT(eigh);
template <class T> mb_status Kernels<T>::cholesky(int64_t *, int64_t *, void *, int64_t, int64_t) { return fail(MB_ERR_DEVICE, "cuda: cholesky has no kernel"); }
MBK_SLOT(cholesky);
}
