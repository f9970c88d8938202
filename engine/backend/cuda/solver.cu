// SPDX-License-Identifier: MIT
//
// solver.cu: cuSOLVER's routines for both dtypes behind one name each, their work memory, and what its statuses mean. The
// stand-in calls LAPACK instead.
#include "backend/cuda/solver.h"

#include "backend/cuda/capture.h"

#include <cstdlib>

#ifdef __CUDACC__
#include <cusolverDn.h>
#else
#include <lapacke.h>
#endif

namespace mbk {

#ifdef __CUDACC__

namespace {

// Of the Jacobi method: it needs some ten, and more where values lie close together.
constexpr int MOST_SWEEPS = 400;

cusolverDnHandle_t the_handle;
cusolverDnParams_t the_params;
gesvdjInfo_t the_jacobi;

// Memory of the host that 64-bit routines ask for; kept, as they may use it while the stream works.
void *host_work;
size_t host_bytes;

Answer answer_of_solver(cusolverStatus_t status) {
  cudaError_t below = cudaStreamSynchronize(stream()); // what made the library fail, if it was an error of the device
  if (below != cudaSuccess) return answer_of(below);
  switch (status) {
    case CUSOLVER_STATUS_NOT_INITIALIZED: return {"CUSOLVER_STATUS_NOT_INITIALIZED", "not initialized", false, false};
    case CUSOLVER_STATUS_ALLOC_FAILED: return {"CUSOLVER_STATUS_ALLOC_FAILED", "out of memory", true, false};
    case CUSOLVER_STATUS_INVALID_VALUE: return {"CUSOLVER_STATUS_INVALID_VALUE", "invalid value", false, false};
    case CUSOLVER_STATUS_ARCH_MISMATCH: return {"CUSOLVER_STATUS_ARCH_MISMATCH", "not for this device", false, false};
    case CUSOLVER_STATUS_EXECUTION_FAILED: return {"CUSOLVER_STATUS_EXECUTION_FAILED", "execution failed", false, false};
    case CUSOLVER_STATUS_INTERNAL_ERROR: return {"CUSOLVER_STATUS_INTERNAL_ERROR", "internal error", false, false};
    case CUSOLVER_STATUS_NOT_SUPPORTED: return {"CUSOLVER_STATUS_NOT_SUPPORTED", "not supported", false, false};
    default: return {"cusolverStatus_t", "unknown status", false, false};
  }
}
#define MBK_SOLVER(call)                                                                                       \
  do {                                                                                                         \
    cusolverStatus_t answered = (call);                                                                        \
    if (answered != CUSOLVER_STATUS_SUCCESS) return report(answer_of_solver(answered), #call, __FILE__, __LINE__); \
  } while (0)

// The handle is there, and sizes fit the routines' 32 bits.
mb_status prepare(int64_t m, int64_t n) {
  MB_TRY(refuse_capture("a decomposition by cuSOLVER"));
  if (m > INT32_MAX || n > INT32_MAX)
    return fail(MB_ERR_SHAPE, "cuda: matrices (%lld, %lld): a side exceeds 2^31 - 1", (long long)m, (long long)n);
  if (!the_handle) MBK_SOLVER(cusolverDnCreate(&the_handle));
  if (!the_params) MBK_SOLVER(cusolverDnCreateParams(&the_params));
  if (!the_jacobi) {
    MBK_SOLVER(cusolverDnCreateGesvdjInfo(&the_jacobi));
    MBK_SOLVER(cusolverDnXgesvdjSetMaxSweeps(the_jacobi, MOST_SWEEPS));
  }
  MBK_SOLVER(cusolverDnSetStream(the_handle, stream()));
  return MB_OK;
}

mb_status room_on_host(size_t bytes) {
  if (bytes <= host_bytes) return MB_OK;
  MBK_CUDA(cudaStreamSynchronize(stream()));
  free(host_work);
  host_work = malloc(bytes);
  host_bytes = host_work ? bytes : 0;
  return host_work ? MB_OK : fail(MB_ERR_NOMEM, "out of memory: %zu bytes of the host for a factorisation", bytes);
}

cudaDataType_t type_of(float) { return CUDA_R_32F; }
cudaDataType_t type_of(double) { return CUDA_R_64F; }

// One name for a routine of either dtype.
#define MBK_ROUTINE(name, routine)                                                                              \
  template <class... Arguments> cusolverStatus_t name(float, Arguments... arguments) {                       \
    return cusolverDnS##routine(the_handle, arguments...);                                                   \
  }                                                                                                          \
  template <class... Arguments> cusolverStatus_t name(double, Arguments... arguments) {                      \
    return cusolverDnD##routine(the_handle, arguments...);                                                   \
  }
MBK_ROUTINE(gesvdj_size, gesvdj_bufferSize)
MBK_ROUTINE(gesvdj, gesvdj)
MBK_ROUTINE(geqrf_size, geqrf_bufferSize)
MBK_ROUTINE(geqrf, geqrf)
MBK_ROUTINE(orgqr_size, orgqr_bufferSize)
MBK_ROUTINE(orgqr, orgqr)
MBK_ROUTINE(potrf_size, potrf_bufferSize)
MBK_ROUTINE(potrf, potrf)

} // namespace

template <class T> mb_status Solver<T>::eigh(T *values, T *a, int64_t n, int64_t lda, int64_t count, bool vectors, int *info) {
  cusolverEigMode_t mode = vectors ? CUSOLVER_EIG_MODE_VECTOR : CUSOLVER_EIG_MODE_NOVECTOR;
  const cublasFillMode_t half = CUBLAS_FILL_MODE_UPPER;
  cudaDataType_t type = type_of(T());
  size_t bytes = 0, on_host = 0;
  void *work;
  MB_TRY(prepare(n, n));
#if CUSOLVER_VERSION >= 11702
  MBK_SOLVER(cusolverDnXsyevBatched_bufferSize(the_handle, the_params, mode, half, n, type, a, lda, type, values, type, &bytes, &on_host,
                                               count));
  MB_TRY(scratch(&work, WORK_SLOT, bytes + 1));
  MB_TRY(room_on_host(on_host));
  MBK_SOLVER(cusolverDnXsyevBatched(the_handle, the_params, mode, half, n, type, a, lda, type, values, type, work, bytes, host_work,
                                    on_host, info, count));
#else
  MBK_SOLVER(cusolverDnXsyevd_bufferSize(the_handle, the_params, mode, half, n, type, a, lda, type, values, type, &bytes, &on_host));
  MB_TRY(scratch(&work, WORK_SLOT, bytes + 1));
  MB_TRY(room_on_host(on_host));
  for (int64_t i = 0; i < count; i++)
    MBK_SOLVER(cusolverDnXsyevd(the_handle, the_params, mode, half, n, type, a + i * lda * n, lda, type, values + i * n, type, work, bytes,
                                host_work, on_host, info + i));
#endif
  return MB_OK;
}

template <class T> mb_status Solver<T>::svd(T *u, T *s, T *v, T *a, int64_t m, int64_t n, int64_t count, bool vectors, int *info) {
  const int rows = (int)m, columns = (int)n, thin = 1;
  int64_t k = m < n ? m : n, next_u = vectors ? m * k : 0, next_v = vectors ? n * k : 0;
  cusolverEigMode_t mode = vectors ? CUSOLVER_EIG_MODE_VECTOR : CUSOLVER_EIG_MODE_NOVECTOR;
  int size = 0;
  T *work;
  MB_TRY(prepare(m, n));
  MBK_SOLVER(gesvdj_size(T(), mode, thin, rows, columns, a, rows, s, u, rows, v, columns, &size, the_jacobi));
  MB_TRY(scratch_of(&work, WORK_SLOT, (int64_t)size + 1));
  for (int64_t i = 0; i < count; i++)
    MBK_SOLVER(gesvdj(T(), mode, thin, rows, columns, a + i * m * n, rows, s + i * k, u + i * next_u, rows, v + i * next_v, columns, work,
                      size, info + i, the_jacobi));
  return MB_OK;
}

template <class T> mb_status Solver<T>::factor(T *a, T *tau, int64_t m, int64_t n, int64_t count, int *info) {
  const int rows = (int)m, columns = (int)n;
  int64_t k = m < n ? m : n;
  int size = 0;
  T *work;
  MB_TRY(prepare(m, n));
  MBK_SOLVER(geqrf_size(T(), rows, columns, a, rows, &size));
  MB_TRY(scratch_of(&work, WORK_SLOT, (int64_t)size + 1));
  for (int64_t i = 0; i < count; i++) MBK_SOLVER(geqrf(T(), rows, columns, a + i * m * n, rows, tau + i * k, work, size, info + i));
  return MB_OK;
}

template <class T> mb_status Solver<T>::reflect(T *a, const T *tau, int64_t m, int64_t n, int64_t count, int *info) {
  const int rows = (int)m, k = (int)(m < n ? m : n);
  int size = 0;
  T *work;
  MB_TRY(prepare(m, n));
  MBK_SOLVER(orgqr_size(T(), rows, k, k, a, rows, tau, &size));
  MB_TRY(scratch_of(&work, WORK_SLOT, (int64_t)size + 1));
  for (int64_t i = 0; i < count; i++) MBK_SOLVER(orgqr(T(), rows, k, k, a + i * m * n, rows, tau + i * k, work, size, info + i));
  return MB_OK;
}

template <class T> mb_status Solver<T>::cholesky(T *a, int64_t n, int64_t count, int *info) {
  const int side = (int)n;
  const cublasFillMode_t half = CUBLAS_FILL_MODE_UPPER;
  int size = 0;
  T *work;
  MB_TRY(prepare(n, n));
  MBK_SOLVER(potrf_size(T(), half, side, a, side, &size));
  MB_TRY(scratch_of(&work, WORK_SLOT, (int64_t)size + 1));
  for (int64_t i = 0; i < count; i++) MBK_SOLVER(potrf(T(), half, side, a + i * n * n, side, work, size, info + i));
  return MB_OK;
}

#else

namespace {

#define MBK_ROUTINE(name, routine)                                                                 \
  template <class... Arguments> int name(float, Arguments... arguments) {                       \
    return LAPACKE_s##routine(LAPACK_COL_MAJOR, arguments...);                                  \
  }                                                                                             \
  template <class... Arguments> int name(double, Arguments... arguments) {                      \
    return LAPACKE_d##routine(LAPACK_COL_MAJOR, arguments...);                                  \
  }
MBK_ROUTINE(syevd, syevd)
MBK_ROUTINE(gesdd, gesdd)
MBK_ROUTINE(geqrf, geqrf)
MBK_ROUTINE(orgqr, orgqr)
MBK_ROUTINE(potrf, potrf)

} // namespace

template <class T> mb_status Solver<T>::eigh(T *values, T *a, int64_t n, int64_t lda, int64_t count, bool vectors, int *info) {
  MB_TRY(refuse_capture("a decomposition by cuSOLVER"));
  MB_TRY(launched("cusolverDn syevd"));
  for (int64_t i = 0; i < count; i++)
    info[i] = syevd(T(), vectors ? 'V' : 'N', 'U', (int)n, a + i * lda * n, (int)lda, values + i * n);
  return MB_OK;
}

template <class T> mb_status Solver<T>::svd(T *u, T *s, T *v, T *a, int64_t m, int64_t n, int64_t count, bool vectors, int *info) {
  MB_TRY(refuse_capture("a decomposition by cuSOLVER"));
  MB_TRY(launched("cusolverDn gesvdj"));
  int64_t k = m < n ? m : n;
  T *rows; // v^T (k, n)
  MB_TRY(scratch_of(&rows, WORK_SLOT, k * n));
  for (int64_t i = 0; i < count; i++) {
    T *left = vectors ? u + i * m * k : u;
    info[i] = gesdd(T(), vectors ? 'S' : 'N', (int)m, (int)n, a + i * m * n, (int)m, s + i * k, left, (int)m, rows, (int)k);
    for (int64_t e = 0; vectors && e < k * n; e++) v[i * n * k + e % k * n + e / k] = rows[e];
  }
  return MB_OK;
}

template <class T> mb_status Solver<T>::factor(T *a, T *tau, int64_t m, int64_t n, int64_t count, int *info) {
  MB_TRY(refuse_capture("a decomposition by cuSOLVER"));
  MB_TRY(launched("cusolverDn geqrf"));
  int64_t k = m < n ? m : n;
  for (int64_t i = 0; i < count; i++) info[i] = geqrf(T(), (int)m, (int)n, a + i * m * n, (int)m, tau + i * k);
  return MB_OK;
}

template <class T> mb_status Solver<T>::reflect(T *a, const T *tau, int64_t m, int64_t n, int64_t count, int *info) {
  MB_TRY(refuse_capture("a decomposition by cuSOLVER"));
  MB_TRY(launched("cusolverDn orgqr"));
  int64_t k = m < n ? m : n;
  for (int64_t i = 0; i < count; i++) info[i] = orgqr(T(), (int)m, (int)k, (int)k, a + i * m * n, (int)m, tau + i * k);
  return MB_OK;
}

template <class T> mb_status Solver<T>::cholesky(T *a, int64_t n, int64_t count, int *info) {
  MB_TRY(refuse_capture("a decomposition by cuSOLVER"));
  MB_TRY(launched("cusolverDn potrf"));
  for (int64_t i = 0; i < count; i++) info[i] = potrf(T(), 'U', (int)n, a + i * n * n, (int)n);
  return MB_OK;
}

#endif

template struct Solver<float>;
template struct Solver<double>;

} // namespace mbk
