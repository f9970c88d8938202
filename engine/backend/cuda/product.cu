// SPDX-License-Identifier: MIT
//
// product.cu: matrix products through cuBLASLt. Its matrices are column-major, so C = op(A) op(B) in rows is
// C^T = op(B)^T op(A)^T there: the operands change places and nothing is transposed. What describes a product to the library
// is made once and kept by its sizes.
//
// A product worth it is timed: the library names its candidates in the order of its own guess, and the fastest of the first
// few is taken if it beats the first one by a margin that timing noise does not reach. MOONBOW_TUNE=0 takes the first one.
#include "backend/cuda/product.h"

#include <cstdlib>
#include <cstring>
#include <vector>

#include "backend/cuda/capture.h"
#include "backend/cuda/choices.h"
#include "backend/cuda/f16.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/timing.h"

#ifdef __CUDACC__
#include <cublasLt.h>
#else
#include <cblas.h>

#include <cmath>
#endif

namespace mbk {
namespace {

#ifdef __CUDACC__
constexpr double WORTH_TIMING = 5e8; // operations: about a microsecond of an H200 in bf16
#else
constexpr double WORTH_TIMING = 1e5;
#endif

// The largest power of two up to 16 that divides every address.
int64_t alignment_of(const mbi_gemm *g) {
  uintptr_t all = (uintptr_t)g->a | (uintptr_t)g->b | (uintptr_t)g->c | (uintptr_t)g->from | (uintptr_t)g->bias | (uintptr_t)g->aux |
                  (uintptr_t)g->sums | 16;
  return (int64_t)(all & (~all + 1));
}

} // namespace

bool is_large(const mbi_gemm *g) { return 2.0 * (double)g->m * (double)g->n * (double)g->k * (double)g->batch >= WORTH_TIMING; }
bool may_time() {
  static const char *const wish = getenv("MOONBOW_TUNE");
  return !(wish && strcmp(wish, "0") == 0);
}

Product product_of(const mbi_gemm *g, Type type, bool rounds) {
  Product p;
  memset(&p, 0, sizeof p);
  p.m = g->m, p.n = g->n, p.k = g->k, p.lda = g->lda, p.ldb = g->ldb, p.ldc = g->ldc, p.batch = g->batch;
  if (g->batch > 1) p.stride_a = g->stride_a, p.stride_b = g->stride_b, p.stride_c = g->stride_c;
  p.transposes = 2 * !!g->transpose_a + !!g->transpose_b, p.type = (int64_t)type, p.has_bias = g->bias != nullptr;
  p.beta_is_zero = g->beta == 0, p.alignment = alignment_of(g), p.rounds = rounds, p.c_is_wide = g->c_is_wide, p.gelu = g->gelu;
  p.sums = g->sums != nullptr;
  return p;
}

namespace {

#ifdef __CUDACC__

constexpr size_t WORKSPACE = 32 << 20;
constexpr int WORKSPACE_SLOT = 7, SETS = 512, WAYS = 4, CANDIDATES = 8, RUNS = 3;
constexpr double MARGIN = 0.97; // of the first candidate's time

cublasLtHandle_t the_handle;

Answer answer_of_lt(cublasStatus_t status) {
  // What made the library fail, if it was an error of the device. Waiting for it would end a capture.
  cudaError_t below = is_capturing() ? cudaSuccess : cudaStreamSynchronize(stream());
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

mb_status open_library() {
  if (the_handle) return MB_OK;
  mb_status status = MB_OK;
  cudaDeviceProp device;
  int driver = 0;
  MBK_CUDA(cudaGetDeviceProperties(&device, 0));
  MBK_CUDA(cudaDriverGetVersion(&driver));
  MBK_LT(cublasLtCreate(&the_handle));
  choices_of_machine(std::string(device.name) + ", driver " + std::to_string(driver) + ", cublasLt " +
                     std::to_string(cublasLtGetVersion()));
done:
  return status;
}

// ----- a product as the library has it described ------------------------------------------------------------------

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

mb_status describe(Layouts *l, const mbi_gemm *g, Type kind, bool rounds) {
  cudaDataType_t type = kind == Type::F64 ? CUDA_R_64F : kind == Type::F32 ? CUDA_R_32F : kind == Type::F16 ? CUDA_R_16F : CUDA_R_16BF;
  bool may_round = kind == Type::F32 && rounds;
  cublasComputeType_t compute = kind == Type::F64 ? CUBLAS_COMPUTE_64F : may_round ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  cudaDataType_t scale = kind == Type::F64 ? CUDA_R_64F : CUDA_R_32F;
  cublasOperation_t first = g->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, second = g->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasLtEpilogue_t gelu = g->gelu == MBI_GELU_SLOPE ? CUBLASLT_EPILOGUE_DGELU
                            : g->bias                 ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS
                                                      : CUBLASLT_EPILOGUE_GELU_AUX;
  // The operands change places: what is summed over k is the library's B, and the sums are of the result's type.
  cublasLtEpilogue_t epilogue = g->sums ? CUBLASLT_EPILOGUE_BGRADB : g->gelu ? gelu : CUBLASLT_EPILOGUE_BIAS;
  int64_t ld_aux = g->ldc;
  mb_status status = MB_OK;
  MBK_LT(cublasLtMatmulDescCreate(&l->product, compute, scale));
  MBK_LT(cublasLtMatmulDescSetAttribute(l->product, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
  MBK_LT(cublasLtMatmulDescSetAttribute(l->product, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
  if (g->bias || g->gelu || g->sums)
    MBK_LT(cublasLtMatmulDescSetAttribute(l->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
  if (g->gelu) { // the library's candidates depend on where these lie
    MBK_LT(cublasLtMatmulDescSetAttribute(l->product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &ld_aux, sizeof ld_aux));
    MBK_LT(cublasLtMatmulDescSetAttribute(l->product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &g->aux, sizeof g->aux));
    if (g->bias) MBK_LT(cublasLtMatmulDescSetAttribute(l->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias));
  }
  if (g->sums) MBK_LT(cublasLtMatmulDescSetAttribute(l->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->sums, sizeof g->sums));
  status = make_layout(&l->a, g, type, g->transpose_a ? g->k : g->m, g->transpose_a ? g->m : g->k, g->lda, g->stride_a);
  if (status == MB_OK) status = make_layout(&l->b, g, type, g->transpose_b ? g->n : g->k, g->transpose_b ? g->k : g->n, g->ldb, g->stride_b);
  if (status == MB_OK) status = make_layout(&l->c, g, g->c_is_wide ? CUDA_R_32F : type, g->m, g->n, g->ldc, g->stride_c);
done:
  return status;
}

void forget(Layouts *l) {
  if (l->product) cublasLtMatmulDescDestroy(l->product);
  if (l->a) cublasLtMatrixLayoutDestroy(l->a);
  if (l->b) cublasLtMatrixLayoutDestroy(l->b);
  if (l->c) cublasLtMatrixLayoutDestroy(l->c);
  *l = Layouts{};
}

mb_status multiply(const mbi_gemm *g, Type type, const Layouts &l, void *c, const cublasLtMatmulAlgo_t *algorithm) {
  double wide[2] = {g->alpha, g->beta};
  float narrow[2] = {(float)g->alpha, (float)g->beta};
  const void *alpha = type == Type::F64 ? (const void *)&wide[0] : &narrow[0], *beta = type == Type::F64 ? (const void *)&wide[1] : &narrow[1];
  void *workspace;
  mb_status status = scratch(&workspace, WORKSPACE_SLOT, WORKSPACE);
  if (status != MB_OK) return status;
  if (g->bias) MBK_LT(cublasLtMatmulDescSetAttribute(l.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias));
  if (g->gelu) MBK_LT(cublasLtMatmulDescSetAttribute(l.product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &g->aux, sizeof g->aux));
  if (g->sums) MBK_LT(cublasLtMatmulDescSetAttribute(l.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->sums, sizeof g->sums));
  MBK_LT(cublasLtMatmul(the_handle, l.product, alpha, g->b, l.b, g->a, l.a, beta, g->from ? g->from : c, l.c, c, l.c, algorithm, workspace, WORKSPACE, stream()));
done:
  return status;
}

// ----- its algorithm ----------------------------------------------------------------------------------------------

mb_status candidates_of(cublasLtMatmulHeuristicResult_t *found, int *count, int wanted, const Layouts &l, const mbi_gemm *g, bool *has_none) {
  cublasLtMatmulPreference_t preference = nullptr;
  size_t workspace = WORKSPACE;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; // parts of a sum stay in float32, also of a bf16 product
  uint32_t alignment = (uint32_t)alignment_of(g);
  mb_status status = MB_OK;
  *count = 0;
  MBK_LT(cublasLtMatmulPreferenceCreate(&preference));
  MBK_LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
  MBK_LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions));
  MBK_LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &alignment, sizeof alignment));
  MBK_LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &alignment, sizeof alignment));
  MBK_LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &alignment, sizeof alignment));
  MBK_LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &alignment, sizeof alignment));
  MBK_LT(cublasLtMatmulAlgoGetHeuristic(the_handle, l.product, l.b, l.a, l.c, l.c, preference, wanted, found, count));
  if (*count == 0) MBK_LT(CUBLAS_STATUS_NOT_SUPPORTED);
done:
  if (has_none) *has_none = status != MB_OK && usable() == MB_OK;
  if (preference) cublasLtMatmulPreferenceDestroy(preference);
  return status;
}

// Where candidates may write: c itself if the product writes over it anyway, else room of the same size, which c stands for.
void *place_to_write(const mbi_gemm *g, Type type, size_t *bytes) {
  size_t element = type == Type::F64 ? 8 : type == Type::F32 || g->c_is_wide ? 4 : 2;
  int64_t extent = (g->batch - 1) * g->stride_c + (g->m - 1) * g->ldc + g->n;
  void *room = nullptr;
  *bytes = g->beta == 0 || g->from ? 0 : (size_t)extent * element;
  if (*bytes == 0) return g->c;
  if (g->stride_c < 0 || engine->take(&room, *bytes) != MB_OK) return nullptr;
  if (cudaMemsetAsync(room, 0, *bytes, stream()) == cudaSuccess) return room;
  engine->give(room, *bytes);
  return nullptr;
}

// Index of the candidate to take; its time, or 0 where there was nothing to choose or no way to time.
int fastest_of(double *microseconds, const cublasLtMatmulHeuristicResult_t *found, int count, const mbi_gemm *g, Type type, const Layouts &l) {
  size_t bytes = 0;
  void *c = place_to_write(g, type, &bytes);
  int best = 0;
  double first = -1, least = -1;
  for (int i = 0; c && i < count; i++) {
    auto work = [&] { return multiply(g, type, l, c, &found[i].algo) == MB_OK; };
    double time = found[i].state == CUBLAS_STATUS_SUCCESS ? time_of_runs(RUNS, work) : -1;
    if (i == 0) first = least = time;
    else if (time > 0 && (first < 0 || time < MARGIN * first) && (least < 0 || time < least)) best = i, least = time;
  }
  if (bytes && c) engine->give(c, bytes);
  *microseconds = least > 0 ? least : 0;
  return best;
}

mb_status choose(cublasLtMatmulAlgo_t *out, const Layouts &l, const mbi_gemm *g, Type type, const Product &key, bool *has_none) {
  static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(Choice::algorithm), "the words of an algorithm");
  Choice choice{};
  if (is_large(g) && find_choice(&choice, key, may_time())) {
    memcpy(out, choice.algorithm, sizeof *out);
    return MB_OK;
  }
  bool timed = is_large(g) && may_time() && !is_capturing();
  cublasLtMatmulHeuristicResult_t found[CANDIDATES];
  int count;
  MB_TRY(candidates_of(found, &count, timed ? CANDIDATES : 1, l, g, has_none));
  int taken = timed && count > 1 ? fastest_of(&choice.microseconds, found, count, g, type, l) : 0;
  *out = found[taken].algo;
  memcpy(choice.algorithm, out, sizeof *out);
  if (choice.microseconds > 0) keep_choice(key, choice);
  else if (is_large(g) && may_time() && is_capturing()) use_choice(key_of(key), choice); // who resumes the run times nothing
  return usable();
}

// ----- what is kept -------------------------------------------------------------------------------------------------

struct Entry {
  Product key;
  bool is_used;
  Layouts layouts;
  cublasLtMatmulAlgo_t algorithm;
};
Entry entries[SETS][WAYS];
int64_t generation;

uint64_t hash_of(const Product &key) {
  uint64_t hash = 1469598103934665603u; // FNV-1a
  const unsigned char *byte = reinterpret_cast<const unsigned char *>(&key);
  for (size_t i = 0; i < sizeof key; i++) hash = (hash ^ byte[i]) * 1099511628211u;
  return hash ^ hash >> 32;
}

void forget_all() {
  for (auto &set : entries)
    for (Entry &entry : set) forget(&entry.layouts), entry.is_used = false;
}

mb_status entry_of(const Entry **out, const mbi_gemm *g, Type type, bool rounds, bool *has_none) {
  if (generation != choices_generation()) forget_all(), generation = choices_generation();
  Product key = product_of(g, type, rounds);
  Entry *set = entries[hash_of(key) % SETS], made{};
  for (int way = 0; way < WAYS; way++)
    if (set[way].is_used && memcmp(&set[way].key, &key, sizeof key) == 0) {
      *out = &set[way];
      return MB_OK;
    }
  made.key = key, made.is_used = true;
  mb_status status = describe(&made.layouts, g, type, rounds);
  if (status == MB_OK) status = choose(&made.algorithm, made.layouts, g, type, key, has_none);
  if (status != MB_OK) {
    forget(&made.layouts);
    return status;
  }
  forget(&set[WAYS - 1].layouts);
  memmove(set + 1, set, (WAYS - 1) * sizeof *set); // the oldest goes
  set[0] = made;
  *out = set;
  return MB_OK;
}

#else

// ----- the stand-in's library: one algorithm, kept like the others ----------------------------------------------------

mb_status open_library() {
  static bool is_open;
  if (!is_open) choices_of_machine("the host, CBLAS"), is_open = true;
  return MB_OK;
}

void choose(const mbi_gemm *g, Type type, bool rounds) {
  Choice choice{{1}, 1.0};
  Product key = product_of(g, type, rounds);
  if (is_large(g) && !find_choice(&choice, key, may_time()) && may_time()) keep_choice(key, choice);
}

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

void multiply(const mbi_gemm *g, const float *a, const float *b, float *c, bool rounds) {
  if (rounds) {
    mbi_gemm exact = *g;
    std::vector<float> x = to_tf32(a, g->transpose_a ? g->k : g->m, exact.lda = g->transpose_a ? g->m : g->k, g->lda);
    std::vector<float> y = to_tf32(b, g->transpose_b ? g->n : g->k, exact.ldb = g->transpose_b ? g->k : g->n, g->ldb);
    return multiply(&exact, x.data(), y.data(), c, false);
  }
  cblas_sgemm(CblasRowMajor, g->transpose_a ? CblasTrans : CblasNoTrans, g->transpose_b ? CblasTrans : CblasNoTrans, (int)g->m, (int)g->n,
              (int)g->k, (float)g->alpha, a, (int)g->lda, b, (int)g->ldb, (float)g->beta, c, (int)g->ldc);
}
void multiply(const mbi_gemm *g, const double *a, const double *b, double *c, bool) {
  cblas_dgemm(CblasRowMajor, g->transpose_a ? CblasTrans : CblasNoTrans, g->transpose_b ? CblasTrans : CblasNoTrans, (int)g->m, (int)g->n,
              (int)g->k, g->alpha, a, (int)g->lda, b, (int)g->ldb, g->beta, c, (int)g->ldc);
}

// Through float: the sums of a product of T, bf16 or f16, are made in float32.
template <class T, class C> void multiply(const mbi_gemm *g, const T *a, const T *b, C *c, bool) {
  mbi_gemm wide = *g;
  int64_t a_rows = g->transpose_a ? g->k : g->m, b_rows = g->transpose_b ? g->n : g->k;
  int64_t a_columns = g->transpose_a ? g->m : g->k, b_columns = g->transpose_b ? g->k : g->n;
  std::vector<float> x, y, z;
  for (int64_t r = 0; r < a_rows; r++) x.insert(x.end(), a + r * g->lda, a + r * g->lda + a_columns);
  for (int64_t r = 0; r < b_rows; r++) y.insert(y.end(), b + r * g->ldb, b + r * g->ldb + b_columns);
  for (int64_t r = 0; r < g->m; r++) z.insert(z.end(), c + r * g->ldc, c + r * g->ldc + g->n);
  wide.lda = a_columns, wide.ldb = b_columns, wide.ldc = g->n;
  multiply(&wide, x.data(), y.data(), z.data(), false);
  for (int64_t r = 0; r < g->m; r++)
    for (int64_t j = 0; j < g->n; j++) c[r * g->ldc + j] = (C)z[(size_t)(r * g->n + j)];
}

// One product of bf16 with its `gelu`, made of float32 before anything is rounded.
void multiply_with_gelu(const mbi_gemm *g) {
  mbi_gemm wide = *g;
  std::vector<float> product((size_t)(g->m * g->n));
  wide.ldc = g->n;
  multiply(&wide, (const bf16 *)g->a, (const bf16 *)g->b, product.data(), false);
  for (int64_t i = 0; i < g->m * g->n; i++) {
    int64_t at = i / g->n * g->ldc + i % g->n;
    bf16 *c = (bf16 *)g->c + at, *aux = (bf16 *)g->aux + at;
    float p = product[(size_t)i] + (g->bias ? (float)((const bf16 *)g->bias)[i % g->n] : 0.0f);
    float x = g->gelu == MBI_GELU_OF ? p : (float)*aux, t = std::tanh(0.7978845608f * (x + 0.044715f * x * x * x));
    if (g->gelu == MBI_GELU_OF) *aux = (bf16)p, *c = (bf16)(0.5f * p * (1 + t));
    else *c = (bf16)(p * (0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.7978845608f * (1 + 3 * 0.044715f * x * x)));
  }
}

// Sums over k of op(A)'s rows, in float32, 64 at a time.
void sum_rows(const mbi_gemm *g) {
  constexpr int64_t AT_ONCE = 64;
  const bf16 *a = (const bf16 *)g->a;
  for (int64_t i = 0; i < g->m; i++) {
    float sum = 0;
    for (int64_t first = 0; first < g->k; first += AT_ONCE) {
      float part = 0;
      for (int64_t q = first; q < first + AT_ONCE && q < g->k; q++) part += (float)a[g->transpose_a ? q * g->lda + i : i * g->lda + q];
      sum += part;
    }
    ((float *)g->sums)[i] = sum;
  }
}

template <class T, class C = T> void multiply_all(const mbi_gemm *g, bool rounds) {
  for (int64_t i = 0; i < g->batch; i++) {
    C *c = (C *)g->c + i * g->stride_c;
    const C *from = (const C *)g->from + i * g->stride_c;
    for (int64_t r = 0; g->from && g->beta != 0 && r < g->m; r++) memcpy(c + r * g->ldc, from + r * g->ldc, (size_t)g->n * sizeof(C));
    multiply(g, (const T *)g->a + i * g->stride_a, (const T *)g->b + i * g->stride_b, c, rounds);
    for (int64_t r = 0; g->bias && r < g->m; r++)
      for (int64_t j = 0; j < g->n; j++) c[r * g->ldc + j] = (C)((Wide<T>)c[r * g->ldc + j] + (Wide<T>)((const T *)g->bias)[j]);
  }
}

#endif

} // namespace

mb_status product_choices(const char **text) {
  *text = choices_text().c_str();
  return MB_OK;
}

mb_status open_products() { return open_library(); }

#ifdef __CUDACC__
mb_status library_product(const mbi_gemm *g, Type type, bool rounds, bool *has_none) {
  const Entry *entry;
  MB_TRY(open_library());
  MB_TRY(entry_of(&entry, g, type, rounds, has_none));
  launches++;
  return multiply(g, type, entry->layouts, g->c, &entry->algorithm);
}
#else
mb_status library_product(const mbi_gemm *g, Type type, bool rounds, bool *) {
  MB_TRY(launched("cublasLtMatmul"));
  MB_TRY(open_library());
  choose(g, type, rounds);
  launches++;
  return perform([given = *g, type, rounds] {
    if (given.gelu) multiply_with_gelu(&given);
    else if (type == Type::F32) multiply_all<float>(&given, rounds);
    else if (type == Type::F64) multiply_all<double>(&given, rounds);
    else if (type == Type::F16 && given.c_is_wide) multiply_all<f16, float>(&given, rounds);
    else if (type == Type::F16) multiply_all<f16>(&given, rounds);
    else if (given.c_is_wide) multiply_all<bf16, float>(&given, rounds);
    else multiply_all<bf16>(&given, rounds);
    if (given.sums) sum_rows(&given);
    return MB_OK;
  });
}
#endif

} // namespace mbk
