// SPDX-License-Identifier: MIT
//
// missing.cu: slots without a kernel.
#include "backend/cuda/host.h"

namespace mbk {
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
