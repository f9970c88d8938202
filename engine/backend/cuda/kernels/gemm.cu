// SPDX-License-Identifier: MIT
//
// gemm.cu: matrix products, which a library computes (product.h). float32 is computed in float32 (in TF32 where mb_tf32_set
// allows it), float64 in float64. A bias is added by a kernel where the library has no algorithm for it, or may have none (a side
// of 1), and where it lies on no boundary; GELU and sums of rows are made by one where the library is not faster (epilogue_choice.cu).
#include "backend/cuda/f16.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/packs.h"
#include "backend/cuda/product.h"
#include "backend/cuda/simt.h"

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
bool rounds(const mbi_gemm *g) { return g->may_round == MBI_ROUNDS || (g->may_round && tf32_is_allowed); }

template <class T> Type type_of(const mbi_gemm *g) {
  return sizeof(T) == sizeof(double) ? Type::F64 : sizeof(T) == sizeof(float) ? Type::F32 : g->half ? Type::F16 : Type::BF16;
}

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

// The library is asked for what can read a, b and c where they lie. Of a bias it takes a boundary for granted, and a kernel that
// reads packs elsewhere is the end of the device.
template <class T> mb_status with_bias(const mbi_gemm *g) {
  bool has_none = false, is_thin = g->m == 1 || g->n == 1 || g->k == 1;
  if (!g->bias || (!is_thin && on_boundary(g->bias))) {
    mb_status status = library_product(g, type_of<T>(g), rounds(g), &has_none);
    if (status == MB_OK || !g->bias || !has_none) return status;
  }
  mbi_gemm plain = *g;
  plain.bias = nullptr;
  MB_TRY(library_product(&plain, type_of<T>(g), rounds(g), nullptr));
  return launch_elements(AddBias<T>{(T *)g->c, (const T *)g->bias, g->m, g->n, g->ldc, g->stride_c}, g->batch * g->m * g->n, "gemm");
}

// c = beta from + rounded, for a library that writes no float32 from T.
template <class T> struct AddWidened {
  float *c;
  const float *from;
  const T *rounded;
  int64_t m, n, ldc, stride_c;
  float beta;
  SIMT void operator()(int64_t i) const {
    int64_t row = i / n, column = i - row * n, member = row / m, at = member * stride_c + (row - member * m) * ldc + column;
    c[at] = (beta == 0 ? 0.0f : beta * from[at]) + (float)rounded[i];
  }
};

template <class T> mb_status with_wide_result(const mbi_gemm *g) {
  bool has_none = false;
  mb_status status = library_product(g, type_of<bf16>(g), false, &has_none);
  if (status == MB_OK || !has_none) return status;
  constexpr int SLOT = 6;
  T *rounded;
  mbi_gemm plain = *g;
  MB_TRY(scratch_of(&rounded, SLOT, g->batch * g->m * g->n));
  plain.c = rounded, plain.from = nullptr, plain.c_is_wide = 0, plain.beta = 0, plain.ldc = g->n, plain.stride_c = g->m * g->n;
  MB_TRY(library_product(&plain, type_of<bf16>(g), false, nullptr));
  float *c = (float *)g->c;
  const float *from = g->from ? (const float *)g->from : c;
  return launch_elements(AddWidened<T>{c, from, rounded, g->m, g->n, g->ldc, g->stride_c, (float)g->beta}, g->batch * g->m * g->n, "gemm");
}

template <class T> mb_status plain_product(const mbi_gemm *g) {
  bool is_wide = sizeof(T) == sizeof(bf16) && g->c_is_wide;
  return !is_wide ? with_bias<T>(g) : g->half ? with_wide_result<f16>(g) : with_wide_result<bf16>(g);
}

// The product first, then a pass over it.
template <class T> mb_status gelu_apart(const mbi_gemm *g) {
  mbi_gemm plain = *g;
  plain.gelu = 0, plain.aux = nullptr;
  if (g->gelu == MBI_GELU_OF) plain.c = g->aux;
  MB_TRY(with_bias<T>(&plain));
  bool are_neighbours = g->batch == 1 || g->stride_c == g->m * g->n;
  int64_t count = g->m * g->n * (are_neighbours ? g->batch : 1), members = are_neighbours ? 1 : g->batch;
  for (int64_t i = 0; i < members; i++) {
    T *c = (T *)g->c + i * g->stride_c, *aux = (T *)g->aux + i * g->stride_c;
    mbi_view to{c, 1, {count}, {1}}, from{aux, 1, {count}, {1}};
    MB_TRY(g->gelu == MBI_GELU_OF ? Kernels<T>::unary(MBI_GELU_TANH, &to, &from, 0, 0)
                                  : Kernels<T>::unary_backward(MBI_GELU_TANH, c, c, aux, aux, count, 0));
  }
  return MB_OK;
}

// The sums of op(A)'s rows are made beside the product where the library is faster at both, and left to the caller else.
template <class T> mb_status with_sums(const mbi_gemm *g) {
  mbi_gemm plain = *g;
  plain.sums = nullptr, plain.has_sums = nullptr;
  mbi_view rows{const_cast<void *>(g->a), 2, {g->m, g->k}, {g->lda, 1}};
  if (g->transpose_a) rows = mbi_view{const_cast<void *>(g->a), 2, {g->k, g->m}, {g->lda, 1}};
  auto product = [&] { return plain_product<T>(&plain); };
  auto sums = [&] { return Kernels<T>::sum_over(g->sums, 0, &rows, g->transpose_a ? 1u : 2u); };
  return product_with_sums(g, type_of<T>(g), product, sums);
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
    bool is_wide = sizeof(T) == sizeof(bf16) && g.c_is_wide;
    int64_t before = first * g.stride_c * (int64_t)(is_wide ? sizeof(float) : sizeof(T)); // bytes
    part.a = (const T *)g.a + first * g.stride_a, part.b = (const T *)g.b + first * g.stride_b, part.c = (char *)g.c + before;
    if (g.from) part.from = (const char *)g.from + before;
    if (g.gelu) {
      part.aux = (char *)g.aux + before;
      MB_TRY(product_with_gelu(&part, type_of<T>(&part), [&part] { return gelu_apart<T>(&part); }));
    } else if (g.sums) {
      MB_TRY(with_sums<T>(&part));
    } else {
      MB_TRY(plain_product<T>(&part));
    }
  }
  return MB_OK;
}

MBK_SLOT(gemm);

} // namespace mbk
