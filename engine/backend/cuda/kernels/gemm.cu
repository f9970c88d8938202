// SPDX-License-Identifier: MIT
//
// gemm.cu: matrix products through cuBLASLt. Its matrices are column-major, so C = op(A) op(B) in rows is
// C^T = op(B)^T op(A)^T there: the operands change places and nothing is transposed. float32 is computed in float32
// (in TF32 where mb_tf32_set allows it), float64 in float64. The algorithm of a product is asked for once and kept by its
// sizes, so that the same call gives the same bits. Where the library has none for a product with a bias, or may have none
// (a side of 1), the bias is added by a kernel.
#include "backend/cuda/memory.h"
#include "backend/cuda/simt.h"

#include <cstdlib>
#include <cstring>
#include <vector>

#ifdef __CUDACC__
#include <cublasLt.h>
#else
#include <cblas.h>
#endif

namespace mbk {
namespace {

// A single row's stride is never walked, and views leave any number there.
int64_t row_stride(int64_t stride, int64_t rows, int64_t columns) { return rows == 1 && stride < columns ? columns : stride; }

mb_status prepare(mbi_gemm *g) {
  int64_t a_rows = g->transpose_a ? g->k : g->m, a_columns = g->transpose_a ? g->m : g->k;
  int64_t b_rows = g->transpose_b ? g->n : g->k, b_columns = g->transpose_b ? g->k : g->n;
  g->lda = row_stride(g->lda, a_rows, a_columns);
  g->ldb = row_stride(g->ldb, b_rows, b_columns);
  g->ldc = row_stride(g->ldc, g->m, g->n);
  if (g->lda < a_columns || g->ldb < b_columns || g->ldc < g->n)
    return fail(MB_ERR_INTERNAL, "matrix product %lld x %lld x %lld: row strides %lld, %lld, %lld overlap", (long long)g->m,
                (long long)g->n, (long long)g->k, (long long)g->lda, (long long)g->ldb, (long long)g->ldc);
  if (g->m > INT32_MAX || g->n > INT32_MAX || g->k > INT32_MAX || g->batch > INT32_MAX)
    return fail(MB_ERR_SHAPE, "matrix product %lld x %lld x %lld, %lld times: a size exceeds 2^31 - 1", (long long)g->m, (long long)g->n,
                (long long)g->k, (long long)g->batch);
  return MB_OK;
}

bool tf32_is_allowed;
bool has_no_algorithm; // the library, for the last product that failed
bool rounds(const mbi_gemm *g) { return g->may_round && tf32_is_allowed; }

#ifdef __CUDACC__

constexpr size_t WORKSPACE = 32 << 20;
constexpr int WORKSPACE_SLOT = 7, CACHE = 512, WAYS = 4;

cublasLtHandle_t the_handle;

Answer answer_of_lt(cublasStatus_t status) {
  cudaError_t below = cudaStreamSynchronize(stream()); // what made the library fail, if it was an error of the device
  Answer answer{cublasLtGetStatusName(status), cublasLtGetStatusString(status), status == CUBLAS_STATUS_ALLOC_FAILED, false};
  return below == cudaSuccess ? answer : answer_of(below);
}
#define MBK_LT(call)                                                                                   \
  do {                                                                                                 \
    cublasStatus_t answered = (call);                                                                  \
    if (answered != CUBLAS_STATUS_SUCCESS) {                                                           \
      status = report(answer_of_lt(answered), #call, __FILE__, __LINE__);                              \
      goto done;                                                                                       \
    }                                                                                                  \
  } while (0)

// What an algorithm depends on; compared byte by byte, so it is filled from zeros.
struct Key {
  int64_t m, n, k, lda, ldb, ldc, batch, stride_a, stride_b, stride_c;
  int32_t transposes, type, has_bias, beta_is_zero, alignment, rounds;
};
struct Entry {
  Key key;
  int is_used;
  cublasLtMatmulAlgo_t algorithm;
};
Entry entries[CACHE][WAYS];

uint64_t hash_of(const Key &key) {
  uint64_t hash = 1469598103934665603u; // FNV-1a
  const unsigned char *byte = reinterpret_cast<const unsigned char *>(&key);
  for (size_t i = 0; i < sizeof key; i++) hash = (hash ^ byte[i]) * 1099511628211u;
  return hash ^ hash >> 32;
}

// The largest power of two up to 16 that divides every address.
int32_t alignment_of(const mbi_gemm *g) {
  uintptr_t all = (uintptr_t)g->a | (uintptr_t)g->b | (uintptr_t)g->c | (uintptr_t)g->bias | 16;
  return (int32_t)(all & (~all + 1));
}

struct Layouts {
  cublasLtMatmulDesc_t product;
  cublasLtMatrixLayout_t a, b, c;
};

mb_status make_layout(cublasLtMatrixLayout_t *out, const mbi_gemm *g, cudaDataType_t type, int64_t rows, int64_t columns, int64_t stride,
                      int64_t batch_stride) {
  int32_t batch = (int32_t)g->batch;
  mb_status status = MB_OK;
  MBK_LT(cublasLtMatrixLayoutCreate(out, type, (uint64_t)columns, (uint64_t)rows, stride)); // column-major
  if (batch > 1) {
    MBK_LT(cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
    MBK_LT(cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &batch_stride, sizeof batch_stride));
  }
done:
  return status;
}

mb_status describe(Layouts *l, const mbi_gemm *g, cudaDataType_t type) {
  bool may_round = type == CUDA_R_32F && rounds(g);
  cublasComputeType_t compute = type == CUDA_R_64F ? CUBLAS_COMPUTE_64F : may_round ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  cudaDataType_t scale = type == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F;
  cublasOperation_t first = g->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, second = g->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  mb_status status = MB_OK;
  MBK_LT(cublasLtMatmulDescCreate(&l->product, compute, scale));
  MBK_LT(cublasLtMatmulDescSetAttribute(l->product, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
  MBK_LT(cublasLtMatmulDescSetAttribute(l->product, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
  if (g->bias) {
    MBK_LT(cublasLtMatmulDescSetAttribute(l->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    MBK_LT(cublasLtMatmulDescSetAttribute(l->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias));
  }
  status = make_layout(&l->a, g, type, g->transpose_a ? g->k : g->m, g->transpose_a ? g->m : g->k, g->lda, g->stride_a);
  if (status == MB_OK) status = make_layout(&l->b, g, type, g->transpose_b ? g->n : g->k, g->transpose_b ? g->k : g->n, g->ldb, g->stride_b);
  if (status == MB_OK) status = make_layout(&l->c, g, type, g->m, g->n, g->ldc, g->stride_c);
done:
  return status;
}

void forget(Layouts *l) {
  if (l->product) cublasLtMatmulDescDestroy(l->product);
  if (l->a) cublasLtMatrixLayoutDestroy(l->a);
  if (l->b) cublasLtMatrixLayoutDestroy(l->b);
  if (l->c) cublasLtMatrixLayoutDestroy(l->c);
}

mb_status find_algorithm(cublasLtMatmulAlgo_t *out, const Layouts *l, uint32_t alignment) {
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t found{};
  size_t workspace = WORKSPACE;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; // parts of a sum stay in float32, also of a bf16 product
  int count = 0;
  mb_status status = MB_OK;
  MBK_LT(cublasLtMatmulPreferenceCreate(&preference));
  MBK_LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
  MBK_LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions));
  MBK_LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &alignment, sizeof alignment));
  MBK_LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &alignment, sizeof alignment));
  MBK_LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &alignment, sizeof alignment));
  MBK_LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &alignment, sizeof alignment));
  MBK_LT(cublasLtMatmulAlgoGetHeuristic(the_handle, l->product, l->b, l->a, l->c, l->c, preference, 1, &found, &count));
  if (count == 0) MBK_LT(CUBLAS_STATUS_NOT_SUPPORTED);
  *out = found.algo;
done:
  has_no_algorithm = status != MB_OK && usable() == MB_OK;
  if (preference) cublasLtMatmulPreferenceDestroy(preference);
  return status;
}

mb_status algorithm_of(cublasLtMatmulAlgo_t *out, const Layouts *l, const mbi_gemm *g, cudaDataType_t type) {
  Key key;
  memset(&key, 0, sizeof key);
  key.m = g->m, key.n = g->n, key.k = g->k, key.lda = g->lda, key.ldb = g->ldb, key.ldc = g->ldc, key.batch = g->batch;
  if (g->batch > 1) key.stride_a = g->stride_a, key.stride_b = g->stride_b, key.stride_c = g->stride_c;
  key.transposes = 2 * !!g->transpose_a + !!g->transpose_b, key.type = (int32_t)type, key.has_bias = g->bias != nullptr;
  key.beta_is_zero = g->beta == 0, key.alignment = alignment_of(g), key.rounds = rounds(g);
  Entry *set = entries[hash_of(key) % CACHE];
  for (int way = 0; way < WAYS; way++)
    if (set[way].is_used && memcmp(&set[way].key, &key, sizeof key) == 0) {
      *out = set[way].algorithm;
      return MB_OK;
    }
  MB_TRY(find_algorithm(out, l, (uint32_t)key.alignment));
  memmove(set + 1, set, (WAYS - 1) * sizeof *set); // the oldest goes
  set[0].key = key, set[0].is_used = 1, set[0].algorithm = *out;
  return MB_OK;
}

template <class T> mb_status product(const mbi_gemm *g) {
  constexpr cudaDataType_t type = sizeof(T) == sizeof(double) ? CUDA_R_64F : sizeof(T) == sizeof(float) ? CUDA_R_32F : CUDA_R_16BF;
  Layouts l{};
  cublasLtMatmulAlgo_t algorithm;
  Wide<T> alpha = (Wide<T>)g->alpha, beta = (Wide<T>)g->beta;
  void *workspace;
  mb_status status = MB_OK;
  if (!the_handle) MBK_LT(cublasLtCreate(&the_handle));
  status = scratch(&workspace, WORKSPACE_SLOT, WORKSPACE);
  if (status == MB_OK) status = describe(&l, g, type);
  if (status == MB_OK) status = algorithm_of(&algorithm, &l, g, type);
  if (status != MB_OK) goto done;
  MBK_LT(cublasLtMatmul(the_handle, l.product, &alpha, g->b, l.b, g->a, l.a, &beta, g->c, l.c, g->c, l.c, &algorithm, workspace, WORKSPACE,
                        stream()));
done:
  forget(&l);
  return status;
}

#else

// Rows of `columns` neighbours, one after another, rounded to the 10 bits of fraction that TF32 has, ties away from zero.
std::vector<float> to_tf32(const float *x, int64_t rows, int64_t columns, int64_t stride) {
  std::vector<float> out;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++) {
      uint32_t bits;
      memcpy(&bits, &x[r * stride + c], sizeof bits);
      if ((bits & 0x7f800000) != 0x7f800000) bits = (bits + 0x1000) & ~(uint32_t)0x1fff;
      float value;
      memcpy(&value, &bits, sizeof value);
      out.push_back(value);
    }
  return out;
}

void multiply(const mbi_gemm *g, const float *a, const float *b, float *c) {
  if (rounds(g)) {
    mbi_gemm exact = *g;
    std::vector<float> x = to_tf32(a, g->transpose_a ? g->k : g->m, exact.lda = g->transpose_a ? g->m : g->k, g->lda);
    std::vector<float> y = to_tf32(b, g->transpose_b ? g->n : g->k, exact.ldb = g->transpose_b ? g->k : g->n, g->ldb);
    exact.may_round = 0;
    return multiply(&exact, x.data(), y.data(), c);
  }
  cblas_sgemm(CblasRowMajor, g->transpose_a ? CblasTrans : CblasNoTrans, g->transpose_b ? CblasTrans : CblasNoTrans, (int)g->m, (int)g->n,
              (int)g->k, (float)g->alpha, a, (int)g->lda, b, (int)g->ldb, (float)g->beta, c, (int)g->ldc);
}
void multiply(const mbi_gemm *g, const double *a, const double *b, double *c) {
  cblas_dgemm(CblasRowMajor, g->transpose_a ? CblasTrans : CblasNoTrans, g->transpose_b ? CblasTrans : CblasNoTrans, (int)g->m, (int)g->n,
              (int)g->k, g->alpha, a, (int)g->lda, b, (int)g->ldb, g->beta, c, (int)g->ldc);
}

// Through float: the sums of a bf16 product are made in float32.
void multiply(const mbi_gemm *g, const bf16 *a, const bf16 *b, bf16 *c) {
  mbi_gemm wide = *g;
  int64_t a_rows = g->transpose_a ? g->k : g->m, b_rows = g->transpose_b ? g->n : g->k;
  int64_t a_columns = g->transpose_a ? g->m : g->k, b_columns = g->transpose_b ? g->k : g->n;
  std::vector<float> x, y, z;
  for (int64_t r = 0; r < a_rows; r++) x.insert(x.end(), a + r * g->lda, a + r * g->lda + a_columns);
  for (int64_t r = 0; r < b_rows; r++) y.insert(y.end(), b + r * g->ldb, b + r * g->ldb + b_columns);
  for (int64_t r = 0; r < g->m; r++) z.insert(z.end(), c + r * g->ldc, c + r * g->ldc + g->n);
  wide.lda = a_columns, wide.ldb = b_columns, wide.ldc = g->n, wide.may_round = 0;
  multiply(&wide, x.data(), y.data(), z.data());
  for (int64_t r = 0; r < g->m; r++)
    for (int64_t j = 0; j < g->n; j++) c[r * g->ldc + j] = z[(size_t)(r * g->n + j)];
}

template <class T> mb_status product(const mbi_gemm *g) {
  MB_TRY(launched("cublasLtMatmul"));
  for (int64_t i = 0; i < g->batch; i++) {
    T *c = (T *)g->c + i * g->stride_c;
    multiply(g, (const T *)g->a + i * g->stride_a, (const T *)g->b + i * g->stride_b, c);
    for (int64_t r = 0; g->bias && r < g->m; r++)
      for (int64_t j = 0; j < g->n; j++) c[r * g->ldc + j] = (T)((Wide<T>)c[r * g->ldc + j] + (Wide<T>)((const T *)g->bias)[j]);
  }
  return MB_OK;
}

#endif

} // namespace

void allow_tf32(int allowed) { tf32_is_allowed = allowed != 0; }

namespace {

// Members that lie one after another and share B are one product of many rows.
void fold_members(mbi_gemm *g) {
  bool are_rows = !g->transpose_a && g->stride_b == 0 && g->stride_a == g->m * g->lda && g->stride_c == g->m * g->ldc;
  if (g->batch > 1 && are_rows && g->m * g->batch <= INT32_MAX) g->m *= g->batch, g->batch = 1;
}

template <class T> struct AddBias {
  T *c;
  const T *bias;
  int64_t m, n, ldc, stride_c;
  SIMT void operator()(int64_t i) const {
    int64_t row = i / n, column = i - row * n, member = row / m;
    T *at = c + member * stride_c + (row - member * m) * ldc + column;
    *at = (T)((Wide<T>)*at + (Wide<T>)bias[column]);
  }
};

template <class T> mb_status with_bias(const mbi_gemm *g) {
  has_no_algorithm = false;
  bool is_thin = g->m == 1 || g->n == 1 || g->k == 1;
  if (!g->bias || !is_thin) {
    mb_status status = product<T>(g);
    if (status == MB_OK || !g->bias || !has_no_algorithm) return status;
  }
  mbi_gemm plain = *g;
  plain.bias = nullptr;
  MB_TRY(product<T>(&plain));
  return launch_elements(AddBias<T>{(T *)g->c, (const T *)g->bias, g->m, g->n, g->ldc, g->stride_c}, g->batch * g->m * g->n, "gemm");
}

// cuBLASLt takes 65535 members at most.
constexpr int64_t MOST_MEMBERS = 32768;

} // namespace

template <class T> mb_status Kernels<T>::gemm(const mbi_gemm *given) {
  mbi_gemm g = *given;
  MB_TRY(prepare(&g));
  fold_members(&g);
  for (int64_t first = 0; first < g.batch; first += MOST_MEMBERS) {
    mbi_gemm part = g;
    part.batch = g.batch - first < MOST_MEMBERS ? g.batch - first : MOST_MEMBERS;
    part.a = (const T *)g.a + first * g.stride_a, part.b = (const T *)g.b + first * g.stride_b, part.c = (T *)g.c + first * g.stride_c;
    MB_TRY(with_bias<T>(&part));
  }
  return MB_OK;
}

MBK_SLOT(gemm);

} // namespace mbk
